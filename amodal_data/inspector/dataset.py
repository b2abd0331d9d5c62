"""One door for whatever can be looked at: a finished cache, or an annotation file layered on the spot."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from PIL import Image

from amodal_data.cache import CachedImage, TargetCache, decode, is_cache
from amodal_data.cache.parallel import encode_scene
from amodal_data.errors import LevelsError, SelectionError
from amodal_data.evaluation import Diagnosis, Predictions, evaluate, read_predictions, read_truth
from amodal_data.inspector import PageImage, Summary, contact_sheet, summarize
from amodal_data.layering.targets import LayeredTargets
from amodal_data.readers import ReadOptions, read_annotations
from amodal_data.readers.discovery import PhotoFinder
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.scene import Scenes


def open_dataset(path: Path, **how: Unpack[ReadOptions]) -> "TargetDataset":
    """Open a cache, or annotations as :func:`amodal_data.read_annotations` reads them. Raises the errors of
    :class:`TargetCache` and the readers.
    """
    known = path.is_file() and is_cache(path)
    return TargetDataset(TargetCache(path) if known else read_annotations(path, **how))


class TargetDataset:
    """The images of a cache or of an annotation file, with their targets, in file order."""

    def __init__(self, origin: TargetCache | Scenes) -> None:
        self.origin = origin
        self._known: tuple[Path, Predictions, Diagnosis] | None = None

    def __repr__(self) -> str:
        return f"TargetSource({self.name!r:.80}, {len(self):,} images, {self.masks} masks)"

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def name(self) -> str:
        """The name of the file it was opened from."""
        origin = self.origin
        return origin.path.name if isinstance(origin, TargetCache) else ", ".join(s.name for s in origin.sources)

    @property
    def masks(self) -> str:
        """Of what its masks are, ``"amodal"`` or ``"modal"``."""
        origin = self.origin
        return origin.info.masks if isinstance(origin, TargetCache) else origin.settings.get("masks", "amodal")

    def read(self, at: int) -> tuple[CachedImage, LayeredTargets]:
        """Image ``at`` and its targets; raises :class:`LevelsError` if they do not fit a level table."""
        if isinstance(self.origin, TargetCache):
            return self.origin.read(at)
        encoded, _ = encode_scene(self.origin[at])
        if encoded is None:
            raise LevelsError(f"image {self.origin[at].image_id} does not fit a level table")
        return decode(encoded)

    def summary(self, on_image: Callable[[int], None] = lambda _: None) -> Summary:
        """Figures over all images. Of an annotation file, images that cannot be layered are left out."""
        findings = list(self.origin.findings if isinstance(self.origin, TargetCache) else self.origin.file_findings)
        return summarize(self._images(findings, on_image), findings, self.masks)

    def each(
        self, findings: list[Finding], on_image: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[CachedImage, LayeredTargets]]:
        """All images, one after the other; what was odd about an annotation file goes to ``findings``."""
        if not isinstance(self.origin, TargetCache):
            findings += self.origin.file_findings
        return self._images(findings, on_image)

    def _images(
        self, findings: list[Finding], on_image: Callable[[int], None]
    ) -> Iterator[tuple[CachedImage, LayeredTargets]]:
        for at in range(len(self)):
            on_image(1)
            if isinstance(self.origin, TargetCache):
                yield self.origin.read(at)
                continue
            encoded, found = encode_scene(self.origin[at])
            findings += found
            if encoded is not None:
                yield decode(encoded)

    def __iter__(self) -> Iterator[tuple[CachedImage, LayeredTargets]]:
        return self._images([], lambda _: None)

    def choose(self, pick: str, limit: int, summary: Summary, image_ids: Sequence[int] = ()) -> list[int]:
        """Positions of the images to show: those of ``image_ids``, else up to ``limit`` picked.

        pick: ``hardest`` (most hidden pixels), ``first``, ``random`` (always the same ones) or
        ``findings`` (images with findings). Raises :class:`SelectionError` for an unknown id.
        """
        ids = self._ids() if image_ids or pick == "findings" else []
        if image_ids:
            unknown = [one for one in image_ids if one not in ids]
            if unknown:
                raise SelectionError(f"no image with id {unknown[0]}")
            return [at for at, one in enumerate(ids) if one in image_ids]
        if pick == "findings":
            odd = {finding.place.image_id for finding in summary.findings}
            return [at for at, one in enumerate(ids) if one in odd][:limit]
        if pick == "random":
            return sorted(random.Random(0).sample(range(len(self)), min(limit, len(self))))
        return (summary.hardest if pick == "hardest" else list(range(len(self))))[:limit]

    def page_images(
        self,
        positions: Sequence[int],
        photo_folders: Sequence[Path] = (),
        findings: Sequence[Finding] = (),
        predictions: Path | None = None,
    ) -> Iterator[PageImage]:
        """These images for :func:`amodal_data.inspector.write_page`, with their findings; with predictions
        worst first, each with its counts of errors.
        """
        finder = PhotoFinder(photo_folders)
        odd: dict[int, list[Finding]] = {}
        for finding in findings:
            odd.setdefault(finding.place.image_id, []).append(finding)
        found, diagnosis = self._compared(predictions)
        images = (self.read(at) for at in positions)
        for image, targets in images:
            one = PageImage(image, targets, photo=finder.find(image.file_name), findings=odd.get(image.image_id, ()))
            if found is not None and diagnosis is not None:
                errors = diagnosis.images.get(image.image_id, {})
                one = replace(one, predictions=found.of(image.image_id), errors=errors)
            yield one

    def worst(self, predictions: Path) -> list[int]:
        """Positions of the images, most errors of these predictions first."""
        _, diagnosis = self._compared(predictions)
        assert diagnosis is not None
        rank = {image_id: at for at, image_id in enumerate(diagnosis.worst())}
        ids = self._ids()
        return sorted(range(len(self)), key=lambda at: rank.get(ids[at], len(rank)))

    def _ids(self) -> list[int]:
        """The image id at every position."""
        return [self.read(at)[0].image_id for at in range(len(self))]

    def _compared(self, predictions: Path | None) -> tuple[Predictions | None, Diagnosis | None]:
        if predictions is None:
            return None, None
        if self._known is None or self._known[0] != predictions:
            truth = read_truth(self.origin)
            found = read_predictions(predictions, truth)
            diagnosis = evaluate(self.origin, found, errors=True).diagnosis
            assert diagnosis is not None
            self._known = (predictions, found, diagnosis)
        return self._known[1:]

    def contact_sheet(self, positions: Sequence[int], photo_folders: Sequence[Path]) -> Image.Image:
        """The contact sheet of these images."""
        finder = PhotoFinder(photo_folders)
        images = [self.read(at) for at in positions]
        return contact_sheet([(image, targets, finder.find(image.file_name)) for image, targets in images])
