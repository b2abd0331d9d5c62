"""What was found in one photo, as numpy values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from amodal_data import RLE, ScoredMask
from amodal_data.evaluation.protocols.pair_order import order_pairs
from amodal_data.export.adapters import to_supervision
from amodal_data.io.images import read_photo
from amodal_data.layering.joint_decoding import Candidates, DecodingRule, raise_hidden
from amodal_data.layering.sem_dist import sem_dist_of_codes
from amodal_data.masks.rle import iou
from amodal_data.masks.windows import Window, from_crop, union_windows, window_of, window_of_box
from sln.config import Category, PredictConfig
from sln.inference.conditioning import GivenMasks
from sln.inference.joint_masks import JointMasks
from sln.inference.overlay import draw_overlay, save_picture
from sln.network.layering import decode
from sln.network.paste_masks import paste, paste_in_parts

if TYPE_CHECKING:
    from supervision import Detections

_SURE, _OVERLAP = 0.5, 0.5
"""Pictures show predictions of at least this score that overlap no better one above this IoU"""
_STRIP = 2**22
"""Pixels pasted at once"""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """P instances in a photo of ``size`` (H, W), best score first.

    ``boxes`` float32 [P, 4]: x0, y0, x1, y1 in pixels of the photo. ``scores`` float32 [P] in [0, 1].
    ``probabilities`` float32 [P, K + 1, S, S] inside each box: channel 0 = outside, 1 + l = level l.
    ``categories``: the class of each, P of them; without them it is 1, without a name. ``given``: what was known of
    them before, if they complete something. ``objects`` int64 [P]: equal for instances that are one object, found
    more than once; without them all are different. ``decoding``: by which rule levels are put together
    (:mod:`amodal_data.layering.joint_decoding`); ``none``: each says its own. ``hidden``: from which confidence on hidden parts
    are inside.

    Maps of the photo's size are made when first asked for. Levels and masks are those of the instances at hand: of
    :meth:`only` some of them they are put together anew. Who is in front is told by probabilities, pair by pair.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    categories: tuple[Category, ...] = ()
    given: GivenMasks | None = None
    objects: NDArray[np.int64] | None = None
    decoding: DecodingRule = "none"
    hidden: float = 0.5

    @property
    def category_ids(self) -> NDArray[np.int64]:
        """The category_id of each instance, int64 [P]."""
        return np.array([one.id for one in self.categories] or [1] * len(self), np.int64)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        height, width = self.size
        best = f", best score {float(self.scores.max()):.2f}" if len(self) else ""
        return f"Prediction({len(self)} instances in {height} x {width}{best}, decoding {self.decoding})"

    @cached_property
    def _maps(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        confidence, codes = self._decoded(0.5)
        if self._together is not None:
            for n, (_, *levels) in enumerate(self._together):
                for code, mask in enumerate(levels, 1):
                    codes[n][mask.decode()] = code
        return confidence, codes

    @cached_property
    def _together(self) -> list[tuple[RLE, ...]] | None:
        """Masks of all of them, put together; None without a rule."""
        if not self._agree:
            return None
        windows = [self._window(n) for n in range(len(self))]
        candidates = Candidates(self.scores, np.arange(len(self)) if self.objects is None else self.objects)
        return JointMasks(self.size, windows, self._pasted_of, candidates, self.decoding).masks()

    @property
    def _agree(self) -> bool:
        return self.decoding != "none" and len(self) > 1

    def _decoded(self, c: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Confidence and codes above ``c``, [P, H, W] each."""
        confidence, codes = np.zeros((len(self), *self.size), np.float32), np.zeros((len(self), *self.size), np.uint8)
        at = 0
        for part in paste_in_parts(*self._tensors(), self.size):
            if self.given is not None or self.hidden < 0.5:
                part = torch.stack([self._told(own, n, _all_of(self.size)) for n, own in enumerate(part, at)])
            own = slice(at, at + len(part))
            confidence[own], codes[own] = (found.numpy() for found in decode(part, c))
            at += len(part)
        return confidence, codes

    def _visible_mask(self, n: int) -> RLE | None:
        """What was given of instance n."""
        return None if self.given is None else self.given.masks[n]

    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.probabilities), torch.from_numpy(self.boxes)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """C, the confidence that a pixel belongs to the instance, visible or not, float32 [P, H, W] in [0, 1]."""
        return self._maps[0]

    @property
    def levels(self) -> NDArray[np.uint8]:
        """Level codes, uint8 [P, H, W]: 0 outside (C <= .5), 1 visible, 1 + l hidden behind l."""
        return self._maps[1]

    def modal(self, c: float = 0.5) -> NDArray[np.bool_]:
        """Visible parts, bool [P, H, W]: level 0 where C > c."""
        return self._levels_above(c) == 1

    def amodal(self, c: float = 0.5) -> NDArray[np.bool_]:
        """Whole objects, bool [P, H, W]: C > c."""
        return self.confidence > c

    def sem_dist(self) -> NDArray[np.float32]:
        """Sem-dist maps M = C - L (Eq. 1), float32 [P, H, W]; L is 0 outside, where C <= .5."""
        maps: NDArray[np.float32] = sem_dist_of_codes(self.confidence, self.levels).astype(np.float32)
        return maps

    def order(self) -> NDArray[np.int8]:
        """Who is in front, int8 [P, P]: +1 = row in front of column, -1 behind, 0 = no overlap or undecided.

        As results files, the page and protocol ``order`` (R_joint) have it: :func:`amodal_data.layering.sem_dist.pair_order`.
        """
        order = np.zeros((len(self), len(self)), np.int8)
        front, back = order_pairs(self.scored_masks()).T
        order[front, back], order[back, front] = 1, -1
        return order

    def shrunk(self, n: int, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Confidence and codes of instance n in a picture of the photo of another ``size`` (H, W)."""
        probabilities, boxes = self._tensors()
        scale = boxes.new_tensor([size[1] / self.size[1], size[0] / self.size[0]] * 2)
        pasted = self._told(paste(probabilities[n : n + 1], boxes[n : n + 1] * scale, size)[0], n, _all_of(self.size))
        confidence, codes = (found[0].numpy() for found in decode(pasted[None]))
        if self._together is not None:
            rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, self.size, strict=True))
            codes = np.zeros(size, np.uint8)
            for code, mask in enumerate(self._together[n][1:], 1):
                codes[mask.decode()[np.ix_(rows, columns)]] = code
        return confidence, codes

    def scored_masks(self) -> list[ScoredMask]:
        """The same for :func:`amodal_data.evaluate` and results files: run-length masks, boxes, probabilities."""
        return [self.scored_mask(n) for n in range(len(self))]

    def to_supervision(self, part: Literal["amodal", "visible"] = "amodal") -> "Detections":
        """The same for supervision: see :func:`amodal_data.export.adapters.to_supervision`."""
        return to_supervision(self.scored_masks(), part)

    def scored_mask(self, n: int) -> ScoredMask:
        """One of :meth:`scored_masks`; made once. Only the window of its box is pasted."""
        if n not in self._scored:
            whole, seen, *levels = self._masks_alone(n) if self._together is None else self._together[n]
            given = self._visible_mask(n)
            own = self.categories[n] if self.categories else Category(id=1)
            self._scored[n] = ScoredMask(
                whole,
                float(self.scores[n]),
                own.id,
                seen,
                tuple(levels),
                self.boxes[n],
                self.probabilities[n].astype(np.float16) if given is None else None,  # they know nothing of the mask
                own.name,
                None if self.given is None else self.given.answers[n],
            )
        return self._scored[n]

    def _masks_alone(self, n: int) -> list[RLE]:
        """Masks of instance n as it says itself."""
        window = self._window(n)
        masks = [] if window is None else _level_masks(self._codes(n, window), window, self.size)
        return masks or [RLE(self.size, np.zeros(0, np.int32))] * 2

    def _window(self, n: int) -> Window | None:
        """Where instance n may be."""
        window, given = window_of_box(self.boxes[n], self.size), self._visible_mask(n)
        return union_windows(window, window_of(given)) if given is not None and len(given.switches) else window

    @cached_property
    def _scored(self) -> dict[int, ScoredMask]:
        return {}

    def sure(self, least: float = _SURE) -> "tuple[Prediction, float]":
        """Those of score ``least`` and more (the best one, if all are below) that overlap no better one above IoU .5,
        and the least score that was asked of them.
        """
        if len(self) and self.scores[0] < least:
            least = float(self.scores[0])
        kept = [n for n in range(len(self)) if self.scores[n] >= least]
        overlap = iou(masks := [self.scored_mask(n).amodal for n in kept], masks)
        shown: list[int] = []
        for at in range(len(kept)):
            if not (overlap[at, shown] > _OVERLAP).any():
                shown.append(at)
        return self.only([kept[at] for at in shown]), least

    def plot(self, photo: NDArray[np.uint8] | str | Path | None = None, least: float = _SURE) -> Image.Image:
        """A picture of :meth:`sure`: visible parts filled, hidden parts striped; number, class and score. On the photo,
        uint8 [H, W, 3] or its path, or on grey. At most 1280 pixels on the longer side.
        """
        pixels = read_photo(Path(photo), upright=True) if isinstance(photo, str | Path) else photo
        return draw_overlay(self.sure(least)[0].scored_masks(), self.size, pixels)

    def save(self, path: str | Path, photo: NDArray[np.uint8] | str | Path | None = None, least: float = _SURE) -> None:
        """Write :meth:`plot` to a picture file, by its suffix. Raises :class:`amodal_data.errors.SelectionError` if
        that is none of a picture.
        """
        save_picture(self.plot(photo, least), Path(path))

    def _repr_html_(self) -> str:
        """What a notebook shows: a small picture and the one-line ``repr``."""
        from amodal_data.inspector.drawing.notebook import figure

        shown, least = self.sure()
        return figure(
            draw_overlay(shown.scored_masks(), self.size),
            f"{self!r}; shown: {len(shown)} of score {least:.2f} and more",
        )

    def only(self, kept: Sequence[int]) -> "Prediction":
        """Some of the instances, in the order given."""
        chosen = list(kept)
        part = replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            probabilities=self.probabilities[chosen],
            categories=tuple(self.categories[n] for n in chosen) if self.categories else (),
            given=None if self.given is None else self.given.only(chosen),
            objects=None if self.objects is None else self.objects[chosen],
        )
        if self.decoding == "none":
            part._scored.update({at: self._scored[n] for at, n in enumerate(chosen) if n in self._scored})
        return part

    def _codes(self, n: int, window: Window) -> NDArray[np.uint8]:
        """Level codes of instance n in a window of the photo, pasted strip by strip: memory stays small."""
        rows, columns = window
        step = max(1, _STRIP // (columns.stop - columns.start))
        strips = []
        for top in range(rows.start, rows.stop, step):
            part = (slice(top, min(top + step, rows.stop)), columns)
            strips.append(decode(torch.from_numpy(self._pasted_of(n, part))[None])[1][0].numpy())
        return np.concatenate(strips)

    def _pasted_of(self, n: int, window: Window) -> NDArray[np.float32]:
        """Probabilities of instance n in a window of the photo, float32 [K + 1, h, w]."""
        rows, columns = window
        probabilities, boxes = self._tensors()
        corner = boxes.new_tensor([columns.start, rows.start] * 2)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        return self._told(paste(probabilities[n : n + 1], boxes[n : n + 1] - corner, size)[0], n, window).numpy()

    def _told(self, pasted: torch.Tensor, n: int, window: Window) -> torch.Tensor:
        """Pasted probabilities [K + 1, h, w] in the light of what was given, or of how unsure hidden parts are."""
        if self.given is not None:
            pasted = self.given.applied(pasted, n, window)
        if self.hidden < 0.5 and self._visible_mask(n) is None:
            return torch.from_numpy(raise_hidden(pasted.numpy()[None], self.hidden)[0])
        return pasted

    def _levels_above(self, c: float) -> NDArray[np.uint8]:
        """Codes where C > c; where the photo has none at .5, everyone's own."""
        if c == 0.5:
            return self.levels
        confidence, codes = self._decoded(c)
        if self._agree:
            codes = np.where(self.levels > 0, self.levels, codes) * (confidence > c)
        return codes


def with_decoding(found: Prediction, settings: PredictConfig) -> Prediction:
    """A prediction as the settings ``decoding`` and ``hidden`` want it."""
    if settings.decoding == "none":
        return found
    return replace(found, decoding=settings.decoding, hidden=settings.hidden)


def _all_of(size: tuple[int, int]) -> Window:
    return slice(0, size[0]), slice(0, size[1])


def _level_masks(codes: NDArray[np.uint8], window: Window, size: tuple[int, int]) -> list[RLE]:
    """The amodal mask, the visible one, and those of level 1, 2, ... as far as there are any."""
    deepest = max(1, int(codes.max(initial=0)))
    wanted = [codes > 0, *(codes == code for code in range(1, deepest + 1))]
    return [from_crop(mask, window, size) for mask in wanted]
