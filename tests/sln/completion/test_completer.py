"""``sln complete``: whole objects for given masks and boxes, in memory, from files, as a command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.commands import run_command
from support.networks import FEW_STEPS, one_square

import sln
from amodal_data import RLE, evaluate_all
from amodal_data.errors import PhotoError, PredictionError
from sln.completion import head_completion
from sln.completion.completer import Completer
from sln.completion.head_completion import _extent, visible_prompts
from sln.completion.pretrained import shipped_prior
from sln.completion.prompt_files import open_prompts
from sln.completion.visible_prompts import Prompts, pixel_owners
from sln.config import load_config
from sln.errors import WeightsError
from sln.inference.conditioning import GivenMasks
from sln.inference.prediction import Prediction
from sln.network.prompts import inside_boxes, sample_prompts, windows_around
from sln.network.roi_pool import ROIs, as_channels
from sln.network.sln import build
from sln.network.targets import Targets

FEW = ("data.size=64", *FEW_STEPS)


@pytest.fixture(scope="module")
def place(tiny_run):
    """The folder of scenes, a cache and a run of two steps."""
    return tiny_run.parent


@pytest.fixture(scope="module")
def data(place):
    return sln.CachedTargets(place / "t.h5", [place], load_config("tiny", environment={}).data)


@pytest.fixture(scope="module")
def completer(place):
    return Completer.from_pretrained(place / "run", "cpu")


def seen(data, at):
    """The visible masks of an image's instances that show anything."""
    modal = data.cache[at].modal()
    return modal[modal.any((1, 2))]


def test_given_masks_come_back_as_level_0_bit_for_bit(data, completer):
    for at in range(len(data)):
        masks = seen(data, at)
        found = completer.complete(data.photos[at], Prompts.of_masks(masks))
        assert np.array_equal(found.modal(), masks) and np.array_equal(found.levels == 1, masks)
        assert (found.amodal() >= masks).all() and (found.confidence[masks] == 1).all()
        for n, one in enumerate(found.scored_masks()):
            assert one.visible == RLE.from_mask(masks[n]) and np.array_equal(one.amodal.decode(), found.amodal()[n])
            assert one.probabilities is None
            levels = found.levels[n]
            assert [mask.decode().sum() for mask in one.levels] == [
                (levels == code).sum() for code in range(2, int(levels.max()) + 1)
            ]
        part = found.only([1, 0])
        assert np.array_equal(part.amodal(), found.amodal()[[1, 0]]) and np.array_equal(part.modal(), masks[[1, 0]])


def test_boxes_alone_are_completed_around_what_they_hold(data, completer):
    boxes = data.cache[0].boxes()[1].astype(float)
    boxes = boxes[boxes[:, 2] > boxes[:, 0]]
    found = completer.complete(data.photos[0], Prompts.of_boxes(boxes, data.images[0].size))
    assert len(found) == len(boxes) and (found.boxes[:, :2] <= boxes[:, :2] + 1e-3).all()
    assert (found.boxes[:, 2:] >= boxes[:, 2:] - 1e-3).all() and found.boxes.min() >= 0
    assert found.scored_mask(0).probabilities is not None


def test_boxes_alone_are_looked_at_again_with_what_was_seen(data, completer, monkeypatch):
    """The second time the head is shown the visible masks of the first; the answer is looked up on the new boxes, told
    the boxes and told nothing.
    """
    model = completer.network.model
    shown, maps, head = [], [], model.predict_rois

    def watched(features, rois, prompts=None):
        shown.append((rois.boxes.clone(), [] if prompts is None else prompts[:, 0].any((1, 2)).tolist()))
        maps.append(prompts)
        return head(features, rois, prompts)

    monkeypatch.setattr(model, "predict_rois", watched)
    boxes, masks = np.array([[5.0, 5, 40, 40], [30, 20, 70, 55]]), np.zeros((2, 60, 80), bool)
    masks[0, 5:40, 5:40] = masks[1, 20:55, 40:70] = True
    monkeypatch.setattr(head_completion, "visible_prompts", lambda found, prompts: Prompts.of_masks(masks))
    found = completer.complete(data.photos[0], Prompts.of_boxes(boxes, data.images[0].size))
    number = len(boxes)
    rounds = [any(told) for _, told in shown]
    assert rounds == [False] * 4 + [True] * 3 + [False] * 2
    assert maps[8] is None and maps[7] is not None and torch.equal(shown[7][0], shown[8][0])
    answered = shown[8][0][:number] * 80 / 64  # the photo, 60 x 80, at 64
    assert torch.allclose(answered, torch.from_numpy(found.boxes), atol=1e-3)
    by_mask = completer.complete(data.photos[0], Prompts.of_masks(seen(data, 0)))
    assert len(shown) == 14 and len(by_mask) and np.isfinite(found.boxes).all()


