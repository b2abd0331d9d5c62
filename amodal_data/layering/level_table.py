"""Level codes of regions: the definition of Zhang et al., section 3, on bitsets instead of pixels.

Arrays are bool [R, N]: which instances cover, are visible in, or are hidden in each region of the partition.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LevelsError
from amodal_data.masks.boxes import DENSE_ENTRIES
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.occlusion_order import ResolvedOrder, resolve_order
from amodal_data.scenes.scene import Scene

Flags = NDArray[np.bool_]

MAX_CODE = 255  # The largest level code that uint8 holds
DENSE_INSTANCES = 128  # Up to this many instances, matrices are multiplied as dense ones


def pairwise_counts(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.floating]:
    """Matrix product, [n, m]: float32 counts of boolean matrices; of others float64, exact below 2**53.

    Sparse for many instances, because few of them overlap.
    """
    kind = np.float32 if a.dtype == b.dtype == bool else np.float64
    if a.shape[-1] <= DENSE_INSTANCES or a.size <= DENSE_ENTRIES:
        return np.asarray(a.astype(kind) @ b.astype(kind))
    sparse = _to_sparse(a).astype(kind)
    if np.count_nonzero(b) * 8 < b.size:
        return np.asarray((sparse @ _to_sparse(b).astype(kind)).toarray())
    return np.asarray(sparse @ b.astype(kind))


def _to_sparse(a: NDArray[Any]) -> Any:
    """A sparse matrix, built along the memory order of ``a``."""
    from scipy.sparse import csr_array

    return csr_array(a) if a.flags.c_contiguous else csr_array(a.T).T.tocsr()


@dataclass(slots=True, eq=False)
class Layers:
    """The level table of an image (uint8 [R, N]), the order it rests on (bool [N, N]), and findings.

    ``ambiguous`` bool [R]: regions where the order of two hidden instances is not known.
    """

    table: NDArray[np.uint8]
    in_front: Flags
    ambiguous: Flags
    findings: list[Finding] = field(default_factory=list)


def levels_from_order(amodal: Flags, in_front: Flags) -> NDArray[np.uint8]:
    """Level codes, uint8 [R, N], of an order alone: 1 + the number of instances in front that cover the region too.

    Raises :class:`LevelsError` for codes above 255.
    """
    codes = pairwise_counts(amodal, in_front)
    codes += 1
    codes *= amodal
    return _to_codes(codes)


def level_table(amodal: Flags, visible: Flags, in_front: Flags) -> NDArray[np.uint8]:
    """Level codes, uint8 [R, N]: 1 where visible, else 2 + the number of instances hidden here in front.

    Raises :class:`LevelsError` for codes above 255.
    """
    codes = pairwise_counts(amodal & ~visible, in_front)
    codes += 2
    codes[visible] = 1
    codes *= amodal
    return _to_codes(codes)


def _to_codes(codes: NDArray[Any]) -> NDArray[np.uint8]:
    deepest = int(codes.max(initial=0))
    if deepest > MAX_CODE:
        raise LevelsError(
            f"an instance lies behind {deepest - 1} others; level tables hold up to {MAX_CODE - 1}",
            fix="leave instances out, or split the image",
        )
    return codes.astype(np.uint8)


def find_layers(
    scene: Scene, amodal: Flags, visible: Flags, stored: Sequence[int], areas: NDArray[np.float64]
) -> Layers:
    """The levels of a scene. ``visible`` bool [R, len(stored)]: visible masks of the instances ``stored``, all of them
    if the order is not total. areas: pixels of each region, float64 [R].
    """
    if not scene.total_order:
        return levels_from_masks(amodal, visible, areas, scene)
    if not stored:
        first, unique_of = distinct_instances(amodal, amodal, scene.in_front)
        order = scene.in_front[np.ix_(first, first)]
        table = levels_from_order(amodal[:, first], order)
        return Layers(table[:, unique_of], scene.in_front, ambiguous_regions(amodal[:, first], order))
    modal = amodal & (pairwise_counts(amodal, scene.in_front) == 0)  # as the order gives it
    modal[:, stored] = amodal[:, stored] & visible
    first, unique_of = distinct_instances(amodal.astype(np.uint8) + modal, amodal, scene.in_front)
    table = level_table(amodal[:, first], modal[:, first], scene.in_front[np.ix_(first, first)])
    return Layers(table[:, unique_of], scene.in_front, np.zeros(len(amodal), bool))


def levels_from_masks(amodal: Flags, visible: Flags, areas: NDArray[np.float64], scene: Scene) -> Layers:
    """The levels of a scene without a total order: the order comes from the masks, then from its hint.

    areas: pixels of each region, float64 [R]. Instances with equal amodal and visible masks are one for
    levels: they get the same codes and count once.
    """
    shared = amodal & visible
    first, unique_of = unique_columns(np.vstack([amodal, shared]))
    unique_amodal, unique_visible = amodal[:, first], shared[:, first]
    hidden = unique_amodal & ~unique_visible
    evidence = intersection_areas(unique_visible, hidden, areas)
    overlap = pairwise_counts(unique_amodal.T, unique_amodal) > 0
    order = resolve_order(evidence, overlap, scene.in_front[np.ix_(first, first)])
    table = level_table(unique_amodal, unique_visible, order.in_front)
    return Layers(
        table[:, unique_of],
        order.in_front[np.ix_(unique_of, unique_of)],  # equal instances: the diagonal, never in front
        ambiguous_regions(hidden, order.in_front, evidence),
        _order_findings(scene, order, first, covered_areas(visible & ~amodal, areas)),
    )


def covered_areas(regions: Flags, areas: NDArray[Any]) -> NDArray[np.int64]:
    """Pixels of the regions that each column (bool [R, N]) selects, int64 [N]; areas: pixels of each region, [R]."""
    if regions.size <= DENSE_ENTRIES:
        return (areas @ regions).astype(np.int64, copy=False)
    rows, columns = np.nonzero(regions)
    return np.bincount(columns, areas[rows], regions.shape[1]).astype(np.int64)


def unique_columns(table: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first of each distinct column of [R, N], int64, and for each column its place among those, int64 [N]."""
    places: dict[bytes, int] = {}
    unique_of = np.array([places.setdefault(column.tobytes(), len(places)) for column in table.T], np.int64)
    return np.unique(unique_of, return_index=True)[1].astype(np.int64), unique_of


