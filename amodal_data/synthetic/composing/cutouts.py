"""Select cut-outs, annotated objects that are whole, and the photos to paste them into.

Modal masks cover visible parts. An object counts as whole if its mask touches neither the frame nor another annotated
object. Something that is not annotated may still hide a part of it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from amodal_data.errors import PhotoError, SelectionError
from amodal_data.io.images import read_header
from amodal_data.masks.rle import RLE, merge
from amodal_data.masks.windows import Window, crop, window_of
from amodal_data.readers.discovery import PhotoFinder
from amodal_data.readers.json_files import integer, load_json, text
from amodal_data.readers.plain_coco import plain_scenes
from amodal_data.readers.stream import SceneStream, items_of, iter_annotations
from amodal_data.scenes.findings import Finding, Place, count_findings, counts_text
from amodal_data.scenes.scene import Scene, Scenes

_FRAME = 2  # Pixels from the frame within which a mask counts as cut off
_NEAR = 2  # Pixels between two masks that count as touching


@dataclass(frozen=True, slots=True)
class Rules:
    """What a whole object is.

    ``smallest``: fewest pixels. ``largest``: largest share of its photo. ``contact``: largest share of its outline
    within two pixels of another annotated object. ``connected``: smallest share of its pixels in its largest component.
    """

    smallest: int = 400
    largest: float = 0.5
    contact: float = 0.1
    connected: float = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """A whole object in a photo. ``license``: id in the annotation file, 0 = unknown."""

    mask: RLE
    window: Window
    photo: Path
    image_id: int
    annotation_id: int
    category_id: int
    name: str
    license: int

    def shape(self) -> NDArray[np.bool_]:
        """The mask inside ``window``, bool [h, w]."""
        return crop(self.mask, self.window)


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """A photo of ``size`` (H, W) to paste objects into.

    ``whole``: numbers of its own cut-outs. ``unknown``: pixels of its objects that are not whole, None = none.
    """

    photo: Path
    size: tuple[int, int]
    image_id: int
    license: int
    whole: tuple[int, ...]
    unknown: RLE | None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectBank:
    """What scenes are composed of.

    ``findings``: what was left out and why. ``names``: category names by id. ``no_derivatives``: licenses of the file
    that forbid derived works, by id. ``source``: name and SHA-256 of the file.
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
    """Collect the whole objects and the photos of a plain COCO file.

    images: folders of photos. classes: names of the objects to paste, () = all. licenses: ids of the licenses to use,
    () = all. part: ``train``, ``val`` (the share ``held_out`` of all photos, always the same ones) or ``all``; no
    photo, and so no object, is in both. split: seed of the division into train and val. stream: do not hold the file in
    memory; the bank is the same. Raises :class:`SelectionError` if no object is left, or for an unknown class.
    """
    content = _open_scenes(Path(path), stream)
    finder = PhotoFinder([Path(folder) for folder in images])
    rules, names = rules or Rules(), dict[int, str]()
    photos: dict[int, _PhotoObjects] = {}
    for scene in content.scenes:
        names |= {instance.category_id: instance.name for instance in scene.instances}
        if in_part(scene.image_id, part, held_out, split):
            license_id = content.licenses.get(scene.image_id, 0)
            photos[scene.image_id] = _photo_objects(scene, license_id, licenses, finder, rules)
    ordered = [photos[image_id] for image_id in content.licenses if image_id in photos]
    cutouts: list[Cutout] = []
    backgrounds: list[Background] = []
    for photo in ordered:
        if photo.background is not None:
            numbers = tuple(range(len(cutouts), len(cutouts) + len(photo.cutouts)))
            cutouts += photo.cutouts
            backgrounds.append(replace(photo.background, whole=numbers))
    if unknown := sorted(set(classes) - set(names.values())):
        raise SelectionError(f"no object of class {unknown[0]!r}", fix=f"choose of {', '.join(sorted(names.values()))}")
    findings = (*content.scenes.file_findings, *(finding for photo in ordered for finding in photo.findings))
    if not any(not classes or cutout.name in classes for cutout in cutouts):
        raise _no_cutouts(findings, path)
    (source,) = content.scenes.sources
    return ObjectBank(
        tuple(cutouts), tuple(backgrounds), findings, names, content.no_derivatives, (source.name, source.sha256)
    )


def _no_cutouts(findings: Sequence[Finding], path: str | Path) -> SelectionError:
    """The error of a bank without objects to paste, with what was left out and why."""
    counts = count_findings(findings)
    reasons = counts_text(counts) or "the file has no objects of this part"
    fix = "loosen the rules (contact, smallest), or allow more licenses or classes"
    if counts.get("photo-missing"):
        fix = "name the folder of the images (--images)"
    return SelectionError(f"no whole object to compose scenes from: {reasons}", place=str(path), fix=fix)


@dataclass(frozen=True, slots=True, eq=False)
class _PhotoObjects:
    """The whole objects of one photo, and the photo as a background; None = it cannot be used."""

    findings: tuple[Finding, ...]
    cutouts: tuple[Cutout, ...] = ()
    background: Background | None = None


