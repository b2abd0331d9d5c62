"""What is compared, on which data and with which effort."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from steps import Workspace

TITLES = {"cocoa": "COCOA", "d2sa": "D2SA"}
"""Names of the datasets."""
NETWORKS = {"sln": "SLN", "arcnn": "ARCNN", "arcnn-visible": "ARCNN with visible masks"}
"""Names of the trained networks, by the kind of their head."""
TRAINED = {"cocoa": ("sln", "arcnn", "arcnn-visible"), "d2sa": ("sln", "arcnn")}
"""The networks that the tables compare on each dataset."""
RELEASED = ("SharpMask", "ExpandMask", "AmodalMask")
"""Methods of which only released results are compared."""


@dataclass(frozen=True)
class Effort:
    """How much is trained. ``order_weights``: ``imagenet`` or nothing for the ResNet of OrderNet."""

    steps: int = 40_000
    batch: int = 2
    pairs: int = 36_000
    order_depth: int = 50
    order_side: int = 128
    order_weights: str = "imagenet"
    scenes: int = 0


SMOKE = Effort(steps=200, batch=4, pairs=600, order_depth=10, order_side=48, order_weights="", scenes=96)
"""Generated data and tiny networks."""


@dataclass(frozen=True)
class Released:
    """Results of a method on the validation images, and perhaps on the training images: files or folders."""

    val: Path
    train: Path | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that the steps need to know.

    ``folders``: of the datasets. ``weights``: the Mask R-CNN that SLN starts from, None = torchvision's.
    """

    workspace: Workspace
    folders: dict[str, Path]
    effort: Effort
    smoke: bool = False
    released: dict[str, Released] = field(default_factory=dict)
    weights: Path | None = None
    device: str = "auto"
    gpus: int = 1

    def cache(self, dataset: str, split: str) -> Path:
        """Return the path of a target cache."""
        return self.workspace.path("targets", f"{dataset}-{split}.h5")

    def predictions(self, kind: str, dataset: str, split: str = "val") -> Path:
        """Return the path of the results file of a network."""
        return self.workspace.path("predictions", f"{kind}-{dataset}-{split}.json")

    def settings(self) -> dict[str, Any]:
        """Return what changes results."""
        folders = {name: str(folder.resolve()) for name, folder in self.folders.items()}
        released = {name: [str(path) for path in (files.val, files.train)] for name, files in self.released.items()}
        return {**asdict(self.effort), **folders, **released, "smoke": self.smoke, "weights": str(self.weights)}
