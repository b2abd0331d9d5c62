"""The detector on torchvision's parts: the same numbers as torchvision's own, its weights, classes, timm bodies."""

import numpy as np
import pytest
import torch
from support.networks import MODERN_SMALL, one_square
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.ops.poolers import LevelMapper

import sln
from amodal_data import TargetCache, build_targets, evaluate, read_d2sa, write_flat
from sln.config import Category, PredictConfig, load_config
from sln.errors import ConfigError, WeightsError
from sln.network.box_head import filter_detections
from sln.network.roi_pool import Features, ROIs
from sln.network.sln import build
from sln.training.run_settings import with_categories
from sln.training.stages import start_stage
from sln.training.trainer import new_model
from sln.weights.pretrained import load_pretrained

SIDE = 64
MAKERS = {"v1": maskrcnn_resnet50_fpn, "v2": maskrcnn_resnet50_fpn_v2}


def modern(*settings, categories=()):
    config = load_config("modern", settings=[f"data.size={SIDE}", "layering.width=8", "head.width=8", *settings],
                         environment={})  # fmt: skip
    named = tuple(Category(id=number, name=name) for number, name in categories)
    return config.model_copy(update={"detector": config.detector.model_copy(update={"categories": named})})


@pytest.fixture(scope="module", params=MAKERS)
def theirs(request, tmp_path_factory):
    """A Mask R-CNN of torchvision with three classes, in eval mode, and its checkpoint."""
    torch.manual_seed(1)
    model = MAKERS[request.param](
        weights=None, weights_backbone=None, num_classes=4, min_size=SIDE, max_size=SIDE, box_score_thresh=0.0,
        rpn_pre_nms_top_n_test=1000, rpn_post_nms_top_n_test=100, box_nms_thresh=0.7,
    ).eval()  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.pt"
    torch.save(model.state_dict(), path)
    return request.param, model, path


THREE = ((1, "a"), (2, "b"), (5, "c"))


@pytest.mark.slow
def test_torchvisions_weights_detect_what_they_do_there(theirs):
    """Body, pyramid, RPN and box head: every box, score and class, before any mask."""
    version, model, path = theirs
    config = modern(f"detector.version={version}", f"detector.weights={path}", "encoder.norm=batch",
                    "predict.min_score=0", "proposals.before_nms=1000", categories=THREE)  # fmt: skip
    said = []
    ours = new_model(config, said.append).eval()
    assert [line.partition(":")[0] for line in said] == [
        "encoder.backbone", "encoder.fpn", "rpn.head", "box_head.head", "box_head.predictor", "not loaded"
    ]  # fmt: skip
    images = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        wanted = model(list(images))
    for found, true in zip(ours.detect(images), wanted, strict=True):
        assert torch.allclose(found.boxes, true["boxes"], atol=1e-3)
        assert torch.allclose(found.scores, true["scores"], atol=1e-5)
        assert torch.equal(found.classes + 1, true["labels"])


@pytest.mark.slow
def test_other_classes_leave_the_last_layers_and_a_wrong_checkpoint_is_refused(theirs, tmp_path):
    version, model, path = theirs
    two = modern(f"detector.version={version}", f"detector.weights={path}", categories=THREE[:2])
    said = []
    ours = new_model(two, said.append)
    assert any("which has other classes" in line for line in said)
    assert not any("box_head.predictor" in line for line in said)
    assert ours.box_head.predictor.cls_score.out_features == 3
    body = ours.encoder.backbone.layer4[0].conv1.weight
    assert torch.equal(body, model.backbone.body.layer4[0].conv1.weight)
    other = modern(
        f"detector.version={'v2' if version == 'v1' else 'v1'}", f"detector.weights={path}", categories=THREE
    )
    with pytest.raises(WeightsError, match=r"missing|unknown|another shape"):
        new_model(other)
    state = model.state_dict()
    for name, changed in {
        "renamed": {("x" + k if k == "rpn.head.bbox_pred.bias" else k): v for k, v in state.items()},
        "short": {k: v for k, v in state.items() if k != "backbone.fpn.layer_blocks.3.0.weight"},
        "body": {k.removeprefix("backbone.body."): v for k, v in state.items() if k.startswith("backbone.body.")},
    }.items():
        torch.save(changed, tmp_path / f"{name}.pt")
        wrong = modern(f"detector.version={version}", f"detector.weights={tmp_path / name}.pt", categories=THREE)
        with pytest.raises(WeightsError, match=r"do not belong|missing|not a Mask R-CNN"):
            new_model(wrong)