def _photo_objects(
    scene: Scene, license_id: int, licenses: Sequence[int], finder: PhotoFinder, rules: Rules
) -> _PhotoObjects:
    place, photo = Place(scene.source, scene.image_id), finder.find(scene.file_name)
    if licenses and license_id not in licenses:
        return _PhotoObjects((Finding("license-left-out", place, f"license {license_id}"),))
    if photo is None:
        return _PhotoObjects((Finding("photo-missing", place, scene.file_name),))
    if (problem := _photo_problem(photo, scene.size)) is not None:
        return _PhotoObjects((Finding("photo-unusable", place, problem),))
    whole, findings = whole_instances(scene, rules)
    cutouts = tuple(
        Cutout(i.amodal, whole[n], photo, scene.image_id, i.annotation_id, i.category_id, i.name, license_id)
        for n, i in enumerate(scene.instances)
        if n in whole
    )
    rest = [i.amodal for n, i in enumerate(scene.instances) if n not in whole and len(i.amodal.switches)]
    rest += [scene.unknown] if scene.unknown is not None else []
    background = Background(photo, scene.size, scene.image_id, license_id, (), merge(rest) if rest else None)
    return _PhotoObjects((*scene.findings, *findings), cutouts, background)


class _Content(NamedTuple):
    """An annotation file: its scenes, the license of each image by id, the licenses that forbid derived works."""

    scenes: Scenes | SceneStream
    licenses: dict[int, int]
    no_derivatives: dict[int, str]


def _open_scenes(path: Path, stream: bool) -> _Content:
    if stream:
        images: Any = list(items_of(path, "images.item"))
        licenses: Any = list(items_of(path, "licenses.item"))
        return _Content(iter_annotations(path, masks="modal"), _licenses(images), _no_derivatives(licenses))
    content, source = load_json(path)
    scenes = plain_scenes(content, path, source, masks="modal")
    return _Content(scenes, _licenses(content.get("images")), _no_derivatives(content.get("licenses")))


def _photo_problem(photo: Path, size: tuple[int, int]) -> str | None:
    """Why a photo cannot be used, by its header; None = it can."""
    try:
        problem = read_header(photo).misfit(size)
    except PhotoError as error:
        problem = error.message
    return f"{photo.name} {problem}" if problem else None


def _licenses(images: Any) -> dict[int, int]:
    """The license of each image by its id."""
    rows = [image for image in images if isinstance(image, Mapping)] if isinstance(images, list) else []
    return {integer(image.get("id")) or 0: integer(image.get("license")) or 0 for image in rows}


def _no_derivatives(licenses: Any) -> dict[int, str]:
    """Names of the licenses that forbid derived works, by id: their address or name says so."""
    names = {}
    for license in licenses if isinstance(licenses, list) else []:
        if isinstance(license, Mapping) and (number := integer(license.get("id"))) is not None:
            url, name = text(license.get("url")), text(license.get("name"))
            if "-nd/" in f"{url} {name}".lower() or "noderiv" in f"{url} {name}".lower():
                names[number] = name or url
    return names


def in_part(image_id: int, part: str, held_out: float, split: int) -> bool:
    """Does a photo belong to a part? A digest of its id and ``split`` decides, so no other seed ever mixes them."""
    if part == "all":
        return True
    name = f"{image_id}/{split}" if split else str(image_id)
    position = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
    return (position < held_out) == (part == "val")


def whole_instances(scene: Scene, rules: Rules) -> tuple[dict[int, Window], list[Finding]]:
    """The windows of the instances of a photo that are whole, by number, and why the others are not."""
    cover = np.zeros(scene.size, np.int32)
    windows = [window_of(instance.amodal) for instance in scene.instances]
    for instance, window in zip(scene.instances, windows, strict=True):
        if window is not None:
            cover[window] += crop(instance.amodal, window)
    if scene.unknown is not None:
        cover += scene.unknown.decode()
    whole: dict[int, Window] = {}
    findings: list[Finding] = []
    for n, (instance, window) in enumerate(zip(scene.instances, windows, strict=True)):
        code, message = _broken_rule(instance.amodal, window, cover, rules) or ("", "")
        if code:
            findings.append(Finding(code, Place(scene.source, scene.image_id, instance.region_index), message))
        elif window is not None:
            whole[n] = window
    return whole, findings


def _broken_rule(mask: RLE, window: Window | None, cover: NDArray[np.int32], rules: Rules) -> tuple[str, str] | None:
    """Code and message of the first rule that a mask breaks; None = it is whole.

    cover: number of masks over each pixel, this one included.
    """
    area, (height, width) = mask.area, mask.size
    if area < rules.smallest or window is None:
        return "donor-small", f"{area} px"
    rows, columns = window
    if rows.start < _FRAME or columns.start < _FRAME or rows.stop > height - _FRAME or columns.stop > width - _FRAME:
        return "donor-cut", "its mask touches the frame"
    if area > rules.largest * height * width:
        return "donor-large", f"{area / (height * width):.0%} of the photo"
    margin = (
        slice(max(0, rows.start - _NEAR), min(height, rows.stop + _NEAR)),
        slice(max(0, columns.start - _NEAR), min(width, columns.stop + _NEAR)),
    )
    inside = crop(mask, margin)
    neighbors = cover[margin] - inside > 0
    outline = inside & ~ndimage.binary_erosion(inside)
    contact = (outline & ndimage.binary_dilation(neighbors, iterations=_NEAR)).sum() / outline.sum()
    if contact > rules.contact:
        return "donor-touched", f"{contact:.0%} of its outline touches other objects"
    parts, _ = ndimage.label(inside)
    largest = np.bincount(parts.ravel())[1:].max() / area
    if largest < rules.connected:
        return "donor-in-parts", f"{largest:.0%} of it in the largest component"
    return None
