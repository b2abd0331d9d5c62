"""Baselines of completion: hull and box, with all others or only those in front."""

import numpy as np

from amodal_data import RLE, evaluate_all
from amodal_data.evaluation.baselines import BASELINES, box, hull, predict_baseline


def masks(*pixels):
    return [RLE.from_mask(np.array(rows, bool)) for rows in pixels]


def test_hull_and_box_grow_only_where_others_are_visible():
    corner = np.zeros((6, 6), bool)
    corner[:5, 0] = corner[4, :5] = True  # an L; its hull is a triangle, its box a square of 5
    other = np.zeros((6, 6), bool)
    other[2:4, 1:6] = True
    visible = masks(corner, other)
    by_hull, by_box = (fill(visible)[0].decode() for fill in (hull, box))
    assert not (by_hull & ~corner & ~other).any()
    assert by_hull[2, 1] and by_hull[3, 3] and not by_hull[2, 4] and not by_hull[3, 5]
    assert np.array_equal(by_box, corner | (other & (np.arange(6) < 5)))
    in_front = np.array([[False, True], [False, False]])  # the L is in front: nothing hides it
    assert hull(visible, in_front)[0] == visible[0] and box(visible, in_front)[0] == visible[0]
    assert hull(visible, in_front.T)[0] == hull(visible)[0]


def test_an_option_puts_baselines_beside_a_method(tiny_cache):
    method = {image.image_id: predict_baseline(image.targets, "hull") for image in _images(tiny_cache)}
    evaluation = evaluate_all(tiny_cache, {"mine": method}, ["completion", "order"], baselines=True)
    assert list(evaluation.methods) == ["mine", *BASELINES]
    figures = {name: reports["completion"].figures["completion"] for name, reports in evaluation.methods.items()}
    assert figures["mine"] == figures["hull"]
    assert figures["visible"]["mIoU_occ_gt_visible"] == 0 <= figures["box"]["mIoU_occ_gt_visible"]
    assert figures["hull, in front"]["mIoU_full"] >= figures["hull"]["mIoU_full"]


def _images(cache):
    from amodal_data.evaluation.ground_truth import read_truth

    return read_truth(cache, "first").images
