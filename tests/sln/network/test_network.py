"""The network's parts: shapes, stages, losses and pasting, each against a slow formula."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import MODERN_SMALL, PAPER_SMALL, one_square, small
from torch.nn import functional

from amodal_data.evaluation.protocols.pair_order import paste as paste_one
from sln.config import load_config
from sln.data.dataset import samples_after
from sln.errors import ConfigError
from sln.network.duplicates import duplicates
from sln.network.encoder import Encoder, build_backbone
from sln.network.glm import GlobalLayeringModule, global_layering_loss
from sln.network.ilm import amodal_loss, instance_layering_loss, level_weights, sem_dist_loss, soft_sem_dist
from sln.network.losses import log_tails, total_loss
from sln.network.paste_masks import decode_levels, paste
from sln.network.roi_pool import Features, ROIs
from sln.network.sampling import sample_rois, shuffle_keys
from sln.network.sln import build
from sln.network.targets import Targets
from sln.training.schedule import learning_rate, parameter_groups, stage_spans
from sln.training.stages import STAGES, start_stage

CONTEXT = {f"context.{name}" for name in ("instance_layering", "sem_dist", "amodal")}


@pytest.mark.parametrize("preset, settings", [("tiny", ()), ("modern", MODERN_SMALL), ("paper", PAPER_SMALL)])
def test_shapes(preset, settings):
    model = build(small(*settings, preset=preset))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    losses = model(images, one_square())
    second = [] if preset == "paper" else ["amodal", "class_box", "classes", *CONTEXT]
    assert sorted(losses) == sorted(["box", "global_layering", "instance_layering", "objectness", "sem_dist", *second])
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    model.eval()
    features = model.features(images)
    assert features.layers.shape == (2, 4, 16, 16)
    if preset == "paper":
        assert [one.shape for one in features.maps] == [(2, 4 * model.config.encoder.channels, 16, 16)]
    else:
        assert [one.shape[1:] for one in features.maps] == [
            (model.config.detector.channels, side, side) for side in (16, 8, 4, 2, 1)
        ]
    for found in model.detect(images):
        assert found.boxes.shape == (len(found.scores), 4) and found.probabilities.shape[1:] == (5, 28, 28)
        assert torch.allclose(found.probabilities.sum(1), torch.ones(()), atol=1e-5)
        assert (found.scores.diff() <= 0).all() and found.classes.shape == found.scores.shape


@pytest.mark.parametrize("settings", [("encoder.dilation=true", "encoder.depth=50"), ("layering.see_photo=true",),
                                      ("head.out=56",), ("proposals.stride=8",), ("layering.levels=1",)])  # fmt: skip
def test_options_of_the_network(settings):
    model = build(small("encoder.channels=8", *settings))
    losses = model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), one_square(1))
    assert all(loss.isfinite() for loss in losses.values())
    assert model.config.head.out == model.eval().detect(torch.zeros(1, 3, 64, 64))[0].probabilities.shape[-1]


def test_one_by_one_before_upsampling_equals_concatenating_first():
    config = small("encoder.channels=4").encoder
    encoder = Encoder(build_backbone(config, frozen=False), 4).eval()
    images = torch.rand(1, 3, 64, 64)
    stages = []
    for stage in (encoder.backbone.layer1, encoder.backbone.layer2, encoder.backbone.layer3, encoder.backbone.layer4):
        stage.register_forward_hook(lambda _, __, out: stages.append(out))
    with torch.no_grad():
        (fast,) = encoder(images)
        slow = []
        for stage, (conv, norm) in zip(stages, encoder.reduce, strict=True):
            up = functional.interpolate(stage, (16, 16), mode="bilinear", align_corners=False)
            slow.append(norm(functional.conv2d(up, conv.weight)))
    assert torch.allclose(fast, torch.cat(slow, 1).relu(), atol=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_its_modules_and_no_other(stage):
    model = build(small())
    start_stage(model, stage)
    trained = {name for name, module in model.named_children() if any(p.requires_grad for p in module.parameters())}
    assert trained == set(STAGES[stage].parts)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    losses = model(images, one_square(), STAGES[stage].losses)
    named = {
        "glm": {"global_layering"},
        "rpn": {"objectness", "box", "classes", "class_box"},
        "ilm": {"instance_layering", "sem_dist", "amodal", *CONTEXT},
    }
    assert set(losses) == named.get(stage, set().union(*named.values()))
    torch.stack(list(losses.values())).sum().backward()
    for name, module in model.named_children():
        touched = any(p.grad is not None and p.grad.any() for p in module.parameters())
        assert touched == (name in STAGES[stage].parts), name
        assert module.training == (name in STAGES[stage].parts)


def test_no_weight_decay_on_normalisation_and_biases():
    model = build(small())
    start_stage(model, "joint")
    decayed, free = parameter_groups(model, 0.1)
    named = {id(p): name for name, p in model.named_parameters()}
    assert free["weight_decay"] == 0.0 and decayed["weight_decay"] == 0.1
    norms = {id(p) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    assert {id(p) for p in free["params"]} == norms | {key for key, name in named.items() if name.endswith("bias")}
    assert len(decayed["params"]) + len(free["params"]) == len(named)


def test_layers_of_the_glm_are_nested_tails():
    logits = torch.randn(2, 5, 6, 7) * 5
    layers = GlobalLayeringModule.layers(logits)
    p = logits.softmax(1)
    assert layers.shape == (2, 4, 6, 7) and layers.min() >= 0 and layers.max() <= 1
    assert (layers.diff(dim=1) <= 1e-6).all()
    for level in range(4):
        assert torch.allclose(layers[:, level], p[:, level + 1 :].sum(1), atol=1e-6)
    above, below = log_tails(logits)
    assert torch.allclose(above.exp(), layers, atol=1e-6) and torch.allclose(below.exp(), 1 - layers, atol=1e-6)


def test_tails_survive_logits_that_saturate():
    logits = torch.tensor([200.0, 0, -200]).view(1, 3, 1, 1).requires_grad_()
    above, below = log_tails(logits)
    assert above.isfinite().all() and below.isfinite().all()
    (above.sum() + below.sum()).backward()
    assert logits.grad.isfinite().all()


def test_global_layering_loss_equals_its_formula():
    logits, depth = torch.randn(2, 4, 5, 6), torch.randint(-1, 6, (2, 5, 6))
    p, lost, count = logits.softmax(1), 0.0, 0
    for b, y, x in np.ndindex(2, 5, 6):
        n = int(depth[b, y, x])
        for level in range(3):
            if n >= 0:
                tail = float(p[b, level + 1 :, y, x].sum())
                lost -= np.log(tail if n > level else 1 - tail)
                count += 1
    assert float(global_layering_loss(logits, depth)) == pytest.approx(lost / count, rel=1e-5)


def test_instance_and_sem_dist_losses_equal_their_formulas():
    logits = torch.randn(3, 4, 5, 5)
    shares = torch.rand(3, 4, 5, 5)
    shares = shares / shares.sum(1, keepdim=True)
    p, cells = logits.softmax(1).numpy(), 3 * 25
    assert float(instance_layering_loss(logits, shares)) == pytest.approx(
        float(-(shares.numpy() * np.log(p)).sum() / cells), rel=1e-5
    )
    lost = 0.0
    for level in range(3):
        plane, wanted = p[:, 1 : level + 2].sum(1), shares[:, 1 : level + 2].sum(1).numpy()
        lost -= (wanted * np.log(plane) + (1 - wanted) * np.log(1 - plane)).sum()
    assert float(sem_dist_loss(logits, shares)) == pytest.approx(lost / (3 * cells), rel=1e-4)
    outside = shares[:, 0].numpy()
    lost = -(outside * np.log(p[:, 0]) + (1 - outside) * np.log(1 - p[:, 0])).sum()
    assert float(amodal_loss(logits, shares)) == pytest.approx(lost / cells, rel=1e-4)


def test_balanced_levels_weigh_rare_ones_up_and_average_to_one():
    shares = torch.zeros(1, 4, 10, 10)
    shares[:, 0, :8], shares[:, 1, 8:, :8], shares[:, 2, 8:, 8:] = 1, 1, 1
    weights = level_weights(shares, balance=True)
    assert weights[0] < weights[1] and weights[2] == 0
    assert float((weights * shares[:, 1:].mean((0, 2, 3))).sum() / 0.2) == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx((16 / 4) ** 0.5)
    logits = torch.randn(1, 4, 10, 10)
    p = logits.softmax(1)
    given = p[:, 1:] / p[:, 1:].sum(1, keepdim=True)
    slow = -(shares[:, 0] * p[:, 0].log() + (1 - shares[:, 0]) * (1 - p[:, 0]).log()).sum()
    slow -= sum(float(weights[k] * (shares[:, k + 1] * given[:, k].log()).sum()) for k in range(3))
    assert float(instance_layering_loss(logits, shares, balance=True)) == pytest.approx(float(slow) / 100, rel=1e-5)


def test_refinement_starts_as_the_identity_and_learns():
    model = build(small(*PAPER_SMALL, preset="paper"))
    features = torch.randn(3, 36, 14, 14)
    first, final = model.roi_head(features)
    assert torch.equal(first, final)
    final.square().sum().backward()
    assert model.roi_head.refinement.classify.weight.grad.abs().sum() > 0


def test_the_paper_s_convolutions_start_as_he_s():
    """But the refinement's last, which starts at 0, and those of backbone and RPN."""
    model = build(small(*PAPER_SMALL, preset="paper"))
    layers = torch.nn.ModuleList([model.encoder.reduce, model.glm, model.roi_head]).modules()
    weights = [layer.weight.detach() for layer in layers if isinstance(layer, torch.nn.Conv2d)]
    spread = [float(weight.std() * (weight[0].numel() / 2) ** 0.5) for weight in weights]
    assert sorted(spread)[0] == 0 and sorted(spread)[1:] == pytest.approx([1] * (len(spread) - 1), abs=0.2)


