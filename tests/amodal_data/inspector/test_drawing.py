"""Pictures: labels, colors of instances, and values in a notebook."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from support.scenes import make_scene, random_masks

import amodal_data as ad
from amodal_data.inspector.drawing.colors import IDENTITY, distinct_hues, shared_hues
from amodal_data.inspector.drawing.labels import write_labels
from amodal_data.inspector.drawing.panels import draw_instances
from amodal_data.inspector.layered_predictions import match_predictions


def pictured(html):
    """The picture in the HTML of a value."""
    return Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])))


def test_labels_do_not_overlap_and_stay_inside():
    rng = np.random.default_rng(0)
    for _ in range(20):
        picture = Image.new("RGB", (200, 150), "black")
        places = [(n, int(x), int(y)) for n, (x, y) in enumerate(rng.integers(0, (200, 150), (8, 2)))]
        write_labels(picture, places, ["12"] * 8, 11)
        single = Image.new("RGB", (200, 150), "black")
        write_labels(single, [(0, 100, 75)], ["12"], 11)
        covered = (np.asarray(picture).max(axis=2) > 0).sum()
        assert covered == 8 * (np.asarray(single).max(axis=2) > 0).sum()
    crowded = Image.new("RGB", (12, 14), "black")
    write_labels(crowded, [(0, 3, 3), (1, 3, 3)], ["12", "13"], 11)  # no room: labels overlap


@pytest.mark.parametrize("seed", range(5))
def test_matching_takes_the_largest_iou_first(seed):
    """Greedy: the largest IoU that is left is matched next."""
    rng = np.random.default_rng(seed)
    iou = np.round(rng.random((6, 8)), 2)
    left, expected = iou.copy(), [None] * 6
    while left.max() >= 0.3:
        n, p = np.unravel_index(left.argmax(), left.shape)
        expected[n] = int(p)
        left[n] = left[:, p] = -1
    assert match_predictions(iou) == expected
    assert match_predictions(np.zeros((2, 0))) == [None, None]


@pytest.mark.parametrize("seed", range(10))
def test_overlapping_instances_differ_in_color_and_matched_predictions_share_it(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = ((rng.random((12, n)) < 0.15).astype(np.uint8) for n in (6, 9))
    true_hues = distinct_hues(truth)
    for a in range(6):
        for b in range(a):
            assert true_hues[a] != true_hues[b] or not (truth[:, a] & truth[:, b]).any()
    assert distinct_hues(np.eye(7, dtype=np.uint8)) == list(range(7))
    matches = [3, None, 0, None, 7, None]
    hues = shared_hues(truth, predicted, matches)
    assert all(hues[p] == true_hues[n] for n, p in enumerate(matches) if p is not None)
    unmatched = [hues[p] for p in range(9) if p not in matches]
    overlaps = [(predicted[:, [p]] & np.delete(predicted, p, 1)).any() for p in range(9)]
    isolated = [hues[p] for p in range(9) if p not in matches and not overlaps[p]]
    if len(set(true_hues)) < 7:
        assert not set(isolated) & set(true_hues)
    assert all(0 <= hue < 7 for hue in unmatched)
    turns = distinct_hues(np.ones((1, 600), np.uint8))  # too many to compare: the colors take turns
    assert sorted(set(turns)) == list(range(7))


def test_instances_are_drawn_in_given_hues():
    masks = np.zeros((2, 20, 20), bool)
    masks[0, :10], masks[1, 10:] = True, True
    targets = ad.layer_scene(make_scene(masks))
    photo = np.full((20, 20, 3), 255.0)
    swapped, default = draw_instances(photo, targets, hues=[1, 0]), draw_instances(photo, targets)
    assert np.allclose(swapped[5, 5], 0.38 * 255 + 0.62 * IDENTITY[1])
    assert np.array_equal(default[5, 5], swapped[15, 5]) and not np.array_equal(default[5, 5], swapped[5, 5])


def test_values_show_themselves_in_a_notebook(tmp_path):
    rng = np.random.default_rng(1)
    scenes = [make_scene(random_masks(rng, 4, (300, 900))) for _ in range(5)]
    targets = ad.layer_scene(scenes[0])
    html = targets._repr_html_()
    assert "&" not in repr(targets) and repr(targets) in html and pictured(html).size == (480, 160)
    ad.build_targets(scenes, tmp_path / "a<b>.h5")
    with ad.TargetCache(tmp_path / "a<b>.h5") as cache:
        html = cache._repr_html_()
        assert "a&lt;b&gt;.h5" in html and "a<b>" not in html and pictured(html).width > 470
        assert len(np.unique(np.asarray(pictured(html)).reshape(-1, 3), axis=0)) > 20
        report = ad.evaluate(cache, {1: []})
    assert report._repr_html_().startswith("<pre>") and str(report).splitlines()[0][:10] in report._repr_html_()
    ad.build_targets([], tmp_path / "none.h5")
    with ad.TargetCache(tmp_path / "none.h5") as cache:
        assert "0 images" in cache._repr_html_()
