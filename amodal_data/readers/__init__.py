"""Read annotation files into scenes: one module a layout, and :mod:`.dispatch` for any of them."""

from amodal_data.readers.amodal_coco import read_cocoa_cls, read_d2sa, read_kins
from amodal_data.readers.cocoa import read_cocoa
from amodal_data.readers.dispatch import ReadOptions, read_annotations, read_records
from amodal_data.readers.plain_coco import read_coco
from amodal_data.readers.sln_release import read_sln_release
from amodal_data.readers.stream import SceneStream, iter_annotations

__all__ = [
    "ReadOptions",
    "SceneStream",
    "iter_annotations",
    "read_annotations",
    "read_coco",
    "read_cocoa",
    "read_cocoa_cls",
    "read_d2sa",
    "read_kins",
    "read_records",
    "read_sln_release",
]
