"""Recognize JSON of formats that are not read, to name them and the way to a format that is."""

from collections.abc import Mapping
from typing import Any

from amodal_data.errors import LayoutError

_LABEL_STUDIO = "export it from Label Studio as COCO or as YOLO"
_VIA = "export it from VIA as COCO (Annotation > Export Annotations (COCO format))"
_SUPERVISELY = "export it from Supervisely as COCO (app 'Export to COCO')"
_PANOPTIC = "use the instances file of the same images, or convert it with panopticapi (panoptic2detection_coco_format)"


def refuse_foreign(content: Any, place: str) -> None:
    """Raise :class:`LayoutError` that names the format, if parsed JSON is of one that is not read."""
    if not isinstance(content, list | Mapping):
        return
    rows = content if isinstance(content, list) else [content]
    entries = [row for row in rows[:100] if isinstance(row, Mapping)]
    for name, fix in filter(None, map(_name, entries)):
        raise LayoutError(f"this is {name}, which is not read", place=place, fix=fix)


def _name(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Name of the format that an object belongs to, and the remedy; None = not recognized."""
    if any("result" in part for part in _objects(entry, "annotations", "completions", "predictions")):
        return "Label Studio's own JSON", _LABEL_STUDIO
    if "_via_img_metadata" in entry or any("filename" in part and "regions" in part for part in _values(entry)):
        return "VIA's own JSON", _VIA
    if any("classTitle" in part or "geometryType" in part for part in _objects(entry, "objects")):
        return "Supervisely's own JSON", _SUPERVISELY
    if any("segments_info" in part for part in _objects(entry, "annotations")):
        return "COCO's panoptic JSON, whose masks lie in PNG files", _PANOPTIC
    return None


def _objects(entry: Mapping[str, Any], *keys: str) -> list[Mapping[str, Any]]:
    """The first objects in the lists under some keys."""
    lists = [entry[key] for key in keys if isinstance(entry.get(key), list)]
    return [part for rows in lists for part in rows[:100] if isinstance(part, Mapping)]


def _values(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for part in list(entry.values())[:100] if isinstance(part, Mapping)]
