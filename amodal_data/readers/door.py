"""One door for all layouts: look into the file, then read it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError, SelectionError
from amodal_data.findings import Finding, Place
from amodal_data.readers.cocoa import check_annotator, cocoa_scenes
from amodal_data.readers.files import load_json
from amodal_data.readers.flat import dataset_of, flat_scenes, layout_of
from amodal_data.readers.grouping import key_names, top_level
from amodal_data.readers.modal import modal_scenes
from amodal_data.readers.sln_release import read_sln_release
from amodal_data.scene import Scenes, Source

__all__ = ["read_annotations"]

_KNOWN = (
    "known: 'regions' (COCOA), 'visible_mask' (D2SA), 'inmodal_seg' or 'a_segm' (KINS); "
    "--masks modal reads plain COCO, masks of what is visible"
)


def read_annotations(
    paths: str | Path | Sequence[str | Path],
    *,
    annotator: str = "first",
    cocoa: Scenes | None = None,
    masks: str | None = None,
) -> Scenes:
    """Read annotation files of any layout this package knows; the layout is told by the keys inside.

    Several files of one layout become one sequence; where their image ids collide, those of the later
    file are shifted and a finding says so. annotator: see :func:`read_cocoa`; cocoa: see
    :func:`read_cocoa_cls`. masks: ``"modal"`` = the file is plain COCO, its masks are what is visible
    (:func:`read_coco`); it is never guessed.

    Raises :class:`LayoutError` naming the keys seen if the layout is unknown, :class:`SelectionError`
    if files of different layouts are mixed, :class:`AnnotationError` if a file cannot be read.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise SelectionError("no annotation file given")
    if len({Path(path).resolve() for path in several}) < len(several):
        raise SelectionError("the same annotation file is named twice", place=", ".join(map(str, several)))
    scenes = _read_one(Path(several[0]), annotator, cocoa, masks)
    for path in several[1:]:
        scenes = _joined(scenes, _read_one(Path(path), annotator, cocoa, masks))
    return scenes


def _read_one(path: Path, annotator: str, cocoa: Scenes | None, masks: str | None) -> Scenes:
    if path.is_dir() or path.suffix == ".npz":
        return read_sln_release(path)
    content, source = load_json(path)
    if masks == "modal":
        return modal_scenes(content, path, source)
    objects = content if isinstance(content, list) else [content]
    if any(isinstance(one, Mapping) and "regions" in one for one in objects):
        return _cocoa(content, path, source, annotator)
    if isinstance(content, list):
        raise LayoutError(*_about_a_list(content, path), place=str(path))
    annotations = content.get("annotations", []) if isinstance(content, dict) else []
    listed = annotations if isinstance(annotations, list) else []
    if any(isinstance(one, Mapping) and "regions" in one for one in listed):
        return _cocoa(content, path, source, annotator)
    top_level(content, path)
    layout = layout_of(listed)
    if listed and not layout:
        raise LayoutError(
            f"no amodal layout: keys seen: {key_names(listed)}",
            place=str(path),
            fix=_KNOWN,
        )
    return flat_scenes(content, path, source, dataset_of(layout, path.name), layout or "mvtec", cocoa)


def _cocoa(content: Any, path: Path, source: Source, annotator: str) -> Scenes:
    scenes = cocoa_scenes(content, path, source, annotator)
    check_annotator(annotator, len(scenes), path)
    return scenes


def _about_a_list(content: list[Any], path: Path) -> tuple[str]:
    if any(isinstance(one, Mapping) and "score" in one for one in content):
        return (f"{path.name} holds predictions (a list with 'score'), not annotations",)
    return (f"a list, but not of COCOA annotations; keys seen: {key_names(content)}",)


def _joined(scenes: Scenes, more: Scenes) -> Scenes:
    if scenes.dataset != more.dataset or scenes.settings != more.settings:
        raise SelectionError(f"files of different layouts: {scenes.dataset} and {more.dataset}")
    taken = set(scenes.image_ids)
    if taken.isdisjoint(more.image_ids):
        return scenes.followed_by(more)
    by = max(taken) + 1 - min(more.image_ids)
    place = Place(more.sources[0].name if more.sources else "")
    return scenes.followed_by(more.shifted(by), [Finding("ids-shifted", place, f"{by} added to every image id")])
