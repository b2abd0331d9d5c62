"""One image with its raw annotations: decode their masks, polygons and RLEs of any kind, and make its scene."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError, MaskSizeError, PhotoError
from amodal_data.io.images import photo_size, read_mask
from amodal_data.masks.polygons import LONGEST, overshoot, self_intersecting, usable_polygon, well_inside
from amodal_data.masks.rle import RLE, merge, parse_rles, rasterize_batch
from amodal_data.readers.categories import Categories
from amodal_data.readers.json_files import identifier
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Instance, Scene

Annotation = Mapping[str, Any]
_NUMBERS = {int, float}
EMPTY_AND_EQUAL = ("region-empty", "region-duplicate")  # codes of masks that are empty, or equal to another one


class MaskDecoder:
    """The masks of one image, from raw values to :class:`RLE`, and findings about them.

    ``masks``: index of the annotation -> mask, filled by :func:`decode_masks`; unusable masks are missing there.
    ``size``: (H, W). codes: which of :data:`EMPTY_AND_EQUAL` are reported.
    """

    def __init__(self, size: tuple[int, int], place: Place, codes: Sequence[str] = EMPTY_AND_EQUAL) -> None:
        self.size, self.place, self._codes = size, place, codes
        self.masks: dict[int, RLE] = {}
        self.findings: list[Finding] = []
        self.polygons: list[tuple[int, NDArray[np.float64]]] = []
        self.rles: list[tuple[int, object]] = []

    def report(self, code: str, index: int, message: str) -> None:
        """Add a finding about one annotation."""
        self.findings.append(Finding(code, Place(self.place.file, self.place.image_id, index), message))

    def add_all(self, annotations: Sequence[object], key: str, *, optional: bool = False) -> None:
        """Add the mask under ``key`` of every annotation: a polygon, a list of them, an RLE of any kind, or a picture.

        A picture is given as a ``Path``. ``optional``: a mask that is absent is not reported, and an empty list is an
        empty mask.
        """
        for index, annotation in enumerate(annotations):
            if not isinstance(annotation, dict):
                self.report("region-malformed", index, f"expected an object, found {type(annotation).__name__}")
                continue
            value = annotation.get(key)
            if isinstance(value, dict):
                self.rles.append((index, value))
            elif isinstance(value, Path):
                self._read_picture(index, value)
            elif isinstance(value, list) and value:
                parts = [_as_points(part) for part in flat_polygons(value)]
                usable = [(index, points) for points in parts if points is not None]
                if len(usable) == len(parts):
                    self.polygons += usable
                else:
                    self.report("segmentation-missing", index, "the polygon holds values that are not numbers")
            elif optional and value == []:  # how polygon layouts write that nothing is visible
                self.masks[index] = RLE(self.size, np.zeros(0, np.int32))
            elif value is not None or not optional:
                self.report("segmentation-missing", index, f"no usable {key!r}: {value!r:.40}")

    def _read_picture(self, index: int, path: Path) -> None:
        name = f"{path.parent.name}/{path.name}"
        try:
            if (size := photo_size(path)) != self.size:
                self.report("rle-wrong-size", index, f"{name} is {size} (height, width), its image {self.size}")
                return
            picture = read_mask(path)
        except PhotoError as error:
            self.report("mask-unusable", index, f"{name}: {error.message}")
            return
        if picture.is_gray:
            self.report("mask-gray", index, name)
        self.masks[index] = RLE.from_mask(picture.mask)

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
        repaired: list[tuple[int, NDArray[np.float64] | None]] = []
        for index, points in self.polygons:
            polygon, codes = usable_polygon(points, self.size)
            repaired.append((index, polygon))
            for code in codes:
                self.report(code, index, f"{len(points)} values, {_span(points)}")
        self._check_exchanged_size([polygon for _, polygon in repaired if polygon is not None])
        dropped = {index for index, polygon in repaired if polygon is None}
        self.polygons = [(i, polygon) for i, polygon in repaired if polygon is not None and i not in dropped]

    def _check_exchanged_size(self, polygons: Sequence[NDArray[np.float64]]) -> None:
        """Report once if polygons leave the image, but all would lie in it with height and width exchanged."""
        exchanged = self.size[::-1]
        leaves = any(overshoot(polygon, self.size) > 1 for polygon in polygons)
        if self.size != exchanged and leaves and all(overshoot(polygon, exchanged) <= 1 for polygon in polygons):
            self.report("size-exchanged", -1, f"{self.size[0]} high, {self.size[1]} wide")

    def accept_polygons(self, masks: Sequence[RLE]) -> None:
        """Take the rasterized polygons; several of one annotation become their union."""
        parts = defaultdict(list)
        for (index, points), mask in zip(self.polygons, masks, strict=True):
            parts[index].append(mask)
            if len(mask.switches) <= 2 and points.min() >= 0 and 0 < points.max() <= 1:
                self.report("polygon-in-fractions", index, _span(points))
        for index, rles in parts.items():
            self.masks[index] = rles[0] if len(rles) == 1 else merge(rles)
        first: dict[bytes, int] = {}
        for index in sorted(self.masks):
            mask = self.masks[index]
            twin = first.setdefault(mask.switches.tobytes(), index)
            if not len(mask.switches) and "region-empty" in self._codes:
                self.report("region-empty", index, "covers no pixel")
            elif len(mask.switches) and twin != index and "region-duplicate" in self._codes:
                self.report("region-duplicate", index, f"same mask as instance {twin}")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image with its raw annotations; layouts extend it by what else they need to make a scene.

    ``size``: (H, W); ``source``: name of the file; ``categories``: the classes that it lists.
    """

    image_id: int
    file_name: str
    size: tuple[int, int]
    annotations: Sequence[Annotation]
    source: str
    categories: Categories

    def masks(self, key: str, *, optional: bool = False, codes: Sequence[str] = EMPTY_AND_EQUAL) -> MaskDecoder:
        """A decoder that holds the mask under ``key`` of every annotation; see :meth:`MaskDecoder.add_all`."""
        decoder = MaskDecoder(self.size, Place(self.source, self.image_id), codes)
        decoder.add_all(self.annotations, key, optional=optional)
        return decoder

    def instance(self, index: int, amodal: RLE, **fields: Any) -> Instance:
        """The instance of one annotation, with its ids and class name; ``fields``: others of :class:`Instance`."""
        annotation = self.annotations[index]
        annotation_id = identifier(annotation.get("id"))
        category, _ = self.categories.find(annotation.get("category_id"))
        return Instance(
            amodal=amodal,
            annotation_id=-1 if annotation_id is None else annotation_id,
            region_index=index,
            category_id=category,
            name=self.categories.names.get(category, ""),
            **fields,
        )

    def scene(self, instances: Iterable[Instance], findings: Iterable[Finding], **fields: Any) -> Scene:
        """The scene of this image; ``fields``: others of :class:`Scene`."""
        instances = tuple(instances)
        return Scene(
            image_id=self.image_id,
            file_name=self.file_name,
            size=self.size,
            instances=instances,
            findings=(*findings, *self._unlisted(instances)),
            source=self.source,
            **fields,
        )

    def _unlisted(self, instances: Iterable[Instance]) -> Iterator[Finding]:
        """A finding for each instance whose class the file does not list."""
        unlisted = (instance for instance in instances if instance.category_id not in self.categories.names)
        for index in (instance.region_index for instance in unlisted):
            _, problem = self.categories.find(self.annotations[index].get("category_id"))
            if problem:
                yield Finding("class-unknown", Place(self.source, self.image_id, index), problem)


def decode_masks(images: Sequence[MaskDecoder]) -> Sequence[MaskDecoder]:
    """Check, decode and rasterize the masks of several images, all images in one call of each step; returns them."""
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
        image.report("polygon-self-intersecting", index, "its outline crosses or touches itself")
    rasterized = rasterize_batch([([polygon for _, polygon in image.polygons], image.size) for image in images])
    rles = [value for image in images for _, value in image.rles]
    decoded = iter(parse_rles(rles, [image.size for image in images for _ in image.rles]))
    for image, masks in zip(images, rasterized, strict=True):
        image.accept_rles([next(decoded) for _ in image.rles])
        image.accept_polygons(masks)
    return images


def flat_polygons(value: list[Any]) -> list[Any]:
    """The polygons of a ``segmentation``: one or several, each ``[x, y, x, y, ...]`` or pairs ``[[x, y], ...]``."""
    if not isinstance(value[0], list):
        return [value]
    if len(value) > 2 and all(_is_pair(part) for part in value):
        return [[number for pair in value for number in pair]]
    return [
        [number for pair in part for number in pair] if isinstance(part, list) and all(map(_is_pair, part)) else part
        for part in value
    ]


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and not isinstance(value[0], list)


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
