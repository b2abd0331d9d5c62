"""Decode the masks of an image's annotations: polygons, lists of polygons, and RLEs of any kind."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, MaskSizeError
from amodal_data.masks.polygons import LONGEST, self_intersecting, usable_polygon, well_inside
from amodal_data.masks.rle import RLE, merge, parse_rles, rasterize_batch
from amodal_data.scenes.findings import Finding, Place

_NUMBERS = {int, float}
EMPTY_AND_EQUAL = ("region-empty", "region-duplicate")
"""Codes of the findings about masks that are empty, or equal to another one of the image."""


class MaskDecoder:
    """The masks of one image, from raw values to :class:`RLE`, and findings about them.

    ``masks``: index of the annotation -> mask, filled by :func:`decode_masks`; unusable masks are missing there.
    ``codes``: which of :data:`EMPTY_AND_EQUAL` are reported. ``size``: (H, W).
    """

    def __init__(self, size: tuple[int, int], place: Place, codes: Sequence[str] = EMPTY_AND_EQUAL) -> None:
        self.size = size
        self.place = place
        self.codes = codes
        self.masks: dict[int, RLE] = {}
        self.findings: list[Finding] = []
        self.polygons: list[tuple[int, NDArray[np.float64]]] = []
        self.rles: list[tuple[int, object]] = []

    def report(self, code: str, index: int, message: str) -> None:
        """Add a finding about one annotation."""
        self.findings.append(Finding(code, Place(self.place.file, self.place.image_id, index), message))

    def add_all(self, annotations: Sequence[object], key: str, *, optional: bool = False) -> None:
        """Add the mask under ``key`` of every annotation: a polygon, a list of them, or an RLE of any kind.

        ``optional``: a mask that is absent is not reported, and an empty list is an empty mask.
        """
        for index, annotation in enumerate(annotations):
            if not isinstance(annotation, dict):
                self.report("region-malformed", index, f"expected an object, found {type(annotation).__name__}")
                continue
            value = annotation.get(key)
            if isinstance(value, dict):
                self.rles.append((index, value))
            elif isinstance(value, list) and value:
                parts = value if isinstance(value[0], list) else [value]
                self._add_polygons(index, [_as_points(part) for part in parts])
            elif optional and value == []:  # how polygon layouts write that nothing is visible
                self.masks[index] = RLE(self.size, np.zeros(0, np.int32))
            elif value is not None or not optional:
                self.report("segmentation-missing", index, f"no usable {key!r}: {value!r:.40}")

    def _add_polygons(self, index: int, parts: list[NDArray[np.float64] | None]) -> None:
        usable = [(index, points) for points in parts if points is not None]
        if len(usable) == len(parts):
            self.polygons += usable
        else:
            self.report("segmentation-missing", index, "the polygon holds values that are not numbers")

    def accept_rles(self, decoded: Sequence[RLE | MaskError]) -> None:
        """Take the decoded RLEs; an error leaves its annotation without a mask."""
        for (index, _), mask in zip(self.rles, decoded, strict=True):
            if isinstance(mask, MaskError):
                code = "rle-wrong-size" if isinstance(mask, MaskSizeError) else "rle-malformed"
                self.report(code, index, mask.message)
            else:
                self.masks[index] = mask

    def repair_polygons(self) -> None:
        """Repair or drop the polygons that pycocotools must not get; one dropped part drops the whole mask."""
        repaired, dropped = [], set()
        for index, points in self.polygons:
            polygon, codes = usable_polygon(points, self.size)
            for code in codes:
                self.report(code, index, f"{len(points)} values, {_span(points)}")
            if polygon is None:
                dropped.add(index)
            else:
                repaired.append((index, polygon))
        self.polygons = [(index, polygon) for index, polygon in repaired if index not in dropped]

    def accept_polygons(self, masks: Sequence[RLE]) -> None:
        """Take the rasterized polygons; several of one annotation become their union."""
        parts = defaultdict(list)
        for (index, _), mask in zip(self.polygons, masks, strict=True):
            parts[index].append(mask)
        for index, rles in parts.items():
            self.masks[index] = rles[0] if len(rles) == 1 else merge(rles)
        self._report_empty_and_equal()

    def _report_empty_and_equal(self) -> None:
        first: dict[bytes, int] = {}
        for index in sorted(self.masks):
            mask = self.masks[index]
            twin = first.setdefault(mask.switches.tobytes(), index)
            if not len(mask.switches):
                if "region-empty" in self.codes:
                    self.report("region-empty", index, "covers no pixel")
            elif twin != index and "region-duplicate" in self.codes:
                self.report("region-duplicate", index, f"same mask as instance {twin}")


def decode_masks(images: Sequence[MaskDecoder]) -> None:
    """Check, decode and rasterize the masks of several images, all images in one call of each step."""
    points = [polygon for image in images for _, polygon in image.polygons]
    sizes = [image.size for image in images for _ in image.polygons]
    if not well_inside(points, sizes).all():
        for image in images:
            image.repair_polygons()
        points = [polygon for image in images for _, polygon in image.polygons]
    owners = [(image, index) for image in images for index, _ in image.polygons]
    long = [n for n, polygon in enumerate(points) if len(polygon) > 2 * LONGEST]
    short = sorted(set(range(len(points))) - set(long))
    for n in long:
        image, index = owners[n]
        image.report("polygon-very-long", index, f"{len(points[n]) // 2} points")
    for n in np.flatnonzero(self_intersecting([points[n] for n in short])).tolist():
        image, index = owners[short[n]]
        image.report("polygon-self-intersecting", index, "not valid for shapely")
    rasterized = rasterize_batch([([polygon for _, polygon in image.polygons], image.size) for image in images])
    rles = [value for image in images for _, value in image.rles]
    decoded = iter(parse_rles(rles, [image.size for image in images for _ in image.rles]))
    for image, masks in zip(images, rasterized, strict=True):
        image.accept_rles([next(decoded) for _ in image.rles])
        image.accept_polygons(masks)


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
