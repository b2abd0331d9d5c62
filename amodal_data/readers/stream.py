"""Annotation files too large to hold: read from front to back, a few images at a time.

First passes take the image list, count each image's annotations and hash the file; the last hands out
scenes as their annotations come in. So memory holds a small tuple an image and what is being read,
never the file. Images come in the order in which their annotations are complete; where a file lists
both alike, as published ones do, that is the order of :func:`read_annotations`, and a cache gets the
same bytes.
"""

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import ijson
import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import AnnotationError, LayoutError, SelectionError
from amodal_data.io.files import open_regular
from amodal_data.readers.amodal_coco import amodal_coco_scenes, dataset_of, layout_of
from amodal_data.readers.annotation_index import AnnotationIndex, image_size
from amodal_data.readers.cocoa import check_annotator, cocoa_scenes
from amodal_data.readers.order_rules import keys_of
from amodal_data.readers.plain_coco import no_layout, plain_scenes, plain_settings
from amodal_data.readers.region_masks import integer, text
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene, Scenes, Source


def iter_annotations(
    path: str | Path,
    *,
    annotator: str = "first",
    cocoa: Scenes | None = None,
    masks: str | None = None,
    order: str | None = None,
) -> "SceneStream":
    """The scenes of one annotation file with lists ``images`` and ``annotations``, without ever holding the file.

    annotator, cocoa, masks, order: as in :func:`read_annotations`. Raises as that does; a NaN in the JSON, which the
    streaming parser does not accept, is an :class:`AnnotationError` too. Images without ``height`` and
    ``width`` are left out with a finding.
    """
    return SceneStream(Path(path), annotator, cocoa, masks, order)