def test_soft_sem_dist_is_eq_1():
    certain = torch.full((1, 5, 1, 3), -50.0)
    certain[0, 1, 0, 0] = certain[0, 3, 0, 1] = certain[0, 0, 0, 2] = 50
    assert torch.allclose(soft_sem_dist(certain)[0, 0, 0], torch.tensor([1.0, -1, 0]), atol=1e-5)


def test_decode_takes_the_median_level_among_the_levels():
    p = torch.tensor([[0.45, 0.2, 0.35], [0.55, 0.05, 0.4]]).T[None]
    confidence, codes = decode_levels(p)
    assert confidence.tolist() == [[pytest.approx(0.55), pytest.approx(0.45)]] and codes.tolist() == [[2, 0]]
    spread = torch.tensor([0.0, 0.4, 0.35, 0.25])[None, :, None]  # the likeliest level is 0, yet rather hidden
    assert decode_levels(spread)[1].tolist() == [[2]]
    rng = np.random.default_rng(0)
    for p in rng.dirichlet(np.ones(5) / 2, 200).astype(np.float32):
        inside, level = p[1:] / p[1:].sum(), 0
        while inside[: level + 1].sum() < 0.5:
            level += 1
        wanted = (1 + level) * (p[0] < 0.5)
        assert decode_levels(torch.from_numpy(p)[None, :, None])[1].item() == wanted


