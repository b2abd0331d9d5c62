"""Plain COCO, crowds, and what nobody knows: from the file through the cache to training and figures."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from support.coco_oracle import prepared, score_amodal
from support.commands import ROOT, run_command
from support.scenes import make_scene, random_masks

from amodal_data import (
    RLE,
    TargetCache,
    build_targets,
    evaluate,
    iter_annotations,
    layer_scene,
    read_annotations,
    read_coco,
    read_d2sa,
    verify_cache,
    write_cocoa,
    write_flat,
)
from amodal_data.cache import CachedImage
from amodal_data.errors import LayoutError
from amodal_data.evaluation.ground_truth import Truth, TruthImage
from amodal_data.evaluation.results.scored_masks import Predictions, ScoredMask
from amodal_data.export.coco import export_coco

COCO128 = ROOT.parent / "shared" / "data" / "coco128" / "instances.json"


def coco_file(rng, images=6, size=(40, 50)):
    """A COCO file of random modal masks, one instance in four a crowd."""
    annotations = []
    for image_id in range(1, images + 1):
        for mask in random_masks(rng, int(rng.integers(1, 6)), size, ("box", "speckle", "edge")):
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(rng.integers(1, 3))}
            annotation |= {"iscrowd": int(rng.random() < 0.25), "area": int(mask.sum())}
            annotations.append(annotation | {"segmentation": RLE.from_mask(mask).to_coco()})
    entries = [{"id": n, "file_name": f"{n}.jpg", "height": size[0], "width": size[1]} for n in range(1, images + 1)]
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "box"}]
    return {"images": entries, "annotations": annotations, "categories": categories}


@pytest.fixture
def modal(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(coco_file(np.random.default_rng(3))))
    return path


def test_masks_are_at_level_0_and_crowds_are_unknown(modal, tmp_path):
    content = json.loads(modal.read_text())
    scenes = read_annotations(modal, masks="modal")
    build_targets(scenes, tmp_path / "m.h5")
    cache = TargetCache(tmp_path / "m.h5")
    assert cache.info.masks == "modal" and verify_cache(cache.path, scenes).ok
    crowds = 0
    for n, image in enumerate(cache.images()):
        annotations = [entry for entry in content["annotations"] if entry["image_id"] == image.image_id]
        decoded = [coco_mask.decode(entry["segmentation"]).astype(bool) for entry in annotations]
        instances = [mask for entry, mask in zip(annotations, decoded, strict=True) if not entry["iscrowd"]]
        unknown = [mask for entry, mask in zip(annotations, decoded, strict=True) if entry["iscrowd"]]
        targets = cache[n]
        assert np.array_equal(targets.levels, np.array(instances).reshape(-1, *image.size))  # codes 0 and 1
        assert np.array_equal(
            targets.map_values(targets.unknown), np.any([np.zeros(image.size, bool), *unknown], axis=0)
        )
        assert not targets.ambiguous.any() and not len(targets.pairs)
        crowds += len(unknown)
    assert crowds and sum(entry.code == "crowd-unknown" for entry in cache.findings) == crowds


def test_modal_or_amodal_is_never_guessed(modal, tmp_path):
    with pytest.raises(LayoutError) as raised:
        read_annotations(modal)
    assert "--masks modal" in str(raised.value.fix)
    cocoa = write_cocoa(tmp_path, 2, seed=1, size=(40, 60))
    for read in (read_annotations, lambda path, masks: iter_annotations(path, masks=masks)):
        with pytest.raises(LayoutError, match="already tells amodal from visible"):
            read(cocoa, masks="modal")
    flat = write_flat(tmp_path / "flat", 2, "d2sa", seed=1, size=(40, 60))
    for read in (read_annotations, lambda path, masks: iter_annotations(path, masks=masks)):
        with pytest.raises(LayoutError, match="already tells amodal from visible"):
            read(flat, masks="modal")


def test_a_stream_gives_the_same_scenes(modal):
    scenes, stream = read_coco(modal), iter_annotations(modal, masks="modal")
    assert (scenes.dataset, scenes.settings) == (stream.dataset, stream.settings)
    by_id = {scene.image_id: scene for scene in stream}
    for scene in scenes:
        targets, streamed = layer_scene(scene), layer_scene(by_id[scene.image_id])
        assert np.array_equal(targets.levels, streamed.levels)
        assert np.array_equal(targets.map_values(targets.unknown), streamed.map_values(streamed.unknown))


def test_inspect_says_modal_and_fit_refuses_it(modal, tmp_path):
    cache = tmp_path / "m.h5"
    built = run_command("amodal-data", "build-targets", modal, "--masks", "modal", "-o", cache)
    assert built.returncode == 0, built.stderr
    text = run_command("amodal-data", "inspect", cache).stdout
    assert "modal masks: visible parts" in text and "unknown pixels" in text
    assert (
        text.split("\n\n")[1:]
        == run_command("amodal-data", "inspect", modal, "--masks", "modal").stdout.split("\n\n")[1:]
    )
    assert run_command("amodal-data", "verify", cache, "--annotations", modal).returncode == 0
    pytest.importorskip("torch")
    refused = run_command("sln", "fit", cache, "--images", tmp_path, "--run", tmp_path / "run", "--preset", "tiny")
    assert refused.returncode == 2 and "modal" in refused.stderr and not (tmp_path / "run").exists()


def test_unknown_regions_change_no_level():
    rng = np.random.default_rng(5)
    for _ in range(200):
        masks = random_masks(rng, int(rng.integers(0, 5)))
        unknown = random_masks(rng, 1)[0]
        size = masks.shape[1:]
        plain = layer_scene(make_scene(masks))
        targets = layer_scene(make_scene(masks, unknown=RLE.from_mask(unknown)))
        assert np.array_equal(targets.levels.reshape(-1, *size), plain.levels.reshape(-1, *size))
        assert np.array_equal(targets.map_values(targets.unknown), unknown) and not plain.unknown.any()
        assert targets.unknown_rle() == RLE.from_mask(unknown)


def test_crowds_of_flat_and_exported_files_are_unknown(tmp_path):
    rng = np.random.default_rng(7)
    masks = random_masks(rng, 3, (30, 40), ("box",))
    unknown = random_masks(rng, 1, (30, 40), ("speckle",))[0]
    targets = layer_scene(make_scene(masks, unknown=RLE.from_mask(unknown)))
    exported = export_coco([(CachedImage(1, "a.jpg", (30, 40)), targets)])
    assert [entry["iscrowd"] for entry in exported["annotations"]] == [0, 0, 0, 1]
    for part in ("amodal", "modal"):
        path = tmp_path / f"{part}.json"
        path.write_text(json.dumps(export_coco([(CachedImage(1, "a.jpg", (30, 40)), targets)], part)))
        reread = layer_scene((read_d2sa if part == "amodal" else read_coco)(path)[0])
        assert np.array_equal(reread.map_values(reread.unknown), unknown)
        assert np.array_equal(reread.modal()[reread.areas()[1] > 0], targets.modal()[targets.areas()[1] > 0])


def random_trial(rng, size=(30, 40)):
    """Three images with an unknown region each; detections of instances, inside the unknown, and anywhere."""
    images, detections = {}, {}
    for image_id in range(1, 4):
        unknown = random_masks(rng, 1, size, ("box", "empty"))[0]
        masks = random_masks(rng, int(rng.integers(1, 5)), size, ("box",))
        truth = TruthImage.from_scene(make_scene(masks, unknown=RLE.from_mask(unknown)))
        images[image_id] = TruthImage(image_id, truth.targets, truth.rates, masks=truth.masks)
        candidates = [*masks, *(random_masks(rng, 4, size, ("box",)) & unknown), *random_masks(rng, 2, size, ("box",))]
        detections[image_id] = tuple(
            ScoredMask(RLE.from_mask(truth), float(rng.random())) for truth in candidates if truth.any()
        )
    return images, Predictions(detections)


def coco_ap(images, predictions, *, crowds):
    """COCOeval's, the unknown regions as crowds, or not at all."""
    extra = {n: np.zeros(len(truth.rates), bool) for n, truth in images.items()}
    score = prepared(images, predictions, extra, (1, 10, 100))
    rows = score.cocoGt.dataset["annotations"]
    for image_id, image in images.items():
        if crowds and image.targets.unknown.any():
            mask = image.targets.unknown_rle()
            rows.append({"id": len(rows) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 1,
                         "segmentation": mask.to_coco(), "area": mask.area})  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        score.cocoGt.createIndex()
        score.evaluate()
        score.accumulate()
    return float(score.eval["precision"][:, :, 0, 0, -1].mean())


