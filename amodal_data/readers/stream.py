"""Read annotation files that are too large for memory, from front to back, a few images at a time.

The first passes read the image list, count the annotations of each image and hash the file. The last pass yields scenes
as their annotations come in. Memory holds some 150 bytes an image and what is being read, never the file. Images come
in the order in which their annotations are complete, and those without annotations last. If a file lists images and
annotations in the same order, as published ones do, this is the order of :func:`read_annotations`, and a cache gets the
same bytes.
"""

import hashlib
from array import array
from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import ijson
import numpy as np

from amodal_data.errors import AnnotationError, LayoutError
from amodal_data.io.files import open_regular
from amodal_data.readers.amodal_coco import amodal_coco_scenes, dataset_of, layout_of
from amodal_data.readers.annotation_index import AnnotationIndex, annotation_keys, image_size
from amodal_data.readers.cocoa import check_annotator, cocoa_scenes
from amodal_data.readers.json_files import identifier, text
from amodal_data.readers.plain_coco import plain_scenes, plain_settings, unknown_layout
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene, Scenes, Source


def iter_annotations(
    path: str | Path,
    *,
    annotator: str = "first",
    cocoa: Scenes | None = None,
    masks: str | None = None,
    order: str | None = None,
    crowds: str | None = None,
) -> "SceneStream":
    """Read one annotation file with lists ``images`` and ``annotations``, without ever holding all of it in memory.

    annotator, cocoa, masks, order, crowds: as in :func:`read_annotations`. Images without ``height`` and ``width`` are
    skipped with a finding. Raises as that does, and :class:`AnnotationError` for NaN, which the streaming parser
    rejects.

    Examples:
        >>> import amodal_data as ad
        >>> path = ad.write_flat("flat", 2, "d2sa", seed=1, size=(96, 128), photos=False)
        >>> [len(scene.instances) for scene in ad.iter_annotations(path)]
        [8, 9]
    """
    return SceneStream(Path(path), annotator, cocoa, masks, order, crowds)


