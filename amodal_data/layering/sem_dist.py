"""Sem-dist maps and relative depth: Eq. 1-5 of Zhang et al., ACM MM 2019, and the order of two instances.

A sem-dist map M combines two values: the visibility level L in its integer part, the confidence C in [0, 1) that the
pixel belongs to the instance in its fractional part. This package passes ``(C, L)`` and makes M only for output.

Eq. 1-5 use operators only, so they accept numpy arrays and torch tensors. Components and orders are numpy.
"""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAFE_CONFIDENCE = 1 - 2**-8  # The highest confidence in a sem-dist map: at C = 1 the fractional part would be 0, a hole


def sem_dist(confidence: Any, level: Any) -> Any:
    """Eq. 1: ``M = C - L``, in (-inf, 1).

    confidence: C in [0, 1), 0 outside the instance; clipped to 1 - 2**-8 so that the fractional part survives
    float32. level: L, whole numbers >= 0, 0 = visible.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> ad.sem_dist(np.array([0, 0.75, 0.75]), np.array([0, 0, 1]))
        array([ 0.  ,  0.75, -0.25])
    """
    return confidence.clip(0, SAFE_CONFIDENCE) - 1.0 * level


def sem_dist_of_codes(confidence: Any, codes: Any) -> Any:
    """Eq. 1 from level codes (0 outside, 1 visible, 1 + k hidden by k): L = code - 1, and 0 outside.

    confidence: C in [0, 1]; may be above 0 where a code is 0, since an uncertain pixel counts as outside.
    """
    return sem_dist(confidence, 1.0 * codes - (codes > 0))


def condition_on_inside(p: Any) -> tuple[Any, Any]:
    """``(C, P)`` from probabilities [K + 1, ...], channel 0 = outside.

    C = 1 - p_outside. P: probabilities of the K levels given that the pixel is inside; 0 where p_outside is 1.
    """
    inside = 1 - p[0]
    return inside, p[1:] / inside.clip(1e-6)


def modal_part(m: Any) -> Any:
    """Eq. 2: the confidence that a pixel is a visible part of the instance: M where M is in [0, 1), else 0.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> ad.modal_part(np.array([0.25, 0.75]))
        array([0.25, 0.75])
    """
    return m * ((m >= 0) & (m < 1))


def amodal_part(m: Any) -> Any:
    """Eq. 3: the confidence that a pixel belongs to the instance, visible or not: ``M - floor(M)``.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> ad.amodal_part(np.array([-0.25, 0.75, -1.5]))
        array([0.75, 0.75, 0.5 ])
    """
    return m - m // 1


def split_sem_dist(m: Any) -> tuple[Any, Any]:
    """``(C, L)`` of a sem-dist map: the inverse of Eq. 1. L has M's dtype and holds whole numbers.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> ad.split_sem_dist(np.array([-0.25, -1.5]))
        (array([0.75, 0.5 ]), array([1., 2.]))
    """
    floor = m // 1
    return m - floor, -floor


def relative_depth(a: tuple[Any, Any], b: tuple[Any, Any], c: float = 0.5) -> Any:
    """Eq. 4-5: ``R_AB = floor(M_A) - floor(M_B)`` where ``C_A * C_B > c**2``, 0 elsewhere.

    a, b: ``(C, L)`` of two instances on the same grid. R > 0: A is closer; R_AB = -R_BA. Signed
    integers for integer levels. Since floor(C - L) = -L, no map is made.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> a = np.array([0.9, 0.9]), np.array([0, 1])
        >>> b = np.array([0.8, 0.1]), np.array([1, 0])
        >>> ad.relative_depth(a, b)  # A is closer at the first pixel; B is not at the second
        array([1, 0])
    """
    (c_a, l_a), (c_b, l_b) = a, b
    omega = (1.0 * c_a * c_b > c * c) * 1
    return omega * l_b - omega * l_a


def joint_depth(a: tuple[Any, Any], b: tuple[Any, Any], c: float = 0.5) -> Any:
    """Sign of ``P(L_A < L_B) - P(L_A > L_B)`` where ``C_A * C_B > c**2``, 0 elsewhere.

    a, b: ``(C, P)`` with P the level probabilities [K, ...], level 0 first, given that the pixel is
    inside. Equal levels are ignored, because two instances never share a level at a pixel. +1: A is closer.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> a = np.array([0.9, 0.9]), np.array([[0.8, 0.3], [0.2, 0.7]])
        >>> b = np.array([0.8, 0.9]), np.array([[0.1, 0.6], [0.9, 0.4]])
        >>> ad.joint_depth(a, b)
        array([ 1, -1])
    """
    (c_a, p_a), (c_b, p_b) = a, b
    omega = (1.0 * c_a * c_b > c * c) * 1
    front_a = (p_a * (p_b.sum(0) - p_b.cumsum(0))).sum(0)
    front_b = (p_b * (p_a.sum(0) - p_a.cumsum(0))).sum(0)
    return omega * ((front_a > front_b) * 1 - (front_a < front_b) * 1)


