"""Keep the images, or the instances, of annotations that fulfill conditions, in the layout of the source."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from amodal_data.datasets.image_facts import ImageFacts, scene_facts
from amodal_data.datasets.layout_parts import open_parts
from amodal_data.errors import LayoutError, SelectionError
from amodal_data.io.image_names import ImageNames, normal_path
from amodal_data.io.text import count_of, suggest_name
from amodal_data.readers import ReadOptions
from amodal_data.scenes.findings import CODES


@dataclass(frozen=True, slots=True)
class Conditions:
    """What to keep. Conditions on instances keep an image that has at least one such instance.

    ``classes``, ``exclude_classes``: class names; an image with an excluded class is dropped. ``hidden``: lowest and
    highest hidden share, 0 to 1. ``min_size``: least amodal area in pixels. ``findings``, ``without_findings``: codes
    of which an image has at least one, or none. ``images``: ids or file names, see :class:`ImageNames`.
    """

    classes: Collection[str] = ()
    exclude_classes: Collection[str] = ()
    hidden: tuple[float, float] = (0, 1)
    min_size: int = 0
    findings: Collection[str] = ()
    without_findings: Collection[str] = ()
    images: Collection[int | str] = ()

    def __post_init__(self) -> None:
        """Raise :class:`SelectionError` for a code that no finding has."""
        for code in [*self.findings, *self.without_findings]:
            if code not in CODES:
                raise SelectionError(f"no finding has the code {code!r:.60}", fix=suggest_name(code, CODES))

    def positions(self, images: Sequence[tuple[int, str]]) -> Collection[int]:
        """Positions of the images that ``images`` names, all if it is empty; ``images``: id and file name of each.

        Raises :class:`SelectionError` for names of no image, or of several; see :class:`ImageNames`.
        """
        if not self.images:
            return range(len(images))
        names = ImageNames(images)
        positions = {wanted: names.find(wanted) for wanted in self.images}
        if missing := [wanted for wanted, matches in positions.items() if not matches]:
            listed = ", ".join(f"{wanted!r:.80}" for wanted in missing[:3]) + ", ..." * (len(missing) > 3)
            problem = f"{count_of(len(missing), 'name')} of no image: {listed}"
            raise SelectionError(problem, fix="correct --images: ids, or file names as in the annotations")
        for wanted, matches in positions.items():
            if len(photos := {normal_path(images[match][1]) for match in matches}) > 1:
                listed = ", ".join(f"{photo!r:.80}" for photo in sorted(photos)[:3])
                problem = f"{wanted!r:.80} names several images: {listed}"
                raise SelectionError(problem, fix="write the file name with its folder and ending in --images")
        return {match for matches in positions.values() for match in matches}

    def check_classes(self, names: Collection[str], place: str) -> None:
        """Raise :class:`SelectionError` for a class that is not in ``names``."""
        if unknown := sorted({*self.classes, *self.exclude_classes} - set(names)):
            fix = suggest_name(unknown[0], sorted(names))
            raise SelectionError(f"no class is called {unknown[0]!r:.60}", place=place, fix=fix)

    def check_masks(self, masks: str | None, place: str) -> None:
        """Raise :class:`SelectionError` for ``hidden`` of modal masks, which say nothing about hidden parts."""
        if masks == "modal" and self.hidden != (0, 1):
            problem = "modal masks cover visible parts only, so the hidden share is unknown"
            raise SelectionError(problem, place=place, fix="leave out --hidden")

    def kept_instances(self, image: ImageFacts) -> NDArray[np.bool_]:
        """Which instances fulfill the conditions on instances, bool [N]."""
        shares, (low, high) = image.hidden_shares, self.hidden
        kept: NDArray[np.bool_] = (shares >= low) & (shares <= high) & (image.areas >= self.min_size)
        if self.classes or self.exclude_classes:
            chosen = [(not self.classes or n in self.classes) and n not in self.exclude_classes for n in image.names]
            kept &= np.array(chosen[: len(kept)], bool)
        return kept

    def keeps_image(self, image: ImageFacts, *, instances: bool = False) -> bool:
        """Is an image that ``images`` names kept? instances: excluded classes are removed and do not drop it."""
        codes = {finding.code for finding in image.findings}
        if (self.findings and not codes & set(self.findings)) or codes & set(self.without_findings):
            return False
        if not instances and set(image.names) & set(self.exclude_classes):
            return False
        asks = self.classes or self.hidden != (0, 1) or self.min_size or (instances and self.exclude_classes)
        return not asks or bool(self.kept_instances(image).any())


@dataclass(frozen=True, slots=True)
class FilterReport:
    """What was written and left out. ``uncovered``: instances that were behind a removed one; their levels change."""

    path: str
    images: int
    dropped_images: int
    instances: int
    removed_instances: int
    uncovered: int


def filter_dataset(
    path: str | Path,
    output: str | Path,
    conditions: Conditions,
    *,
    instances: bool = False,
    link: bool = False,
    force: bool = False,
    on_image: Callable[[int], None] = lambda _: None,
    **reading: Unpack[ReadOptions],
) -> FilterReport:
    """Write the images of annotations that fulfill conditions, in the layout of the source.

    Images are kept or dropped whole, so the levels of what is kept stay the same. instances: also remove single
    instances that do not fulfill the conditions; what was behind them changes its levels, and is counted. Only files
    with lists ``images`` and ``annotations`` can do that. link: see :func:`open_parts`. Raises
    :class:`SelectionError` if no image is left or a class is unknown, and the errors of :func:`open_parts`.

    Examples:
        >>> import amodal_data as ad
        >>> from amodal_data.datasets.filter import Conditions, filter_dataset
        >>> path = ad.write_cocoa("scenes", 10, seed=1, size=(96, 128), photos=False)
        >>> filter_dataset(path, "hidden.json", Conditions(hidden=(0.5, 0.9))).dropped_images < 10
        True
    """
    source = open_parts(Path(path), link=link, **reading)
    if instances and not source.instances:
        fix = f"amodal-data convert {path} --to coco -o coco.json, and filter that"
        raise LayoutError(f"single instances cannot be removed from {source.layout} files", place=str(path), fix=fix)
    source.check_output(Path(output), force=force)
    conditions.check_masks(reading.get("masks"), str(path))
    chosen = conditions.positions(list(zip(source.scenes.image_ids, source.scenes.file_names, strict=True)))
    kept, dropped = set(), dict[int, list[int]]()
    counts = np.zeros(3, np.int64)  # instances kept, removed, uncovered
    names: set[str] = set(source.scenes.categories.values())
    for position, scene in enumerate(source.scenes):
        on_image(1)
        names |= {instance.name for instance in scene.instances}
        if position not in chosen or not conditions.keeps_image(image := scene_facts(scene), instances=instances):
            continue
        kept.add(source.scene_key(scene.image_id, scene.file_name))
        stays = conditions.kept_instances(image) if instances else np.ones(len(image.areas), bool)
        counts += [stays.sum(), (~stays).sum(), _uncovered(image, stays)]
        if image.targets is not None and not stays.all():
            dropped[scene.image_id] = image.targets.region_index[~stays].tolist()
    conditions.check_classes(names, str(path))
    entries = [entry for entry in source.entries if source.scene_key(entry.image_id, entry.name) in kept]
    if not entries:
        raise SelectionError("no image fulfills all conditions", place=str(path), fix="loosen one of them")
    source.write(entries, Path(output), dropped, force=force)
    return FilterReport(str(output), len(entries), len(source.entries) - len(entries), *map(int, counts))


def _uncovered(image: ImageFacts, stays: NDArray[np.bool_]) -> int:
    """How many kept instances share a hidden pixel with a removed one that is in front of them there."""
    if stays.all() or image.targets is None:
        return 0
    front, overlapping = image.targets.in_front(), np.zeros((len(stays), len(stays)), bool)
    table = image.targets.table
    for j in np.flatnonzero(~stays):
        overlapping[j] = ((table > 1) & (table[:, [j]] > 0)).any(axis=0)
    return int((front & overlapping)[~stays][:, stays].any(axis=0).sum())
