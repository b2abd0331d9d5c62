"""Boxes of the regions of a map."""

import numpy as np
import pytest
from scipy import ndimage

from amodal_data.masks.boxes import map_boxes, union_boxes


@pytest.mark.parametrize("seed", range(20))
def test_boxes_of_a_map_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    n, size = int(rng.integers(0, 30)), rng.integers(1, 9, 2)
    regions = rng.integers(0, n + 1, size).repeat(rng.integers(1, 4), 0).repeat(rng.integers(1, 4), 1).astype(np.uint16)
    boxes = union_boxes(map_boxes(regions, n), np.eye(n, dtype=bool))
    for box, window in zip(boxes.tolist(), ndimage.find_objects(regions.astype(np.int32), n), strict=True):
        y, x = window or (slice(0, 0), slice(0, 0))
        assert box == [x.start, y.start, x.stop, y.stop]
