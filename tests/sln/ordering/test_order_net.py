"""OrderNet: antisymmetric, learns a plain rule, and runs from the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.commands import run_command
from support.scenes import make_scene
from torchvision.models import resnet18

from amodal_data import RLE, ScoredMask, TargetCache, build_targets, layer_scene, read_cocoa, write_cocoa
from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import read_truth
from sln import CachedTargets, load_config
from sln.errors import TrainingError, WeightsError
from sln.ordering.order_net import OrderNet, PairMaps, correct_pairs, fit_order, load_order, make_pairs, save_order
from sln.ordering.pair_maps import pair_maps, predicted_maps


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    build_targets(read_cocoa(write_cocoa(folder, 12, seed=4, size=(64, 64), instances=(3, 5))), folder / "t.h5")
    return folder


@pytest.mark.parametrize("rgb", [False, True])
def test_swapping_two_instances_flips_the_sign(rgb):
    torch.manual_seed(0)
    net = OrderNet(10, rgb=rgb).eval()
    pairs = torch.randn(3, 2 + 3 * rgb, 64, 64)
    swapped = pairs[:, [1, 0, *range(2, pairs.shape[1])]]
    assert torch.allclose(net(pairs), -net(swapped), atol=1e-5) and net(pairs).abs().sum() > 0
    same = pairs.clone()
    same[:, 1] = same[:, 0]
    assert torch.allclose(net(same), torch.zeros(3), atol=1e-6)


def test_crops_are_the_square_around_a_pair():
    maps = np.zeros((2, 40, 60), np.float32)
    maps[0, 10:20, 10:30], maps[1, 15:25, 20:40] = 1, 1
    image = PairMaps(maps, maps > 0, np.array([True, True]), np.array([[0, 1], [1, 0]]))
    pairs = make_pairs([image], 32, seed=1)
    assert pairs.crops.shape == (2, 2, 32, 32) and pairs.missing == 0
    for crop, first in zip(pairs.crops, pairs.first.tolist(), strict=True):
        upper = 0 if crop[0, :16].sum() > crop[0, 16:].sum() else 1  # instance 0 lies higher
        assert crop[0].sum() > 20 and crop[1].sum() > 20 and first in (0.0, 1.0) and upper in (0, 1)
    lost = PairMaps(maps, maps > 0, np.array([True, False]), np.array([[0, 1]]))
    assert make_pairs([lost], 32).missing == 1 and len(make_pairs([lost], 32).crops) == 0
    assert len(make_pairs([image], 32, max_pairs=1).crops) == 1
    with pytest.raises(TrainingError):
        fit_order(make_pairs([lost], 32))


def test_the_order_is_learned_from_true_sem_dist_maps(folder):
    """Sem-dist maps encode the order; a few training steps suffice."""
    data = CachedTargets(folder / "t.h5", [folder], load_config("tiny").data)
    pairs = make_pairs(pair_maps(read_truth(data.cache), "sem-dist"), 32)
    assert len(pairs.crops) > 20 and 0.2 < float(pairs.first.mean()) < 0.8
    net = fit_order(pairs, depth=10, epochs=12, batch=8)
    assert correct_pairs(net, pairs).mean() > 0.85


def test_it_starts_from_pretrained_weights_except_in_its_first_layer(tmp_path):
    pretrained = resnet18(weights=None).state_dict()
    torch.save(pretrained, tmp_path / "resnet.pt")
    net = OrderNet(18, weights=str(tmp_path / "resnet.pt"))
    assert torch.equal(net.backbone.layer4[1].conv2.weight, pretrained["layer4.1.conv2.weight"])
    assert net.backbone.conv1.weight.shape == (64, 2, 7, 7)


def order(*arguments, code=0):
    process = run_command("sln", "order", *arguments)
    assert process.returncode == code, process.stderr
    return process.stdout + (process.stderr if code else "")


def test_order_fit_and_order_evaluate(folder, tmp_path):
    net = tmp_path / "o.pt"
    order("fit", folder / "t.h5", "-o", net, "--size", 32, "--epochs", 1, "--source", "masks", "--rgb", "--limit", 4)
    document = json.loads(order("evaluate", net, folder / "t.h5", "--json"))
    assert document["source"] == "masks" and document["coverage"] == 1 and 0 <= document["accuracy"] <= 1
    assert "already" in order("fit", folder / "t.h5", "-o", net, code=2)
    assert "not a checkpoint" in order("evaluate", folder / "t.h5", folder / "t.h5", code=1)


def test_results_files_replace_the_ground_truth(folder, tmp_path):
    """AmodalMask's layout with the true masks gives the same pairs as the ground truth."""
    cache, rows = TargetCache(folder / "t.h5"), []
    for i, targets in enumerate(cache):
        for n in range(len(targets.names)):
            whole, hidden = targets.amodal(n), targets.amodal(n) & ~targets.modal(n)
            masks = {"amodalMask": RLE.from_mask(whole).to_coco(), "invisibleMask": RLE.from_mask(hidden).to_coco()}
            rows.append({"image_id": cache.image(i).image_id, "score": 1.0} | masks)
    (tmp_path / "released.json").write_text(json.dumps(rows))
    truth = read_truth(cache, "all")
    predictions = read_predictions(tmp_path / "released.json", truth).images
    pairs, released = (make_pairs(pair_maps(truth, "masks", masks), 32) for masks in (None, predictions))
    assert torch.equal(pairs.crops, released.crops) and torch.equal(pairs.first, released.first)
    assert not released.missing
    rows = [row for row in rows if row["image_id"] != cache.image(0).image_id]
    (tmp_path / "released.json").write_text(json.dumps(rows))
    net = tmp_path / "o.pt"
    options = ["--predictions", tmp_path / "released.json"]
    order("fit", folder / "t.h5", "-o", net, "--size", 32, "--epochs", 1, *options)
    document = json.loads(order("evaluate", net, folder / "t.h5", *options, "--json"))
    missing = len(cache[0].pairs)
    assert document["pairs"] == len(pairs.first) and document["coverage"] == 1 - missing / len(pairs.first)
    (tmp_path / "plain.json").write_text(json.dumps([row | {"invisibleMask": None} for row in rows]))
    plain = ["--predictions", tmp_path / "plain.json", "--force"]
    assert "--source masks" in order("fit", folder / "t.h5", "-o", net, *plain, code=1)
    assert "not both" in order("evaluate", net, folder / "t.h5", *options, "--model", net, code=2)


