"""Which class of the ground truth the ``category_id`` of a prediction means."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.evaluation.ground_truth import Truth
from amodal_data.evaluation.results.scored_masks import NO_CLASS, UNLISTED_CLASS
from amodal_data.readers.json_files import identifier


class PredictedClasses:
    """The classes of a results file; ``unlisted``: values that name no class of the ground truth."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.unlisted: set[str] = set()

    def ids(self, values: Sequence[Any]) -> NDArray[np.int64]:
        """The class ids that values of ``category_id`` mean, int64 [P]. Raises OverflowError beyond 64 bits."""
        if {*map(type, values)} == {int}:
            return np.array(values, np.int64)
        return np.array(list(map(self._id, values)), np.int64)

    def _id(self, value: Any) -> int:
        """Numbers and digits are ids, other texts are ids or names of classes, as in annotation files."""
        if value is None or type(value) is int:
            return NO_CLASS if value is None else value
        if (number := identifier(value)) is not None:
            return number
        number, problem = self._truth.categories.find(value)
        if not problem:
            return number
        self.unlisted.add(f"{value!r:.40}")
        return UNLISTED_CLASS if self._truth.categories.names else NO_CLASS
