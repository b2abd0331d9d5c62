"""Ground truth to score against: the instances of each image, from scenes, a cache or a file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage, TargetCache
from amodal_data.checks import occlusion_rates
from amodal_data.levels import LayeredTargets, layer_scene
from amodal_data.scene import Scene, Scenes
from amodal_data.source import TargetSource, open_source

__all__ = ["Truth", "TruthImage", "TruthSource", "read_truth"]


@dataclass(frozen=True, slots=True, eq=False)
class TruthImage:
    """One image of the ground truth.

    ``rates``: occlusion rate of each instance, hidden / (area + 1e-6), float64 [N].
    """

    image_id: int
    file_name: str
    targets: LayeredTargets
    rates: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truth:
    """All images, by id. ``annotator`` says whose annotations they are."""

    images: dict[int, TruthImage]
    dataset: str
    annotator: str


TruthSource = str | Path | Scenes | TargetCache | Iterable[Scene]


def read_truth(source: TruthSource) -> Truth:
    """Ground truth from an annotation file, a cache, or scenes. Of several annotators the first counts.

    An image id that occurs twice keeps its first entry.
    """
    if isinstance(source, str | Path):
        source = open_source(Path(source)).origin
    images: dict[int, TruthImage] = {}
    for image, targets in _images(source):
        if image.image_id not in images:
            rates = occlusion_rates(*targets.areas())
            images[image.image_id] = TruthImage(image.image_id, image.file_name, targets, rates)
    dataset = "custom"
    settings: dict[str, str] = {}
    if isinstance(source, TargetCache):
        dataset, settings = source.info.dataset, source.info.settings
    elif isinstance(source, Scenes):
        dataset, settings = source.dataset, source.settings
    return Truth(images, dataset, settings.get("annotator", "first"))


def _images(source: "Scenes | TargetCache | Iterable[Scene]") -> Iterator[tuple[CachedImage, LayeredTargets]]:
    if isinstance(source, TargetCache | Scenes):
        yield from TargetSource(source)
        return
    for scene in source:
        yield CachedImage(scene.image_id, scene.file_name, scene.size, scene.annotator), layer_scene(scene)