@pytest.mark.slow
def test_cocos_classes_are_taken_by_name(tmp_path):
    torch.manual_seed(2)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save({"model": model.state_dict()}, tmp_path / "coco.pt")
    config = modern("detector.version=v1", f"detector.weights={tmp_path / 'coco.pt'}",
                    categories=((7, "dog"), (9, "person")))  # fmt: skip
    ours = new_model(config)
    rows = [0, 18, 1]  # background, dog, person of COCO's 91
    assert torch.equal(ours.box_head.predictor.cls_score.weight, model.roi_heads.box_predictor.cls_score.weight[rows])
    deltas = model.roi_heads.box_predictor.bbox_pred.weight.view(91, 4, -1)[rows].flatten(0, 1)
    assert torch.equal(ours.box_head.predictor.bbox_pred.weight, deltas)


def test_names_of_torchvision_before_0_13_are_known(tmp_path):
    torch.manual_seed(3)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    old = {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): value for name, value in model.state_dict().items()}
    for kind in ("inner", "layer"):
        for at in range(4):
            for part in ("weight", "bias"):
                was = f"backbone.fpn.{kind}_blocks.{at}"
                old[f"{was}.{part}"] = old.pop(f"{was}.0.{part}")
    torch.save(old, tmp_path / "old.pt")
    config = modern("detector.version=v1", f"detector.weights={tmp_path / 'old.pt'}", categories=((1, ""),))
    assert len(list(load_pretrained(build(config), config))) == 6


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", ["timm:resnet18", "timm:convnext_atto"])
def test_bodies_of_timm(version, name, tmp_path):
    pytest.importorskip("timm")
    config = load_config("modern", settings=["data.size=64", *MODERN_SMALL, f"detector.version={version}",
                                             f"encoder.backbone='{name}'"], environment={})  # fmt: skip
    model = build(config)
    losses = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), one_square())
    assert all(loss.isfinite() for loss in losses.values())
    import timm

    full = timm.create_model(name.removeprefix("timm:"), pretrained=False)
    torch.save(full.state_dict(), tmp_path / "body.pth")
    weights = config.model_copy(
        update={"encoder": config.encoder.model_copy(update={"weights": str(tmp_path / "body.pth")})}
    )
    said = []
    filled = new_model(weights, said.append)
    assert f"tensors from {tmp_path / 'body.pth'}" in said[0]
    pictures = torch.rand(1, 3, 64, 64)
    reference = timm.create_model(
        name.removeprefix("timm:"), features_only=True, pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "body.pth")},
    ).eval()  # fmt: skip
    with torch.no_grad():
        assert torch.allclose(filled.encoder.backbone.eval()(pictures)[-1], reference(pictures)[-1], atol=1e-4)
    (tmp_path / "wrong.pth").write_text("hello")
    wrong = weights.model_copy(
        update={"encoder": weights.encoder.model_copy(update={"weights": str(tmp_path / "wrong.pth")})}
    )
    with pytest.raises(WeightsError, match="cannot load these weights"):
        new_model(wrong)