class SceneStream:
    """Scenes in passing: iterable any number of times, in batches or one by one; not indexable."""

    def __init__(
        self,
        path: Path,
        annotator: str = "first",
        cocoa: Scenes | None = None,
        masks: str | None = None,
        order: str | None = None,
    ) -> None:
        self._path = path
        self._annotator = annotator
        self._cocoa = cocoa
        self._masks = masks
        self._order = order
        self._grouping = AnnotationIndex(path.name)
        self._window = (0, -1)
        self.sources = (Source(path.name, _digest(path)), *(cocoa.sources if cocoa is not None else ()))
        self._categories = list(self._items("categories.item"))
        self._take_images()
        self._count_annotations()
        empty = self._scenes([], {})
        self.dataset, self.settings = empty.dataset, empty.settings
        if self._layout == "cocoa":
            check_annotator(annotator, self._total, path)
        self._window = (0, self._total)

    @property
    def file_findings(self) -> tuple[Finding, ...]:
        """What was odd about the file as a whole: what :func:`read_annotations` finds, in the same order."""
        return tuple(self._grouping.findings)

    @property
    def file_names(self) -> list[str]:
        """The file name of every annotated image, without reading the scenes."""
        return [self._name(place) for place, count in enumerate(self._counts) if count]

    @property
    def images(self) -> list[tuple[int, str]]:
        """Id and file name of every image that has a scene, without reading it."""
        there = zip(self._ids, self._counts, self._heights, strict=True)
        return [(one, self._name(place)) for place, (one, count, height) in enumerate(there) if count and height]

    def __repr__(self) -> str:
        return f"SceneStream({self.dataset}: {len(self)} images from {self._path.name!r:.80}, in passing)"

    def __len__(self) -> int:
        return self._window[1] - self._window[0]

    def __iter__(self) -> Iterator[Scene]:
        for batch in self.batches(16):
            yield from batch

    def between(self, start: int, stop: int) -> "SceneStream":
        """Only scenes ``start`` to ``stop`` of this stream."""
        part = copy(self)
        part._window = (self._window[0] + start, min(self._window[0] + stop, self._window[1]))
        return part

    def first(self, n: int) -> "SceneStream":
        """The first ``n`` scenes; ``settings`` says so."""
        part = self.between(0, n)
        part.settings = {**self.settings, "limit": str(n)}
        return part

    def batches(self, size: int) -> Iterator[Scenes]:
        """Neighbouring scenes, ``size`` at a time, still raw."""
        start, stop = self._window
        rest: Scenes | None = None
        at = 0
        for scenes in self._ready(size):
            own = scenes[max(start - at, 0) : max(stop - at, 0)]
            at += len(scenes)
            if not len(own):
                continue
            rest = own if rest is None else rest.followed_by(own)
            for batch in rest.batches(size):  # without what concerns the whole file: nothing piles up
                rest = batch
                if len(batch) == size:
                    yield batch
                    rest = None
            if at >= stop:
                break
        if rest is not None and len(rest):
            yield rest

    def _ready(self, size: int) -> Iterator[Scenes]:
        """The scenes of ``size`` images whenever that many have all their annotations."""
        waiting: dict[int, list[Any]] = defaultdict(list)
        ready: list[int] = []
        for annotation in self._items("annotations.item"):
            place = self._place_of(annotation)
            if place is None or not self._heights[place]:
                continue
            waiting[place].append(annotation)
            if len(waiting[place]) == self._counts[place]:
                ready.append(place)
            if len(ready) == size:
                yield self._scenes(ready, waiting)
                ready = []
        if ready:
            yield self._scenes(ready, waiting)

    def _place_of(self, annotation: Any) -> int | None:
        """The place in the image list that a usable annotation belongs to."""
        if not isinstance(annotation, Mapping):
            return None
        if self._layout == "cocoa" and not isinstance(annotation.get("regions"), list):
            return None
        image_id = integer(annotation.get("image_id"))
        return None if image_id is None else self._places.get(image_id)

    def _scenes(self, ready: list[int], waiting: dict[int, list[Any]]) -> Scenes:
        """The scenes of some complete images, made by the ordinary reader."""
        images = [
            {"id": self._ids[n], "file_name": self._name(n), "height": self._heights[n], "width": self._widths[n]}
            for n in ready
        ]
        annotations = [annotation for place in ready for annotation in waiting.pop(place)]
        content = {"images": images, "annotations": annotations, "categories": self._categories}
        if self._layout == "cocoa":
            return cocoa_scenes(content, self._path, self.sources[0], self._annotator)
        if self._layout == "coco":
            return plain_scenes(content, self._path, self.sources[0], masks=self._masks, order=self._order)
        dataset = dataset_of(self._layout, self._path.name)
        return amodal_coco_scenes(content, self._path, self.sources[0], dataset, self._layout, self._cocoa)

    def _name(self, place: int) -> str:
        """The file name of an image by its place in the list."""
        own = self._text[self._text_ends[place] : self._text_ends[place + 1]]
        return own.decode("utf-8", "surrogatepass")

    def _take_images(self) -> None:
        """The image list in a compact form: some 150 bytes an image."""
        self._text, self._text_ends = bytearray(), array("q", [0])  # file names, one after the other
        self._ids, self._heights, self._widths = array("q"), array("i"), array("i")
        for at, image in enumerate(self._items("images.item")):
            self._grouping.add_images([image], at)
            if len(self._grouping.images) == len(self._ids):
                continue  # no id, or a repeated one
            image_id, _ = self._grouping.images.popitem()
            self._grouping.images[image_id] = len(self._ids)  # in place of the record, which is not kept
            height, width = image_size(image) or (0, 0)
            self._ids.append(image_id)
            self._text += text(image.get("file_name")).encode("utf-8", "surrogatepass")
            self._text_ends.append(len(self._text))
            self._heights.append(height)
            self._widths.append(width)
        self._places: dict[int, int] = self._grouping.images

    def _count_annotations(self) -> None:
        """How many annotations each image has, the layout, and how many scenes there will be."""
        first = next(self._items("annotations.item"), None)
        regions = isinstance(first, Mapping) and "regions" in first
        about_images = list(self._grouping.findings)
        keys, named = self._count(regions)
        if "regions" in keys and not regions:  # rare: COCOA whose first annotation is broken
            self._grouping.findings = about_images
            keys, named = self._count(True)
        self._layout = self._layout_by(keys)
        self._note_images()
        counts = np.array(self._counts) * (np.array(self._heights) > 0)
        if self._layout == "cocoa" and self._annotator not in ("first", "all"):
            self._total = sum(1 for image_id in named if counts[self._places[image_id]])
        else:
            every = self._layout == "cocoa" and self._annotator == "all"
            self._total = int(counts.sum() if every else (counts > 0).sum())

    def _count(self, regions: bool) -> tuple[set[str], set[int]]:
        """One pass over the annotations: all keys, and the images of the annotator asked for by name."""
        keys: set[str] = set()
        named: set[int] = set()
        ids, images, numbers = array("q"), array("q"), array("q")
        noted: list[tuple[int, Finding]] = []
        self._counts = array("i", bytes(4 * len(self._ids)))
        before = self._grouping.findings
        self._grouping.findings = []
        for at, annotation in enumerate(self._items("annotations.item")):
            keys |= keys_of([annotation])
            image_id = self._grouping.accept(at, annotation, regions=regions)
            if image_id is None:
                noted.append((at, self._grouping.findings.pop()))
                continue
            self._counts[self._places[image_id]] += 1
            if annotation.get("author") == self._annotator:
                named.add(image_id)
            own = integer(annotation.get("id"))
            if own is not None:
                ids.append(own)
                images.append(image_id)
                numbers.append(at)
        for n in _repeats(np.array(ids, np.int64)):
            place = Place(self._grouping.source, images[n])
            text_ = f"annotations[{numbers[n]}] repeats id {ids[n]}"
            noted.append((numbers[n], Finding("duplicate-id", place, text_)))
        noted.sort(key=lambda one: one[0])
        self._grouping.findings = [*before, *(finding for _, finding in noted)]
        return keys, named

    def _layout_by(self, keys: set[str]) -> str:
        if self._masks is not None or self._order is not None:
            _, rule = plain_settings(self._masks, self._order, keys, self._path, "coco")
            self._order = None if rule is None else str(rule)
            return "coco"
        if "regions" in keys:
            return "cocoa"
        layout = layout_of([dict.fromkeys(keys)])
        if keys and not layout:
            raise no_layout(keys, self._path)
        if not keys and not self._ids:
            raise LayoutError("no lists 'images' and 'annotations'", place=str(self._path))
        return layout or "mvtec"

    def _note_images(self) -> None:
        """What is odd about images, in file order, as the ordinary reader says it."""
        cocoa = self._layout == "cocoa"
        for image_id, count, height in zip(self._ids, self._counts, self._heights, strict=True):
            if not count:
                self._grouping.note("image-unannotated", "no annotation names it", image_id)
            elif cocoa and count > 1 and self._annotator == "first":
                self._grouping.note("several-annotators", f"{count} annotations", image_id)
            if count and not height:
                for _ in range(count if cocoa and self._annotator == "all" else 1):
                    self._grouping.note("image-size-unknown", "no usable 'height' and 'width'", image_id)

    def _items(self, prefix: str) -> Iterator[Any]:
        return items_of(self._path, prefix)


def items_of(path: Path, prefix: str) -> Iterator[Any]:
    """The values of a JSON file under a prefix (``images.item``). Raises :class:`AnnotationError`."""
    with _reading(path), open_regular(path) as file:
        yield from ijson.items(file, prefix, use_float=True)


def _repeats(ids: NDArray[np.int64]) -> list[int]:
    """Positions of values that occurred before."""
    order = np.argsort(ids, kind="stable")
    again = np.append(False, ids[order][1:] == ids[order][:-1])
    found: list[int] = order[again[: len(order)]].tolist()
    return found


def _digest(path: Path) -> str:
    with _reading(path), open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AnnotationError(f"cannot read the file: {error.strerror}", place=str(path)) from error
    except (ijson.JSONError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, LayoutError | SelectionError):
            raise
        raise AnnotationError(f"not JSON: {str(error).splitlines()[0]}", place=str(path)) from error