def test_the_mirrored_photo_is_looked_at_as_well(data, completer):
    """What is said of the photo and of its mirror image is the mean of both, so the mirror image gets the mirrored
    answer; asked for the photo alone, it need not.
    """
    photo = np.asarray(Image.open(data.photos[0]).convert("RGB"))[:, :70]  # narrower than the input
    masks = seen(data, 0)[:, :, :70]
    masks = masks[masks.any((1, 2))]
    ways = {mirror: [
        completer.complete(photo[:, ::step].copy(), Prompts.of_masks(masks[:, :, ::step]), mirror=mirror)
        for step in (1, -1)
    ] for mirror in (True, False)}  # fmt: skip
    one, other = ways[True]
    assert np.allclose(other.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [70, 0, 70, 0], one.boxes, atol=1e-3)
    assert np.allclose(other.probabilities[..., ::-1], one.probabilities, atol=1e-4)
    plain = [found.probabilities for found in ways[False]]
    assert not np.allclose(plain[0], plain[1][..., ::-1], atol=1e-4)
    none = completer.complete(photo, Prompts.of_masks(masks[:0]))
    assert len(none) == 0


def test_what_was_found_in_a_box_stands_for_its_mask():
    probabilities = np.zeros((2, 3, 4, 4), np.float32)
    probabilities[0, 1] = probabilities[1, 1, :, :] = 1
    boxes = np.array([[10, 10, 30, 30], [40, 40, 44, 44]], np.float32)
    found = Prediction((60, 80), boxes, np.ones(2, np.float32), probabilities)
    prompts = Prompts.of_boxes(np.array([[10.0, 10, 20, 30], [40, 40, 44, 44]]), (60, 80))
    seen, little = visible_prompts(found, prompts).masks
    assert little is None and seen.area == 200 and seen.decode()[10:30, 10:20].all()


def test_masks_that_share_pixels_are_a_finding_and_the_higher_score_has_them(data, completer):
    masks = np.zeros((3, 60, 80), bool)
    masks[0, 10:30, 10:30] = masks[1, 20:40, 20:40] = masks[2, 50:55, 50:55] = True
    prompts = Prompts.of_masks(masks)
    prompts = Prompts(prompts.size, prompts.boxes, prompts.masks, np.array([0.2, 0.9, 0.5], np.float32))
    owner, findings = pixel_owners(prompts, "a.jpg")
    assert [(f.code, f.message) for f in findings] == [
        ("prompts-overlap", "masks 1 and 0 share 100 pixels; 1 keeps them")
    ]
    assert (owner[20:30, 20:30] == 1).all() and (owner == 0).sum() == 300 and (owner == -1).any()
    found = completer.complete(data.photos[0], prompts)
    assert np.array_equal(found.modal()[0], masks[0] & ~masks[1]) and np.array_equal(found.modal()[1], masks[1])


def test_beside_a_prior_the_one_in_front_has_shared_pixels(data, completer):
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:50, 10:60] = masks[1, 20:30, 20:30] = True  # one inside the other
    prompts = Prompts.of_masks(masks, scores=[0.9, 0.2])
    assert not completer.complete(data.photos[0], prompts).modal()[1].any()
    beside = Completer(shipped_prior("coco-shapes"), completer.network)
    found, (finding,) = beside.complete_prompts(data.photos[0], prompts)
    assert np.array_equal(found.modal()[1], masks[1]) and finding.message.endswith("1 keeps them")


