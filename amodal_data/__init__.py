"""Exact, compact, checked training targets for amodal instance segmentation."""

from amodal_data.build import BuildReport, build_targets, merge_shards
from amodal_data.cache import CacheInfo, TargetCache
from amodal_data.errors import AmodalError
from amodal_data.evaluation import Evaluation, EvaluationReport, ScoredMask, evaluate, evaluate_all
from amodal_data.evidence import OrderEvidence, order_of
from amodal_data.findings import CODES, Finding, Place
from amodal_data.inspector import Summary, contact_sheet, summarise
from amodal_data.levels import LayeredTargets, layer_scene
from amodal_data.masks import RLE
from amodal_data.readers import (
    iter_annotations,
    read_annotations,
    read_coco,
    read_cocoa,
    read_cocoa_cls,
    read_d2sa,
    read_kins,
    read_records,
    read_sln_release,
)
from amodal_data.scene import Instance, Scene, Scenes
from amodal_data.semdist import (
    amodal_part,
    instance_order,
    joint_depth,
    modal_part,
    regional_order,
    relative_depth,
    sem_dist,
    soft_depth,
    split_sem_dist,
)
from amodal_data.synthetic import write_cocoa, write_flat
from amodal_data.verify import VerifyReport, verify_cache
from amodal_data.views import ResizedTargets

__all__ = [
    "CODES",
    "RLE",
    "AmodalError",
    "BuildReport",
    "CacheInfo",
    "Evaluation",
    "EvaluationReport",
    "Finding",
    "Instance",
    "LayeredTargets",
    "OrderEvidence",
    "Place",
    "ResizedTargets",
    "Scene",
    "Scenes",
    "ScoredMask",
    "Summary",
    "TargetCache",
    "VerifyReport",
    "amodal_part",
    "build_targets",
    "contact_sheet",
    "evaluate",
    "evaluate_all",
    "instance_order",
    "iter_annotations",
    "joint_depth",
    "layer_scene",
    "merge_shards",
    "modal_part",
    "order_of",
    "read_annotations",
    "read_coco",
    "read_cocoa",
    "read_cocoa_cls",
    "read_d2sa",
    "read_kins",
    "read_records",
    "read_sln_release",
    "regional_order",
    "relative_depth",
    "sem_dist",
    "soft_depth",
    "split_sem_dist",
    "summarise",
    "verify_cache",
    "write_cocoa",
    "write_flat",
]

Prediction = ScoredMask
"""What :class:`ScoredMask` was called in version 0.1."""
