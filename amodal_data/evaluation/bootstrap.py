"""How sure a figure is: the images of the ground truth drawn again, with replacement (bootstrap).

An image drawn k times counts k times; that is a weight, nothing is copied. Intervals are percentiles of the figures of
the draws, centred as the figure itself is; a difference of two methods is taken draw by draw, on the same images, so
that what is hard for both does not blur it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
_SEED = 0


def draws(n: int, images: int) -> NDArray[np.int64]:
    """How often each image occurs in each of ``n`` draws, int64 [n, images]; the same for equal numbers."""
    return (
        np.random.default_rng(_SEED)
        .multinomial(images, np.full(max(images, 1), 1 / max(images, 1)), n)
        .astype(np.int64)
    )


def intervals(drawn: Any) -> Any:
    """``[low, high]`` for each array of drawn figures in dicts of dicts; None where most draws have none."""
    if isinstance(drawn, dict):
        return {name: intervals(own) for name, own in drawn.items()}
    known = drawn[np.isfinite(drawn)]
    if 2 * len(known) < len(drawn) or not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def difference(figures: Any, others: Any, drawn: Any, drawn_others: Any) -> Any:
    """``{"difference", "interval", "same_sign"}`` for each figure that both methods have, the first minus the second.

    ``same_sign``: share of the draws in which the difference has the sign of ``difference``.
    """
    if isinstance(drawn, dict):
        return {
            name: difference(figures[name], others[name], own, drawn_others[name])
            for name, own in drawn.items()
            if name in drawn_others
        }
    if figures is None or others is None:
        return None
    change = drawn - drawn_others
    change = change[np.isfinite(change)]
    apart = figures - others
    sure = float((np.sign(change) == np.sign(apart)).mean()) if len(change) else None
    return {"difference": apart, "interval": intervals(change), "same_sign": sure}
