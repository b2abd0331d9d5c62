"""Assign groups of images to parts so that each part has its share of every label."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations, cycle, islice

import numpy as np
from numpy.typing import NDArray

_CANDIDATES = 4000  # Groups that may be exchanged, every nth of all; a bound of time and memory
_NEAREST = 256  # Groups of each of two parts, the most promising ones, of which all pairs are compared
_MAX_EXCHANGES = 5000
_LEAST_GAIN = 1e-9  # of an exchange; above what rounding makes
Labels = Counter[tuple[int, int]]  # Number of instances by class and bin of hidden share


def assign_groups(
    sizes: Mapping[str, int], labels: Mapping[str, Labels], parts: Mapping[str, float], seed: int
) -> dict[str, str]:
    """The part of each group, by iterative stratification (Sechidis et al., 2011) and exchanges of groups.

    The rarest label goes first, each of its groups to the part that lacks most of it, then to the part that lacks most
    images. Ties are broken by a hash of seed and group, so the order of the groups does not matter.
    """
    order = sorted(
        sizes, key=lambda key: (-sizes[key], hashlib.sha256(f"{seed}:{key}".encode(errors="surrogatepass")).digest())
    )
    total: Labels = Counter()
    members: dict[tuple[int, int], list[str]] = defaultdict(list)
    for key in order:
        total.update(labels[key])
        for label in labels[key]:
            members[label].append(key)
    lacking = {name: {label: share * n for label, n in total.items()} for name, share in parts.items()}
    images = {name: share * sum(sizes.values()) for name, share in parts.items()}
    assigned: dict[str, str] = {}
    left = {label: len(keys) for label, keys in members.items()}
    while len(assigned) < len(sizes):
        rarest = min((label for label in left if left[label]), key=lambda label: (left[label], label), default=None)
        for key in order if rarest is None else members[rarest]:
            if key in assigned:
                continue
            part = max(parts, key=lambda name: (0 if rarest is None else lacking[name][rarest], images[name]))
            assigned[key] = part
            images[part] -= sizes[key]
            for other, n in labels[key].items():
                lacking[part][other] -= n
                left[other] -= 1
    if not total:
        return assigned
    columns, keys, names = sorted(total), order[:: -(-len(order) // _CANDIDATES)], list(parts)
    counts = np.array([[*(labels[key][label] for label in columns), sizes[key]] for key in keys], float)
    gaps = np.array([[*(lacking[name][label] for label in columns), images[name]] for name in parts])
    totals = np.array([*(total[label] for label in columns), sum(sizes.values()) / len(columns)])
    places = np.array([names.index(assigned[key]) for key in keys])
    _exchange(counts, gaps, 1 / totals, places)
    return assigned | {key: names[place] for key, place in zip(keys, places.tolist(), strict=True)}


def _exchange(
    counts: NDArray[np.float64], gaps: NDArray[np.float64], weights: NDArray[np.float64], places: NDArray[np.int64]
) -> None:
    """Exchange or move groups of two parts while the weighted sum of squared gaps falls; changes gaps and places.

    The first pass leaves large gaps in the labels that it comes to last. counts: of each group and label, [G, L]. gaps:
    what each part lacks of each label, [P, L]. weights: [L]. places: the part of each group, [G].
    """
    counts, nothing = np.vstack([counts, np.zeros(counts.shape[1])]), len(counts)  # A move is an exchange for nothing
    squares = 2 * counts**2 @ weights
    pairs = list(combinations(range(len(gaps)), 2))
    balanced = 0  # pairs in a row without an exchange
    for p, q in islice(cycle(pairs), _MAX_EXCHANGES):
        slopes = 2 * counts @ (weights * (gaps[p] - gaps[q]))
        leaving, coming = squares + slopes, squares - slopes
        rows, columns = (
            np.append(members[np.argsort(changes[members], kind="stable")[:_NEAREST]], nothing)
            for members, changes in ((np.flatnonzero(places == p), leaving), (np.flatnonzero(places == q), coming))
        )
        changes = leaving[rows][:, None] + coming[columns] - 4 * (counts[rows] * weights) @ counts[columns].T
        row, column = divmod(int(changes.argmin()), len(columns))
        balanced = balanced + 1 if changes[row, column] > -_LEAST_GAIN else 0
        if balanced == len(pairs):
            break
        if not balanced:
            g, h = rows[row], columns[column]
            gaps[p] += counts[g] - counts[h]
            gaps[q] -= counts[g] - counts[h]
            for group, part in ((g, q), (h, p)):
                if group != nothing:
                    places[group] = part
