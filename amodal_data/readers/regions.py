"""What all layouts share: taking the masks and figures out of one image's raw regions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, MaskSizeError
from amodal_data.findings import Finding, Place
from amodal_data.masks import RLE, merge, parse_rles, rasterise
from amodal_data.polygons import outside_by, self_intersecting, usable_polygon
from amodal_data.scene import Declared

__all__ = ["RegionMasks", "declared", "integer", "number", "text"]


def integer(value: object) -> int | None:
    """An int, or a float that is one; None for anything else, bool included."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def number(value: object) -> float | None:
    """A finite int or float as float; None for anything else."""
    if type(value) not in (int, float) or abs(value) > 1e300 or value != value:  # type: ignore[arg-type,operator]
        return None
    return float(value)  # type: ignore[arg-type]


def text(value: object) -> str:
    """A string as it is; ``""`` for anything else."""
    return value if isinstance(value, str) else ""


def declared(region: Mapping[str, Any], visible: str, hidden: str) -> Declared:
    """The checksums of a region: area, occlusion rate, and its stored masks under these keys."""
    return Declared(
        area=number(region.get("area")),
        occlusion_rate=number(region.get("occlude_rate")),
        visible=region.get(visible),
        hidden=region.get(hidden),
    )


class RegionMasks:
    """Collects the amodal masks of one image in two batches, polygons and RLEs, and what was odd.

    ``amodal``: region position -> mask; positions that are missing were left out, with a finding.
    """

    def __init__(self, size: tuple[int, int], place: Place) -> None:
        self.size = size
        self.place = place
        self.amodal: dict[int, RLE] = {}
        self.findings: list[Finding] = []
        self._polygons: list[tuple[int, NDArray[np.float64]]] = []
        self._rles: list[tuple[int, object]] = []

    def note(self, code: str, region: int, message: str) -> None:
        """Add a finding about one region."""
        place = Place(self.place.file, self.place.image_id, region)
        self.findings.append(Finding(code, place, message))

    def add_all(self, regions: Sequence[object], key: str) -> None:
        """Take every region's mask under ``key``: one polygon, a list of them, or an RLE of any kind."""
        for at, region in enumerate(regions):
            value = region.get(key) if isinstance(region, Mapping) else None
            if not isinstance(region, Mapping):
                self.note("region-malformed", at, f"a region is an object, found {type(region).__name__}")
            elif isinstance(value, Mapping):
                self._rles.append((at, value))
            elif isinstance(value, list) and value:
                parts = value if isinstance(value[0], list) else [value]
                self._add_polygons(at, [_as_points(part) for part in parts])
            else:
                self.note("segmentation-missing", at, f"no usable {key!r}: {value!r:.40}")
        self._decode_rles()
        self._rasterise()
        self._note_empty_and_equal()

    def _add_polygons(self, at: int, parts: list[NDArray[np.float64] | None]) -> None:
        usable = [(at, points) for points in parts if points is not None]
        if len(usable) == len(parts):
            self._polygons += usable
        else:
            self.note("segmentation-missing", at, "the polygon holds values that are not numbers")

    def _decode_rles(self) -> None:
        decoded = parse_rles([value for _, value in self._rles], self.size)
        for (at, _), mask in zip(self._rles, decoded, strict=True):
            if isinstance(mask, MaskError):
                code = "rle-wrong-size" if isinstance(mask, MaskSizeError) else "rle-malformed"
                self.note(code, at, mask.message)
            else:
                self.amodal[at] = mask

    def _rasterise(self) -> None:
        if not self._all_well_inside():
            self._check_each()
        points = [polygon for _, polygon in self._polygons]
        for at in np.flatnonzero(self_intersecting(points)):
            self.note("polygon-self-intersecting", self._polygons[at][0], "shapely calls it invalid")
        parts = defaultdict(list)
        for (at, _), mask in zip(self._polygons, rasterise(points, self.size), strict=True):
            parts[at].append(mask)
        for at, several in parts.items():
            self.amodal[at] = several[0] if len(several) == 1 else merge(several)

    def _all_well_inside(self) -> bool:
        """The fast test for the common case, all polygons of the image at once."""
        if any(len(points) < 6 or len(points) % 2 for _, points in self._polygons):
            return False
        together = np.concatenate([points for _, points in self._polygons]) if self._polygons else np.zeros(0)
        return bool(np.isfinite(together).all()) and outside_by(together, self.size) <= 1

    def _check_each(self) -> None:
        checked, left_out = [], set()
        for at, points in self._polygons:
            polygon, codes = usable_polygon(points, self.size)
            for code in codes:
                self.note(code, at, f"{len(points)} values, {_span(points)}")
            if polygon is None:
                left_out.add(at)
            else:
                checked.append((at, polygon))
        self._polygons = [(at, polygon) for at, polygon in checked if at not in left_out]

    def _note_empty_and_equal(self) -> None:
        first: dict[tuple[int, bytes], int] = {}
        for at in sorted(self.amodal):
            mask = self.amodal[at]
            if mask.area == 0:
                self.note("region-empty", at, "covers no pixel")
                continue
            twin = first.setdefault((len(mask.runs), mask.runs.tobytes()), at)
            if twin != at:
                self.note("region-duplicate", at, f"same mask as region {twin}")


def _as_points(value: object) -> NDArray[np.float64] | None:
    """The numbers of one polygon; None if some are not numbers."""
    try:
        points = np.array(value)
    except (ValueError, OverflowError):
        return None
    if points.ndim != 1 or points.dtype.kind not in "iuf":
        return None
    return points.astype(np.float64)


def _span(points: NDArray[np.float64]) -> str:
    if not len(points) or not np.isfinite(points).all():
        return f"{int((~np.isfinite(points)).sum())} of them not finite"
    return f"from {points.min():g} to {points.max():g}"
