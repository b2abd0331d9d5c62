"""What training draws: all images of a batch at once, as each would be by itself."""

import pytest
import torch
from support.networks import MODERN_SMALL
from torchvision.models.detection.rpn import RegionProposalNetwork

from sln.config import load_config
from sln.network.context import context_maps, sample_context
from sln.network.sampling import sample, sample_rois, shuffle_keys
from sln.network.sln import build
from sln.network.targets import Targets


def scattered(n, side=64, seed=0):
    """Targets of three images with n, 1 and no instances at random places."""
    rng = torch.Generator().manual_seed(seed)
    each = []
    for count in (n, 1, 0):
        corner = torch.rand(1, count, 2, generator=rng) * side * 0.7
        boxes = torch.cat([corner, corner + 2 + side * 0.4 * torch.rand(1, count, 2, generator=rng)], 2)
        regions, there = torch.ones(1, side, side, dtype=torch.int32), torch.ones(1, count, dtype=torch.bool)
        table, unknown = torch.zeros(1, 2, count, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.bool)
        ids = torch.tensor([len(each)])
        each.append(Targets(regions, table, unknown, boxes, boxes, torch.zeros_like(there).long(), there, ids, ids))
    return Targets.stack(each)


def test_all_images_at_once_are_what_torchvision_does_with_each(monkeypatch):
    proposals = build(load_config("tiny", settings=["data.size=64", *MODERN_SMALL], environment={})).rpn
    targets = scattered(5)
    corner = 70 * torch.rand(400, 2) - 10
    anchors = torch.cat([corner, corner + 1 + 30 * torch.rand(400, 2)], 1)
    own = [{"boxes": boxes[there]} for boxes, there in zip(targets.boxes, targets.present, strict=True)]
    wanted, matched = proposals.assign_targets_to_anchors([anchors] * 3, own)
    for values in (2**24, 1):  # together, one by one
        monkeypatch.setattr("sln.network.rpn._MAX_VALUES", values)
        labels, boxes = proposals.assign(anchors, targets)
        assert torch.equal(labels, torch.stack(wanted).long()) and (labels[:2] > 0).any(1).all()
        assert torch.equal(boxes[labels > 0], torch.stack(matched)[labels > 0])
    decoded = torch.cat([anchors, anchors[:, :2].repeat(1, 2)], 0)[None].repeat(3, 1, 1)  # half of them have no area
    scores, shown, each = torch.randn(3, 800), [(64, 64), (50, 40), (64, 30)], [700, 100]
    thinned_alike(proposals, decoded, scores, shown, each)
    monkeypatch.setattr("sln.network.rpn._NMS_FACTOR", 2)
    proposals._post_nms_top_n["training"] = 7  # duplicates are removed, so more than 14 proposals are needed
    crowd = torch.cat([decoded[:, :1] + 0.1 * torch.rand(3, 100, 4), decoded[:, 100:]], 1)
    thinned_alike(proposals, crowd, torch.cat([scores[:, :100] + 9, scores[:, 100:]], 1), shown, each)


def thinned_alike(proposals, decoded, scores, shown, each):
    theirs = RegionProposalNetwork.filter_proposals(proposals, decoded, scores, shown, each)
    for found, expected in zip(proposals.filter_proposals(decoded, scores, shown, each), theirs, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_regions_drawn_do_not_depend_on_what_else_is_in_the_batch():
    targets = scattered(6)
    found = [torch.cat([boxes + shift for shift in (0, 0.5, 1)]) for boxes in targets.boxes]
    found[1] = found[1][:2]
    together = sample_rois(found, targets, 9)
    for at in range(3):
        alone = sample_rois(found[at : at + 1], targets.part(slice(at, at + 1)), 9)
        here = together.images == at
        assert torch.equal(alone.boxes, together.boxes[here])
        assert torch.equal(alone.objects, together.objects[here])
        assert int(here.sum()) == (9, 2, 0)[at]
    nothing = [boxes[:0] for boxes in found]  # of a detector that finds none there are the true ones
    assert torch.equal(sample_rois(nothing, targets, 9).boxes, targets.boxes[targets.present])


def test_the_first_of_the_candidates_are_those_of_the_smallest_keys():
    candidates, keys = torch.rand(20, 30) < 0.4, shuffle_keys(30, torch.arange(20))
    taken = torch.randint(0, 9, (20,))
    for most, used in ((7, taken), (40, taken), (5, None), (0, None)):
        found = sample(candidates, keys, most, used)
        for row in range(20):
            left = max(0, most - (0 if used is None else int(used[row])))
            own = sorted(candidates[row].nonzero()[:, 0].tolist(), key=lambda at: int(keys[row, at]))[:left]
            assert found[row].nonzero()[:, 0].tolist() == sorted(own)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_and_shows_the_same():
    """There many images are looked at together, on a CPU one after the other."""
    model = build(load_config("tiny", settings=["data.size=64", *MODERN_SMALL], environment={}))
    targets, images = scattered(6), torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    losses = model(images, targets)
    found = [boxes.repeat(4, 1) + torch.rand(4 * len(boxes), 1) for boxes in targets.boxes]
    sampled = sample_context(sample_rois(found, targets, 9), targets.seeds)
    probabilities = torch.rand(len(sampled), 5, 28, 28).softmax(1)
    maps = context_maps(probabilities, sampled, 64)
    there = [one.cuda() for one in found], targets.to("cuda")
    again = sample_context(sample_rois(*there, 9), targets.seeds.cuda())
    for name in ("boxes", "images", "objects", "weights"):
        assert torch.equal(getattr(sampled, name), getattr(again, name).cpu()), name
    again_maps = context_maps(probabilities.cuda(), again, 64)
    assert torch.allclose(maps, again_maps.cpu(), atol=1e-4)
    on_gpu = model.cuda()(images.cuda(), there[1])
    for name, loss in losses.items():
        assert float(on_gpu[name].detach()) == pytest.approx(float(loss.detach()), rel=0.02, abs=0.02)
