"""Level codes of regions: the definition of Zhang et al., section 3, on bitsets instead of pixels.

Arrays are bool [R, N]: which instances cover, show in, or are hidden in each region of constant cover.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import LevelsError
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.occlusion_order import ResolvedOrder, resolve_order
from amodal_data.scenes.scene import Scene

_DEEPEST_CODE = 255
_MANY = 128
"""From so many instances on matrices are taken as sparse"""


def counted(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.floating]:
    """The product of two matrices, [n, m]: of bool ones counts, float32; of others exact below 2**53, float64.

    With many instances most of ``a`` is 0, since few of them meet anywhere: then only the rest is looked at.
    """
    kind = np.float32 if a.dtype == b.dtype == bool else np.float64
    if a.shape[-1] <= _MANY:
        return np.asarray(a.astype(kind) @ b.astype(kind))
    few = _sparse(a).astype(kind)
    if np.count_nonzero(b) * 8 < b.size:
        return np.asarray((few @ _sparse(b).astype(kind)).toarray())
    return np.asarray(few @ b.astype(kind))


def _sparse(a: NDArray[Any]) -> Any:
    """A matrix without its zeros, which are looked for along its memory."""
    from scipy.sparse import csr_array

    return csr_array(a) if a.flags.c_contiguous else csr_array(a.T).T.tocsr()


@dataclass(slots=True, eq=False)
class Layers:
    """The level table of an image (uint8 [R, N]), the order it rests on (bool [N, N]), what was odd.

    ``ambiguous`` bool [R]: regions where the order of two hidden instances is not known; None = nowhere.
    """

    table: NDArray[np.uint8]
    in_front: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_] | None = None
    findings: list[Finding] = field(default_factory=list)


def levels_from_order(amodal: NDArray[np.bool_], in_front: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Level codes, uint8 [R, N], of an order alone: 1 + the number of instances in front that cover the
    region too (the visible one, and each hidden one). Raises :class:`LevelsError` for codes above 255.
    """
    codes = counted(amodal, in_front)
    codes += 1
    codes *= amodal
    return _codes(codes)


def unordered_pairs(amodal: NDArray[np.bool_], in_front: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Regions that two instances cover of which neither is known to be in front, bool [R]; None if there are no such
    instances anywhere.
    """
    unsaid = ~(in_front | in_front.T)
    np.fill_diagonal(unsaid, False)
    if not unsaid.any():
        return None
    return np.asarray(((counted(amodal, unsaid) > 0) & amodal).any(axis=1))


def unordered_findings(scene: Scene, layers: Layers, areas: NDArray[np.int64]) -> list[Finding]:
    """What an order leaves open where instances overlap, as a finding; areas: pixels of each region."""
    if not scene.total_order or layers.ambiguous is None or not layers.ambiguous.any():
        return []
    pixels = int(areas[layers.ambiguous].sum())
    return [Finding("order-open", Place(scene.source, scene.image_id), f"{pixels} px")]


def level_table(amodal: NDArray[np.bool_], shown: NDArray[np.bool_], in_front: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Level codes, uint8 [R, N]: 1 where shown, else 2 + the number of instances hidden here in front.

    Raises :class:`LevelsError` for codes above 255.
    """
    hidden = amodal & ~shown
    codes = counted(hidden, in_front)
    codes += 2
    codes[shown] = 1
    codes *= amodal
    return _codes(codes)


def _codes(codes: NDArray[Any]) -> NDArray[np.uint8]:
    deepest = int(codes.max(initial=0))
    if deepest > _DEEPEST_CODE:
        raise LevelsError(
            f"an instance lies behind {deepest - 1} others; level tables hold up to {_DEEPEST_CODE - 1}",
            fix="leave instances out, or split the image",
        )
    return codes.astype(np.uint8)


def levels_from_masks(
    amodal: NDArray[np.bool_], visible: NDArray[np.bool_], areas: NDArray[np.float64], scene: Scene
) -> Layers:
    """The levels of a scene without a total order: the order comes from the masks, then from its hint.

    areas: pixels of each region, float64 [R]. Instances with equal amodal and visible masks are one for
    levels: they get the same codes and count once.
    """
    shown = amodal & visible
    first, twin_of = unique_columns(np.vstack([amodal, shown]))
    whole, seen = amodal[:, first], shown[:, first]
    hidden = whole & ~seen
    evidence = evidence_between(seen, hidden, areas)
    order = resolve_order(evidence, counted(whole.T, whole) > 0, scene.in_front[np.ix_(first, first)])
    in_front = order.in_front[np.ix_(twin_of, twin_of)]  # twins: the diagonal, never in front
    table = level_table(whole, seen, order.in_front)[:, twin_of]
    return Layers(
        table,
        in_front,
        ambiguous(hidden, order.in_front, evidence),
        _findings(scene, order, first, _covered(visible & ~amodal, areas)),
    )


def _covered(where: NDArray[np.bool_], areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels of the regions that each column of ``where`` (bool [R, N]) chooses, float64 [N]."""
    regions, owners = np.nonzero(where)
    return np.bincount(owners, areas[regions], where.shape[1]).astype(np.float64)


def unique_columns(table: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first of each distinct column of [R, N], int64, and for each column its place among those, int64 [N]."""
    places: dict[bytes, int] = {}
    first: list[int] = []
    twin_of: list[int] = []
    for n, column in enumerate(table.T):
        key = column.tobytes()
        if key not in places:
            places[key] = len(first)
            first.append(n)
        twin_of.append(places[key])
    return np.array(first, np.int64), np.array(twin_of, np.int64)


def evidence_between(a: NDArray[np.bool_], b: NDArray[np.bool_], areas: NDArray[np.float64]) -> NDArray[np.int64]:
    """|a_j & b_i| in pixels for all pairs, int64 [N, N]."""
    if a.shape[1] <= _MANY:
        return ((a * areas[:, None]).T @ b.astype(np.float64)).astype(np.int64)
    shared = _sparse(a.T).multiply(areas[None, :]) @ _sparse(b).astype(np.float64)
    return np.asarray(shared.astype(np.int64).toarray())


def ambiguous(
    hidden: NDArray[np.bool_], in_front: NDArray[np.bool_], evidence: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Regions where two hidden instances have no known order, or evidence (int64 [N, N]) both ways, bool [R]."""
    doubtful = ~(in_front | in_front.T) & ~np.eye(len(in_front), dtype=bool)
    if evidence is not None:
        doubtful |= (evidence > 0) & (evidence.T > 0)  # of nobody with himself: visible or hidden
    meets = (counted(hidden, doubtful) > 0) & hidden
    return np.asarray(meets.any(axis=1))


def _findings(
    scene: Scene, order: ResolvedOrder, first: NDArray[np.int64], outside: NDArray[np.float64]
) -> list[Finding]:
    place = Place(scene.source, scene.image_id)
    regions = [instance.region_index for instance in scene.instances]

    def spell(pairs: tuple[tuple[int, int], ...]) -> str:
        a, b = pairs[0]
        return f"{len(pairs)} pairs, the first is {regions[first[a]]} in front of {regions[first[b]]}"

    found = []
    if order.broken:
        found.append(Finding("order-cycle", place, spell(order.broken)))
    if order.overruled:
        found.append(Finding("order-against-masks", place, spell(order.overruled)))
    for n in np.flatnonzero(outside).tolist():
        message = f"{int(outside[n])} px"
        found.append(Finding("visible-outside-amodal", Place(scene.source, scene.image_id, regions[n]), message))
    return found
