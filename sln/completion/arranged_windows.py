"""Windows to train a shape prior on, arranged of shapes on the fly; no image is read.

Two kinds. *Whole objects*: a shape whose whole is known, with shapes of any kind in front of and behind it. *Partial
completion*: any shape in its own surroundings, with shapes put in front of or behind it; what they hide is known.
Coordinates are those of the bank: the object's box has its center at 0 and a longer side of 1.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sln.completion.shape_bank import (
    CONTEXT_OBJECTS,
    CONTEXT_SIDE,
    DISTANCE_STEPS,
    LONGER_SIDE,
    OUTSIDE,
    SIDE,
    ShapeBank,
)
from sln.completion.window_maps import BEYOND, GRID, MARGIN, NOTHING, OBJECT

_FRONT, _BEHIND = 3, 3  # Shapes put in front and behind, at most
_CONTEXT = _FRONT + _BEHIND  # Number of the first object of the surroundings, less 1
_MISSING = 0.3  # Share of others that are missing where some are
_ROUGH = 32  # Cells a side at which hidden shares and visible boxes are measured
RATES = ((0.0, 0.36), (0.10, 0.14), (0.25, 0.16), (0.50, 0.18), (0.75, 0.13), (0.92, 0.03))
"""Bins of hidden shares: upper edge, share of windows; the first is not hidden at all"""

Rng = np.random.Generator
Floats = NDArray[Any]  # Coordinates and distances, float32
Mask = NDArray[Any]  # bool


@dataclass(frozen=True, slots=True)
class ArrangementRules:
    """Shares of windows: ``partial`` completion, ``cut`` by the image's edge, ``rough`` (masks a little too large or
    too small), ``missing`` (three in ten others missing), ``generated`` (the object is a generated shape).
    """

    partial: float = 0.4
    cut: float = 0.25
    rough: float = 0.4
    missing: float = 0.2
    generated: float = 0.12


class Windows(NamedTuple):
    """P windows: ``owners`` int8 [P, 56, 56] as in :mod:`sln.completion.window_maps`, the whole object ``target`` and
    the cells that count, bool [P, 56, 56], and the ``order`` of overlapping others, int8 [P, 56, 56]: 1 where one in
    front is visible, -1 one behind, 0 = unknown.
    """

    owners: NDArray[np.int8]
    target: Mask
    counted: Mask
    order: NDArray[np.int8]


class _Layout(NamedTuple):
    """Shapes of P windows, the object in slot 0: their number in the bank, [P, J]; ``turns`` [P, J, 2, 2] and
    ``shifts`` [P, J, 2] from the window's coordinates to theirs; which slots are ``used``, [P, J]; ``partial`` [P].
    """

    shapes: NDArray[np.int64]
    turns: Floats
    shifts: Floats
    used: Mask
    partial: Mask

    def rows(self, rows: NDArray[np.int64]) -> "_Layout":
        return _Layout(*(column[rows] for column in self))


def arrange_windows(bank: ShapeBank, rng: Rng, count: int, rules: ArrangementRules | None = None) -> Windows:
    """``count`` windows, with hidden shares as in :data:`RATES`."""
    rules = rules or ArrangementRules()
    layout = _layout(bank, rng, 2 * count, rules)
    edges = _edges(rng, 2 * count, rules.cut)
    grid = np.broadcast_to(((np.arange(_ROUGH, dtype=np.float32) + 0.5) / _ROUGH - 0.5) * 1.1, (2 * count, 2, _ROUGH))
    inside = _inside(grid, edges)
    layers = _distances(bank, layout, grid, slots=1 + _FRONT) > 0
    shape = layers[:, 0] & inside
    visible = shape & ~layers[:, 1:].any(1)
    rate = 1 - visible.sum((1, 2)) / np.maximum(shape.sum((1, 2)), 1)
    rows = _choose(rng, rate, visible.sum((1, 2)) > 12, count)
    centers, lengths = _visible_boxes(visible[rows], grid[0, 0])
    layout, edges = layout.rows(rows), edges[rows]
    cells = ((np.arange(GRID, dtype=np.float32) + 0.5) / GRID - 0.5) * (1 + 2 * MARGIN)
    jitter = rng.uniform(0.94, 1.06, len(rows)).astype(np.float32)
    grid = centers[:, :, None] + cells * (lengths * jitter)[:, None, None]
    return _render(bank, rng, layout, grid, _inside(grid, edges), lengths, rules)


def _choose(rng: Rng, rate: Floats, usable: Mask, count: int) -> NDArray[np.int64]:
    """Rows with hidden shares as in :data:`RATES`: weighted, without replacement."""
    bins = np.searchsorted([edge for edge, _ in RATES], rate, side="left").clip(max=len(RATES))
    usable &= bins < len(RATES)
    shares = np.array([share for _, share in RATES] + [0.0])
    weights = shares / np.maximum(np.bincount(bins[usable], minlength=len(RATES) + 1), 1)
    keys = rng.exponential(size=len(rate)) / np.maximum(weights[bins] * usable, 1e-9)
    return np.argsort(keys)[:count]


def _visible_boxes(visible: Mask, grid: Floats) -> tuple[Floats, Floats]:
    """Centers [P, 2] (x, y) and longer sides [P] of the boxes around visible cells."""
    step = grid[1] - grid[0]
    ends = []
    for axis in (1, 2):
        profile: Mask = np.asarray(visible.any(axis))
        first, last = profile.argmax(1), profile.shape[1] - 1 - profile[:, ::-1].argmax(1)
        ends.append((grid[first] - step / 2, grid[last] + step / 2))
    centers = np.stack([(low + high) / 2 for low, high in ends], 1)
    return centers, np.maximum(*(high - low for low, high in ends))


def _layout(bank: ShapeBank, rng: Rng, count: int, rules: ArrangementRules) -> _Layout:
    slots = 1 + _FRONT + _BEHIND
    partial = rng.random(count) < rules.partial
    shapes = rng.integers(len(bank), size=(count, slots))
    whole, generated = np.flatnonzero(bank.whole & bank.real), np.flatnonzero(~bank.real)
    shapes[:, 0] = np.where(partial, rng.choice(np.flatnonzero(bank.real), count), rng.choice(whole, count))
    if len(generated):
        as_generated = ~partial & (rng.random(count) < rules.generated)
        shapes[as_generated, 0] = rng.choice(generated, int(as_generated.sum()))
    sizes = _sizes(bank, rng, shapes)
    turns = _turns(rng, count, slots)
    turns[partial, 0] = np.eye(2)  # its surroundings are stored as they are: mirrored or not
    turns[partial, 0, 0, 0] = np.where(rng.random(int(partial.sum())) < 0.5, 1, -1)
    centers = _centers(bank, rng, shapes, turns, sizes)
    turns = turns / sizes[..., None, None]
    shifts = -np.einsum("pjab,pjb->pja", turns, centers)
    return _Layout(shapes, turns.astype(np.float32), shifts.astype(np.float32), _used(rng, count, partial), partial)


def _used(rng: Rng, count: int, partial: Mask) -> Mask:
    """Slots with a shape: the object; more often than not somebody in front; some behind."""
    front = rng.choice(_FRONT + 1, count, p=[0.3, 0.38, 0.2, 0.12])
    behind = rng.choice(_BEHIND + 1, count, p=[0.3, 0.3, 0.25, 0.15])
    behind = np.where(front == 0, np.maximum(behind, 1), behind)
    behind[partial] = rng.choice(3, partial.sum(), p=[0.5, 0.35, 0.15])
    numbers = np.arange(_FRONT)
    return np.concatenate([np.ones((count, 1), bool), numbers < front[:, None], numbers < behind[:, None]], 1)


def _sizes(bank: ShapeBank, rng: Rng, shapes: NDArray[np.int64]) -> Floats:
    """Longer sides beside that of the object: half as in the images, half at random."""
    natural = bank.lengths[shapes] / bank.lengths[shapes[:, :1]] * np.exp(rng.uniform(-0.3, 0.3, shapes.shape))
    free = np.exp(rng.normal(0, 0.55, shapes.shape))
    sizes = np.where(rng.random(shapes.shape) < 0.5, natural, free).clip(0.15, 4)
    sizes[:, 0] = 1
    return sizes.astype(np.float32)


def _turns(rng: Rng, count: int, slots: int) -> Floats:
    """Mirror, a slight turn and stretch, float32 [P, J, 2, 2]."""
    angle = rng.normal(0, 0.12, (count, slots)) + (rng.random((count, slots)) < 0.06) * rng.uniform(-3, 3)
    stretch = np.exp(rng.normal(0, 0.08, (count, slots)))
    mirror = np.where(rng.random((count, slots)) < 0.5, -1.0, 1.0)
    across = [mirror * np.cos(angle) * stretch, mirror * np.sin(angle) * stretch]
    rows = [across, [-np.sin(angle) / stretch, np.cos(angle) / stretch]]
    return np.array(rows, np.float32).transpose(2, 3, 0, 1)


def _centers(bank: ShapeBank, rng: Rng, shapes: NDArray[np.int64], turns: Floats, sizes: Floats) -> Floats:
    """Where shapes lie: a point of theirs on a point of the object; some of those behind anywhere."""
    count, slots = shapes.shape
    pick = rng.integers(bank.inner.shape[1], size=(2, count, slots))
    from_inner = rng.random((2, count, slots)) < np.array([0.5, 0.3])[:, None, None]
    objects = np.broadcast_to(shapes[:, :1], shapes.shape)
    anchor = np.where(from_inner[0, ..., None], bank.inner[objects, pick[0]], bank.outline[objects, pick[0]])
    outline = np.where(from_inner[1, ..., None], bank.inner[shapes, pick[1]], bank.outline[shapes, pick[1]])
    # back from the shape's coordinates to the window's: the object's slight turn is small enough to ignore its mirror
    anchor = np.einsum("pab,pjb->pja", np.linalg.inv(turns[:, 0]), anchor)
    outline = np.einsum("pjab,pjb->pja", np.linalg.inv(turns), outline) * sizes[..., None]
    centers = anchor - outline
    free = rng.random((count, slots)) < 0.3
    free[:, : 1 + _FRONT] = False
    centers = np.where(free[..., None], rng.uniform(-1.5, 1.5, (count, slots, 2)), centers)
    centers[:, 0] = 0
    return centers.astype(np.float32)


def _edges(rng: Rng, count: int, share: float) -> Floats:
    """The image's edges left, top, right, bottom in the window's coordinates, float32 [P, 4]."""
    edges = np.where(rng.random((count, 4)) < 0.5, rng.uniform(0.2, 1.6, (count, 4)), 9.0)
    edges = np.where((rng.random(count) < share)[:, None], edges, 9.0)
    return (edges * [-1, -1, 1, 1]).astype(np.float32)


def _inside(grid: Floats, edges: Floats) -> Mask:
    """Cells inside the image, bool [P, S, S]; grid: x and y of columns and rows, [P, 2, S]."""
    x, y = ((grid[:, a] > edges[:, a, None]) & (grid[:, a] < edges[:, a + 2, None]) for a in (0, 1))
    return y[:, :, None] & x[:, None, :]


def _positions(turns: Floats, shifts: Floats, grid: Floats, scale: float, side: int) -> NDArray[np.int32]:
    """Flat positions on maps of ``side`` cells, int32 [P, J, S, S]; beyond them the nearest edge."""
    x, y = grid[:, None, 0], grid[:, None, 1]
    flat = np.zeros((), np.int32)
    for row, step in ((1, side), (0, 1)):
        along = (turns[:, :, row, 0, None] * x + shifts[:, :, row, None]) * np.float32(scale) + np.float32(side / 2)
        across = turns[:, :, row, 1, None] * y * np.float32(scale)
        cells = np.add(along[:, :, None, :], across[:, :, :, None], dtype=np.float32)
        np.clip(cells, 0, side - 1, out=cells)
        flat = flat + cells.astype(np.int32) * np.int32(step)
    return flat


def _distances(bank: ShapeBank, layout: _Layout, grid: Floats, slots: int | None = None) -> NDArray[np.int8]:
    """Signed distances of shapes, int8 [P, J, S, S]; far outside for slots without one."""
    part = slice(None, slots)
    positions = _positions(layout.turns[:, part], layout.shifts[:, part], grid, LONGER_SIDE, SIDE)
    positions += (layout.shapes[:, part] * SIDE * SIDE).astype(np.int32)[..., None, None]
    distances = bank.distances.reshape(-1)[positions]
    distances[~layout.used[:, part]] = -128
    return distances


def _render(
    bank: ShapeBank, rng: Rng, layout: _Layout, grid: Floats, inside: Mask, lengths: Floats, rules: ArrangementRules
) -> Windows:
    count = len(layout.shapes)
    distances = _distances(bank, layout, grid)
    context = np.zeros((count, GRID, GRID), np.uint8)
    rows = np.flatnonzero(layout.partial)
    positions = _positions(layout.turns[rows, :1], layout.shifts[rows, :1], grid[rows], CONTEXT_SIDE / 3, CONTEXT_SIDE)
    positions += (layout.shapes[rows, :1] * CONTEXT_SIDE**2).astype(np.int32)[..., None, None]
    context[rows] = bank.contexts.reshape(-1)[positions[:, 0]]
    beyond = context == OUTSIDE
    inside = inside & ~beyond
    context[beyond] = 0
    target = distances[:, 0] > 0
    owners = _owners(bank, rng, layout, distances, context, lengths, rules)
    owners[~inside] = BEYOND
    in_front = (distances[:, 1:] > 0).any(1)
    decided = ~layout.partial[:, None, None] | (in_front & (target | (context == 0)))
    neighbors = (owners > OBJECT) | (owners == NOTHING) & in_front
    overlaps = np.zeros((count, 2 + _CONTEXT + CONTEXT_OBJECTS), np.int8)  # by owner; the last two stand for none
    overlaps[:, 1 : 1 + _CONTEXT] = ((distances[:, 1:] > 0) & target[:, None]).any((2, 3))
    overlaps[:, 1 + _FRONT : 1 + _CONTEXT] *= -1
    order = np.take_along_axis(overlaps, owners.reshape(count, -1).astype(np.int64), 1).reshape(owners.shape)
    return Windows(owners, target, neighbors & decided & inside, order)


def _owners(
    bank: ShapeBank,
    rng: Rng,
    layout: _Layout,
    distances: NDArray[np.int8],
    context: NDArray[np.uint8],
    lengths: Floats,
    rules: ArrangementRules,
) -> NDArray[np.int8]:
    """What each cell shows, as given by prompts: masks may be a little too large or small, others may be missing."""
    count, slots = layout.shapes.shape
    threshold = _thresholds(rng, layout, lengths, rules.rough)
    front = distances[:, 1 : 1 + _FRONT] > threshold[:, 1 : 1 + _FRONT, None, None]
    behind = distances[:, 1 + _FRONT :] > threshold[:, 1 + _FRONT :, None, None]
    truly_hidden = (distances[:, 1 : 1 + _FRONT] > -threshold[:, :1, None, None]).any(1)
    shape = (distances[:, 0] > threshold[:, 0, None, None]) & ~truly_hidden
    layers = np.concatenate([front, behind], 1)
    incomplete: Mask = rng.random((count,)) < rules.missing
    missing: Mask = rng.random((count, slots - 1)) < _MISSING * incomplete[:, None]
    numbers = np.arange(1, slots, dtype=np.int8)
    owners = np.full(context.shape, NOTHING, np.int8)
    owners[context > 0] = context[context > 0].astype(np.int8) + _CONTEXT
    for i in reversed(range(_FRONT, slots - 1)):
        owners = np.where(layers[:, i], np.where(missing[:, i], NOTHING, numbers[i])[:, None, None], owners)
    under = distances[:, 0] > 0  # what lies behind the object and shows only through its own gap
    owners = np.where(under, NOTHING, owners)
    for i in reversed(range(_FRONT)):
        owners = np.where(layers[:, i], np.where(missing[:, i], NOTHING, numbers[i])[:, None, None], owners)
    on_top: Mask = rng.random((count,)) < 0.5  # of pixels that two masks share
    shape &= on_top[:, None, None] | ~(front & ~missing[:, :_FRONT, None, None]).any(1)
    owners[shape] = OBJECT
    return owners.astype(np.int8)


def _thresholds(rng: Rng, layout: _Layout, lengths: Floats, share: float) -> Floats:
    """Distance from which a cell belongs to a prompt's mask, in steps, float32 [P, J].

    About a pixel of an object of 30 to 200 pixels, all masks of a window alike or each by itself.
    """
    count, slots = layout.shapes.shape
    pixel = LONGER_SIDE * DISTANCE_STEPS * lengths / np.exp(rng.uniform(np.log(30), np.log(200), count))
    common = rng.choice([-1.0, 1.0], (count, 1)) * (rng.random((count, 1)) < 0.6)
    single = rng.uniform(-1, 1, (count, slots))
    rough: Mask = rng.random((count,)) < share
    offset = np.where(common != 0, common, single) * pixel[:, None] * rough[:, None]
    scale = np.sqrt(np.abs(np.linalg.det(layout.turns)))  # window units to the shape's
    return (offset * scale).clip(-100, 100).astype(np.float32)