def test_detections_in_unknown_pixels_count_as_in_coco_crowds():
    rng = np.random.default_rng(11)
    excused = 0
    for _ in range(40):
        images, predictions = random_trial(rng)
        truth = Truth(list(images.values()), "custom", "first")
        ap = score_amodal(truth, predictions)["all"]["all"]["AP"]
        assert ap == pytest.approx(coco_ap(images, predictions, crowds=True), abs=1e-12)
        excused += ap != pytest.approx(coco_ap(images, predictions, crowds=False))
    assert excused > 10


def test_both_protocols_ignore_detections_in_unknown_pixels():
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:10, 2:10] = masks[1, 12:18, 15:28] = True
    rles = [RLE.from_mask(mask) for mask in masks]
    detections = {1: [ScoredMask(rles[0], 0.5), ScoredMask(RLE.from_mask(masks[1] & (np.arange(30) < 22)), 0.9)]}
    plain, unknown = make_scene(masks[:1]), make_scene(masks[:1], unknown=rles[1])
    for scene, ap in ((plain, 0.5), (unknown, 1.0)):
        assert evaluate([scene], detections).figures["subsets"]["all"]["all"]["AP"] == pytest.approx(ap)
        parts = evaluate([scene], detections, "coco").figures["parts"]
        assert parts["amodal"]["AP"] == pytest.approx(ap)


