"""Predictions put together: the same from whichever side one looks, and on photos of any size."""

from dataclasses import replace

import numpy as np
import pytest
from support.predictions import random_prediction

from amodal_data.layering.joint_decoding import Candidates, decode_jointly, raise_hidden
from sln.config import load_config
from sln.inference import joint_masks as together
from sln.inference.prediction import with_decoding

RULES = ("rank", "sinkhorn")


def scene(seed, rule="sinkhorn", hidden=0.4, n=6):
    rng = np.random.default_rng(seed)
    found = random_prediction(rng, n)
    probabilities = found.probabilities.copy()
    probabilities[:, 0] *= 0.3
    probabilities /= probabilities.sum(1, keepdims=True)
    objects = np.array([0, 1, 1, 3, 4, 5, 6][:n])
    return replace(found, probabilities=probabilities, objects=objects, decoding=rule, hidden_threshold=hidden)


def by_pixels(prediction):
    """Every instance at every pixel of the photo, and one rule."""
    alone = replace(prediction, decoding="none")
    every = np.stack([alone._paste(n, (slice(0, 40), slice(0, 50))) for n in range(len(alone))])
    confidence = 1 - every[:, 0].reshape(len(alone), -1)
    p = (every[:, 1:] / np.maximum(1 - every[:, :1], 1e-6)).reshape(len(alone), -1, confidence.shape[1])
    candidates = Candidates(prediction.scores, prediction.objects)
    return decode_jointly(confidence > 0.5, p, candidates, prediction.decoding).reshape(len(alone), 40, 50)


def strips(prediction):
    windows = [prediction._window(n) for n in range(len(prediction))]
    return together.JointMasks(prediction.size, windows, prediction._paste, None, "none")._strips()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_levels_are_those_of_the_pixels_by_themselves(seed, rule):
    prediction = scene(seed, rule)
    wanted = by_pixels(prediction)
    assert (prediction.levels == wanted).mean() > 0.9999
    assert ((prediction.levels > 0) == prediction.amodal()).all()
    for n, one in enumerate(prediction.scored_masks()):
        assert np.array_equal(one.amodal.decode(), prediction.levels[n] > 0)
        assert np.array_equal(one.visible.decode(), prediction.modal()[n])
        for level, mask in enumerate(one.levels, 1):
            assert np.array_equal(mask.decode(), prediction.levels[n] == 1 + level)


def test_strips_of_a_large_photo_make_no_difference(monkeypatch):
    for seed in range(4):
        whole = scene(seed).levels
        monkeypatch.setattr(together, "_VALUES", 4000)
        assert len(list(strips(scene(seed)))) > 3
        assert (scene(seed).levels == whole).mean() > 0.9999  # rounding, where a pixel is on an edge
        monkeypatch.undo()


def test_visible_masks_of_what_is_sure_never_overlap():
    for seed in range(6):
        prediction = replace(scene(seed), scores=np.full(6, 0.9, np.float32), objects=np.arange(6))
        assert prediction.modal().sum(0).max() <= 1
        alone = replace(prediction, decoding="none")
        assert alone.modal().sum(0).max() > 1
        assert np.array_equal(alone.order, prediction.order)  # of pairs, from probabilities
        assert np.array_equal(alone.amodal(), prediction.amodal())


def test_some_of_the_instances_are_put_together_anew():
    prediction = replace(scene(0), scores=np.full(6, 0.9, np.float32), objects=None)
    part = prediction.only([4, 2])
    assert part.modal().sum(0).max() <= 1
    chosen = replace(prediction, boxes=prediction.boxes[[4, 2]], scores=prediction.scores[[4, 2]],
                     probabilities=prediction.probabilities[[4, 2]])  # fmt: skip
    assert np.array_equal(part.levels, chosen.levels)
    alone = prediction.only([3])
    assert np.array_equal(alone.levels, replace(alone, decoding="none").levels)
    assert len(prediction.only([]).scored_masks()) == 0


def test_pictures_of_another_size_show_the_same_levels():
    prediction = scene(1)
    confidence, codes = prediction.at_size(2, prediction.size)
    assert np.array_equal(codes, prediction.levels[2])
    np.testing.assert_allclose(confidence, prediction.confidence[2], atol=1e-6)
    assert prediction.at_size(2, (20, 25))[1].shape == (20, 25)


def test_other_confidences_keep_the_levels_that_were_put_together():
    prediction = scene(2)
    for c in (0.3, 0.7):
        modal, inside = prediction.modal(c), prediction.levels > 0
        assert not (modal & ~prediction.amodal(c)).any()
        assert np.array_equal(modal & inside, (prediction.levels == 1) & prediction.amodal(c))


def test_the_settings_say_how():
    found = replace(scene(3), decoding="none", hidden_threshold=0.5)
    rules = load_config("tiny", environment={}).predict
    assert with_decoding(found, rules.model_copy(update={"decoding": "none"})) is found
    agreed = with_decoding(found, rules.model_copy(update={"decoding": "rank", "hidden_threshold": 0.3}))
    assert (agreed.decoding, agreed.hidden_threshold) == ("rank", 0.3)
    wider = agreed.amodal() & ~found.amodal()
    assert wider.any() and not (found.amodal() & ~agreed.amodal()).any()
    assert np.array_equal(agreed.probabilities, found.probabilities)  # results keep what the network said
    np.testing.assert_allclose(raise_hidden(found.probabilities, 0.5), found.probabilities, atol=1e-6)
