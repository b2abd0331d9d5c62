"""What split and filter decide by: the areas, classes and findings of each image of a source."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage
from amodal_data.errors import LevelsError
from amodal_data.layering.targets import LayeredTargets, layer_with_findings
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.scene import Scene


@dataclass(frozen=True, slots=True, eq=False)
class ImageFacts:
    """An image with its targets and findings. ``names``: class name of each of its instances.

    ``targets``: None = no level table holds the image. It then has no ``areas`` and ``visible``: amodal and visible
    pixels of each instance, int64 [N].
    """

    image_id: int
    file_name: str
    names: Sequence[str]
    targets: LayeredTargets | None
    findings: Sequence[Finding]
    areas: NDArray[np.int64]
    visible: NDArray[np.int64]

    @property
    def hidden_shares(self) -> NDArray[np.float64]:
        """Hidden share of each instance, float64 [N]; 0 for one without a pixel."""
        return (self.areas - self.visible) / np.maximum(self.areas, 1)


def scene_facts(scene: Scene) -> ImageFacts:
    """Layer a scene."""
    names = [instance.name for instance in scene.instances]
    try:
        targets, findings = layer_with_findings(scene)
    except LevelsError:
        none = np.zeros(0, np.int64)
        return ImageFacts(scene.image_id, scene.file_name, names, None, scene.findings, none, none)
    findings = (*scene.findings, *findings)
    return ImageFacts(scene.image_id, scene.file_name, names, targets, findings, *targets.areas())


def cached_facts(image: CachedImage, targets: LayeredTargets, findings: Sequence[Finding]) -> ImageFacts:
    """The facts of an image of a cache; findings: those of its build."""
    return ImageFacts(image.image_id, image.file_name, targets.names, targets, findings, *targets.areas())
