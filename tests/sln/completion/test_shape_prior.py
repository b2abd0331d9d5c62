"""What lies behind others, told by shapes alone: what the prior is shown, learns, and what ``complete`` makes of it."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.networks import MODERN_SMALL, one_square

import sln
from sln.completion.completer import Completer, Prompts
from sln.completion.shape_prior import GRID, PRIOR_FILE, ShapePrior, blend_with_prior, fit_prior, sample_shapes
from sln.config import load_config
from sln.data.dataset import batches
from sln.errors import ConfigError, WeightsError
from sln.network.prompts import windows_around
from sln.network.sln import build

FEW = ("data.size=64", *MODERN_SMALL, "train.steps=4", "train.batch=2", "train.workers=0")


def test_windows_show_who_is_seen_where_and_ask_where_it_is_not():
    """A slow loop over cells: two squares, of which the second is seen where the first is not; the first is whole, so
    it has no turn.
    """
    targets = one_square(40)
    targets.visible_boxes[:, 1] = torch.tensor([24.0, 30, 56, 56])
    targets.regions[:, :, 60:] = 0  # padding
    maps, wanted, asked = sample_shapes(targets, 2)
    assert maps.shape == (80, 4, GRID, GRID) and wanted.shape == asked.shape == (80, GRID, GRID)
    window = windows_around(targets.visible_boxes[0, 1:2], 1.0)[0]
    slow = torch.zeros(6, GRID, GRID)  # the four maps, what is wanted and what is asked about
    slow[3] = 32 / 64
    for row, column in np.ndindex(GRID, GRID):
        x = int(torch.floor(window[0] + (column + 0.5) / GRID * (window[2] - window[0])))
        y = int(torch.floor(window[1] + (row + 0.5) / GRID * (window[3] - window[1])))
        inside = 0 <= x < 60 and 0 <= y < 64
        first, second = (inside and low <= x < low + 32 and low <= y < low + 32 for low in (8, 24))
        own = second and not first
        slow[[0, 1, 2, 4, 5], row, column] = torch.tensor([own, first, inside, second, inside and not own]).float()
    lonely = 0
    for found, whole, cells in zip(maps, wanted, asked, strict=True):
        shown = found[1].any()
        lonely += not shown
        assert torch.equal(found[[0, 2, 3]], slow[[0, 2, 3]]) and torch.equal(found[1], slow[1] * shown)
        assert torch.equal(whole, slow[4]) and torch.equal(cells.float(), slow[5])
    assert 0 < lonely < 20  # now and then others are left out: masks of others may be missing


def test_photos_that_hide_nothing_teach_nothing():
    targets = one_square(1)
    targets.visible_boxes[:] = 0
    prior = ShapePrior(4)
    assert len(sample_shapes(targets, 2)[0]) == 0 and prior.loss(targets, 2) == 0
    prior.loss(targets, 2).backward()
    assert all(parameter.grad is not None for parameter in prior.parameters())


def test_mirrored_shapes_are_mirrored_behind_others():
    torch.manual_seed(0)
    prior, maps = ShapePrior(4).eval(), torch.rand(3, 4, GRID, GRID)
    found = prior.confidence(maps)
    assert torch.allclose(prior.confidence(maps.flip(3)), found.flip(2), atol=1e-6) and found.shape == (3, GRID, GRID)
    assert len(prior.confidence(maps[:0])) == 0
    maps[:, 0], maps[:, 2] = maps[:, 0] > 0.8, maps[:, 2] > 0.2
    own, _, inside, _ = (maps * maps[:, 2:3]).bool().unbind(1)
    found = prior.confidence(torch.cat([own[:, None], maps[:, 1:]], 1))
    assert (found[own] == 1).all() and (found[~inside] == 0).all()
    assert ((found > 0) & (found < 1))[inside & ~own].all()


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


def test_fit_prior_learns_and_is_reproducible(data):
    before, after = [
        torch.stack([prior.loss(batch.targets, 6) for batch in batches(data, [[(i, 1) for i in range(6)]], 0)]).mean()
        for prior in (ShapePrior().train(), fit_prior(data, 40, batch=2, windows=6).train())
    ]
    assert after < 0.5 * before
    one, other = (fit_prior(data, 3, batch=2, windows=2, seed=1).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], value) for name, value in other.items())


def test_fit_trains_a_prior_that_complete_loads(data, tmp_path):
    config = load_config("tiny", settings=[*FEW, "completion.prior_steps=2"], environment={})
    sources = sln.Sources(data.cache.path, (data.photos[0].parent,))
    messages = []
    run = sln.fit(config, sources, tmp_path / "run", device="cpu", say=messages.append)
    assert any("shape prior, 2 steps" in message for message in messages)
    completer = Completer.load(run.path, "cpu")
    assert completer.prior is not None and "no shape prior" not in repr(completer)
    saved = ShapePrior.load(run.path / PRIOR_FILE)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in completer.prior.state_dict().items())
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        ShapePrior.load(tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="not a shape prior"):
        ShapePrior.load(tmp_path / "foreign.safetensors")


def completer_of(prior=True):
    torch.manual_seed(0)
    model = build(load_config("tiny", settings=FEW, environment={}))
    return Completer(sln.Predictor(model, "cpu"), ShapePrior() if prior else None)


def _reaching_right(self, maps):
    """A prior that is sure of all cells to the right of the middle, up to three quarters of the window."""
    sure = maps[:, 0].clone()
    sure[:, GRID // 3 : -GRID // 3, GRID // 2 : GRID * 3 // 4] = 1
    return sure


def test_complete_takes_ends_from_shapes_where_masks_of_others_are_near(data, monkeypatch):
    completer = completer_of()
    masks = np.zeros((3, 60, 80), bool)
    masks[0, 20:40, 20:40] = masks[1, 20:40, 40:60] = masks[2, :4, :4] = True
    without = completer.complete(data.photos[0], Prompts.of_masks(masks[2:])).boxes
    monkeypatch.setattr(ShapePrior, "confidence", _reaching_right)
    found = completer.complete(data.photos[0], Prompts.of_masks(masks)).boxes
    assert found[0].tolist() == pytest.approx([20, 20, 45, 40], abs=0.5)  # 60 pixels from 0 on, three quarters of them
    assert found[1].tolist() == pytest.approx([40, 20, 65, 40], abs=0.5)
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
    monkeypatch.setattr(sln.completion.completer, "MIN_MASK_PIXELS", 0)
    asked = []
    monkeypatch.setattr(
        ShapePrior, "confidence", lambda self, maps: (asked.append(maps), _reaching_right(self, maps))[1]
    )
    boxes = Prompts.of_boxes(np.array([[20.0, 20, 40, 40], [40, 20, 60, 30]]), (60, 80))
    found = completer.complete(data.photos[0], boxes)
    assert len(found) == 2 and len(asked) == 2 and not asked[0][:, :2].any()  # nothing is known at first
    assert len(completer.complete(data.photos[0], Prompts.of_boxes(np.zeros((0, 4)), (60, 80)))) == 0


@pytest.mark.parametrize("setting", ["train.prompts=0", "head.prompts=false"])
def test_a_prior_needs_prompts(setting):
    with pytest.raises(ConfigError, match=r"completion\.prior_steps needs head\.prompts and train\.prompts"):
        load_config("tiny", settings=["completion.prior_steps=5", setting], environment={})
