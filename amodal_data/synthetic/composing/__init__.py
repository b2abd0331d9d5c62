"""Compose amodal scenes with exact ground truth: cut-outs of whole objects pasted into other photos."""

from amodal_data.synthetic.composing.arrangement import OCCLUSION, SceneSpec
from amodal_data.synthetic.composing.cutouts import ObjectBank, Rules
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.scene_writer import MAX_OBJECTS, MAX_SCENES, SCHEMA, ComposeReport, compose
from amodal_data.synthetic.composing.set_folder import COCOA, FLAT

__all__ = [
    "COCOA",
    "FLAT",
    "MAX_OBJECTS",
    "MAX_SCENES",
    "OCCLUSION",
    "SCHEMA",
    "ComposeReport",
    "ObjectBank",
    "Rules",
    "SceneSpec",
    "build_object_bank",
    "compose",
]