class SceneStream:
    """Scenes of a file that is read anew in every iteration, in batches or one by one; not indexable."""

    def __init__(
        self,
        path: Path,
        annotator: str,
        cocoa: Scenes | None,
        masks: str | None,
        order: str | None,
        crowds: str | None = None,
    ) -> None:
        self._crowds = crowds
        self._path, self._annotator, self._cocoa = path, annotator, cocoa
        self._masks, self._order = masks, order
        self._index = AnnotationIndex(path.name, [], [])
        self._window = (0, -1)
        with _annotation_errors(path), open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.sources = (Source(path.name, digest), *(cocoa.sources if cocoa is not None else ()))
        self._categories = list(items_of(self._path, "categories.item"))
        self._read_images()
        self._count_annotations()
        empty = self._scenes([], {})
        self.dataset, self.settings, self.categories = empty.dataset, empty.settings, empty.categories
        self._class_findings = empty.file_findings
        if self._layout == "cocoa":
            check_annotator(annotator, self._total, path)
        self._window = (0, self._total)

    @property
    def file_findings(self) -> tuple[Finding, ...]:
        """Findings about the file as a whole, the same as those of :func:`read_annotations`."""
        return (*self._class_findings, *self._index.findings)

    @property
    def file_names(self) -> list[str]:
        """File name of every image that has a scene; scenes are not read."""
        return [name for _, name in self.images]

    def file_name_of(self, image_id: int) -> str:
        """File name of the image with an id; "" if there is none."""
        position = self._positions.get(image_id)
        return "" if position is None else self._name(position)

    @property
    def images(self) -> list[tuple[int, str]]:
        """Id and file name of every image that has a scene; scenes are not read."""
        annotated = [position for position, count in enumerate(self._counts) if count and self._heights[position]]
        return [(self._ids[position], self._name(position)) for position in [*annotated, *self._empty()]]

    def __repr__(self) -> str:
        return f"SceneStream({self.dataset}: {len(self)} images from {self._path.name!r:.80})"

    def __len__(self) -> int:
        return self._window[1] - self._window[0]

    def __iter__(self) -> Iterator[Scene]:
        for batch in self.batches(16):
            yield from batch

    def between(self, start: int, stop: int) -> "SceneStream":
        """Scenes ``start`` to ``stop`` only."""
        part = copy(self)
        part._window = (self._window[0] + start, min(self._window[0] + stop, self._window[1]))
        return part

    def first(self, n: int) -> "SceneStream":
        """The first ``n`` scenes, as ``limit`` in the settings says."""
        part = self.between(0, n)
        part.settings = {**self.settings, "limit": str(n)}
        return part

    def batches(self, size: int) -> Iterator[Scenes]:
        """Consecutive scenes, ``size`` at a time, not decoded yet."""
        (start, stop), position = self._window, 0
        rest: Scenes | None = None
        for scenes in self._complete_images(size):
            part = scenes[max(start - position, 0) : max(stop - position, 0)]
            position += len(scenes)
            if not len(part):
                continue
            rest = part if rest is None else rest.followed_by(part)
            for batch in rest.batches(size):  # batches carry no file findings, so these do not pile up
                rest = batch
                if len(batch) == size:
                    yield batch
                    rest = None
            if position >= stop:
                break
        if rest is not None and len(rest):
            yield rest

    def _complete_images(self, size: int) -> Iterator[Scenes]:
        """The scenes of ``size`` images, as soon as that many have all their annotations."""
        waiting: dict[int, list[Any]] = defaultdict(list)
        complete: list[int] = []
        for annotation in items_of(self._path, "annotations.item"):
            usable = isinstance(annotation, Mapping)
            if usable and self._layout == "cocoa":
                usable = isinstance(annotation.get("regions"), list)
            image_id = self._index.number_of(annotation.get("image_id")) if usable else None
            position = None if image_id is None else self._positions.get(image_id)
            if position is None or not self._heights[position]:
                continue
            waiting[position].append({**annotation, "image_id": image_id})
            if len(waiting[position]) == self._counts[position]:
                complete.append(position)
            if len(complete) == size:
                yield self._scenes(complete, waiting)
                complete = []
        complete += self._empty()
        for start in range(0, len(complete), size):
            yield self._scenes(complete[start : start + size], waiting)

    def _empty(self) -> list[int]:
        """The positions of images without annotations; none if one annotator is chosen by name."""
        if self._layout == "cocoa" and self._annotator not in ("first", "all"):
            return []
        return [position for position, count in enumerate(self._counts) if not count and self._heights[position]]

    def _scenes(self, positions: list[int], waiting: dict[int, list[Any]]) -> Scenes:
        """The scenes of some complete images, made by the reader of the layout."""
        images = [
            {"id": self._ids[n], "file_name": self._name(n), "height": self._heights[n], "width": self._widths[n]}
            for n in positions
        ]
        annotations = [annotation for n in positions for annotation in waiting.pop(n, ())]
        content = {"images": images, "annotations": annotations, "categories": self._categories}
        path, source = self._path, self.sources[0]
        if self._layout == "cocoa":
            return cocoa_scenes(content, path, source, self._annotator)
        if self._layout == "coco":
            return plain_scenes(content, path, source, self._masks, self._order, crowds=self._crowds)
        dataset = dataset_of(self._layout, path.name)
        return amodal_coco_scenes(content, path, source, dataset, self._layout, self._cocoa)

    def _name(self, position: int) -> str:
        """File name of an image by its position in the image list."""
        start, stop = self._name_ends[position : position + 2]
        return self._names[start:stop].decode("utf-8", "surrogatepass")

    def _read_images(self) -> None:
        """Read the image list into compact arrays."""
        self._names, self._name_ends = bytearray(), array("q", [0])  # all file names in one buffer
        self._ids, self._heights, self._widths = array("q"), array("i"), array("i")
        for n, image in enumerate(items_of(self._path, "images.item")):
            self._index.add_images([image], n)
            if len(self._index.images) == len(self._ids):
                continue  # no id, or a repeated one
            image_id, _ = self._index.images.popitem()
            self._index.images[image_id] = len(self._ids)  # the position instead of the entry, to save memory
            height, width = image_size(image) or (0, 0)
            self._ids.append(image_id)
            self._names += text(image.get("file_name")).encode("utf-8", "surrogatepass")
            self._name_ends.append(len(self._names))
            self._heights.append(height)
            self._widths.append(width)
        self._positions: dict[int, int] = self._index.images

    def _count_annotations(self) -> None:
        """Find the number of annotations of each image, the layout, and the number of scenes."""
        first = next(items_of(self._path, "annotations.item"), None)
        regions = isinstance(first, Mapping) and "regions" in first
        image_findings = list(self._index.findings)
        keys, by_annotator = self._count(regions)
        if "regions" in keys and not regions:  # rare: COCOA whose first annotation is broken
            self._index.findings = image_findings
            keys, by_annotator = self._count(True)
        self._layout = self._choose_layout(keys)
        self._report_images()
        counts = np.array(self._counts) * (np.array(self._heights) > 0)
        if self._layout != "cocoa" or self._annotator == "first":
            self._total = int((counts > 0).sum())
        elif self._annotator == "all":
            self._total = int(counts.sum())
        else:
            self._total = sum(1 for image_id in by_annotator if counts[self._positions[image_id]])
        self._total += len(self._empty())

    def _count(self, regions: bool) -> tuple[set[str], set[int]]:
        """Read all annotations once: their keys, and the ids of images with an annotation by the chosen annotator."""
        keys: set[str] = set()
        classes: set[str] = set()
        by_annotator: set[int] = set()
        ids, images, numbers = array("q"), array("q"), array("q")
        findings: list[tuple[int, Finding]] = []
        self._counts = array("i", bytes(4 * len(self._ids)))
        earlier, self._index.findings = self._index.findings, []
        for n, annotation in enumerate(items_of(self._path, "annotations.item")):
            keys |= annotation_keys([annotation])
            image_id = self._index.image_of(n, annotation, regions=regions)
            if image_id is None:
                findings.append((n, self._index.findings.pop()))
                continue
            self._counts[self._positions[image_id]] += 1
            if annotation.get("author") == self._annotator:
                by_annotator.add(image_id)
            if isinstance(annotation.get("category_id"), str):
                classes.add(annotation["category_id"])
            if (annotation_id := identifier(annotation.get("id"))) is not None:
                ids.append(annotation_id)
                images.append(image_id)
                numbers.append(n)
        first = np.unique(np.array(ids, np.int64), return_index=True)[1]
        for k in np.setdiff1d(np.arange(len(ids)), first).tolist():
            message = f"annotations[{numbers[k]}] repeats id {ids[k]}"
            findings.append((numbers[k], Finding("duplicate-id", Place(self._index.source, images[k]), message)))
        findings.sort(key=lambda row: row[0])
        self._index.findings = [*earlier, *(finding for _, finding in findings)]
        self._categories = self._categories or [{"id": name, "name": name} for name in sorted(classes)]
        return keys, by_annotator

    def _choose_layout(self, keys: set[str]) -> str:
        if not keys and not self._ids:
            raise LayoutError("no lists 'images' and 'annotations'", place=str(self._path))
        if self._masks is not None or self._order is not None:
            _, rule = plain_settings(self._masks, self._order, keys, self._path, "coco")
            self._order = None if rule is None else str(rule)
            return "coco"
        if "regions" in keys:
            return "cocoa"
        layout = layout_of([dict.fromkeys(keys)])
        if keys and not layout:
            raise unknown_layout(keys, self._path)
        return layout or "mvtec"

    def _report_images(self) -> None:
        """Report images without annotations or size, in file order, as the reader of the layout does."""
        cocoa = self._layout == "cocoa"
        by_name = cocoa and self._annotator not in ("first", "all")
        rows = list(zip(self._ids, self._counts, self._heights, strict=True))
        for image_id, count, height in [*(row for row in rows if row[1]), *(row for row in rows if not row[1])]:
            if not count:
                self._index.report("image-unannotated", "no annotation names it", image_id)
            elif cocoa and count > 1 and self._annotator == "first":
                self._index.report("several-annotators", f"{count} annotations", image_id)
            if not height and (count or not by_name):
                for _ in range(count if count and cocoa and self._annotator == "all" else 1):
                    self._index.report_unsized(image_id, self.file_name_of(image_id))


def items_of(path: Path, prefix: str) -> Iterator[Any]:
    """Values of a JSON file under a prefix (``images.item``). Raises :class:`AnnotationError`."""
    with _annotation_errors(path), open_regular(path) as file:
        if file.read(len(BOM_UTF8)) != BOM_UTF8:
            file.seek(0)
        yield from ijson.items(file, prefix, use_float=True)


@contextmanager
def _annotation_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading and parsing into :class:`AnnotationError`."""
    try:
        yield
    except OSError as error:
        raise AnnotationError(f"cannot read the file: {error.strerror}", place=str(path)) from error
    except (ijson.JSONError, ValueError) as error:
        problem, *excerpt = str(error).splitlines()
        constants = [name for name in ("NaN", "Infinity") if any(name in line for line in excerpt)]
        if constants:
            problem = f"{constants[0]} is no number in JSON"
        fix = "write null instead, or read the file whole (read_annotations, --no-stream)"
        raise AnnotationError(f"not JSON: {problem}", place=str(path), fix=fix if constants else "") from error
