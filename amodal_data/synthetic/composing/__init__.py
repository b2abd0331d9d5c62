"""Compose amodal scenes with exact ground truth: cut-outs of whole objects pasted into other photos."""

from amodal_data.synthetic.composing.arrangement import OCCLUSION, SceneSpec
from amodal_data.synthetic.composing.cutouts import ObjectBank, Rules, build_object_bank
from amodal_data.synthetic.composing.scene_writer import COCOA, FLAT, SCHEMA, ComposeReport, compose

__all__ = [
    "COCOA",
    "FLAT",
    "OCCLUSION",
    "SCHEMA",
    "ComposeReport",
    "ObjectBank",
    "Rules",
    "SceneSpec",
    "build_object_bank",
    "compose",
]
