"""The context stage: context maps beside a plain reference, and what is sampled in training."""

import pytest
import torch
from support.networks import MODERN_SMALL, one_square, small

from sln.network.context import _maps_of_group, context_maps, sample_context
from sln.network.duplicates import group_duplicates
from sln.network.paste_masks import paste
from sln.network.roi_pool import ROIs
from sln.network.sln import build

SIDE = 16


def regions(seed, n=4, levels=3):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 6
    boxes = torch.cat([corner, corner + 6 + 4 * torch.rand(n, 2, generator=generator)], 1)
    return torch.randn(n, levels + 1, 8, 8, generator=generator).mul(2).softmax(1), boxes


def plainly(probabilities, boxes, weights, objects, n):
    """The maps of region n's others on the whole grid, [K + 5, SIDE, SIDE]."""
    drawn = paste(probabilities, boxes, (SIDE, SIDE))
    levels = torch.arange(drawn.shape[1] - 1).view(-1, 1, 1)
    inside, depth = 1 - drawn[:, 0], (drawn[:, 1:] * levels).sum(1)
    taken, count, none = torch.zeros_like(drawn[0, 1:]), torch.zeros(SIDE, SIDE), torch.ones(SIDE, SIDE)
    deep, front, behind = torch.zeros(3, SIDE, SIDE)
    for j in range(len(boxes)):
        same = [i for i in range(len(boxes)) if objects[i] == objects[j]]
        if objects[j] == objects[n] or j != max(same, key=lambda i: (weights[i], -i)):
            continue
        taken += weights[j] * drawn[j, 1:]
        count += weights[j] * inside[j]
        none *= 1 - weights[j] * inside[j]
        deep += weights[j] * depth[j]
        shared = (inside[n] * inside[j]).sum().clamp(min=1e-6)
        ahead = torch.sigmoid(4 * ((depth[n] * inside[j]).sum() - (depth[j] * inside[n]).sum()) / shared)
        front += weights[j] * ahead * inside[j]
        behind += weights[j] * (1 - ahead) * inside[j]
    return torch.cat([taken, torch.stack([count, 1 - none, deep / count.clamp(min=1e-3), front, behind])])


@pytest.mark.parametrize("objects", [(0, 1, 2, 3), (0, 0, 2, 3), (5, 5, 5, 1)])
def test_maps_are_those_of_the_others(objects):
    probabilities, boxes = regions(0)
    boxes[2] = torch.tensor([0.0, 0, SIDE, SIDE])
    weights, objects = torch.tensor([0.9, 0.4, 0.7, 1.0]), torch.tensor(objects)
    images = torch.zeros(4, dtype=torch.int64)
    found = context_maps(probabilities, ROIs(boxes, images, objects, weights), SIDE)
    wanted = plainly(probabilities, boxes, weights, objects, 2)
    half = torch.nn.functional.interpolate(wanted[None], size=(8, 8), mode="bilinear", align_corners=False)
    assert torch.allclose(found[2], half[0], atol=1e-4)


def test_photos_and_the_order_of_regions_make_no_difference():
    (one, boxes), (two, others) = regions(1), regions(2)
    weights, objects, images = torch.rand(4), torch.arange(4), torch.zeros(4, dtype=torch.int64)
    rois = ROIs(boxes, images, objects, weights)
    alone = context_maps(one, rois, SIDE)
    pair = ROIs(torch.cat([boxes, others]), torch.cat([images, images + 1]), objects.repeat(2), weights.repeat(2))
    both = context_maps(torch.cat([one, two]), pair, SIDE)
    assert torch.allclose(both[:4], alone, atol=1e-6)
    at_once = _maps_of_group(torch.cat([one, two]), pair, SIDE)
    assert torch.allclose(at_once, both, atol=1e-5)  # as a GPU looks at them
    turned = torch.tensor([2, 0, 3, 1])
    again = context_maps(one[turned], ROIs(boxes[turned], images, objects[turned], weights[turned]), SIDE)
    assert torch.allclose(again, alone[turned], atol=1e-5)
    assert not context_maps(one[:1], ROIs(boxes[:1], images[:1], objects[:1], weights[:1]), SIDE).any()