def median_level(p: Any) -> Any:
    """The median level, whole numbers [...], of probabilities P [K, ...], level 0 first, of any sum; 0 if all are 0.

    The lowest level with half of the probability at or in front of it. So a pixel is visible if P(visible) is half
    or more, however the rest is spread over deeper levels.
    """
    *partial_sums, total = accumulate(p)  # faster than cumsum, which strides
    level = 0 * (total == total)
    for partial in partial_sums:
        level = level + (2 * partial < total)
    return level


def soft_depth(a: tuple[Any, Any], b: tuple[Any, Any], c: float = 0.5) -> float:
    """Mean of ``E[L_B] - E[L_A]`` over ``C_A * C_B > c**2``, weighted by ``C_A * C_B``; 0 if no pixel passes.

    a, b: ``(C, P)`` as in :func:`joint_depth`. Positive: A is closer.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> a = np.array([0.9, 0.9]), np.array([[0.8, 0.3], [0.2, 0.7]])
        >>> b = np.array([0.8, 0.9]), np.array([[0.1, 0.6], [0.9, 0.4]])
        >>> round(ad.soft_depth(a, b), 3)
        0.171
    """
    (c_a, p_a), (c_b, p_b) = a, b
    confidence = 1.0 * c_a * c_b
    weight = confidence * (confidence > c * c)
    gap = sum(level * (p_b[level] - p_a[level]) for level in range(1, len(p_a)))
    total = float(weight.sum())
    return float((weight * gap).sum()) / total if total > 0 else 0.0


def pair_threshold(a: tuple[Any, Any], b: tuple[Any, Any], c: float = 0.5) -> float:
    """The threshold for two instances known to overlap: c, or if no pixel passes, half of their most confident one."""
    confidence = a[0] * b[0]
    highest = float(confidence.max()) if confidence.size else 0.0
    return c if highest > c * c else math.sqrt(max(0.0, highest) / 2)


def pair_order(a: tuple[Any, Any], b: tuple[Any, Any], c: float = 0.5) -> int:
    """Which of two overlapping instances is in front: +1 = A, -1 = B, 0 = undecided.

    a, b: ``(C, P)`` as in :func:`joint_depth`, numpy, on one grid; K may differ. All of this package decides orders so:
    :func:`joint_depth` with :func:`pair_threshold`, then the largest component (:func:`instance_order`).
    """
    a, b = same_levels(a, b)
    return instance_order(joint_depth(a, b, pair_threshold(a, b, c)))


def same_levels(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Two ``(C, P)`` with the same number of levels; levels that one of them lacks get probability 0."""
    levels = max(len(a[1]), len(b[1]))
    if len(a[1]) == len(b[1]):
        return a, b
    a, b = ((c, np.pad(p, [(0, levels - len(p)), *[(0, 0)] * (p.ndim - 1)])) for c, p in (a, b))
    return a, b


@dataclass(frozen=True, slots=True, eq=False)
class RegionalOrder:
    """The components where one instance is in front of another or behind it.

    ``labels`` int32 [H, W]: 0 = no relation, else the 1-based number of an 8-connected component of
    constant sign. ``signs`` int8 [n] (+1: A in front) and ``areas`` int64 [n] (pixels) of each.
    """

    labels: NDArray[np.int32]
    signs: NDArray[np.int8]
    areas: NDArray[np.int64]


def regional_order(r: Any) -> RegionalOrder:
    """The 8-connected components of constant sign of a relative depth map R [H, W].

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> order = ad.regional_order(np.array([[1, 1, 0, -1]]))
        >>> order.labels, order.signs, order.areas
        (array([[1, 1, 0, 2]], dtype=int32), array([ 1, -1], dtype=int8), array([2, 1]))
    """
    from skimage.measure import label  # slow to import, needed only here

    sign = np.sign(np.asarray(r)).astype(np.int8)
    labels = label(sign, background=0, connectivity=2).astype(np.int32)
    areas = np.bincount(labels.ravel())[1:]
    signs = np.zeros(len(areas), np.int8)
    signs[labels[labels > 0] - 1] = sign[labels > 0]
    return RegionalOrder(labels, signs, areas.astype(np.int64))


def instance_order(r: Any) -> int:
    """Which of two instances is in front, from R [H, W]: +1 = A, -1 = B, 0 = undecided.

    The sign of the largest 8-connected component of constant sign decides, in a tie the larger total area. Undecided
    if still tied, or if R is 0 everywhere.

    Examples:
        >>> import numpy as np, amodal_data as ad
        >>> ad.instance_order(np.array([[1, 1, 0, -1]]))
        1
    """
    sign = np.sign(np.asarray(r))
    ahead, behind = int((sign > 0).sum()), int((sign < 0).sum())
    if not (ahead and behind):
        return (ahead > 0) - (behind > 0)
    components = regional_order(sign)
    largest = set(components.signs[components.areas == components.areas.max()].tolist())
    return largest.pop() if len(largest) == 1 else (ahead > behind) - (ahead < behind)