def test_what_was_given_changes_probabilities_as_said():
    """A slow loop over pixels."""
    rng = np.random.default_rng(0)
    p = torch.from_numpy(rng.dirichlet(np.ones(4) / 3, (5, 6)).transpose(2, 0, 1).astype(np.float32))
    p[:, 0, 0] = torch.tensor([0.0, 1, 0, 0])
    mask, known = rng.random((5, 6)) < 0.3, rng.random((5, 6)) < 0.5
    known |= mask
    mask[0, 0] = known[0, 0] = False
    given = GivenMasks((RLE.from_mask(mask), None), RLE.from_mask(known), (None, None))
    found = given.condition(p, 0, (slice(0, 5), slice(0, 6)))
    for y, x in np.ndindex(5, 6):
        outside, first, *behind = p[:, y, x].tolist()
        if mask[y, x]:
            wanted = [0, 1, 0, 0]
        elif known[y, x]:
            total = outside + 1.5 * (behind[0] + first + behind[1])
            wanted = [outside / total, 0, 1.5 * (behind[0] + first) / total, 1.5 * behind[1] / total]
        elif outside + sum(behind) < 1e-6:
            wanted = [1, 0, 0, 0]
        else:
            wanted = [one / (outside + sum(behind)) for one in (outside, 0, *behind)]
        assert found[:, y, x].tolist() == pytest.approx(wanted, abs=1e-5)
    boxed = given.condition(p, 1, (slice(0, 5), slice(0, 6)))  # it is not seen where somebody else is
    behind = torch.cat([p[:1], torch.zeros(1, 5, 6), p[1:2] + p[2:3], p[3:]])
    assert torch.equal(boxed, torch.where(torch.from_numpy(known), behind, p))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_boxes_that_are_not_finite_are_refused(value):
    """torchvision's ROI-Align would read beyond its maps."""
    with pytest.raises(PredictionError, match="not finite"):
        Prompts.of_boxes(np.array([[value, 1, 20, 30]]), (60, 80))


def test_extents_lie_between_cells():
    p = torch.ones(2, 3, 10, 10)
    p[0, 0, 2:6, 3:9] = 0
    p[1, 0] = 1
    windows = torch.tensor([[0.0, 0, 100, 50]] * 2)
    found = _extent(1 - p[:, 0], windows, torch.tensor([[40.0, 20, 50, 25]] * 2), 0.1, 0.4)
    # .4 of a cell's way to the next, of 10 and 5 pixels, is reached a tenth of it beyond its edge
    assert found[0].tolist() == pytest.approx([29, 9.5, 91, 30.5]) and found[1].tolist() == [40, 20, 50, 25]
    close = _extent(
        1 - p[:, 0], windows, torch.tensor([[35.0, 12, 88, 29]] * 2), 0.1, 0.4
    )  # by 6, 2.5, 3 and 1.5 of 53 and 17
    assert close[0].tolist() == [pytest.approx(29), pytest.approx(9.5), 88, 29]
    nearer = _extent(1 - p[:, 0], windows, torch.tensor([[35.0, 12, 88, 29]] * 2), 0.05, 0.4)
    assert nearer[0].tolist() == pytest.approx([29, 9.5, 91, 30.5])
    p[0, 0, :, 2] = 0.75  # a quarter sure: the edge lies nearer to the sure cell
    assert 26 < _extent(1 - p[:, 0], windows, windows.new_tensor([[40.0, 20, 50, 25]] * 2), 0.1, 0.4)[0, 0] < 30


def test_prompts_of_training_show_what_is_seen():
    targets = one_square(3)
    targets.visible_boxes[:, 1] = torch.tensor([24.0, 40, 56, 56])
    rois, prompts = sample_prompts(targets, 5, 28)
    boxes, images, instances = rois.boxes, rois.images, rois.objects
    assert images.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    for own in instances.view(3, 5).tolist():  # in turn
        assert own[0] != own[1] and own == [own[0], own[1], own[0], own[1], own[0]]
    again = sample_prompts(targets.part(slice(1, 2)), 5, 28)
    assert torch.equal(again.rois.boxes, boxes[5:10]) and torch.equal(again[1], prompts[5:10])  # whoever else is there
    for n in range(15):
        codes = targets.roi_codes(boxes[n : n + 1], images[n : n + 1], torch.tensor([0]), 28)[0]
        other = targets.roi_codes(boxes[n : n + 1], images[n : n + 1], torch.tensor([1]), 28)[0]
        mine, theirs = (codes, other) if instances[n] == 0 else (other, codes)
        if prompts[n, 0].any():
            assert torch.equal(prompts[n, 0].bool(), mine == 1) and not (prompts[n, 2].bool() & (theirs != 1)).any()
        else:
            assert not prompts[n, 2].any()
        assert prompts[n, 1].any()
    assert prompts[:, 0].any((1, 2)).any() and not prompts[:, 0].any((1, 2)).all()
    targets.visible_boxes[:] = 0
    assert len(sample_prompts(targets, 8, 28)[1]) == 0
    none = Targets.stack([one_square(1, instances=0)])
    assert len(sample_prompts(none, 8, 28)[1]) == 0


