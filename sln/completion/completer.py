"""Completer: whole objects for visible masks or boxes, whatever detected them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data.errors import PhotoError, PredictionError
from amodal_data.io.images import photo_pixels, photo_size
from amodal_data.scenes.occlusion_order import z_order
from sln.completion.adapters import from_detections
from sln.completion.mask_completion import Completed, PriorRules, complete_masks, ordered_surroundings
from sln.completion.pretrained import DEFAULT, SHIPPED, shipped_prior
from sln.completion.shape_prior import PRIOR_FILE, ShapePrior, is_prior
from sln.completion.visible_prompts import Prompts, pixel_owners
from sln.config import CompletionConfig
from sln.errors import WeightsError
from sln.inference.prediction import Prediction

if TYPE_CHECKING:
    from amodal_data.io.pictures import AnyPhoto
    from sln.inference.predictor import Predictor

Size = tuple[int, int]


class Completer:
    """Completes visible masks by a shape prior, and masks or boxes by a network trained with prompts.

    prior: :class:`sln.completion.shape_prior.ShapePrior`; alone it needs masks, but no image. network:
    :class:`sln.Predictor`; with both, ``settings`` mix them, by default those of the network's checkpoint. rules: how
    the confidence of a prior alone becomes masks. Raises ValueError without prior and network.

    Examples:
        >>> import numpy as np, sln
        >>> masks = np.zeros((2, 60, 80), bool)
        >>> masks[0, 10:50, 10:40] = masks[1, 20:40, 40:60] = True
        >>> completed = sln.Completer.from_pretrained().complete((60, 80), masks=masks)
        >>> bool((completed.modal() == masks).all())
        True
    """

    def __init__(
        self,
        prior: ShapePrior | None = None,
        network: "Predictor | None" = None,
        settings: CompletionConfig | None = None,
        rules: PriorRules | None = None,
    ) -> None:
        if prior is None and network is None:
            raise ValueError("a completer needs a shape prior, a network or both")
        self.network, self.rules = network, rules or PriorRules()
        self.settings = settings or (CompletionConfig() if network is None else network.config.completion)
        self.prior = None if prior is None else prior.fused()
        if self.prior is not None and network is not None:
            self.prior = self.prior.to(network.device)

    @classmethod
    def from_pretrained(cls, model: str | Path = DEFAULT, device: str = "auto") -> "Completer":
        """Load shipped weights by name, a run directory, or a file of weights.

        A run directory gives its network with its shape prior, if it has one. device: of a network, see
        :class:`sln.Predictor`. Raises :class:`WeightsError` if there is no such model.
        """
        path = Path(model)
        if str(model) in SHIPPED and not path.exists():
            return cls(shipped_prior(str(model)))
        if not path.exists():
            fix = f"name a run directory, a file of weights, or one of {', '.join(SHIPPED)}"
            raise WeightsError("no such model", place=str(model), fix=fix)
        if path.is_file() and is_prior(path):
            return cls(ShapePrior.load(path))
        from sln.inference.predictor import load

        prior = path / PRIOR_FILE
        return cls(ShapePrior.load(prior) if prior.exists() else None, load(path, device))

    def __repr__(self) -> str:
        network = "no network" if self.network is None else repr(self.network)
        return f"Completer({'no ' if self.prior is None else ''}shape prior, {network})"

    def complete(
        self,
        photo: "AnyPhoto | Size",
        prompts: Any = None,
        *,
        masks: NDArray[np.bool_] | None = None,
        boxes: NDArray[np.floating] | None = None,
        scores: Sequence[float] | NDArray[np.floating] | None = None,
        classes: Sequence[str] | None = None,
        mirror: bool = True,
    ) -> Prediction:
        """Amodal masks, levels and order for the prompts of one image, in their order.

        photo: uint8 RGB [H, W, 3], a Pillow image, the path of one, or its size (H, W), which is enough for a shape
        prior alone. prompts: :class:`Prompts`, or what another library returns
        (:func:`sln.completion.adapters.from_detections`); or instead ``masks``, bool [P, H, W], the visible parts, or
        ``boxes`` [P, 4] around visible parts (x0, y0, x1, y1 in pixels), with P ``scores`` and names of ``classes``.
        mirror: look at the mirrored image as well, for a little more quality in twice the time; a shape prior alone
        does not.

        The visible part of an instance is its given mask, pixel by pixel. Pixels that several masks share are visible
        in the one in front by the shape prior and hidden in the others. A network without a prior does not know who is
        in front: the higher score has them, then the smaller mask.

        Raises :class:`amodal_data.errors.PredictionError` for prompts that cannot be used, such as boxes without a
        network, :class:`amodal_data.errors.PhotoError` if the image has another size than the prompts, and
        :class:`WeightsError` if the network was trained without prompts.
        """
        given = _prompts(photo, prompts, masks, boxes, scores, classes)
        prediction = self.complete_prompts(photo, given, mirror=mirror).prediction
        return replace(prediction, photo=None if isinstance(photo, tuple) else photo)

    def complete_prompts(
        self, photo: "AnyPhoto | Size", prompts: Prompts, *, file: str = "", mirror: bool = True
    ) -> Completed:
        """As :meth:`complete`, with findings about the prompts; ``file`` names the image in them."""
        if self.network is None:
            return self._complete_masks(photo, prompts, file)
        model = self.network.model
        if not model.roi_head.prompted:
            raise WeightsError("this network was trained without prompts", fix="train with head.prompts = true")
        from sln.completion.head_completion import HeadCompletion
        from sln.inference.predictor import prepare_photo

        if isinstance(photo, tuple):
            raise PhotoError("this model looks at the image, so its size is not enough",
                             fix=f"pass the image, or use the shape prior {DEFAULT} alone")  # fmt: skip
        image, frame = prepare_photo(photo, self.network.config.data.size)
        _check_size(frame.photo, prompts)
        owner, findings = pixel_owners(prompts, file)
        if findings and self.prior is not None:  # masks share pixels: those in front get them
            in_front = ordered_surroundings(self.prior, prompts, self.rules, owner, shared=True)[1]
            owner, findings = pixel_owners(prompts, file, z_order(in_front))
        head = HeadCompletion(self.network, self.prior, self.settings)
        return Completed(head.complete(image, frame, prompts, owner, mirror=mirror), findings)

    def _complete_masks(self, photo: "AnyPhoto | Size", prompts: Prompts, file: str) -> Completed:
        _check_size(_size_of(photo), prompts)
        if any(mask is None for mask in prompts.masks):
            raise PredictionError("boxes alone cannot be completed by a shape prior, which sees only masks",
                                  fix="give masks, or a network, which sln fit trains: name its run with --model "
                                  "(Completer.from_pretrained in Python)")  # fmt: skip
        assert self.prior is not None
        return complete_masks(self.prior, prompts, self.rules, file)


def complete(photo: "AnyPhoto | Size", prompts: Any = None, *, model: str | Path = DEFAULT, **given: Any) -> Prediction:
    """Complete the prompts of one image with shipped weights, or those of ``model``; see :meth:`Completer.complete`.

    Load a :class:`Completer` once for many images.

    Examples:
        >>> import numpy as np, sln
        >>> masks = np.zeros((2, 60, 80), bool)
        >>> masks[0, 10:50, 10:40] = masks[1, 20:40, 40:60] = True
        >>> completed = sln.complete((60, 80), masks=masks)
        >>> len(completed), completed.masks.shape
        (2, (2, 60, 80))
    """
    return Completer.from_pretrained(model).complete(photo, prompts, **given)


def _prompts(
    photo: Any,
    prompts: Any,
    masks: NDArray[np.bool_] | None,
    boxes: NDArray[np.floating] | None,
    scores: Any,
    classes: Sequence[str] | None,
) -> Prompts:
    if sum(value is not None for value in (prompts, masks, boxes)) != 1:
        raise PredictionError("expected either prompts, masks or boxes", fix="pass masks=, bool [P, H, W]")
    if prompts is not None:
        return from_detections(prompts, size=None if isinstance(prompts, Prompts) else _size_of(photo))
    if masks is not None:
        return Prompts.of_masks(masks, scores=scores, classes=classes)
    assert boxes is not None
    return Prompts.of_boxes(boxes, _size_of(photo), scores=scores, classes=classes)


def _size_of(photo: Any) -> Size:
    """Height and width of an image in any form."""
    if isinstance(photo, tuple):
        if len(photo) != 2 or not all(isinstance(side, int | np.integer) and side > 0 for side in photo):
            raise PhotoError(f"a size is (height, width) in pixels, found {photo}")
        return int(photo[0]), int(photo[1])
    if isinstance(photo, str | Path):
        return photo_size(Path(photo))
    if isinstance(photo, Image.Image):
        height, width, _ = photo_pixels(photo).shape
        return height, width
    if isinstance(photo, np.ndarray) and photo.ndim in (2, 3):
        return int(photo.shape[0]), int(photo.shape[1])
    raise PhotoError(f"a photo is a path, a PIL image, an array or a size (H, W), found {type(photo).__name__}")


def _check_size(size: Size, prompts: Prompts) -> None:
    if size != prompts.size:
        raise PhotoError(f"the photo is {size} (height, width), its prompts are of {prompts.size}")
