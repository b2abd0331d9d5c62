"""Read annotation files into scenes: one module a layout, and :mod:`.dispatch` for any of them."""

from amodal_data.readers.dispatch import ReadOptions, read_annotations, read_records
from amodal_data.readers.stream import SceneStream, iter_annotations

__all__ = ["ReadOptions", "SceneStream", "iter_annotations", "read_annotations", "read_records"]