def test_batched_paste_equals_one_by_one():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), (5, 7, 7)).transpose(0, 3, 1, 2).astype(np.float32)
    boxes = np.array(
        [[3, 4, 20, 30], [-5, -5, 10, 10], [30, 1, 60, 9], [0, 0, 40, 32], [7.3, 8.1, 7.9, 9.2]], np.float32
    )
    fast = paste(torch.from_numpy(probabilities), torch.from_numpy(boxes), (32, 40)).numpy()
    for n in range(5):
        slow = paste_one(probabilities[n], boxes[n], (slice(0, 32), slice(0, 40)))
        assert np.allclose(fast[n], slow, atol=1e-5)


def test_doubles_share_amodal_and_visible_masks():
    inside = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(3, 2, 8, 8)
    boxes = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 42], [20, 20, 60, 60]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    assert duplicates(inside, boxes, scores, 64, 0.6).tolist() == [True, False, False]
    assert duplicates(inside, boxes, scores, 64, 0.6, 0.3).tolist() == [True, False, False]
    assert not duplicates(inside, boxes, scores, 64, 1.0).any()
    assert duplicates(inside[:0], boxes[:0], scores[:0], 64, 0.6).tolist() == []
    hidden = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    both = torch.cat([torch.cat([inside[:1], torch.zeros(1, 1, 8, 8)], 1), hidden])
    assert duplicates(both, boxes[:2], scores[:2], 64, 0.6).tolist() == [True, False]
    assert not duplicates(both, boxes[:2], scores[:2], 64, 0.6, 0.3).any()  # one is behind the other


def test_regions_to_train_begin_with_the_truth():
    targets = one_square(2)
    targets.present[1] = False
    proposals = [torch.tensor([[8.0, 8, 40, 41], [0, 0, 5, 5], [24, 20, 56, 56]])] * 2
    rois = sample_rois(proposals, targets, 8)
    boxes, images, instances = rois.boxes, rois.images, rois.objects
    assert boxes.tolist() == [[8, 8, 40, 40], [24, 24, 56, 56], [8, 8, 40, 41], [24, 20, 56, 56]]
    assert images.tolist() == [0] * 4 and instances.tolist() == [0, 1, 0, 1]
    assert len(sample_rois(proposals, targets, 3)) == 3
    assert len(sample_rois(proposals, targets, 1)) == 2


