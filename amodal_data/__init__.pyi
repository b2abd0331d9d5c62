from .cache.build import BuildReport, build_targets, merge_shards
from .cache.header import CacheInfo
from .cache.read import TargetCache
from .cache.verify import VerifyReport, verify_cache
from .datasets.check import CheckReport, check
from .datasets.dataset import AnnotatedImage, Dataset, open
from .errors import AmodalError
from .evaluation.methods import Evaluation, evaluate_all
from .evaluation.report import EvaluationReport, evaluate
from .evaluation.results.scored_masks import ScoredMask
from .inspector.contact_sheet import contact_sheet
from .inspector.summary import Summary, summarize
from .layering.maps import ResizedTargets
from .layering.sem_dist import (
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
from .layering.targets import LayeredTargets, layer_scene
from .layering.visible_order import OrderEvidence, order_of
from .masks.rle import RLE
from .readers.amodal_coco import read_cocoa_cls, read_d2sa, read_kins
from .readers.cocoa import read_cocoa
from .readers.dispatch import read_annotations, read_records
from .readers.plain_coco import read_coco
from .readers.sln_release import read_sln_release
from .readers.stream import iter_annotations
from .scenes.findings import CODES, Finding, Place
from .scenes.scene import Instance, Scene, Scenes
from .synthetic.write_cocoa import write_cocoa, write_flat

__all__ = [
    "CODES",
    "RLE",
    "AmodalError",
    "AnnotatedImage",
    "BuildReport",
    "CacheInfo",
    "CheckReport",
    "Dataset",
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
    "check",
    "contact_sheet",
    "evaluate",
    "evaluate_all",
    "instance_order",
    "iter_annotations",
    "joint_depth",
    "layer_scene",
    "merge_shards",
    "modal_part",
    "open",
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
    "summarize",
    "verify_cache",
    "write_cocoa",
    "write_flat",
]
