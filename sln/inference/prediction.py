"""Predicted instances of one photo, as numpy values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_data.evaluation.protocols.pair_order import order_pairs
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.io.pictures import AnyPhoto
from amodal_data.layering.joint_decoding import Candidates, DecodingRule, raise_hidden
from amodal_data.layering.sem_dist import sem_dist_of_codes
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import Window, from_crop, union_windows, window_of, window_of_box
from sln.config import Category, PredictConfig
from sln.inference.conditioning import GivenMasks
from sln.inference.joint_masks import JointMasks
from sln.inference.outputs import PredictionOutputs
from sln.network.paste_masks import decode_levels, paste, paste_in_parts

_JUST_INSIDE = np.nextafter(np.float32(0.5), np.float32(1))  # Smallest confidence inside
_STRIP = 2**22  # Pixels pasted at once


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(PredictionOutputs):
    """P instances in a photo of ``size`` (H, W), best score first.

    ``len``, iteration and indexing work as for a list: ``prediction[0]`` and ``prediction[prediction.scores > 0.5]``
    are predictions of some of the instances, with unchanged masks, levels and order.

    ``boxes`` float32 [P, 4]: x0, y0, x1, y1 in pixels of the photo. ``scores`` float32 [P] in [0, 1]. ``probabilities``
    float32 [P, K + 1, S, S] inside each box: channel 0 = outside, 1 + k = level k. ``categories``: the class of each, P
    of them; without them it is 1, without a name. ``given``: masks that the instances complete, if they do. ``objects``
    int64 [P]: equal for detections of one object; without them all are different. ``decoding``: the rule that decodes
    levels jointly (:mod:`amodal_data.layering.joint_decoding`); ``none``: each instance by itself.
    ``hidden_threshold``: confidence above which hidden parts are inside. ``decoded``: masks that were decoded
    elsewhere, for each instance the amodal one and those of level 0, 1, ... ``photo``: the photo that was given, a path
    or the object itself; pictures are drawn on it.

    Maps of the photo's size are made when first used. The depth order is decided pair by pair, from probabilities.

    Examples:
        >>> import numpy as np, sln
        >>> masks = np.zeros((2, 60, 80), bool)
        >>> masks[0, 10:50, 10:40] = masks[1, 20:40, 40:60] = True
        >>> prediction = sln.complete((60, 80), masks=masks, scores=[0.9, 0.8], classes=["cup", "plate"])
        >>> prediction.masks.shape, prediction.levels.dtype, prediction.class_names
        ((2, 60, 80), dtype('uint8'), ['cup', 'plate'])
        >>> [one.class_names[0] for one in prediction], len(prediction[prediction.scores > 0.85])
        (['cup', 'plate'], 1)
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    categories: tuple[Category, ...] = ()
    given: GivenMasks | None = None
    objects: NDArray[np.int64] | None = None
    decoding: DecodingRule = "none"
    hidden_threshold: float = 0.5
    decoded: tuple[tuple[RLE, ...], ...] | None = None
    photo: AnyPhoto | None = None

    @property
    def category_ids(self) -> NDArray[np.int64]:
        """The category_id of each instance, int64 [P]."""
        return np.array([category.id for category in self.categories] or [1] * len(self), np.int64)

    def __iter__(self) -> "Iterator[Prediction]":
        return (self[n] for n in range(len(self)))

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[Any]) -> "Prediction":
        """Some of the instances, by int, slice, indices or bool [P], with the masks and levels that they have here."""
        return self._take(self._rows(rows), self._joint_masks)

    def __repr__(self) -> str:
        height, width = self.size
        best = f", best score {float(self.scores.max()):.2f}" if len(self) else ""
        return f"Prediction({len(self)} instances in {height} x {width}{best}, decoding {self.decoding})"

    @cached_property
    def _maps(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        confidence, codes = self._decode(0.5)
        for n, (amodal, *levels) in enumerate(self._joint_masks or ()):
            if self.decoded is not None:
                inside = amodal.decode()
                confidence[n] = np.where(inside, confidence[n].clip(_JUST_INSIDE), confidence[n].clip(max=0.5))
                codes[n] = 0
            for code, mask in enumerate(levels, 1):
                codes[n][mask.decode()] = code
        return confidence, codes

    @cached_property
    def _joint_masks(self) -> list[tuple[RLE, ...]] | None:
        """Masks of all instances, decoded jointly; None without a rule."""
        if self.decoded is not None:
            return list(self.decoded)
        if self.decoding == "none" or len(self) < 2:
            return None
        windows = [self._window(n) for n in range(len(self))]
        candidates = Candidates(self.scores, np.arange(len(self)) if self.objects is None else self.objects)
        return JointMasks(self.size, windows, self._paste, candidates, self.decoding).masks()

    def _decode(self, threshold: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Confidence and codes above a threshold, [P, H, W] each, every instance by itself."""
        confidence, codes = np.zeros((len(self), *self.size), np.float32), np.zeros((len(self), *self.size), np.uint8)
        start = 0
        for part in paste_in_parts(*self._tensors(), self.size):
            if self.given is not None or self.hidden_threshold < 0.5:
                part = torch.stack([self._condition(maps, n) for n, maps in enumerate(part, start)])
            rows = slice(start, start + len(part))
            confidence[rows], codes[rows] = (maps.numpy() for maps in decode_levels(part, threshold))
            start += len(part)
        return confidence, codes

    def _given_mask(self, n: int) -> RLE | None:
        return None if self.given is None else self.given.masks[n]

    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.probabilities), torch.from_numpy(self.boxes)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """C, the confidence that a pixel belongs to the instance, visible or not, float32 [P, H, W] in [0, 1]."""
        return self._maps[0]

    @property
    def levels(self) -> NDArray[np.uint8]:
        """Level codes, uint8 [P, H, W]: 0 outside (C <= 0.5), 1 visible, 1 + k hidden behind k instances."""
        return self._maps[1]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Amodal masks (whole objects), bool [P, H, W]; :meth:`amodal` takes a threshold."""
        return self.amodal()

    @property
    def visible_masks(self) -> NDArray[np.bool_]:
        """Modal masks (visible parts), bool [P, H, W]; :meth:`modal` takes a threshold."""
        return self.modal()

    def modal(self, threshold: float = 0.5) -> NDArray[np.bool_]:
        """Visible parts, bool [P, H, W]: level 0 where C > ``threshold``."""
        return self._levels_above(threshold) == 1

    def amodal(self, threshold: float = 0.5) -> NDArray[np.bool_]:
        """Whole objects, bool [P, H, W]: C > ``threshold``."""
        return self.confidence > threshold

    def sem_dist(self) -> NDArray[np.float32]:
        """Sem-dist maps M = C - L (Eq. 1), float32 [P, H, W]; L is 0 outside, where C <= 0.5."""
        return sem_dist_of_codes(self.confidence, self.levels).astype(np.float32)

    @cached_property
    def order(self) -> NDArray[np.int8]:
        """Depth order, int8 [P, P]: +1 = row in front of column, -1 behind, 0 = no overlap or undecided.

        Results files, the page and protocol ``order`` (R_joint) use the same rule:
        :func:`amodal_data.layering.sem_dist.pair_order`.
        """
        order = np.zeros((len(self), len(self)), np.int8)
        front, back = order_pairs(self.scored_masks()).T
        order[front, back], order[back, front] = 1, -1
        return order

    def at_size(self, n: int, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Confidence and codes of instance n with the photo scaled to ``size`` (H, W)."""
        probabilities, boxes = self._tensors()
        scale = boxes.new_tensor([size[1] / self.size[1], size[0] / self.size[0]] * 2)
        pasted = paste(probabilities[n : n + 1], boxes[n : n + 1] * scale, size)[0]
        confidence, codes = (maps[0].numpy() for maps in decode_levels(self._condition(pasted, n)[None]))
        if self._joint_masks is not None:
            rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, self.size, strict=True))
            codes = np.zeros(size, np.uint8)
            for code, mask in enumerate(self._joint_masks[n][1:], 1):
                codes[mask.decode()[np.ix_(rows, columns)]] = code
        return confidence, codes

    def scored_mask(self, n: int) -> ScoredMask:
        """Instance n of :meth:`scored_masks`; made once. Only the window of its box is pasted."""
        if n not in self._scored:
            joint = self._joint_masks
            amodal, visible, *levels = self._single_masks(n) if joint is None else joint[n]
            category = self.categories[n] if self.categories else Category(id=1)
            # probabilities know nothing of a given mask
            probabilities = self.probabilities[n].astype(np.float16) if self._given_mask(n) is None else None
            answer = None if self.given is None else self.given.answers[n]
            values = (visible, tuple(levels), self.boxes[n], probabilities, category.name, answer)
            self._scored[n] = ScoredMask(amodal, float(self.scores[n]), category.id, *values)
        return self._scored[n]

    def _single_masks(self, n: int) -> list[RLE]:
        """Amodal and visible mask of instance n, decoded by itself, and those of level 1, 2, ... as far as there."""
        if (window := self._window(n)) is None:
            return [RLE(self.size, np.zeros(0, np.int32))] * 2
        codes = self._window_codes(n, window)
        levels = (codes == code for code in range(1, max(1, int(codes.max(initial=0))) + 1))
        return [from_crop(mask, window, self.size) for mask in (codes > 0, *levels)]

    def _window(self, n: int) -> Window | None:
        """Pixels where instance n may be."""
        window, given = window_of_box(self.boxes[n], self.size), self._given_mask(n)
        return union_windows(window, window_of(given)) if given is not None and len(given.switches) else window

    @cached_property
    def _scored(self) -> dict[int, ScoredMask]:
        return {}

    def only(self, rows: Sequence[int] | NDArray[np.bool_] | NDArray[np.integer]) -> "Prediction":
        """Some of the instances, decoded anew as if the others were not there: by indices or bool [P].

        Indexing (``prediction[rows]``) keeps their masks and levels instead.
        """
        return self._take(self._rows(rows), self.decoded)

    def _rows(self, rows: Any) -> list[int]:
        """Indices from 0 of an int, slice, bool [P] or indices. Raises IndexError."""
        if isinstance(rows, slice):
            return list(range(len(self))[rows])
        chosen = np.atleast_1d(np.asarray(rows))
        if chosen.dtype == bool and chosen.shape == (len(self),):
            return list(map(int, np.flatnonzero(chosen)))
        if chosen.ndim != 1 or not (chosen.size == 0 or np.issubdtype(chosen.dtype, np.integer)):
            raise IndexError(f"index {len(self)} instances by int, slice, indices or bool [{len(self)}]")
        if ((chosen < -len(self)) | (chosen >= len(self))).any():
            raise IndexError(f"index {rows} is out of range: {len(self)} instances")
        return [int(n) % len(self) for n in chosen]

    def _take(self, rows: list[int], decoded: "Sequence[tuple[RLE, ...]] | None") -> "Prediction":
        part = replace(
            self,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            probabilities=self.probabilities[rows],
            categories=tuple(self.categories[n] for n in rows) if self.categories else (),
            given=None if self.given is None else self.given.only(rows),
            objects=None if self.objects is None else self.objects[rows],
            decoded=None if decoded is None else tuple(decoded[n] for n in rows),
        )
        if self.decoding == "none" or decoded is not None:
            part._scored.update({i: self._scored[n] for i, n in enumerate(rows) if n in self._scored})
        return part

    def _window_codes(self, n: int, window: Window) -> NDArray[np.uint8]:
        """Level codes of instance n in a window of the photo, pasted strip by strip: memory stays small."""
        rows, columns = window
        step = max(1, _STRIP // (columns.stop - columns.start))
        strips = [slice(top, min(top + step, rows.stop)) for top in range(rows.start, rows.stop, step)]
        pasted = (torch.from_numpy(self._paste(n, (strip, columns))) for strip in strips)
        return np.concatenate([decode_levels(part[None])[1][0].numpy() for part in pasted])

    def _paste(self, n: int, window: Window) -> NDArray[np.float32]:
        """Probabilities of instance n in a window of the photo, float32 [K + 1, h, w]."""
        rows, columns = window
        probabilities, boxes = self._tensors()
        corner = boxes.new_tensor([columns.start, rows.start] * 2)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        pasted = paste(probabilities[n : n + 1], boxes[n : n + 1] - corner, size)[0]
        return self._condition(pasted, n, window).numpy()

    def _condition(self, pasted: torch.Tensor, n: int, window: Window | None = None) -> torch.Tensor:
        """Probabilities [K + 1, h, w] pasted in a window (default all), given the masks and the hidden threshold."""
        if self.given is not None:
            pasted = self.given.condition(pasted, n, window or (slice(0, self.size[0]), slice(0, self.size[1])))
        if self.hidden_threshold < 0.5 and self._given_mask(n) is None:
            return torch.from_numpy(raise_hidden(pasted.numpy()[None], self.hidden_threshold)[0])
        return pasted

    def _levels_above(self, threshold: float) -> NDArray[np.uint8]:
        """Codes where C is above a threshold; where none is at 0.5, each instance's own."""
        if threshold == 0.5:
            return self.levels
        confidence, codes = self._decode(threshold)
        if self._joint_masks is not None:
            codes = np.where(self.levels > 0, self.levels, codes) * (confidence > threshold)
        return codes


def with_decoding(prediction: Prediction, settings: PredictConfig) -> Prediction:
    """A prediction with the decoding rule of the settings."""
    if settings.decoding == "none":
        return prediction
    return replace(prediction, decoding=settings.decoding, hidden_threshold=settings.hidden_threshold)