def distinct_instances(
    table: NDArray[Any], amodal: Flags, in_front: Flags
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The instances that count, int64, and for each instance its place among those, int64 [N].

    Twins are one object that is listed twice: they are equal everywhere in the table ([R, N]), neither is in front of
    the other, and both have the same order with every instance that they overlap. Only the first of them counts.
    """
    first, unique_of = unique_columns(table)
    if len(first) == table.shape[1]:
        return first, unique_of
    order = in_front & (pairwise_counts(amodal.T, amodal) > 0)
    return unique_columns(np.vstack([unique_of[None], order, order.T]))


def intersection_areas(visible: Flags, hidden: Flags, areas: NDArray[np.float64]) -> NDArray[np.int64]:
    """|V_j & I_i| in pixels for all pairs (j, i), int64 [N, N]; areas: pixels of each region, float64 [R]."""
    if visible.shape[1] <= DENSE_INSTANCES:
        return ((visible * areas[:, None]).T @ hidden.astype(np.float64)).astype(np.int64)
    shared = _to_sparse(visible.T).multiply(areas[None, :]) @ _to_sparse(hidden).astype(np.float64)
    return np.asarray(shared.astype(np.int64).toarray())


def ambiguous_regions(hidden: Flags, in_front: Flags, evidence: NDArray[np.int64] | None = None) -> Flags:
    """Regions where two hidden instances have no known order, or evidence (int64 [N, N]) both ways, bool [R]."""
    ambiguous = ~(in_front | in_front.T) & ~np.eye(len(in_front), dtype=bool)
    if evidence is not None:  # its diagonal is 0: a pixel of an instance is visible or hidden, never both
        ambiguous |= (evidence > 0) & (evidence.T > 0)
    if not ambiguous.any():
        return np.zeros(len(hidden), bool)
    return np.asarray(((pairwise_counts(hidden, ambiguous) > 0) & hidden).any(axis=1))


def _order_findings(
    scene: Scene, order: ResolvedOrder, first: NDArray[np.int64], outside: NDArray[np.int64]
) -> list[Finding]:
    """Findings about the order, and about pixels (int64 [N]) of visible masks outside the amodal ones."""
    place = Place(scene.source, scene.image_id)
    indices = [instance.region_index for instance in scene.instances]
    findings = [
        Finding(code, place, f"{len(pairs)} pairs, the first is {indices[first[a]]} in front of {indices[first[b]]}")
        for code, pairs in (("order-cycle", order.broken), ("order-against-masks", order.overruled))
        for a, b in pairs[:1]
    ]
    for n in np.flatnonzero(outside).tolist():
        place = Place(scene.source, scene.image_id, indices[n])
        findings.append(Finding("visible-outside-amodal", place, f"{int(outside[n])} px"))
    return findings
