"""Amodal scenes from modal data: whole objects set in front of one another in other photos, with exact truth."""

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
