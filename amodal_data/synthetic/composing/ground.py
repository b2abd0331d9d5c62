"""Objects at the usual sizes of their classes, with their lower edges on one ground."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from amodal_data.synthetic.composing.cutouts import ObjectBank

_HORIZONS = (0.35, 0.5)  # Row of the horizon, as a share of the canvas (range)
_BASES = (0.65, 0.8)  # Row on which objects of the usual size stand, likewise
_FACTORS = (0.6, 1.5)  # Sizes as multiples of the usual size (range)


class Spot(NamedTuple):
    """Where an object stands: its lower edge is above ``row``, its size is ``factor`` times that of its class."""

    row: int
    factor: float


def random_spots(rng: np.random.Generator, height: int, count: int) -> list[Spot]:
    """Spots on a flat ground in a canvas of ``height`` rows, front to back.

    Seen in perspective, sizes grow in proportion to the distance from the horizon.
    """
    horizon, base = rng.uniform(*_HORIZONS), rng.uniform(*_BASES)
    low, high = np.log(_FACTORS)
    factors = np.sort(np.exp(rng.uniform(low, high, count)))[::-1].tolist()
    return [Spot(min(height, round(height * (horizon + f * (base - horizon)))), f) for f in factors]


def usual_sizes(bank: ObjectBank) -> dict[str, float]:
    """Median size of the whole objects of each class: the root of the area as a share of the photo's height."""
    sizes = defaultdict(list)
    for cutout in bank.cutouts:
        if cutout.framed:
            sizes[cutout.name].append(np.sqrt(cutout.mask.area) / cutout.mask.size[0])
    return {name: float(np.median(values)) for name, values in sizes.items()}
