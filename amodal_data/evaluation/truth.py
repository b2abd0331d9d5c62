"""Ground truth to score against: the instances of each image, from scenes, a cache or a file."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage, TargetCache, is_cache
from amodal_data.checks import occlusion_rates
from amodal_data.errors import SelectionError
from amodal_data.levels import LayeredTargets, layer_scene
from amodal_data.masks import RLE
from amodal_data.readers import read_annotations
from amodal_data.readers.files import stem_of
from amodal_data.scene import Scene, Scenes, SceneSource

__all__ = ["Truth", "TruthImage", "TruthSource", "read_truth"]


@dataclass(frozen=True, slots=True, eq=False)
class TruthImage:
    """One image of the ground truth, as one person annotated it.

    ``rates``: occlusion rate of each instance, hidden / (area + 1e-6), float64 [N]. ``constraint``: pairs
    (front, back) that the file lists, None where the source does not keep them (a cache, a flat file).
    """

    image_id: int
    targets: LayeredTargets
    rates: NDArray[np.float64]
    constraint: tuple[tuple[int, int], ...] | None = None
    file_name: str = ""

    def amodal_masks(self) -> list[RLE]:
        """The whole of each instance."""
        return self.targets.rles()


@dataclass(frozen=True, slots=True)
class Truth:
    """All images. ``annotator`` says whose annotations they are; with "all" an image occurs once for each."""

    images: tuple[TruthImage, ...]
    dataset: str
    annotator: str

    def items(self) -> Iterator[tuple[int, TruthImage]]:
        """Image ids and images by rising id, as often as there are annotators.

        COCOEval sorts so too: no figure depends on the order of the images in a file.
        """
        return ((image.image_id, image) for image in sorted(self.images, key=lambda one: one.image_id))

    def names(self) -> dict[int, str]:
        """The file name of every image id, without folders; "" where it is not known."""
        return {image.image_id: stem_of(image.file_name) for image in self.images}

    def sizes(self) -> dict[int, tuple[int, int]]:
        """(H, W) of every image id."""
        return {image.image_id: image.targets.size for image in self.images}


TruthSource = str | Path | Scenes | TargetCache | Iterable[Scene]


def read_truth(source: TruthSource, annotator: str = "first", only: Collection[int] | None = None) -> Truth:
    """Ground truth from an annotation file, a cache, or scenes.

    annotator: where several people annotated one image, ``"first"`` keeps the first entry, ``"all"`` every
    one (each is scored against the same predictions), anything else those of the person of that name.
    only: image ids to keep; None = all.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        held = path.is_file() and is_cache(path)
        source = TargetCache(path) if held else read_annotations(path, annotator=annotator)
    images: list[TruthImage] = []
    seen: set[int] = set()
    for image, targets, constraint in _images(source):
        if annotator not in ("first", "all", image.annotator) or (annotator != "all" and image.image_id in seen):
            continue
        if only is not None and image.image_id not in only:
            continue
        seen.add(image.image_id)
        images.append(
            TruthImage(image.image_id, targets, occlusion_rates(*targets.areas()), constraint, image.file_name)
        )
    if not images and annotator not in ("first", "all"):
        raise SelectionError(f"no annotations by {annotator!r}", fix="'first', 'all', or an author")
    dataset = source.info.dataset if isinstance(source, TargetCache) else "custom"
    return Truth(tuple(images), source.dataset if isinstance(source, SceneSource) else dataset, annotator)


def _images(
    source: Scenes | TargetCache | Iterable[Scene],
) -> Iterator[tuple[CachedImage, LayeredTargets, tuple[tuple[int, int], ...] | None]]:
    if isinstance(source, TargetCache):
        yield from ((*source.read(at), None) for at in range(len(source)))
        return
    for scene in source:
        image = CachedImage(scene.image_id, scene.file_name, scene.size, scene.annotator)
        yield image, layer_scene(scene), scene.constraint if scene.total_order else None