def test_windows_and_channels():
    assert windows_around(torch.tensor([[10.0, 10, 20, 40]]), 0.5).tolist() == [[-5, -5, 35, 55]]
    inside = inside_boxes(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[2.0, 0, 4, 8]]), 4)
    assert inside[0].all(0).tolist() == [False, True, False, False]
    maps = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    channels = as_channels(maps, 2)
    assert torch.equal(channels, torch.nn.functional.pixel_unshuffle(maps, 2))
    assert as_channels(maps[:0], 2).shape == (0, 12, 2, 2)


def test_the_head_sees_prompts_and_nothing_told_is_all_zero():
    model = build(load_config("tiny", settings=FEW, environment={})).eval()
    features = model.features(torch.rand(1, 3, 64, 64))
    rois = ROIs.distinct(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([0]))
    plain = model.predict_rois(features, rois)
    assert torch.equal(plain, model.predict_rois(features, rois, torch.zeros(1, 3, 28, 28)))
    assert not torch.equal(plain, model.predict_rois(features, rois, torch.ones(1, 3, 28, 28)))


def test_a_network_without_prompts_and_photos_of_another_size_are_refused(data, completer):
    network = build(load_config("tiny", settings=[*FEW, "head.prompts=false"], environment={}))
    plain = Completer(network=sln.Predictor(network, "cpu"))
    with pytest.raises(WeightsError, match="without prompts"):
        plain.complete(data.photos[0], Prompts.of_masks(seen(data, 0)))
    with pytest.raises(PhotoError, match="its prompts are of"):
        completer.complete(data.photos[0], Prompts.of_boxes(np.array([[1.0, 1, 5, 5]]), (50, 50)))


def rows_of(data, kind="mask"):
    """Prompts of all images as a file of results, each naming its instance."""
    rows = []
    for image, targets in zip(data.images, data.cache, strict=True):
        for n, mask in enumerate(targets.modal()):
            if mask.any():
                row = {"image_id": image.image_id, "category_id": 1, "score": 0.9 - 0.1 * n,
                       "gt_id": int(targets.annotation_ids[n]), "gt_region": int(targets.region_index[n])}  # fmt: skip
                x0, y0, x1, y1 = targets.boxes()[1][n].tolist()
                shape = {"bbox": [x0, y0, x1 - x0, y1 - y0]} if kind == "box" else {}
                rows.append(row | (shape or {"segmentation": RLE.from_mask(mask).to_coco()}))
    return rows


@pytest.mark.parametrize("kind", ["mask", "box"])
def test_the_command_completes_a_file_and_the_protocol_scores_it(place, data, tmp_path, kind):
    rows = rows_of(data, kind)
    (tmp_path / "known.json").write_text(json.dumps(rows[::-1]))
    done = run_command("sln", "complete", place / "run", place / "val2014", "--prompts", tmp_path / "known.json",
                       "-o", tmp_path / "out", "--save", "coco,png,html", "--device", "cpu")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{len(rows)} instances in 6 images" in done.stdout
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {(r["gt_id"], r["gt_region"]) for r in written} == {(r["gt_id"], r["gt_region"]) for r in rows}
    if kind == "mask":
        given = {(r["gt_id"], r["gt_region"]): r["segmentation"] for r in rows}
        assert all(r["visible_mask"] == given[r["gt_id"], r["gt_region"]] for r in written)
    report = evaluate_all(place / "t.h5", tmp_path / "out" / "predictions.json", ["completion", "order"], given=kind)
    figures = report.reports["completion"].figures["completion"]
    assert figures["instances"] >= len(rows) and figures["mIoU_full"] > 0
    assert (tmp_path / "out" / "predictions.html").exists() and len(
        list((tmp_path / "out" / "overlays").iterdir())
    ) == 12


