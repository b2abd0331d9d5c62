"""What split and filter decide by: the areas, classes and findings of each image of a source."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_data.datasets.layout_parts import AnnotationParts
from amodal_data.errors import LevelsError
from amodal_data.io.image_names import normal_path
from amodal_data.layering.targets import LayeredTargets, layer_with_findings
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.scene import Scene


@dataclass(frozen=True, slots=True, eq=False)
class ImageFacts:
    """A scene, its targets and its findings.

    ``targets``: None = no level table holds the scene; it then has no instances here. ``areas``, ``visible``: amodal
    and visible pixels of each instance, int64 [N].
    """

    scene: Scene
    targets: LayeredTargets | None
    findings: tuple[Finding, ...]
    areas: NDArray[np.int64]
    visible: NDArray[np.int64]

    @property
    def hidden_shares(self) -> NDArray[np.float64]:
        """Hidden share of each instance, float64 [N]; 0 for one without a pixel."""
        return (self.areas - self.visible) / np.maximum(self.areas, 1)


def image_facts(parts: AnnotationParts, on_image: Callable[[int], None] = lambda _: None) -> Iterator[ImageFacts]:
    """Layer every scene of a source."""
    for scene in parts.scenes:
        on_image(1)
        try:
            targets, findings = layer_with_findings(scene)
            yield ImageFacts(scene, targets, (*scene.findings, *findings), *targets.areas())
        except LevelsError:
            yield ImageFacts(scene, None, scene.findings, *np.zeros((2, 0), np.int64))


def entry_key(parts: AnnotationParts, image_id: int | None, name: str) -> int | str:
    """What an entry and its scene share: the image id where the file has ids, else the file name."""
    return image_id if parts.instances and image_id is not None else normal_path(name) or f"image {image_id}"
