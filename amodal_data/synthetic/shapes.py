"""Outlines of synthetic objects and their random arrangement."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

Outline = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticObject:
    """One object: its amodal outline (float64 [points, 2], x and y in pixels), name and kind."""

    outline: Outline
    name: str
    is_stuff: bool = False


def _angles(n: int) -> Outline:
    return np.linspace(0, 2 * np.pi, n, endpoint=False)


def _ball(rng: np.random.Generator) -> Outline:
    t = _angles(40)
    return np.stack([np.cos(t), np.sin(t) * rng.uniform(0.7, 1)], axis=1)


def _box(rng: np.random.Generator) -> Outline:
    """A superellipse: a rectangle with rounded corners."""
    t, power = _angles(48), rng.uniform(0.2, 0.35)
    xy = np.stack([np.cos(t), np.sin(t)], axis=1)
    return np.sign(xy) * np.abs(xy) ** power * [1, rng.uniform(0.4, 0.9)]


def _star(rng: np.random.Generator) -> Outline:
    points = int(rng.integers(5, 8))
    t = _angles(2 * points)
    radius = np.where(np.arange(2 * points) % 2, rng.uniform(0.45, 0.65), 1.1)
    return np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1)


def _pebble(rng: np.random.Generator) -> Outline:
    """A closed curve of a few random harmonics."""
    t = _angles(64)
    waves = sum(rng.normal(0, 0.22 / k) * np.cos(k * t + rng.uniform(0, 2 * np.pi)) for k in range(2, 6))
    radius = np.clip(1 + waves, 0.4, 1.6)
    return np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1)


def _bottle(rng: np.random.Generator) -> Outline:
    """A profile and its mirror image: body, shoulder, neck."""
    neck, body = rng.uniform(0.12, 0.2), rng.uniform(0.35, 0.5)
    points = [(0, -1.2), (neck, -1.2), (neck, -0.65), (body * 0.8, -0.4), (body, -0.2), (body, 1.05), (0, 1.15)]
    right = np.array(points)
    return np.concatenate([right, right[-2:0:-1] * [-1, 1]])


def _leaf(rng: np.random.Generator) -> Outline:
    t = np.linspace(-1.15, 1.15, 24)
    bow = rng.uniform(0.35, 0.6) * (1 - (t / 1.15) ** 2)
    return np.concatenate([np.stack([t, bow], axis=1), np.stack([t[-2:0:-1], -bow[-2:0:-1]], axis=1)])


_THINGS = {"ball": _ball, "bottle": _bottle, "box": _box, "leaf": _leaf, "pebble": _pebble, "star": _star}
_STUFF = ("grass", "sand", "water")


def _band(rng: np.random.Generator, size: tuple[int, int]) -> Outline:
    """Stuff: all below a wavy line."""
    height, width = size
    x = np.linspace(0, width, 24)
    y = height * rng.uniform(0.55, 0.8) + 0.03 * height * np.sin(x / width * rng.uniform(4, 9) + rng.uniform(0, 6))
    return np.concatenate([np.stack([x, y], axis=1), [[width, height], [0, height]]])


def _clip_to_frame(outline: Outline, size: tuple[int, int]) -> Outline:
    """The largest part of the outline inside the image; the outline itself if none is."""
    inside = shapely.intersection(shapely.polygons(outline), shapely.box(0, 0, size[1], size[0]))
    parts = [part for part in shapely.get_parts(inside) if isinstance(part, shapely.Polygon) and not part.is_empty]
    if not parts:
        return outline.clip([0, 0], [size[1], size[0]])
    return shapely.get_coordinates(max(parts, key=shapely.area).exterior)[:-1]


def arrange(
    rng: np.random.Generator, size: tuple[int, int], count: int, *, stuff: float = 0.5, growth: float = 0.8
) -> list[SyntheticObject]:
    """Arrange ``count`` objects front to back, so crowded that they hide each other several levels deep.

    size: (H, W). stuff: probability that the rearmost object is a band of stuff. growth: how much larger the rearmost
    object tends to be than the foremost, 0.8 = by 80%. With both 0, size does not give the order away.
    """
    height, width = size
    side = min(size)
    centers = rng.uniform([0.25 * width, 0.3 * height], [0.75 * width, 0.7 * height], (int(rng.integers(1, 4)), 2))
    bands = [SyntheticObject(_band(rng, size), str(rng.choice(_STUFF)), is_stuff=True)] * (rng.random() < stuff)
    objects = []
    for n in range(count - len(bands)):
        name = str(rng.choice(list(_THINGS)))
        scale = side * rng.uniform(0.09, 0.16) * (1 + growth * n / count)
        center = centers[int(rng.integers(len(centers)))] + rng.normal(0, 0.17 * side, 2)
        outline, angle = _THINGS[name](rng), rng.uniform(-0.7, 0.7)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        outline = outline @ rotation * scale + center
        objects.append(SyntheticObject(_clip_to_frame(outline, size), name))
    return [*objects, *bands]
