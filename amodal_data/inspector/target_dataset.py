"""A cache or an annotation file as one dataset of layered images."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from PIL import Image

from amodal_data.cache import CachedImage, TargetCache, decode, is_cache
from amodal_data.cache.parallel import encode_scene
from amodal_data.errors import LevelsError, SelectionError
from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import read_truth
from amodal_data.evaluation.protocols.error_types import Diagnosis
from amodal_data.evaluation.report import evaluate
from amodal_data.evaluation.results.scored_masks import Predictions
from amodal_data.inspector.contact_sheet import contact_sheet
from amodal_data.inspector.page_data import PageImage
from amodal_data.inspector.summary import Summary, summarize
from amodal_data.layering.targets import LayeredTargets
from amodal_data.readers import ReadOptions, read_annotations
from amodal_data.readers.discovery import PhotoFinder
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.scene import Scenes

Progress = Callable[[int], None]


def open_dataset(*paths: Path, annotator: str = "first", **reading: Unpack[ReadOptions]) -> "TargetDataset":
    """Open a cache, or annotation files with the options of :func:`amodal_data.read_annotations`.

    Raises the errors of :class:`TargetCache` and of the readers.
    """
    if len(paths) == 1 and paths[0].is_file() and is_cache(paths[0]):
        return TargetDataset(TargetCache(paths[0]))
    return TargetDataset(read_annotations(paths, annotator=annotator, **reading))


class TargetDataset:
    """The images of a cache or an annotation file with their targets, in file order.

    Scenes are layered when they are read. Iteration leaves out those that no level table can hold. ``positions``: of
    the images of ``origin`` to take; None = all.
    """

    def __init__(self, origin: TargetCache | Scenes, positions: Sequence[int] | None = None) -> None:
        self.origin = origin
        self.positions: Sequence[int] = range(len(origin)) if positions is None else positions
        self._comparisons: dict[Path, tuple[Predictions, Diagnosis]] = {}
        self._finders: dict[tuple[Path, ...], PhotoFinder] = {}

    def __repr__(self) -> str:
        return f"TargetDataset({self.name!r:.80}, {len(self):,} images, {self.masks} masks)"

    def __len__(self) -> int:
        return len(self.positions)

    def subset(self, positions: Sequence[int]) -> "TargetDataset":
        """The images at some positions, in that order."""
        return TargetDataset(self.origin, [self.positions[position] for position in positions])

    def __iter__(self) -> Iterator[tuple[CachedImage, LayeredTargets]]:
        return self._images([], lambda _: None)

    @property
    def name(self) -> str:
        """Name of the file or files."""
        origin = self.origin
        return origin.path.name if isinstance(origin, TargetCache) else ", ".join(s.name for s in origin.sources)

    @property
    def masks(self) -> str:
        """What the masks cover: ``"amodal"`` (whole objects) or ``"modal"`` (visible parts)."""
        origin = self.origin
        return origin.info.masks if isinstance(origin, TargetCache) else origin.settings.get("masks", "amodal")

    @property
    def categories(self) -> dict[int, str]:
        """id -> name of the classes that the source lists, used or not, in its order."""
        origin = self.origin
        return origin.info.categories if isinstance(origin, TargetCache) else origin.categories

    @property
    def image_ids(self) -> list[int]:
        """Id of the image at each position; no image is layered for it."""
        ids = self.origin.image_ids
        return [int(ids[position]) for position in self.positions]

    @property
    def file_names(self) -> list[str]:
        """File name of the image at each position."""
        origin = self.origin
        names = [image.file_name for image in origin.images()] if isinstance(origin, TargetCache) else origin.file_names
        return [names[position] for position in self.positions]

    @property
    def file_findings(self) -> list[Finding]:
        """Findings of the build of a cache, or about annotation files as a whole; of these images only."""
        findings = self.origin.findings if isinstance(self.origin, TargetCache) else self.origin.file_findings
        if isinstance(self.positions, range):
            return list(findings)
        ids = {-1, *self.image_ids}
        return [finding for finding in findings if finding.place.image_id in ids]

    def read(self, index: int) -> tuple[CachedImage, LayeredTargets]:
        """Image ``index`` and its targets. Raises :class:`LevelsError` if no level table can hold them."""
        image, _ = self._layer(index)
        if image is None:
            raise LevelsError(f"image {self.image_ids[index]} does not fit a level table")
        return image

    def _layer(self, index: int) -> tuple[tuple[CachedImage, LayeredTargets] | None, tuple[Finding, ...]]:
        """Image ``index`` and its targets, None if no level table can hold them, and findings of an annotation file."""
        position = self.positions[index]
        if isinstance(self.origin, TargetCache):
            return self.origin.read(position), ()
        encoded, findings = encode_scene(self.origin[position])
        return None if encoded is None else decode(encoded), findings

    def summary(self, on_image: Progress = lambda _: None) -> Summary:
        """Statistics of all images that can be layered."""
        findings = self.file_findings
        positions: list[int] = []
        summary = summarize(self._images(findings, on_image, positions), findings, self.masks, self.categories)
        summary.hardest = [positions[i] for i in summary.hardest]
        return summary

    def iterate(
        self, findings: list[Finding], on_image: Progress = lambda _: None
    ) -> Iterator[tuple[CachedImage, LayeredTargets]]:
        """Iterate over the images; findings of an annotation file are appended to ``findings``."""
        if not isinstance(self.origin, TargetCache):
            findings += self.file_findings
        return self._images(findings, on_image)

    def _images(
        self, findings: list[Finding], on_image: Progress, positions: list[int] | None = None
    ) -> Iterator[tuple[CachedImage, LayeredTargets]]:
        """The images that can be layered; ``positions`` collects their positions."""
        for position in range(len(self)):
            on_image(1)
            image, image_findings = self._layer(position)
            findings += image_findings
            if image is not None:
                if positions is not None:
                    positions.append(position)
                yield image

    def choose(
        self,
        pick: str,
        limit: int,
        summary: Summary,
        image_ids: Sequence[int] = (),
        *,
        photo_folders: Sequence[Path] = (),
        predictions: Path | None = None,
    ) -> list[int]:
        """Positions of the images to show: those of ``image_ids``, else up to ``limit`` that can be layered.

        Images whose photo is in ``photo_folders`` come before those without.

        pick: ``hardest`` (most hidden pixels; with ``predictions``, a results file, most errors), ``first``, ``random``
        (the same ones each time) or ``findings`` (images with findings). Raises :class:`SelectionError` for an unknown
        id.
        """
        positions = list(self._ranked(pick, summary, image_ids, predictions))
        if photo_folders:
            names, finder = self.file_names, self._finder(photo_folders)
            positions = sorted(positions, key=lambda position: finder.find(names[position]) is None)
        return positions if image_ids else positions[:limit]

    def _ranked(self, pick: str, summary: Summary, image_ids: Sequence[int], predictions: Path | None) -> Sequence[int]:
        """Positions of all images that :meth:`choose` may take, the first one first."""
        if image_ids:
            if unknown := [image_id for image_id in image_ids if image_id not in self.image_ids]:
                raise SelectionError(f"no image with id {unknown[0]}")
            return [position for position, image_id in enumerate(self.image_ids) if image_id in image_ids]
        layered = sorted(summary.hardest)
        if pick == "findings":
            flagged, ids = {finding.place.image_id for finding in summary.findings}, self.image_ids
            return [position for position in layered if ids[position] in flagged]
        if pick == "random":
            return random.Random(0).sample(layered, len(layered))
        if pick == "hardest" and predictions is not None:
            return self.worst(predictions)
        return summary.hardest if pick == "hardest" else layered

    def page_images(
        self,
        positions: Sequence[int],
        photo_folders: Sequence[Path] = (),
        findings: Sequence[Finding] = (),
        predictions: Path | None = None,
    ) -> Iterator[PageImage]:
        """Images for :func:`amodal_data.inspector.page.write_page`, each with its findings.

        predictions: a results file; each image then has its predictions and its counts of errors.
        """
        finder = self._finder(photo_folders)
        by_image: dict[int, list[Finding]] = {}
        for finding in findings:
            by_image.setdefault(finding.place.image_id, []).append(finding)
        for position in positions:
            image, targets = self.read(position)
            photo = finder.find(image.file_name)
            page_image = PageImage(image, targets, photo=photo, findings=by_image.get(image.image_id, ()))
            if predictions is not None:
                compared, diagnosis = self._compare(predictions)
                errors = diagnosis.images.get(image.image_id, {})
                page_image = replace(page_image, predictions=compared.of(image.image_id), errors=errors)
            yield page_image

    def worst(self, predictions: Path) -> list[int]:
        """Positions of the images, most errors of the predictions first."""
        rank = {image_id: n for n, image_id in enumerate(self._compare(predictions)[1].worst())}
        ids = self.image_ids
        return sorted(range(len(self)), key=lambda position: rank.get(ids[position], len(rank)))

    def _compare(self, path: Path) -> tuple[Predictions, Diagnosis]:
        """The predictions of a results file, and their errors."""
        if path not in self._comparisons:
            predictions = read_predictions(path, read_truth(self.origin))
            diagnosis = evaluate(self.origin, predictions, errors=True).diagnosis
            assert diagnosis is not None
            self._comparisons[path] = predictions, diagnosis
        return self._comparisons[path]

    def contact_sheet(self, positions: Sequence[int], photo_folders: Sequence[Path]) -> Image.Image:
        """Contact sheet of the images at ``positions``."""
        finder, images = self._finder(photo_folders), map(self.read, positions)
        rows = [(image, targets, finder.find(image.file_name)) for image, targets in images]
        return contact_sheet(rows, self.masks)

    def _finder(self, folders: Sequence[Path]) -> PhotoFinder:
        """The finder of photos in some folders; the folders are listed once."""
        key = tuple(folders)
        if key not in self._finders:
            self._finders[key] = PhotoFinder(key, self.file_names)
        return self._finders[key]