def test_bf16_takes_nothing_from_what_is_drawn_and_counted():
    """Under autocast products would be rounded: a sum minus one's own share would be that rounding."""
    probabilities, boxes = regions(3, n=6)
    weights = torch.rand(6)
    rois = ROIs(boxes, torch.zeros(6, dtype=torch.int64), torch.arange(6), weights)
    plain = context_maps(probabilities, rois, SIDE), paste(probabilities, boxes, (90, 90))
    objects = group_duplicates(probabilities, boxes, weights, 90)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(context_maps(probabilities, rois, SIDE), plain[0])
        assert torch.equal(paste(probabilities, boxes, (90, 90)), plain[1])
        assert torch.equal(group_duplicates(probabilities, boxes, weights, 90), objects)


@pytest.mark.parametrize("kind", ["sln", "sln-noglm", "arcnn", "arcnn-visible"])
def test_a_new_pass_changes_nothing_and_learns(kind):
    model = build(small(*MODERN_SMALL, f"head.kind={kind}", preset="modern"))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    losses = model(images, one_square())
    sum(loss for name, loss in losses.items() if name.startswith("context.")).backward()
    assert model.context.layering.classify.weight.grad.abs().sum() > 0
    model.eval()
    features = model.features(images)
    boxes = torch.tensor([[4.0, 4, 40, 40], [8, 8, 60, 50], [0, 0, 64, 64]])
    rois = ROIs.distinct(boxes, torch.tensor([0, 0, 1]))
    first = model.predict_rois(features, rois)
    torch.nn.init.normal_(model.context.layering.classify.weight, std=0.3)
    second = model.predict_rois(features, rois)
    assert (second - first).abs().max() > 1e-3
    model.context = None
    assert torch.equal(model.predict_rois(features, rois), first)


def test_training_shows_true_boxes_and_what_a_detector_leaves():
    images = torch.arange(200).repeat_interleave(9)
    instances = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2]).repeat(200)
    seeds = torch.arange(200)
    rois = ROIs(torch.zeros(1800, 4), images, instances)
    sampled, again = sample_context(rois, seeds), sample_context(rois, seeds)
    weights, objects = sampled.weights, sampled.objects
    assert torch.equal(weights, again.weights) and torch.equal(objects, again.objects)
    weights, objects = weights.view(200, 9), objects.view(200, 9)
    true = (weights[:, :3] == 1).all(1) & (weights[:, 3:] == 0).all(1)
    assert 0.15 < true.float().mean() < 0.45
    assert (objects[true] == torch.tensor([0, 1, 2] * 3)).all()
    known = torch.stack([((objects == n) & (weights > 0)).sum(1) for n in range(3)], 1)
    assert known.max() == 1  # of an instance at most one region counts
    assert (known == 0).any() and (objects >= 10**6).any()  # some are missing, some are unmatched duplicates
    assert weights.min() == 0 and weights.max() <= 1


def test_one_object_is_what_shares_its_visible_part():
    def square(x0, y0, x1, y1, level):
        p = torch.zeros(4, SIDE, SIDE)
        p[0] = 1
        p[0, y0:y1, x0:x1], p[level, y0:y1, x0:x1] = 0, 1
        return p

    probabilities = torch.stack([
        square(0, 0, 10, 10, 1), square(1, 0, 10, 10, 1), square(0, 0, 10, 10, 2), square(12, 12, 16, 16, 1),
    ])  # fmt: skip
    boxes = torch.tensor([[0.0, 0, SIDE, SIDE]]).repeat(4, 1)
    found = group_duplicates(probabilities, boxes, torch.tensor([0.5, 0.9, 0.8, 0.1]), SIDE)
    assert found[0] == found[1] and len(set(found.tolist())) == 3  # what is hidden behind is something else
