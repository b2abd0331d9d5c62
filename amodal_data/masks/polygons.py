"""Check and clip polygons before they are rasterized.

Coordinates are float64 ``[2 * points]``: ``x0, y0, x1, y1, ...`` in pixels; the image is the window
``[0, W] x [0, H]``. A polygon within 16 times the longer side is passed to pycocotools unchanged, so its pixels are
COCO's bit for bit. Beyond that it is clipped, because pycocotools walks every boundary pixel.
"""

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

REACH = 16  # A polygon may reach this many times the longer image side beyond the origin before it is clipped
LONGEST = 20_000  # Longer polygons are not checked for self-intersection: the time may grow with the square of points
MAX_COORDINATE = 1e100  # Coordinates are clipped to it so that clipping stays finite; no pixel depends on it

Polygon = NDArray[np.float64]


def usable_polygon(points: Polygon, size: tuple[int, int]) -> tuple[Polygon | None, list[str]]:
    """The polygon to rasterize (None = unusable), and finding codes of its problems."""
    codes = []
    if len(points) % 2:
        codes.append("polygon-odd-length")
        points = points[:-1]
    if len(points) < 6:
        return None, ["polygon-too-short"]
    if not np.isfinite(points).all():
        return None, ["polygon-not-finite"]
    window = float(REACH * max(size))
    if np.abs(points).max() > window:
        codes.append("polygon-far-outside")
        points = clip_to_window(points, window)
    if overshoot(points, size) > 1:
        codes.append("polygon-outside")
    return points, codes


def overshoot(points: Polygon, size: tuple[int, int]) -> float:
    """How far the polygon extends beyond the image, in pixels; 0 if it lies inside."""
    x, y = points[0::2], points[1::2]
    return float(max(-x.min(), -y.min(), x.max() - size[1], y.max() - size[0], 0.0))


def well_inside(polygons: Sequence[Polygon], sizes: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which polygons need no further check, bool [n]: finite, at most 1 px outside their image.

    False for all if one of them has too few or an odd number of values.
    """
    lengths = np.array([len(points) for points in polygons])
    if not len(polygons) or (lengths < 6).any() or (lengths % 2).any():
        return np.zeros(len(polygons), bool)  # rare: every polygon is then checked
    starts = (np.cumsum(lengths) - lengths) // 2
    corners = np.concatenate(polygons).reshape(-1, 2)
    low = np.minimum.reduceat(corners, starts)  # NaN spreads and compares False
    beyond = np.maximum.reduceat(corners, starts) - np.array(sizes)[:, ::-1]
    inside: NDArray[np.bool_] = (low >= -1).all(axis=1) & (beyond <= 1).all(axis=1)
    return inside


def clip_to_window(points: Polygon, window: float) -> Polygon:
    """Sutherland-Hodgman clipping to the square ``|x|, |y| <= window``.

    The result may run back and forth along the window's edge. Such parts fill nothing under the even-odd rule, so the
    pixels inside the window stay the same. A single repeated point if nothing is left.
    """
    corners = np.clip(points, -MAX_COORDINATE, MAX_COORDINATE).reshape(-1, 2)
    for axis in (0, 1):
        for sign in (1.0, -1.0):
            corners = _clip_half_plane(corners, axis, sign, window)
    return corners.reshape(-1) if len(corners) >= 3 else np.zeros(6)


def _clip_half_plane(corners: Polygon, axis: int, sign: float, window: float) -> Polygon:
    """Keep the part where ``sign * corner[axis] <= window``."""
    kept = []
    for a, b in zip(np.roll(corners, 1, axis=0), corners, strict=True):
        da, db = window - sign * a[axis], window - sign * b[axis]
        if (da < 0) != (db < 0):
            cut = a + (b - a) * (da / (da - db))
            cut[axis] = sign * window
            kept.append(cut)
        if db >= 0:
            kept.append(b)
    return np.array(kept).reshape(-1, 2)


def self_intersecting(polygons: Sequence[Polygon]) -> NDArray[np.bool_]:
    """Which polygons cross or touch themselves (not ``shapely.is_valid``), bool [n]."""
    if not polygons:
        return np.zeros(0, bool)
    owner = np.repeat(np.arange(len(polygons)), [len(p) // 2 for p in polygons])
    rings = shapely.linearrings(np.concatenate(polygons).reshape(-1, 2), indices=owner)
    valid: NDArray[np.bool_] = shapely.is_valid(shapely.polygons(rings))
    return ~valid
