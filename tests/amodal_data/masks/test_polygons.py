import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import even_odd

from amodal_data.masks.polygons import clip_to_window, self_intersecting, usable_polygon, well_inside
from amodal_data.masks.rle import rasterize

SQUARE = [1.0, 1, 5, 1, 5, 5, 1, 5]


@pytest.mark.parametrize(
    ("points", "codes", "kept"),
    [
        (SQUARE, [], True),
        ([1, 1, 5, 1], ["polygon-too-short"], False),
        ([], ["polygon-too-short"], False),
        ([1, 1, 5, 1, 5], ["polygon-too-short"], False),
        ([*SQUARE, 9], ["polygon-odd-length"], True),
        ([1, 1, np.nan, 1, 5, 5], ["polygon-not-finite"], False),
        ([1, 1, np.inf, 1, 5, 5], ["polygon-not-finite"], False),
        ([-0.5, 1, 5, 1, 5, 5], [], True),
        ([-2, 1, 5, 1, 5, 5], ["polygon-outside"], True),
        ([0, 0, 1e9, 0, 0, 1e9], ["polygon-far-outside", "polygon-outside"], True),
        ([0, 0, 1e308, -1e308, -1e308, 1e308], ["polygon-far-outside", "polygon-outside"], True),
    ],
)
def test_problems_of_a_polygon_are_reported(points, codes, kept):
    polygon, problems = usable_polygon(np.array(points, float), (10, 12))
    assert problems == codes or problems == ["polygon-too-short"] == codes
    assert (polygon is not None) == kept
    assert well_inside([np.array(points, float)], [(10, 12)]).tolist() == [not codes]
    if kept:
        assert np.abs(polygon).max() <= 16 * 12
        assert rasterize([polygon], (10, 12))[0].size == (10, 12)


@given(st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), min_size=3, max_size=9))
def test_clipping_keeps_the_pixels_inside(corners):
    points = np.array(corners, float).reshape(-1) + 0.25
    clipped = clip_to_window(points, 30.0)
    assert np.abs(clipped).max(initial=0) <= 30
    assert np.array_equal(even_odd(points, (30, 30)), even_odd(clipped, (30, 30)))


def test_polygons_are_checked_in_batches():
    inside, outside = np.array(SQUARE), np.array([-9.0, 0, 5, 0, 5, 5])
    assert well_inside([inside, outside, inside], [(10, 10)] * 3).tolist() == [True, False, True]
    assert well_inside([inside, inside * np.nan], [(10, 10)] * 2).tolist() == [True, False]
    assert well_inside([inside, inside], [(10, 10), (3, 3)]).tolist() == [True, False]
    assert well_inside([], []).shape == (0,)


def test_self_intersection():
    bow = np.array([0.0, 0, 4, 4, 4, 0, 0, 4])
    assert self_intersecting([np.array(SQUARE), bow]).tolist() == [False, True]
    assert self_intersecting([]).shape == (0,)