@pytest.mark.filterwarnings("ignore:Unexpected keys")
def test_a_frozen_backbone_keeps_its_weights(tmp_path):
    timm = pytest.importorskip("timm")
    full = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    torch.save(full.state_dict(), tmp_path / "lite.pth")
    chosen = ["data.size=64", "detector.version=v1", "encoder.backbone='timm:tf_efficientnet_lite0'"]
    settings = [*chosen, f"encoder.weights={tmp_path / 'lite.pth'}", "encoder.frozen=true"]
    said = []
    model = new_model(load_config("tiny", settings=settings, environment={}), said.append)
    assert "240 tensors" in said[0]
    assert (model.encoder.mean == 0.5).all() and (model.encoder.deviation == 0.5).all()  # not ImageNet's own
    wanted = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=True,
                               pretrained_cfg_overlay={"state_dict": full.state_dict()}).eval()  # fmt: skip
    pictures, before = torch.rand(1, 3, 64, 64), {k: v.clone() for k, v in model.encoder.backbone.state_dict().items()}
    with torch.no_grad():
        assert torch.allclose(model.encoder.backbone.eval()(pictures)[-1], wanted(pictures)[-1], atol=1e-5)
    start_stage(model, "joint")
    losses = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), one_square())
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in model.encoder.backbone.parameters())
    assert all(parameter.grad is not None for parameter in model.encoder.fpn.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.backbone.state_dict().items())
    with pytest.raises(ConfigError, match=r"encoder.frozen needs"):
        load_config("tiny", settings=["encoder.frozen=true"], environment={})
    torch.save({"_conv_stem.weight": torch.zeros(3)}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="are not in this file"):
        new_model(load_config("tiny", settings=[*chosen, f"encoder.weights={tmp_path / 'bad.pth'}"], environment={}))


@pytest.mark.parametrize(
    "settings, said",
    [
        (["proposals.sizes=[16, 32]"], "five levels"),
        (["encoder.backbone=resnet18"], "timm:NAME"),
        (["encoder.backbone='timm:resnet18'", "detector.version=paper"], "needs detector.version"),
        (["detector.weights=coco", "encoder.weights=imagenet"], "includes the encoder's weights"),
        (["detector.categories=[{id=1}, {id=1}]"], "the same id twice"),
    ],
)
def test_what_does_not_fit_together_is_said(settings, said):
    with pytest.raises(ConfigError, match=said):
        load_config("modern", settings=settings, environment={})


def test_an_unknown_body_of_timm_is_an_error_in_words():
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="no backbone 'nonesuch'"):
        build(load_config("tiny", settings=["encoder.backbone='timm:nonesuch'"], environment={}))


