"""Statistics of instances, of each class and of all."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.level_table import pairwise_counts
from amodal_data.layering.targets import LayeredTargets

SIZES = ("small", "medium", "large")
_SIZE_EDGES = (32**2, 96**2)  # COCO's bounds of small and medium objects, pixels


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """Counts of the instances of a class; ``class_id`` None = of all classes.

    ``small``, ``medium``, ``large``: by amodal area, below 32^2 and 96^2 pixels as in COCO. ``mean_area``: amodal
    pixels. ``overlapping``: overlap with another instance. ``partly_hidden``, ``fully_hidden``: by hidden share.
    ``order_unknown``: what is hidden of them is not known; these do not count as hidden, nor in ``mean_hidden_share``
    (0 to 1; None = known of no instance). ``deepest``: deepest level of a pixel; -1 = no pixel. Empty masks have no
    size.
    """

    class_id: int | None
    name: str
    images: int = 0
    instances: int = 0
    small: int = 0
    medium: int = 0
    large: int = 0
    mean_area: float = 0.0
    overlapping: int = 0
    partly_hidden: int = 0
    fully_hidden: int = 0
    order_unknown: int = 0
    mean_hidden_share: float | None = None
    deepest: int = -1

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON-ready values."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(ClassStatistics))
_SUMS = (
    "instances",
    *SIZES,
    "area",
    "overlapping",
    "partly_hidden",
    "fully_hidden",
    "order_unknown",
    "share",
    "decided",
)
_Key = tuple[int | None, str]


class ClassCounter:
    """Adds up the instances of images, by class id and name; ``categories`` names the ids."""

    def __init__(self, categories: Mapping[int, str]) -> None:
        self._categories = categories
        self._sums: dict[_Key, NDArray[np.float64]] = defaultdict(lambda: np.zeros(len(_SUMS)))
        self._images: dict[_Key, int] = defaultdict(int)
        self._deepest: dict[_Key, int] = defaultdict(lambda: -1)
        self.pairs = self.unordered_pairs = 0

    def add(self, targets: LayeredTargets) -> None:
        """Add the instances of an image."""
        amodal = targets.table > 0
        overlap = pairwise_counts(amodal.T, amodal) > 0
        np.fill_diagonal(overlap, False)
        pairs = int(overlap.sum()) // 2
        self.pairs += pairs
        self.unordered_pairs += pairs - len(targets.pairs)
        rows = _instance_rows(targets, np.asarray(overlap.any(axis=1)))
        deepest = targets.table.max(axis=0, initial=0).astype(int) - 1
        for key, members in self._groups(targets):
            self._images[key] += 1
            self._sums[key] += rows[members].sum(axis=0)
            self._deepest[key] = max(self._deepest[key], int(deepest[members].max(initial=-1)))

    def _groups(self, targets: LayeredTargets) -> Iterator[tuple[_Key, list[int]]]:
        """The instances of all classes, then of each class of an image."""
        members: dict[_Key, list[int]] = defaultdict(list)
        for n, (class_id, name) in enumerate(zip(targets.category_ids.tolist(), targets.names, strict=True)):
            members[class_id, self._categories.get(class_id) or name or f"class {class_id}"].append(n)
        yield (None, "all"), list(range(len(targets.names)))
        yield from members.items()

    def rows(self) -> tuple[ClassStatistics, ...]:
        """The statistics of all classes together, then of each class, those with most instances first."""
        keys = sorted(self._sums, key=lambda key: (key[0] is not None, -self._sums[key][0], key[1]))
        return tuple(map(self._row, keys)) or (ClassStatistics(None, "all"),)

    def _row(self, key: _Key) -> ClassStatistics:
        sums = dict(zip(_SUMS, self._sums[key].tolist(), strict=True))
        area = sums.pop("area") / max(sum(sums[size] for size in SIZES), 1)
        share, decided = sums.pop("share"), sums.pop("decided")
        counts: dict[str, Any] = {name: int(value) for name, value in sums.items()}
        return ClassStatistics(
            *key,
            images=self._images[key],
            mean_area=area,
            mean_hidden_share=share / decided if decided else None,
            deepest=self._deepest[key],
            **counts,
        )


def _instance_rows(targets: LayeredTargets, overlapping: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What each instance adds to the sums of its class, float64 [N, len(_SUMS)]."""
    areas, visible = targets.areas()
    undecided = targets.undecided_areas() > 0
    decided = (areas > 0) & ~undecided
    size = np.where(areas > 0, np.digitize(areas, _SIZE_EDGES), -1)
    rates = np.where(decided, occlusion_rates(areas, visible), 0)
    hidden = decided & (visible < areas)
    columns = {
        "instances": np.ones(len(areas)), **{name: size == n for n, name in enumerate(SIZES)}, "area": areas,
        "overlapping": overlapping, "partly_hidden": hidden & (visible > 0), "fully_hidden": hidden & (visible == 0),
        "order_unknown": undecided, "share": rates, "decided": decided,
    }  # fmt: skip
    return np.stack([columns[name] for name in _SUMS], axis=1, dtype=np.float64, casting="unsafe")
