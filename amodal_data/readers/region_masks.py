"""What all layouts share: taking the masks and figures out of one image's raw regions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, MaskSizeError
from amodal_data.masks.polygons import LONGEST, self_intersecting, usable_polygon, well_inside
from amodal_data.masks.rle import RLE, merge, parse_rles, rasterise_many
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import StoredValues

_NUMBERS = {int, float}
_ODD = ("region-empty", "region-duplicate")


def integer(value: object) -> int | None:
    """An int of 64 bits, or a float that is one; None for anything else, bool included."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def number(value: object) -> float | None:
    """A finite int or float as float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None  # NaN compares False


def text(value: object) -> str:
    """A string as it is; ``""`` for anything else."""
    return value if isinstance(value, str) else ""


def declared(region: Mapping[str, Any], visible: str, hidden: str) -> StoredValues:
    """The checksums of a region: area, occlusion rate, and its stored masks under these keys."""
    return StoredValues(
        area=number(region.get("area")),
        occlusion_rate=number(region.get("occlude_rate")),
        visible=region.get(visible),
        hidden=region.get(hidden),
    )


class MaskDecoder:
    """The masks of one image on their way from raw values to :class:`RLE`, and what was odd.

    ``masks``: region position -> mask; positions that are missing were left out, with a finding. They
    are there once :func:`decode_masks` was called. ``mention``: whether empty and equal masks are worth a finding.
    """

    def __init__(self, size: tuple[int, int], place: Place, mention: Sequence[str] = _ODD) -> None:
        self.size = size
        self.place = place
        self.mention = mention
        self.masks: dict[int, RLE] = {}
        self.findings: list[Finding] = []
        self.polygons: list[tuple[int, NDArray[np.float64]]] = []
        self.rles: list[tuple[int, object]] = []

    def note(self, code: str, region: int, message: str) -> None:
        """Add a finding about one region."""
        self.findings.append(Finding(code, self.place_of(region), message))

    def place_of(self, region: int) -> Place:
        """The place of one region of this image."""
        return Place(self.place.file, self.place.image_id, region)

    def add_all(self, regions: Sequence[object], key: str, *, optional: bool = False) -> None:
        """Take every region's mask under ``key``: one polygon, a list of them, or an RLE of any kind.

        ``optional``: a mask that is not there is nothing to mention.
        """
        for at, region in enumerate(regions):
            if not isinstance(region, dict):
                self.note("region-malformed", at, f"a region is an object, found {type(region).__name__}")
                continue
            value = region.get(key)
            if isinstance(value, dict):
                self.rles.append((at, value))
            elif isinstance(value, list) and value:
                parts = value if isinstance(value[0], list) else [value]
                self._add_polygons(at, [_as_points(part) for part in parts])
            elif optional and value == []:  # a polygon layout's way to say: nothing of it is visible
                self.masks[at] = RLE(self.size, np.zeros(0, np.int32))
            elif value is not None or not optional:
                self.note("segmentation-missing", at, f"no usable {key!r}: {value!r:.40}")

    def _add_polygons(self, at: int, parts: list[NDArray[np.float64] | None]) -> None:
        usable = [(at, points) for points in parts if points is not None]
        if len(usable) == len(parts):
            self.polygons += usable
        else:
            self.note("segmentation-missing", at, "the polygon holds values that are not numbers")

    def take_rles(self, decoded: Sequence[RLE | MaskError]) -> None:
        """Accept the decoded RLEs; a bad one leaves its region out."""
        for (at, _), mask in zip(self.rles, decoded, strict=True):
            if isinstance(mask, MaskError):
                code = "rle-wrong-size" if isinstance(mask, MaskSizeError) else "rle-malformed"
                self.note(code, at, mask.message)
            else:
                self.masks[at] = mask

    def check_polygons(self) -> None:
        """Repair or leave out the polygons that cannot go to pycocotools as they are."""
        checked, left_out = [], set()
        for at, points in self.polygons:
            polygon, codes = usable_polygon(points, self.size)
            for code in codes:
                self.note(code, at, f"{len(points)} values, {_span(points)}")
            if polygon is None:
                left_out.add(at)
            else:
                checked.append((at, polygon))
        self.polygons = [(at, polygon) for at, polygon in checked if at not in left_out]

    def take(self, masks: Sequence[RLE]) -> None:
        """Accept the rasterised polygons; several of one region become their union."""
        parts = defaultdict(list)
        for (at, _), mask in zip(self.polygons, masks, strict=True):
            parts[at].append(mask)
        for at, several in parts.items():
            self.masks[at] = several[0] if len(several) == 1 else merge(several)
        self._note_empty_and_equal()

    def _note_empty_and_equal(self) -> None:
        first: dict[bytes, int] = {}
        for at in sorted(self.masks):
            mask = self.masks[at]
            twin = first.setdefault(mask.switches.tobytes(), at)
            if not len(mask.switches):
                if "region-empty" in self.mention:
                    self.note("region-empty", at, "covers no pixel")
            elif twin != at and "region-duplicate" in self.mention:
                self.note("region-duplicate", at, f"same mask as region {twin}")


def decode_masks(images: Sequence[MaskDecoder]) -> None:
    """Check, decode and rasterise the masks of several images, with one call each where one will do."""
    points = [polygon for image in images for _, polygon in image.polygons]
    sizes = [image.size for image in images for _ in image.polygons]
    if not well_inside(points, sizes).all():
        for image in images:
            image.check_polygons()
        points = [polygon for image in images for _, polygon in image.polygons]
    owners = [(image, at) for image in images for at, _ in image.polygons]
    long = [n for n, polygon in enumerate(points) if len(polygon) > 2 * LONGEST]
    asked = sorted(set(range(len(points))) - set(long))
    for n in long:
        image, at = owners[n]
        image.note("polygon-very-long", at, f"{len(points[n]) // 2} points")
    for n in np.flatnonzero(self_intersecting([points[n] for n in asked])).tolist():
        image, at = owners[asked[n]]
        image.note("polygon-self-intersecting", at, "shapely calls it invalid")
    masks = rasterise_many([([polygon for _, polygon in image.polygons], image.size) for image in images])
    every = [value for image in images for _, value in image.rles]
    decoded = iter(parse_rles(every, [image.size for image in images for _ in image.rles]))
    for image, several in zip(images, masks, strict=True):
        image.take_rles([next(decoded) for _ in image.rles])
        image.take(several)


def _as_points(value: object) -> NDArray[np.float64] | None:
    """The numbers of one polygon; None if some are not numbers."""
    if not isinstance(value, list) or not _NUMBERS.issuperset(map(type, value)):
        return None
    try:
        return np.array(value, np.float64)
    except OverflowError:  # an integer beyond any float
        return None


def _span(points: NDArray[np.float64]) -> str:
    if not len(points) or not np.isfinite(points).all():
        return f"{int((~np.isfinite(points)).sum())} of them not finite"
    return f"from {points.min():g} to {points.max():g}"