def test_boxes_are_thinned_within_their_class():
    boxes = torch.tensor([[[0.0, 0, 1, 1]] + [[10.0, 10, 50, 50]] * 2, [[0.0, 0, 1, 1]] + [[10.0, 10, 50, 52]] * 2,
                          [[0.0, 0, 1, 1]] + [[90.0, 90, 120, 120]] * 2])  # fmt: skip
    probabilities = torch.tensor([[0.1, 0.6, 0.3], [0.1, 0.5, 0.4], [0.9, 0.02, 0.08]])
    rules = [PredictConfig(min_score=0.05, box_nms=0.7, max_detections=n) for n in (10, 1, 9)]
    found = filter_detections(boxes, probabilities, (100, 100), rules[0])
    assert found.scores.tolist() == pytest.approx([0.6, 0.4, 0.08]) and found.classes.tolist() == [0, 1, 1]
    assert found.boxes[2].tolist() == [90, 90, 100, 100]  # ends with the photo
    assert len(filter_detections(boxes, probabilities, (100, 100), rules[1]).boxes) == 1
    assert len(filter_detections(boxes, probabilities, (80, 80), rules[2]).boxes) == 2


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Scenes with classes, and a cache of them."""
    folder = tmp_path_factory.mktemp("shapes")
    annotations = write_flat(folder, 12, "d2sa", seed=4, size=(64, 64), instances=(2, 4))
    build_targets(read_d2sa(annotations), folder / "t.h5")
    return folder


def test_classes_come_from_the_cache_and_stay_with_the_checkpoint(shapes, tmp_path):
    cache = TargetCache(shapes / "t.h5")
    known = cache.categories()
    slow = {int(c): n for targets in cache for c, n in zip(targets.category_ids, targets.names, strict=True)}
    assert slow.items() <= known.items() and "ball" in known.values()
    assert known == cache.info.categories  # classes of the file that no instance has are outputs too
    few = ("train.steps=2", "train.batch=2", "train.workers=0", "predict.min_score=0", "predict.max_detections=5")
    config = load_config("tiny", settings=["data.size=64", *MODERN_SMALL, *few], environment={})
    run = sln.fit(config, sln.Sources(shapes / "t.h5", (shapes,)), tmp_path / "run", device="cpu")
    predictor = sln.load(run.path, "cpu")
    assert {c.id: c.name for c in predictor.config.detector.categories} == known
    assert predictor.model.box_head.predictor.cls_score.out_features == 1 + len(known)
    data = sln.CachedTargets(shapes / "t.h5", [shapes], predictor.config.data, 0, list(known))
    targets = data[0].targets
    wanted = [list(known).index(int(c)) for c in data.cache[0].category_ids]
    assert targets.classes[0].tolist() == [wanted[n] for n in range(len(wanted))]
    found = predictor.predict(data.photos[0])
    assert len(found) and set(found.category_ids.tolist()) <= set(known)
    one = found.scored_mask(0)
    assert one.category_id == found.categories[0].id and one.name == known[one.category_id]
    row = one.to_row(1)
    assert row["category_id"] == one.category_id and row["category_name"] == one.name
    assert found.only([0]).categories == found.categories[:1]
    parts = evaluate(data.cache, {data.images[0].image_id: found.scored_masks()}, "coco").figures["parts"]
    assert parts["amodal"]["AP"] is not None


def test_classes_named_in_the_settings_must_hold_all_of_the_cache(shapes):
    config = load_config("tiny", settings=["detector.categories=[{id=1, name='ball'}]"], environment={})
    with pytest.raises(ConfigError, match=r"not in detector\.categories"):
        with_categories(config, shapes / "t.h5")
    assert with_categories(load_config("tiny", settings=["detector.agnostic=true"], environment={}),
                           shapes / "t.h5").detector.categories == ()  # fmt: skip
    assert with_categories(load_config("paper", environment={}), shapes / "t.h5").detector.categories == ()


def test_a_region_is_pooled_from_the_level_that_fits_it():
    """Aligned: a map that is its own x coordinate is read at the cell centres, whatever the level."""
    model = build(load_config("tiny", settings=["data.size=1024", "detector.channels=8"], environment={})).eval()
    maps = [
        torch.arange(1024 // s).float().add(0.5).mul(s).expand(1, 8, 1024 // s, -1).contiguous() for s in (4, 8, 16, 32)
    ]
    features = Features(maps, torch.zeros(1, 4, 256, 256), torch.zeros(1, 3, 1024, 1024))
    boxes = torch.tensor([[100.0, 100, 156, 156], [100, 100, 250, 250], [100, 100, 400, 400], [100, 100, 900, 900]])
    seen = model.roi_pool(features, ROIs.distinct(boxes, torch.zeros(4, dtype=torch.int64)))[:, 0, 7]
    assert LevelMapper(2, 5)([boxes]).tolist() == [0, 1, 2, 3]
    for row, box in zip(seen, boxes, strict=True):
        cells = box[0] + (torch.arange(14) + 0.5) / 14 * (box[2] - box[0])
        assert torch.allclose(row, cells, atol=1.0)


def test_box_head_losses_equal_their_formulas():
    model = build(load_config("tiny", settings=["data.size=64", *MODERN_SMALL], environment={})).eval()
    targets = one_square(1)
    maps = model.encoder(torch.rand(1, 3, 64, 64))
    proposals = [torch.tensor([[8.0, 8, 40, 44], [0, 0, 9, 9], [24, 24, 56, 50]])]
    boxes, images, labels, true = model.box_head._sample(proposals, targets)
    assert (
        labels.tolist() == [1, 1, 1, 0, 1]
        and not images.any()
        and true[2].tolist() == [8, 8, 40, 40]
        and len(boxes) == 5
    )
    logits, deltas = model.box_head(maps, [boxes])
    losses = model.box_head.losses(maps, proposals, targets)
    p = logits.softmax(1).detach().numpy()
    assert float(losses["classes"].detach()) == pytest.approx(-np.log(p[np.arange(5), labels.numpy()]).mean(), rel=1e-4)
    wanted, lost = model.box_head.coder.encode([true], [boxes])[0], 0.0
    for row in np.flatnonzero(labels.numpy()):
        gap = (deltas[row, 1] - wanted[row]).abs().detach().numpy()
        lost += np.where(gap < 1 / 9, 4.5 * gap**2, gap - 1 / 18).sum()
    assert float(losses["class_box"].detach()) == pytest.approx(lost / 5, rel=1e-4)
