"""Bootstrap confidence intervals: figures of the ground-truth images resampled with replacement.

An image that is sampled k times gets weight k; nothing is copied. Intervals are percentiles over the samples. The
difference of two methods is taken sample by sample on the same images, so images that are hard for both cancel out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95  # confidence level of the intervals
_SEED = 0  # equal numbers of samples and images give equal weights


def sample_weights(n: int, images: int) -> NDArray[np.int64]:
    """How often each image occurs in each of ``n`` samples, int64 [n, images]; reproducible."""
    shares = np.full(max(images, 1), 1 / max(images, 1))
    return np.random.default_rng(_SEED).multinomial(images, shares, n).astype(np.int64)


def intervals(samples: Any) -> Any:
    """``[low, high]`` for each array of samples in dicts of dicts; None where most samples are NaN."""
    if isinstance(samples, dict):
        return {name: intervals(values) for name, values in samples.items()}
    finite = samples[np.isfinite(samples)]
    if 2 * len(finite) < len(samples) or not len(finite):
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def difference(a: Any, b: Any, samples_a: Any, samples_b: Any) -> Any:
    """``{"difference", "interval", "same_sign"}`` of ``a`` - ``b`` for each figure that both methods have.

    ``same_sign``: share of the samples in which the difference has the sign of ``difference``.
    """
    if isinstance(samples_a, dict):
        return {
            name: difference(a[name], b[name], values, samples_b[name])
            for name, values in samples_a.items()
            if name in samples_b
        }
    if a is None or b is None:
        return None
    samples = samples_a - samples_b
    samples = samples[np.isfinite(samples)]
    same_sign = float((np.sign(samples) == np.sign(a - b)).mean()) if len(samples) else None
    return {"difference": a - b, "interval": intervals(samples), "same_sign": same_sign}