def test_a_batch_without_instances_trains():
    model = build(small())
    targets = Targets.stack([one_square(1, instances=0)] * 2)
    losses = model(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), targets)
    assert not losses["instance_layering"].detach().any() and not losses["sem_dist"].detach().any()
    torch.stack(list(losses.values())).sum().backward()


def test_keys_shuffle_by_seed():
    one, again, other = (shuffle_keys(1000, torch.tensor(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other) and len(one.unique()) == 1000
    ranks = one.argsort().double()
    assert abs(float(torch.corrcoef(torch.stack([ranks, torch.arange(1000.0).double()]))[0, 1])) < 0.1


def test_every_epoch_shows_every_photo_once():
    drawn = [sample for step in range(6) for sample in samples_after(step * 3, 9, 3, 0)]
    assert sorted(drawn) == [(i, e) for i in range(9) for e in (1, 2)]
    assert drawn[:9] == [(i, 1) for i, _ in drawn[:9]] and [i for i, _ in drawn[:9]] != [i for i, _ in drawn[9:]]


def test_stages_and_learning_rate():
    train = load_config("paper", settings=["train.steps=100"], environment={}).train
    spans = stage_spans(train)
    assert [(s.name, s.start, s.stop) for s in spans] == [
        ("glm", 0, 25), ("rpn", 25, 50), ("ilm", 50, 75), ("joint", 75, 100)
    ]  # fmt: skip
    rates = [learning_rate(step, spans[1]) for step in range(25, 50)]
    assert max(rates) == train.lr and rates.index(max(rates)) <= 1 and rates[-1] < 0.05 * train.lr


@pytest.mark.parametrize(
    "kind, channels, names",
    [
        ("sln-noglm", 5, {"instance_layering", "sem_dist", "amodal"}),
        ("arcnn", 2, {"amodal"}),
        ("arcnn-visible", 3, {"amodal", "visible"}),
    ],
)
def test_baselines_differ_in_the_head_only(kind, channels, names):
    sln, other = build(small()), build(small(f"head.kind={kind}"))
    for name in ("encoder", "glm", "rpn", "box_head"):
        one, two = (dict(m.get_submodule(name).state_dict()) for m in (sln, other))
        assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in two.items()}
    sizes = [sum(p.numel() for p in model.roi_head.parameters()) for model in (sln, other)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    losses = other(images, one_square())
    detector = {"global_layering", "objectness", "box", "classes", "class_box"}
    assert set(losses) == detector | names | {f"context.{name}" for name in names}
    seen = other.eval().features(images)
    rois = ROIs.distinct(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([0]))
    p = other.predict_rois(seen, rois)
    assert p.shape == (1, channels, 28, 28) and torch.allclose(p.sum(1), torch.ones(()), atol=1e-5)
    layered = replace(seen, layers=seen.layers + 1)
    assert torch.equal(p, other.predict_rois(layered, rois))  # these heads do not see the GLM's layers
    assert not torch.equal(sln.eval().predict_rois(seen, rois), sln.predict_rois(layered, rois))


def test_mask_heads_learn_from_shares():
    head = build(small("head.kind=arcnn-visible")).roi_head.eval()
    features, shares = torch.randn(2, 88, 14, 14), torch.rand(2, 5, 28, 28)
    shares = shares / shares.sum(1, keepdim=True)
    amodal, visible = head(features)[-1].detach().sigmoid().unbind(1)
    losses = head.losses(head(features), shares)

    def slow(p, wanted):
        return float(-(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean())

    assert float(losses["amodal"].detach()) == pytest.approx(slow(amodal, 1 - shares[:, 0]), rel=1e-4)
    assert float(losses["visible"].detach()) == pytest.approx(slow(visible, shares[:, 1]), rel=1e-4)
    p = head.to_probabilities(head(features)[-1])
    assert torch.allclose(p[:, 1:].sum(1), amodal, atol=1e-6) and torch.allclose(p[:, 1], amodal * visible, atol=1e-6)


@pytest.mark.parametrize("kind", ["sln", "sln-noglm", "arcnn", "arcnn-visible"])
def test_every_head_sees_the_photo_unless_told_not_to(kind):
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    rois = ROIs.distinct(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([0]))
    for sees in (True, False):
        model = build(small(f"head.kind={kind}", f"head.see_photo={str(sees).lower()}")).eval()
        seen = model.features(images)
        other = replace(seen, photos=seen.photos.flip(3))
        same = torch.equal(model.predict_rois(seen, rois), model.predict_rois(other, rois))
        assert same is not sees and model.roi_head.sees_photo is sees


def test_pooling_on_all_levels_equals_pooling_on_the_fitting_one():
    model = build(small()).eval()
    features = model.features(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    sides = torch.tensor([8.0, 60, 150, 300, 700])
    boxes = torch.cat([torch.full((5, 2), 3.0), 3 + sides[:, None].repeat(1, 2)], 1)
    rois = ROIs.distinct(boxes, torch.tensor([0, 1, 0, 1, 0]))
    pooled = model.roi_pool(features, rois)
    model.roi_pool.static = True
    assert torch.equal(model.roi_pool(features, rois), pooled)


def test_total_loss_is_the_weighted_sum_of_eq_6():
    weights = small("loss.sem_dist=3", "loss.context=0.5").loss
    losses = {"sem_dist": torch.tensor(2.0), "box": torch.tensor(1.0), "context.sem_dist": torch.tensor(4.0)}
    assert total_loss(losses, weights) == 3 * 2 + 1 + 0.5 * 3 * 4


def test_the_photo_is_shown_at_the_cells_of_the_answer():
    """A photo that is its own x in one channel and y in another is read at the centres of all 28 x 28 cells."""
    model = build(small()).eval()
    steps = torch.arange(64.0) + 0.5
    photos = torch.stack([steps.expand(64, 64), steps[:, None].expand(64, 64), torch.zeros(64, 64)])[None] + 0.5
    x0, y0, x1, y1 = box = (5.0, 9.0, 47.0, 61.0)
    rois = ROIs.distinct(torch.tensor([box]), torch.tensor([0]))
    features = model.features(photos)
    channels = model.roi_pool(features, rois)[:, 68:80]  # after features and layers, before prompts
    assert channels.shape == (1, 12, 14, 14)
    shown = torch.nn.functional.pixel_shuffle(channels, 2)[0]
    cells = (torch.arange(28) + 0.5) / 28
    assert torch.allclose(shown[0], (x0 + cells * (x1 - x0)).expand(28, 28), atol=1e-3)
    assert torch.allclose(shown[1], (y0 + cells * (y1 - y0))[:, None].expand(28, 28), atol=1e-3)
    assert not shown[2].any()


def test_boxes_stay_exact_under_bf16():
    """In bf16 an edge near pixel 900 would move by up to 4 pixels, and an owner above 256 would be another image."""
    model = build(small("data.size=1024")).eval()
    ramp = torch.arange(256.0).view(1, 1, 1, 256).expand(1, 68, 256, 256).contiguous()
    rois = ROIs.distinct(torch.tensor([[877.9, 100.0, 941.9, 164.0]]), torch.tensor([0]))
    exact = model.roi_pool(Features([ramp[:, :64]], ramp[:, 64:], ramp), rois)
    with torch.autocast("cpu", torch.bfloat16):
        again = model.roi_pool(Features([ramp[:, :64].bfloat16()], ramp[:, 64:].bfloat16(), ramp), rois)
    assert (exact - again.float()).abs().max() <= 0.5  # a step of bf16 at 256; the box itself is exact


@pytest.mark.parametrize("version", ["paper", "v1", "v2"])
def test_where_proposals_lie_is_told_in_float32_under_bf16(version):
    """The layers before may be rounded, as all features are."""
    model = build(small(*(MODERN_SMALL if version != "paper" else ()), f"detector.version={version}")).eval()
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        objectness, deltas = model.rpn.head(model.rpn_input(model.features(images)))
    for said in (*objectness, *deltas):
        assert said.dtype == torch.float32 and not torch.equal(said, said.bfloat16().float())


def test_detections_end_where_the_photo_does():
    """Padding takes no place among them, and boxes do not leave the photo."""
    model = build(small("proposals.before_nms=2000", "proposals.after_nms=100")).eval()
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    shown = [(40, 96), (96, 30)]
    for found, (high, wide) in zip(model.detect(images, shown), shown, strict=True):
        assert len(found.boxes) > 0
        assert found.boxes.min() >= 0 and found.boxes[:, 2].max() <= wide and found.boxes[:, 3].max() <= high
    whole = model.detect(images)
    assert max(float(found.boxes.max()) for found in whole) > 90


@pytest.mark.parametrize(
    "settings, said",
    [
        (["train.steps=100", "train.stages=[{name='glm', share=0.001}, {name='joint'}]"], "stage glm has no step"),
        (["proposals.ratios=[0.0]"], "proposals.ratios.0"),
        (["proposals.ratios=[1.0, -1.0]"], "proposals.ratios.1"),
        (["proposals.ratios=[]"], "proposals.ratios"),
        (["train.workers=-1"], "train.workers"),
    ],
)
def test_settings_are_refused_together(settings, said):
    with pytest.raises(ConfigError, match=said):
        load_config("tiny", settings=settings, environment={})