def test_predicted_sem_dist_maps_carry_the_confidence():
    probabilities = np.zeros((3, 4, 4), np.float32)
    probabilities[:, :, :2], probabilities[:, :, 2:] = [[[0.1]], [[0.2]], [[0.7]]], [[[0.6]], [[0.4]], [[0.0]]]
    codes = np.array([[2, 2, 0, 0]] * 4)  # left half behind one, right half outside
    mask = replace(ScoredMask.from_codes(codes, 1.0), box=np.array([0, 0, 4, 4]), probabilities=probabilities)
    scene = layer_scene(make_scene(np.ones((2, 4, 4), bool)))
    predicted = predicted_maps([mask, None], scene, "sem-dist")
    assert np.allclose(predicted.maps[0, :, 0], 0.9 - 1) and np.allclose(predicted.maps[0, :, 3], 0.4)
    assert predicted.present.tolist() == [True, False] and not predicted.maps[1].any()
    assert np.array_equal(predicted_maps([mask, None], scene, "masks").maps[0], codes > 0)


def test_other_files_are_refused(tmp_path):
    save_order(OrderNet(10), tmp_path / "o.pt", source="masks", size=32)
    assert load_order(tmp_path / "o.pt")[1:] == ("masks", 32)
    for schema in ("x", "sln/order/1"):  # the second one is of an earlier version
        torch.save({"schema": schema}, tmp_path / "x.pt")
        with pytest.raises(WeightsError, match="not an OrderNet written by this version"):
            load_order(tmp_path / "x.pt")
