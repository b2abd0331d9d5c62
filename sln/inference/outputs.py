"""What a prediction gives to others: pictures, layers, rows, tables and objects of other libraries."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.export.adapters import to_dataframe, to_supervision
from amodal_data.inspector.drawing.overlay import draw_overlay
from amodal_data.inspector.layered_predictions import layered_predictions
from amodal_data.io.images import photo_of_size
from amodal_data.io.pictures import AnyPhoto, Drawable, save_picture
from amodal_data.masks.rle import iou
from amodal_data.masks.windows import subtract
from sln.config import Category

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections

_MIN_SCORE = 0.5  # Smallest score of predictions in pictures
_MAX_OVERLAP = 0.5  # Pictures leave out predictions that overlap a better one above this IoU
_FOREIGN_NAMES = {  # What results of other tools call these attributes
    "boxes": "xyxy xywh xyxyn xywhn pred_boxes bbox bboxes box obb", "scores": "conf confs confidences score",
    "masks": "mask pred_masks segmentation segmentations", "visible_masks": "visible modal_masks visible_mask",
    "class_names": "names labels label class_name pred_classes", "category_ids": "cls class_id class_ids",
    "photo": "image img orig_img path", "plot()": "annotate draw visualize", "to_dataframe()": "pandas to_df df",
    "to_coco()": "to_json tojson to_dict", "levels": "layers_map depth", "only()": "filter with_nms",
}  # fmt: skip


class Layer(NamedTuple):
    """``pixels``, uint8 [H, W, 4]: the image where the instance is visible, transparent elsewhere. ``inpaint``, bool
    [H, W]: its hidden part, which has to be painted.
    """

    pixels: NDArray[np.uint8]
    inpaint: NDArray[np.bool_]


def layer_of(photo: NDArray[np.uint8], mask: ScoredMask) -> Layer:
    """The layer of one instance of a photo, uint8 [H, W, 3]."""
    visible = mask.amodal if mask.visible is None else mask.visible
    alpha = visible.decode()
    pixels = np.where(alpha[..., None], photo, np.uint8(0))
    return Layer(np.dstack([pixels, alpha.astype(np.uint8) * 255]), subtract(mask.amodal, visible).decode())


def save_layer(layer: Layer, folder: Path, name: str) -> list[str]:
    """Write ``NAME.png`` and ``NAME_inpaint.png`` (white = to be painted); returns the names of both."""
    pictures = {f"{name}.png": layer.pixels, f"{name}_inpaint.png": layer.inpaint.astype(np.uint8) * 255}
    for file, pixels in pictures.items():
        save_picture(Image.fromarray(pixels), folder / file)
    return list(pictures)


class PredictionOutputs(Drawable):
    """The outputs of P instances in a photo; :class:`sln.Prediction` holds the values."""

    size: tuple[int, int]
    scores: NDArray[np.float32]
    categories: tuple[Category, ...]
    photo: AnyPhoto | None

    def __len__(self) -> int:
        return len(self.scores)

    def scored_mask(self, n: int) -> ScoredMask:
        """Instance n of :meth:`scored_masks`."""
        raise NotImplementedError

    def only(self, rows: Sequence[int] | NDArray[np.bool_] | NDArray[np.integer]) -> Self:
        """Some of the instances."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> NoReturn:
        hints = [right for right, names in _FOREIGN_NAMES.items() if name in names.split()]
        raise AttributeError(f"a Prediction has no {name!r}" + (f": use .{hints[0]}" if hints else ""))

    @property
    def class_names(self) -> list[str]:
        """The name of each instance's class, "" without one."""
        return [category.name for category in self.categories] or [""] * len(self)

    def scored_masks(self) -> list[ScoredMask]:
        """The instances for :func:`amodal_data.evaluate` and results files: run-length masks, boxes, probabilities."""
        return [self.scored_mask(n) for n in range(len(self))]

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """The instances as rows of a COCO results file, with ``visible_mask`` and ``levels``."""
        return [mask.to_row(image_id) for mask in self.scored_masks()]

    def to_dataframe(self) -> "DataFrame":
        """The instances as rows of a table: see :func:`amodal_data.export.adapters.to_dataframe`."""
        return to_dataframe(self.scored_masks())

    def to_supervision(self, part: Literal["amodal", "visible"] = "amodal") -> "Detections":
        """The instances for supervision: see :func:`amodal_data.export.adapters.to_supervision`."""
        return to_supervision(self.scored_masks(), part)

    def confident(self, min_score: float = _MIN_SCORE) -> tuple[Self, float]:
        """Instances that pictures show, and the smallest score among the rules for them.

        Those with a score of at least ``min_score`` (the best one, if all are below) that overlap no better one above
        an IoU of 0.5.
        """
        if len(self):
            min_score = min(min_score, float(self.scores.max()))
        rows = np.flatnonzero(self.scores >= min_score).tolist()
        overlap = iou(masks := [self.scored_mask(n).amodal for n in rows], masks)
        kept: list[int] = []
        for i in range(len(rows)):
            if not (overlap[i, kept] > _MAX_OVERLAP).any():
                kept.append(i)
        return self.only([rows[i] for i in kept]), min_score

    def plot(self, photo: AnyPhoto | None = None, min_score: float = _MIN_SCORE) -> Image.Image:
        """A picture of :meth:`confident` instances: visible parts filled, hidden parts striped; number, class, score.

        photo: uint8 [H, W, 3], a Pillow image or a path, by default ``photo``; gray if that is None. The longer side of
        the picture has at most 1280 px. Raises :class:`amodal_data.errors.PhotoError` if the photo has another size.
        """
        return self._overlay(self.confident(min_score)[0], self.photo if photo is None else photo)

    def _overlay(self, instances: Self, photo: AnyPhoto | None) -> Image.Image:
        masks = instances.scored_masks()
        scores = ["" if mask.score == 1 else f"{mask.score:.2f}" for mask in masks]  # 1: given without a score
        texts = [
            " ".join(f"{n} {mask.name} {score}".split())
            for n, (mask, score) in enumerate(zip(masks, scores, strict=True))
        ]
        return draw_overlay(layered_predictions(masks, self.size), texts, photo)

    def layers(self, photo: AnyPhoto | None = None) -> list[Layer]:
        """Each instance as a picture of its visible pixels, and what a painter model has to fill to make it whole.

        photo: as in :meth:`plot`, but needed. Raises :class:`amodal_data.errors.PhotoError` without a photo of the
        instances' size.
        """
        pixels = photo_of_size(self.photo if photo is None else photo, self.size)
        return [layer_of(pixels, self.scored_mask(n)) for n in range(len(self))]

    def _repr_html_(self) -> str:
        """A small picture and the one-line ``repr``, for notebooks."""
        from amodal_data.inspector.drawing.overlay import figure

        confident, min_score = self.confident()
        picture = self._overlay(confident, self.photo)
        return figure(picture, f"{self!r}; shown: {len(confident)} with a score of at least {min_score:.2f}")
