"""What scenes are composed of: cut-outs, which are whole objects, and the photos to paste them into.

Modal masks cover visible parts. An object counts as whole if its mask touches neither the frame nor another annotated
object. Something that is not annotated may still hide a part of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import Window, crop, window_of
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene, Source

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
    """A whole object in a photo. ``license``: id in the annotation file, 0 = unknown.

    ``source``: number in the sources of the bank; ``file_name``: of the photo, as the source names it. ``framed``:
    False = ``photo`` is an image with alpha that shows the object alone, so its size there means nothing.
    """

    mask: RLE
    window: Window
    photo: Path
    image_id: int
    annotation_id: int
    category_id: int
    name: str
    license: int
    source: int = 0
    file_name: str = ""
    framed: bool = True

    def shape(self) -> NDArray[np.bool_]:
        """The mask inside ``window``, bool [h, w]."""
        return crop(self.mask, self.window)


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """A photo of ``size`` (H, W) to paste objects into.

    ``whole``: numbers of its own cut-outs. ``unknown``: pixels of its objects that are not whole, None = none.
    ``source``, ``file_name``: as in :class:`Cutout`.
    """

    photo: Path
    size: tuple[int, int]
    image_id: int
    license: int
    whole: tuple[int, ...]
    unknown: RLE | None
    source: int = 0
    file_name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PhotoObjects:
    """The whole objects of one photo, and the photo as a background; None = it is none."""

    findings: tuple[Finding, ...]
    cutouts: tuple[Cutout, ...] = ()
    background: Background | None = None

    def items(self) -> tuple[Cutout | Background, ...]:
        """All that is used of the photo."""
        return self.cutouts if self.background is None else (*self.cutouts, self.background)


@dataclass(frozen=True, slots=True, eq=False)
class SourceContent:
    """What one source gives: an annotation file or a folder.

    ``names``: category names by id. ``licenses``: name and URL of those that it lists, by id. ``is_folder``: its ids of
    categories are mere counts.
    """

    source: Source
    photos: Sequence[PhotoObjects]
    findings: Sequence[Finding] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    licenses: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    is_folder: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ObjectBank:
    """What scenes are composed of.

    ``findings``: what was left out and why. ``names``: category names by id. ``no_derivatives``: licenses that forbid
    derived works, by id. ``sources``: annotation files and folders. ``licenses``: those in use, if there are several
    sources: ``id`` in the composed set, ``source`` (from 1), ``source_id``, ``name`` and ``url`` there. ``exclude``:
    the lists of photos that are left out.
    """

    cutouts: tuple[Cutout, ...]
    backgrounds: tuple[Background, ...]
    findings: tuple[Finding, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    no_derivatives: Mapping[int, str] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    licenses: tuple[Mapping[str, Any], ...] = ()
    exclude: tuple[Source, ...] = ()

    def items(self) -> tuple[Cutout | Background, ...]:
        """All backgrounds, then all cut-outs."""
        return *self.backgrounds, *self.cutouts


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