def test_rows_that_cannot_be_used_are_named_and_the_rest_is_done(place, data, tmp_path):
    rows = rows_of(data)[:2] + rows_of(data, "box")[:1]
    image = rows[0]["image_id"]
    rows += [{"image_id": image}, "row", {"image_id": image, "segmentation": {"size": [3, 3], "counts": [9]}},
             {"image_id": image, "segmentation": {"size": [60, 80], "counts": [4800]}},
             {"image_id": image, "bbox": [90, 5, 4, 4]}, {"image_id": image, "segmentation": [[1, 2, 3]]},
             {"image_id": image, "segmentation": [[5, 5, 30, 5, 30, 30]], "bbox": "x"},
             {"image_id": image, "bbox": [5, 5, 4, 4], "score": 95},
             {"image_id": image, "bbox": [5, 5, 4, 4], "score": "x"}]  # fmt: skip
    (tmp_path / "known.jsonl").write_text("\n".join(map(json.dumps, rows)))
    photo = data.photos[0]
    done = run_command("sln", "complete", place / "run", photo, "--prompts", tmp_path / "known.jsonl",
                       "-o", tmp_path / "out", "--save", "coco", "--json", "--no-mirror", "--device=cpu")  # fmt: skip
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["schema"] == "sln/complete/1" and found["instances"] == 4
    said = " ".join(found["problems"])
    assert len(found["problems"]) >= 5 and "neither a mask nor a bbox" in said and "empty" in said and "polygon" in said
    assert said.count("its score is not a number from 0 to 1") == 2


