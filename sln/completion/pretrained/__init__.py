"""Weights that come with the package, and where they are from."""

from pathlib import Path

from sln.completion.shape_prior import ShapePrior
from sln.errors import WeightsError

DEFAULT = "coco-shapes"
SHIPPED = {
    DEFAULT: "Shape prior of masks of COCO 2017: completes any visible masks, without an image."
}  # Each a file NAME.safetensors with its card NAME.md in this folder
LICENSE = "CC BY 4.0; learned from the annotations of COCO (COCO Consortium, cocodataset.org), CC BY 4.0"


def shipped_file(name: str) -> Path:
    """The file of shipped weights. Raises :class:`WeightsError` for an unknown name."""
    if name not in SHIPPED:
        raise WeightsError("no such weights in the package", place=name, fix=f"use one of {', '.join(SHIPPED)}")
    return Path(__file__).parent / f"{name}.safetensors"


def shipped_prior(name: str = DEFAULT) -> ShapePrior:
    """A shape prior that comes with the package."""
    return ShapePrior.load(shipped_file(name))