def test_unknown_pixels_are_neither_background_nor_depth():
    torch = pytest.importorskip("torch")
    from sln.network.targets import Targets

    rng = np.random.default_rng(13)
    regions = torch.from_numpy(rng.integers(0, 4, (2, 32, 32)).astype(np.int32))
    table = torch.from_numpy(rng.integers(0, 3, (2, 4, 2)).astype(np.uint8))
    unknown = torch.tensor([[False, True, False, False], [False, False, False, False]])
    boxes, ids = torch.zeros(2, 2, 4), torch.arange(2)
    valid, classes = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.int64)
    targets = Targets(regions, table, unknown, boxes, boxes, classes, valid, ids, ids)
    depth = targets.depth(4)
    visible = regions[:, 2::4, 2::4]
    assert torch.equal(depth == -1, (visible == 0) | ((visible == 1) & torch.tensor([True, False])[:, None, None]))
    windows = torch.tensor([[0.0, 0, 32, 32], [3, 5, 9, 20], [-4, -4, 4, 4], [30, 30, 50, 50]])
    shares = targets.unknown_share(windows.expand(2, -1, -1))
    for box, share in zip(windows.int().tolist(), shares[0].tolist(), strict=True):
        x0, y0, x1, y1 = box
        inside = (regions[0, max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] == 1).sum()
        assert share == pytest.approx(int(inside) / ((x1 - x0) * (y1 - y0)))
    assert not shares[1].any()


def test_negative_examples_avoid_unknown_pixels():
    torch = pytest.importorskip("torch")
    from support.networks import MODERN_SMALL, one_square

    from sln.config import load_config
    from sln.network.sln import build

    targets = one_square(1)
    everything = targets.unknown.clone()
    everything[:, 1] = True  # all that is no instance
    hidden = replace(targets, unknown=everything)
    model = build(load_config("modern", settings=["data.size=64", "encoder.weights=''", *MODERN_SMALL], environment={}))
    proposals = torch.tensor([[0.0, 0, 20, 6], [42, 0, 64, 20], [8, 8, 40, 40]])
    for given, expected in ((targets, 2), (hidden, 0)):
        chosen = model.box_head._sample([proposals], given)
        assert int((chosen.labels == 0).sum()) == expected and len(chosen.boxes) == len(chosen.labels)
    with torch.no_grad():
        images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
        assert model(images, hidden)["global_layering"] != model(images, targets)["global_layering"]


@pytest.mark.skipif(not COCO128.exists(), reason="the shared data are not here")
def test_real_coco_is_read_as_modal(tmp_path):
    report = build_targets(read_coco(COCO128), tmp_path / "m.h5")
    assert (report.images, report.instances) == (128, 929)
    assert sum(finding.code == "crowd-unknown" for finding in report.findings) == 10
    assert verify_cache(tmp_path / "m.h5", read_coco(COCO128)).ok
    assert (tmp_path / "m.h5").stat().st_size < 2**20
