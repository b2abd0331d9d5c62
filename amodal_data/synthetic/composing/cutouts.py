"""Which annotated objects are whole, so that they can be set into other photos, and which photos take them.

Modal masks say what is visible. An object is taken for whole where its mask ends neither at the frame nor at another
annotated object. What nobody annotated may still hide a part of it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from amodal_data.errors import PhotoError, SelectionError
from amodal_data.io.images import photo_size
from amodal_data.masks.rle import RLE, merge
from amodal_data.masks.windows import Window, crop, window_of
from amodal_data.readers.discovery import PhotoFinder
from amodal_data.readers.json_files import load_json
from amodal_data.readers.plain_coco import plain_scenes
from amodal_data.readers.stream import SceneStream, items_of
from amodal_data.readers.values import integer, text
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Instance, Scene, Scenes

_FRAME = 2
"""Pixels from the frame, within which a mask may have been cut"""
_NEAR = 2
"""Pixels between two masks that touch"""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a whole object is. ``smallest``: pixels; ``largest``: share of its photo; ``contact``: share of its outline
    that may lie within two pixels of another annotated object; ``in_one``: share of its pixels that hang together.
    """

    smallest: int = 400
    largest: float = 0.5
    contact: float = 0.1
    in_one: float = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """A whole object: its ``mask`` in a photo, and which one it is. ``license``: the file's id, 0 = not said."""

    mask: RLE
    window: Window
    photo: Path
    image_id: int
    annotation_id: int
    category_id: int
    name: str
    license: int

    def shape(self) -> NDArray[np.bool_]:
        """Its mask inside ``window``, bool [h, w]."""
        return crop(self.mask, self.window)


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """A photo of ``size`` (H, W) to set objects into: ``whole`` = which cutouts are its own, ``unknown`` = where it
    shows annotated objects that are not whole (None = nowhere).
    """

    photo: Path
    size: tuple[int, int]
    image_id: int
    license: int
    whole: tuple[int, ...]
    unknown: RLE | None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectBank:
    """What scenes are composed of. ``findings``: what was not taken, and why; ``names``: of all categories by id;
    ``no_derivatives``: licences of the file that allow no derived works, by id; ``source``: its name and SHA-256.
    """

    cutouts: tuple[Cutout, ...]
    backgrounds: tuple[Background, ...]
    findings: tuple[Finding, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    no_derivatives: Mapping[int, str] = field(default_factory=dict)
    source: tuple[str, str] = ("", "")


def build_object_bank(
    path: str | Path,
    images: Sequence[str | Path],
    *,
    rules: Rules | None = None,
    classes: Sequence[str] = (),
    licenses: Sequence[int] = (),
    part: str = "all",
    held_out: float = 0.2,
    split: int = 0,
    stream: bool = False,
) -> ObjectBank:
    """The whole objects and the photos of a plain COCO file.

    images: folders of photos. classes: names of those that are pasted; () = all. licenses: ids of the photos' licences
    that are used; () = all. part: ``train``, ``val`` (``held_out`` of all photos, always the same ones) or ``all``;
    no photo, and so no object, is in both. split: which of many divisions into the two. stream: never hold the file,
    for the same stock. Raises
    :class:`SelectionError` if nothing is left, or for an unknown class.
    """
    scenes, about, against = _opened(Path(path), stream)
    finder = PhotoFinder([Path(one) for one in images])
    rules, names = rules or Rules(), dict[int, str]()
    found: dict[int, _Found] = {}
    for scene in scenes:
        names |= {one.category_id: one.name for one in scene.instances}
        if _is_in(scene.image_id, part, held_out, split):
            found[scene.image_id] = _of_photo(scene, about.get(scene.image_id, 0), licenses, finder, rules)
    ordered = [found[image_id] for image_id in about if image_id in found]
    cutouts: list[Cutout] = []
    backgrounds: list[Background] = []
    for one in ordered:
        if one.background is not None:
            own = tuple(range(len(cutouts), len(cutouts) + len(one.cutouts)))
            cutouts += one.cutouts
            backgrounds.append(replace(one.background, whole=own))
    if unknown := sorted(set(classes) - set(names.values())):
        raise SelectionError(f"no object of class {unknown[0]!r}", fix=f"there are {', '.join(sorted(names.values()))}")
    if not any(not classes or one.name in classes for one in cutouts):
        raise SelectionError("no whole object to compose scenes of", place=str(path),
                             fix="loosen a rule (--contact, --smallest), or name more licences or classes")  # fmt: skip
    findings = (*scenes.file_findings, *(finding for one in ordered for finding in one.findings))
    (source,) = scenes.sources
    return ObjectBank(tuple(cutouts), tuple(backgrounds), findings, names, against, (source.name, source.sha256))


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What one photo gives: its whole objects, itself to set objects into (None = it cannot be used), what was odd."""

    findings: tuple[Finding, ...]
    cutouts: tuple[Cutout, ...] = ()
    background: Background | None = None


def _of_photo(scene: Scene, license_id: int, licenses: Sequence[int], finder: PhotoFinder, rules: Rules) -> _Found:
    place, photo = Place(scene.source, scene.image_id), finder.find(scene.file_name)
    if licenses and license_id not in licenses:
        return _Found((Finding("license-left-out", place, f"licence {license_id}"),))
    if photo is None:
        return _Found((Finding("photo-missing", place, scene.file_name),))
    if (wrong := _unusable(photo, scene.size)) is not None:
        return _Found((Finding("photo-unusable", place, wrong),))
    whole, found = _whole(scene, rules)
    cutouts = tuple(_donor(scene, scene.instances[n], photo, license_id) for n in whole)
    rest = [one.amodal for n, one in enumerate(scene.instances) if n not in whole and len(one.amodal.switches)]
    rest += [scene.unknown] if scene.unknown is not None else []
    unknown = merge(rest) if rest else None
    return _Found(
        (*scene.findings, *found), cutouts, Background(photo, scene.size, scene.image_id, license_id, (), unknown)
    )


def _opened(path: Path, stream: bool) -> tuple[Scenes | SceneStream, dict[int, int], dict[int, str]]:
    """The scenes of a file, the licence of every image by its id, licences that allow no derived works."""
    if stream:
        images: Any = list(items_of(path, "images.item"))
        listed: Any = list(items_of(path, "licenses.item"))
        return SceneStream(path, masks="modal"), _licenses(images), _no_derivatives(listed)
    content, source = load_json(path)
    scenes = plain_scenes(content, path, source, masks="modal")
    return scenes, _licenses(content.get("images")), _no_derivatives(content.get("licenses"))


def _unusable(photo: Path, size: tuple[int, int]) -> str | None:
    """What is wrong with a photo, by its header; None if nothing."""
    try:
        found = photo_size(photo)
    except PhotoError as error:
        return f"{photo.name}: {error.message}"
    return None if found == size else f"{photo.name} is {found} (height, width), its masks are of {size}"


def _licenses(images: Any) -> dict[int, int]:
    """The licence of every image by its id."""
    listed = [one for one in images if isinstance(one, Mapping)] if isinstance(images, list) else []
    return {integer(one.get("id")) or 0: integer(one.get("license")) or 0 for one in listed}


def _no_derivatives(listed: Any) -> dict[int, str]:
    """The licences of a COCO file that allow no derived works, by id: those whose address or name says so."""
    found = {}
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, Mapping) and (number := integer(one.get("id"))) is not None:
            said = f"{text(one.get('url'))} {text(one.get('name'))}".lower()
            if "-nd/" in said or "noderiv" in said:
                found[number] = text(one.get("name")) or text(one.get("url"))
    return found


def _is_in(image_id: int, part: str, held_out: float, split: int) -> bool:
    """Is a photo among those of a part? By a digest of its id and the split, so that no seed ever mixes them."""
    if part == "all":
        return True
    name = f"{image_id}/{split}" if split else str(image_id)
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
    return (drawn < held_out) == (part == "val")


def _donor(scene: Scene, one: Instance, photo: Path, license_id: int) -> Cutout:
    window = window_of(one.amodal)
    assert window is not None
    return Cutout(one.amodal, window, photo, scene.image_id, one.annotation_id, one.category_id, one.name, license_id)


def _whole(scene: Scene, rules: Rules) -> tuple[list[int], list[Finding]]:
    """Which instances of a photo are whole; why the others are not."""
    cover = np.zeros(scene.size, np.int32)
    for one in scene.instances:
        window = window_of(one.amodal)
        if window is not None:
            cover[window] += crop(one.amodal, window)
    if scene.unknown is not None:
        cover += scene.unknown.decode()
    kept, findings = [], []
    for n, one in enumerate(scene.instances):
        why = _why_not(one.amodal, cover, rules)
        if why is None:
            kept.append(n)
        else:
            findings.append(Finding(why[0], Place(scene.source, scene.image_id, one.region_index), why[1]))
    return kept, findings


def _why_not(mask: RLE, cover: NDArray[np.int32], rules: Rules) -> tuple[str, str] | None:
    """Code and message of the first rule that a mask breaks; None = none. cover: masks at each pixel, this one too."""
    area, window, (height, width) = mask.area, window_of(mask), mask.size
    if area < rules.smallest or window is None:
        return "donor-small", f"{area} px"
    rows, columns = window
    if rows.start < _FRAME or columns.start < _FRAME or rows.stop > height - _FRAME or columns.stop > width - _FRAME:
        return "donor-cut", "its mask ends at the frame"
    if area > rules.largest * height * width:
        return "donor-large", f"{area / (height * width):.0%} of the photo"
    around = (
        slice(max(0, rows.start - _NEAR), rows.stop + _NEAR),
        slice(max(0, columns.start - _NEAR), columns.stop + _NEAR),
    )
    inside = crop(
        mask, (slice(around[0].start, min(height, around[0].stop)), slice(around[1].start, min(width, around[1].stop)))
    )
    others = cover[around] - inside > 0
    outline = inside & ~ndimage.binary_erosion(inside)
    contact = (outline & ndimage.binary_dilation(others, iterations=_NEAR)).sum() / outline.sum()
    if contact > rules.contact:
        return "donor-touched", f"{contact:.0%} of its outline at other objects"
    parts, _ = ndimage.label(inside)
    largest = np.bincount(parts.ravel())[1:].max() / area
    if largest < rules.in_one:
        return "donor-in-parts", f"{largest:.0%} in the largest part"
    return None