def test_annotations_and_arrays_are_prompts_too(place, data, tmp_path):
    masks, size = seen(data, 0), data.images[0].size
    np.save(tmp_path / "masks.npy", masks)
    np.savez(tmp_path / "sam.npz", masks=masks[:, None].astype(np.float32))
    numbers = (masks * np.arange(1, len(masks) + 1)[:, None, None]).sum(0).astype(np.uint16)
    np.save(tmp_path / "map.npy", numbers)
    for name in ("masks.npy", "sam.npz", "map.npy"):
        found = open_prompts(tmp_path / name).read([], size)
        assert [mask.decode().tolist() for mask in found.masks] == masks.tolist()
    np.save(tmp_path / "boxes.npy", np.array([[1.0, 2, 30, 40]]))
    assert open_prompts(tmp_path / "boxes.npy").read([], size).boxes.tolist() == [[1, 2, 30, 40]]
    content = {"images": [{"id": 7}], "categories": [{"id": 3, "name": "cup"}],
               "annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}]}  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(content))
    found = open_prompts(tmp_path / "coco.json").read([0], size)
    assert found.categories[0].name == "cup" and found.boxes.tolist() == [[1, 2, 4, 6]] and found.masks == (None,)
    several = np.arange(np.prod(size)).reshape(1, *size) % 3  # 0, 1 and 2: two objects in one mask
    for bad in (np.zeros((2, 5, 5)), np.array([[5.0, 5, 1, 1]]), np.zeros((1, *size), bool), np.array(["a"]), several):
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(PredictionError):
            open_prompts(tmp_path / "bad.npy").read([], size)
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(PredictionError, match="the array cannot be read"):
        open_prompts(tmp_path / "object.npy")


def test_prompts_of_other_photos_are_an_error_that_says_whose(place, data, tmp_path):
    (tmp_path / "known.json").write_text(json.dumps([{"image_id": 999, "bbox": [1, 1, 5, 5]}]))
    done = run_command("sln", "complete", place / "run", place / "val2014", "--prompts", tmp_path / "known.json",
                       "-o", tmp_path / "out", "--device", "cpu")  # fmt: skip
    assert done.returncode == 1 and "the file is about image 999; the photos are" in done.stderr
    several = [{"image_id": image, "bbox": [1, 1, 5, 5]} for image in (998, 999)]
    (tmp_path / "several.json").write_text(json.dumps(several))
    done = run_command("sln", "complete", place / "run", data.photos[0], "--prompts", tmp_path / "several.json",
                       "-o", tmp_path / "out", "--device", "cpu")  # fmt: skip
    assert done.returncode == 1 and "the file is about image 998, image 999; the photos are" in done.stderr
    np.save(tmp_path / "boxes.npy", np.array([[1.0, 2, 30, 40]]))
    done = run_command("sln", "complete", place / "run", place / "val2014", "--prompts", tmp_path / "boxes.npy",
                       "-o", tmp_path / "out", "--device", "cpu")  # fmt: skip
    assert done.returncode == 1 and "an array has the prompts of one image" in done.stderr


def matched(path, rows, photos):
    """Which rows of a results file each photo gets, by their box."""
    path.write_text(json.dumps(rows))
    with open_prompts(path) as prompts:
        return [prompts.read(places, (40, 60)).boxes[:, 0].tolist() for places in prompts.match(photos)]


def test_file_names_say_which_photo_prompts_belong_to(tmp_path):
    """Never the place of a photo in a folder: names first, with folders; then ids that stand in a photo's name."""
    photos = [tmp_path / name for name in ("a.jpg", "day1/b.jpg", "day2/b.jpg", "7.jpg", "Cafe\u0301.jpg")]
    rows = [
        {"image_id": 2, "file_name": "a.jpg", "bbox": [1, 1, 5, 5]},
        {"image_id": 1, "file_name": "D:\\set\\day2\\b.jpg", "bbox": [2, 1, 5, 5]},
        {"image_id": 7, "bbox": [3, 1, 5, 5]},
        {"image_id": "caf\u00e9", "bbox": [4, 1, 5, 5]},
        {"image_id": "Caf\u00e9", "bbox": [5, 1, 5, 5]},
        {"image_id": 3, "file_name": "elsewhere.jpg", "bbox": [6, 1, 5, 5]},
        {"image_id": 2, "file_name": "a.jpg", "bbox": [7, 1, 5, 5]},
    ]
    assert matched(tmp_path / "p.json", rows, photos) == [[1, 7], [], [2], [3], [5]]
    for wrong, message in (
        ([{"image_id": 1, "file_name": "b.jpg", "bbox": [1, 1, 5, 5]}], "may be each of several photos"),
        ([{"image_id": 1, "bbox": [1, 1, 5, 5]}], "the file is about image 1; the photos are"),
        ([{"file_name": "x.jpg", "bbox": [1, 1, 5, 5]}], "the file is about x.jpg"),
        ([{"file_name": f"{n}/a.jpg", "bbox": [1, 1, 5, 5]} for n in (1, 2)], "may be each of several images"),
    ):
        with pytest.raises(PredictionError, match=message):
            matched(tmp_path / "p.json", wrong, photos)
    assert matched(tmp_path / "p.json", [{"bbox": [1, 1, 5, 5]}], photos[:1]) == [[1]]
    with pytest.raises(PredictionError, match="of other images"):
        matched(tmp_path / "p.json", [{"file_name": "b.jpg", "bbox": [1, 1, 5, 5]}], photos[:1])


def test_annotations_name_their_photos(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "c.jpg"}, {"id": "x", "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "bbox": [1, 1, 5, 5]}, {"image_id": "x", "bbox": [2, 1, 5, 5]}],
    }
    assert matched(tmp_path / "p.json", content, [tmp_path / "a.jpg", tmp_path / "c.jpg"]) == [[2], [1]]


def test_classes_with_text_ids_are_those_of_the_file(tmp_path):
    rows = [{"image_id": 1, "category_id": key, "bbox": [1, 1, 5, 5]} for key in ("p", "c", "cup", 2, None)]
    content = {"annotations": rows, "categories": [{"id": "c", "name": "cup"}, {"id": "p", "name": "pan"}]}
    (tmp_path / "p.json").write_text(json.dumps(content))
    with open_prompts(tmp_path / "p.json") as prompts:
        categories = prompts.read([0], (40, 60)).categories
    assert [category.name for category in categories] == ["pan", "cup", "cup", "pan", "cup"]


def test_photos_of_one_name_are_written_with_their_folders(tmp_path):
    from sln.inference.folder import photo_names

    photos = [tmp_path / "day1" / "a.jpg", tmp_path / "day2" / "a.jpg"]
    assert list(photo_names(photos).values()) == ["day1/a.jpg", "day2/a.jpg"]
    assert photo_names(photos[:1]) == {photos[0]: "a.jpg"}


def test_after_prompts_that_cannot_be_used_the_corrected_command_runs(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "photo.png")
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:50, 10:40] = masks[1, 20:40, 40:60] = True
    np.save(tmp_path / "wrong.npy", np.moveaxis(masks, 0, -1))
    np.save(tmp_path / "right.npy", masks)
    command = ["complete", tmp_path / "photo.png", "-o", tmp_path / "out", "--prompts"]
    failed = run_command("sln", *command, tmp_path / "wrong.npy")
    assert failed.returncode == 1 and not list((tmp_path / "out").glob("predictions*"))
    done = run_command("sln", *command, tmp_path / "right.npy")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 2
