"""Shape priors: what they see of masks, how they are trained, and what a network makes of their answer."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage.morphology import convex_hull_image
from support.networks import FEW_STEPS

import sln
from amodal_data.errors import SelectionError
from sln.completion import head_completion
from sln.completion.arranged_windows import ArrangementRules, arrange_windows
from sln.completion.completer import Completer
from sln.completion.head_completion import blend_with_prior
from sln.completion.prior_training import fit_prior
from sln.completion.shape_bank import generated_shapes, shapes_of_targets
from sln.completion.shape_prior import PRIOR_FILE, PriorMaps, PriorTargets, ShapePrior
from sln.completion.tuning import completion_score
from sln.completion.visible_prompts import Prompts
from sln.completion.window_maps import BEYOND, GRID, NOTHING, OBJECT, convex_hulls, input_maps
from sln.config import load_config
from sln.errors import ConfigError, WeightsError
from sln.network.sln import build

FEW = ("data.size=64", *FEW_STEPS, "train.steps=4")


def test_hulls_are_those_of_scikit_image_but_for_parts_of_cells():
    rng = np.random.default_rng(0)
    for _ in range(8):
        mask = np.zeros((GRID, GRID), bool)
        for y, x, height, width in rng.integers(3, 25, (3, 4)):
            mask[y : y + height, x : x + width] = True
        hull, slow = convex_hulls(torch.from_numpy(mask)).numpy(), convex_hull_image(mask, offset_coordinates=False)
        assert (hull >= mask).all() and (hull & ~slow).sum() < 0.03 * slow.sum() and not (slow & ~hull).any()
    assert not convex_hulls(torch.zeros(2, 3, GRID, GRID, dtype=torch.bool)).any()


def test_maps_show_masks_hull_and_whose_hull_covers_whom():
    owners = torch.full((1, GRID, GRID), NOTHING, dtype=torch.int8)
    owners[0, 10:20, 10:40] = owners[0, 20:30, 10:16] = OBJECT  # an L, in its corner a square
    owners[0, 20:30, 16:26] = 3
    owners[0, 40:44, 10:14] = 1  # apart
    owners[0, :, 50:] = BEYOND
    visible, others, inside, hull, evidence = input_maps(owners)[0]
    assert torch.equal(visible > 0, owners[0] == 0) and torch.equal(others > 0, owners[0] > 0)
    assert torch.equal(inside > 0, owners[0] != BEYOND) and hull[20, 20] == 1 and hull[29, 25] == 0
    assert evidence[25, 20] > 0.9 and evidence[41, 11] == 0 and (evidence[owners[0] <= 0] == 0).all()


def small_bank():
    return generated_shapes(12, np.random.default_rng(0))


def real_bank(tiny_cache):
    from amodal_data import TargetCache

    return shapes_of_targets(TargetCache(tiny_cache), np.random.default_rng(0))


def test_arranged_windows_agree_with_themselves(tiny_cache):
    rules = ArrangementRules(partial=0, cut=0, rough=0, missing=0, generated=0)
    windows = arrange_windows(real_bank(tiny_cache), np.random.default_rng(1), 64, rules)
    owners, target, counted, order = windows
    assert owners.shape == (64, GRID, GRID) and owners.dtype == np.int8 and owners.min() == NOTHING
    visible, hidden = owners == OBJECT, target & (owners != OBJECT)
    assert not (visible & ~target).any() and visible.any((1, 2)).all()
    assert (counted[hidden]).all() and (owners[counted] > OBJECT).all()
    assert (order[hidden] == 1).all()  # what hides is in front
    assert not (target & (order < 0)).any()  # what is behind is visible only beside the object
    share = hidden.any((1, 2)).mean()
    assert 0.4 < share < 0.85
    again = arrange_windows(real_bank(tiny_cache), np.random.default_rng(1), 64, rules)
    assert all(np.array_equal(a, b) for a, b in zip(windows, again, strict=True))


def test_partial_completion_counts_only_what_was_put_there(tiny_cache):
    rules = ArrangementRules(partial=1, cut=0, rough=0.5, missing=0.5)
    owners, _, counted, order = arrange_windows(real_bank(tiny_cache), np.random.default_rng(1), 32, rules)
    assert counted.any() and not counted[owners == BEYOND].any() and not counted[owners == OBJECT].any()
    assert set(np.unique(order[owners > 6])) <= {0}  # the order of the surroundings is not known


def test_a_prior_answers_only_where_something_may_hide():
    prior = ShapePrior(4).eval()
    owners = torch.full((3, GRID, GRID), NOTHING, dtype=torch.int8)
    owners[:, 20:36, 20:36] = OBJECT
    owners[1:, 36:40, 20:36] = 1
    inside, in_front = prior.predict(owners)
    assert (inside[:, 20:36, 20:36] == 1).all() and inside[0].sum() == 16 * 16 and in_front[0].sum() == 0
    assert 0 < inside[1, 38, 25] < 1 and torch.equal(inside[1], inside[2])
    assert all(len(maps) == 0 for maps in prior.predict(owners[:0]))
    assert all(
        torch.allclose(a, b, atol=1e-5)
        for a, b in zip(prior.predict(owners), prior.fused().predict(owners), strict=True)
    )


@pytest.mark.slow
def test_fit_prior_learns_and_is_reproducible(tiny_cache):
    bank = real_bank(tiny_cache)
    windows = arrange_windows(bank, np.random.default_rng(7), 48)
    targets = PriorTargets(*map(torch.from_numpy, windows))
    before, after = (prior.train().loss(targets).item() for prior in (ShapePrior(), fit_prior(bank, 12, batch=32)))
    assert after < 0.8 * before
    first, second = (fit_prior(bank, 2, batch=4, seed=1).state_dict() for _ in range(2))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    with pytest.raises(SelectionError, match="no whole object"):
        fit_prior(small_bank(), 1)


def test_answers_heed_the_prior_where_its_windows_reach():
    """Beside a slow loop over cells that takes the prior's cell that each centre falls into; it is smooth, and so is
    what is sampled.
    """
    rows = torch.linspace(0, 1, GRID)
    sure = torch.stack([rows[:, None] * rows[None], torch.full((GRID, GRID), 0.75)])
    windows = torch.tensor([[10.0, 20, 66, 76], [0, 0, 28, 28]])
    boxes = torch.tensor([[20.0, 30, 48, 58], [14, 7, 42, 21]])  # the second reaches beyond its window
    levels = torch.rand(2, 4, 28, 28, generator=torch.Generator().manual_seed(0)).softmax(1)
    weight = torch.tensor([0.4, 1.0])
    found = blend_with_prior(levels, boxes, sure, windows, weight)
    assert torch.allclose(found.sum(1), torch.ones(2, 28, 28), atol=1e-5)
    for n, row, column in np.ndindex(2, 28, 28):
        x = boxes[n, 0] + (column + 0.5) / 28 * (boxes[n, 2] - boxes[n, 0])
        y = boxes[n, 1] + (row + 0.5) / 28 * (boxes[n, 3] - boxes[n, 1])
        across, down = (
            (p - o) / (windows[n, 2] - windows[n, 0]) * GRID for p, o in ((x, windows[n, 0]), (y, windows[n, 1]))
        )
        before = levels[n, :, row, column]
        if GRID - 1 < across < GRID + 1.5:
            continue  # the window's edge is half a cell wide
        after = 1 - before[0]
        if across < GRID:
            after = after + weight[n] * (sure[n, int(down), int(across)] - after)
        assert 1 - found[n, 0, row, column] == pytest.approx(float(after), abs=0.02)
        assert torch.allclose(
            found[n, 1:, row, column] / (1 - found[n, 0, row, column]), before[1:] / (1 - before[0]), atol=1e-5
        )
    assert torch.allclose(found[1, :, :, 16:], levels[1, :, :, 16:], atol=1e-6)
    assert torch.allclose(found[1, 0, :, :13], torch.tensor(0.25))
    assert torch.allclose(blend_with_prior(levels, boxes, sure, windows, weight * 0), levels, atol=1e-6)
    assert len(blend_with_prior(levels[:0], boxes[:0], sure[:0], windows[:0], weight[:0])) == 0


@pytest.fixture(scope="module")
def data(tiny_cache):
    return sln.CachedTargets(tiny_cache, [tiny_cache.parent], load_config("tiny", settings=FEW, environment={}).data)


@pytest.mark.slow
def test_fit_trains_a_prior_that_complete_loads(data, tmp_path):
    config = load_config("tiny", settings=[*FEW, "completion.prior_steps=2", "train.validate_on=1"], environment={})
    sources = sln.Sources(data.cache.path, (data.photos[0].parent,), data.cache.path)
    messages = []
    run = sln.fit(config, sources, tmp_path / "run", device="cpu", say=messages.append)
    assert any("shape prior, 2 steps" in message for message in messages)
    assert any("completion tuned on t.h5: prior_weight" in message for message in messages)
    completer = Completer.from_pretrained(run.path, "cpu")
    assert completer.settings.prior_steps == 2
    tuned = completion_score(completer, data, 1)
    assert tuned >= completion_score(Completer(completer.prior, completer.network, config.completion), data, 1)
    assert completer.prior is not None and "no shape prior" not in repr(completer)
    saved, owners = ShapePrior.load(run.path / PRIOR_FILE), torch.zeros(1, GRID, GRID, dtype=torch.int8)
    owners[0, :20] = 1
    assert torch.allclose(saved.predict(owners).inside, completer.prior.predict(owners).inside, atol=1e-5)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        ShapePrior.load(tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="not a shape prior"):
        ShapePrior.load(tmp_path / "foreign.safetensors")


def completer_of(prior=True):
    torch.manual_seed(0)
    model = build(load_config("tiny", settings=FEW, environment={}))
    return Completer(ShapePrior() if prior else None, sln.Predictor(model, "cpu"))


def _reaching_right(self, owners):
    """A prior that is sure of all cells to the right of the middle, up to three quarters of the window."""
    sure = (owners == OBJECT).float()
    sure[:, GRID // 3 : -GRID // 3, GRID // 2 : GRID * 3 // 4] = 1
    return PriorMaps(sure, sure)


def test_complete_takes_ends_from_shapes_where_masks_of_others_are_near(data, monkeypatch):
    completer = completer_of()
    masks = np.zeros((3, 60, 80), bool)
    masks[0, 20:40, 20:40] = masks[1, 20:40, 40:60] = masks[2, :4, :4] = True
    without = completer.complete(data.photos[0], Prompts.of_masks(masks[2:])).boxes
    monkeypatch.setattr(ShapePrior, "predict", _reaching_right)
    found = completer.complete(data.photos[0], Prompts.of_masks(masks)).boxes
    assert found[0].tolist() == pytest.approx([20, 20, 42.5, 40], abs=0.5)  # three quarters of 50 pixels from 5 on
    assert found[1].tolist() == pytest.approx([40, 20, 62.5, 40], abs=0.5)
    assert np.allclose(found[2], completer_of(prior=False).complete(data.photos[0], Prompts.of_masks(masks)).boxes[2])
    alone = completer.complete(data.photos[0], Prompts.of_masks(masks[2:])).boxes
    assert np.allclose(alone, without)


def test_masks_without_a_pixel_do_no_harm(data):
    completer = completer_of()
    masks = np.zeros((3, 60, 80), bool)
    masks[0, :20, :20] = masks[2, 10:40, 20:40] = True
    found = completer.complete(data.photos[0], Prompts.of_masks(masks))
    assert np.isfinite(found.boxes).all() and np.isfinite(found.probabilities).all()
    assert not found.amodal()[1].any() and np.array_equal(found.modal(), masks)


def test_boxes_alone_are_told_apart_by_what_is_found_in_them(data, monkeypatch):
    completer = completer_of()
    monkeypatch.setattr(head_completion, "MIN_MASK_PIXELS", 0)
    asked = []
    monkeypatch.setattr(
        ShapePrior, "predict", lambda self, owners: (asked.append(owners), _reaching_right(self, owners))[1]
    )
    boxes = Prompts.of_boxes(np.array([[20.0, 20, 40, 40], [40, 20, 60, 30]]), (60, 80))
    found = completer.complete(data.photos[0], boxes)
    assert len(found) == 2 and len(asked) == 2 and (asked[0] < 0).all()  # nothing is known at first
    assert len(completer.complete(data.photos[0], Prompts.of_boxes(np.zeros((0, 4)), (60, 80)))) == 0


@pytest.mark.parametrize("setting", ["train.prompts=0", "head.prompts=false"])
def test_a_prior_needs_prompts(setting):
    with pytest.raises(ConfigError, match=r"completion\.prior_steps needs head\.prompts and train\.prompts"):
        load_config("tiny", settings=["completion.prior_steps=5", setting], environment={})
