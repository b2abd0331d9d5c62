import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from support.coco_oracle import figures, images_by_id, perturbed, score_amodal, slow_match
from support.commands import run_command
from support.oracle import completion, roi_levels
from support.scenes import make_scene, random_masks

from amodal_data import RLE, build_targets, evaluate, read_cocoa, write_cocoa, write_flat
from amodal_data.errors import PredictionError, SelectionError
from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import Truth, TruthImage, read_truth
from amodal_data.evaluation.matching import match
from amodal_data.evaluation.protocols.order import pair_votes
from amodal_data.evaluation.protocols.pair_order import grid_of, paste
from amodal_data.evaluation.results.scored_masks import ScoredMask
from amodal_data.export.coco import export_results
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.layering.targets import layer_scene
from amodal_data.masks.rle import parse_rle


def generated(seed, images=6, dense=3):
    """A set with the hard cases of evaluators: images without one side, ties, duplicates, rates on the limits."""
    rng = np.random.default_rng(seed)
    scenes, predictions = [], {}
    ids = (3 * np.random.default_rng(seed).permutation(images)).tolist()  # unsorted; 0 is a valid id
    for k in range(images):
        n = int(rng.integers(0, 7)) if k else 4
        masks = random_masks(rng, n, (20, 24), ("box", "edge", "twin")) if n else np.zeros((0, 20, 24), bool)
        scene = make_scene(masks)
        object.__setattr__(scene, "image_id", ids[k])
        scenes.append(scene)
        if k == 1:
            continue  # an image without detections
        detections = []
        for _ in range(int(rng.integers(0, dense * 4))):
            base = masks[int(rng.integers(n))] if n and rng.random() < 0.8 else random_masks(rng, 1, (20, 24))[0]
            mask = RLE.from_mask(perturbed(rng, base, int(rng.integers(0, 4))))
            score = float(rng.choice([0.5, rng.random()]))
            detections += [ScoredMask(mask, score)] * int(rng.integers(1, 3))
        predictions[ids[k]] = detections
    truth = read_truth(scenes)
    truth_images = []
    for image_id, image in images_by_id(truth).items():
        rates = np.where(
            rng.random(len(image.rates)) < 0.3, rng.choice([0.25, 1e-5, 0, 1], len(image.rates)), image.rates
        )
        image.targets.is_stuff[:] = rng.random(len(rates)) < 0.4
        truth_images.append(TruthImage(image_id, image.targets, rates))
    truth = Truth(tuple(truth_images), truth.dataset, truth.annotator)
    return truth, read_predictions(predictions, truth)


def compare(truth, predictions, max_dets):
    ours = score_amodal(truth, predictions, max_dets)
    checked = 0
    for (kind, occlusion), expected in figures(images_by_id(truth), predictions, max_dets).items():
        values = list(ours[kind][occlusion].values())[:-1]
        if expected is None:
            assert values == [None] * len(values)
            continue
        assert np.abs(np.array(values) - expected).max() < 1e-9, (kind, occlusion)
        checked += len(values)
    return checked


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_figures_equal_the_public_oracle_on_many_sets():
    checked = sum(compare(*generated(seed), (1, 10, 100)) for seed in range(80))
    assert checked > 2500


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("max_dets", [(1, 3), (1, 10, 100, 1000), (5,)])
def test_figures_equal_the_oracle_at_other_limits(max_dets):
    for seed in range(300, 306):
        compare(*generated(seed, images=4, dense=6), max_dets)


@pytest.mark.filterwarnings("ignore")
def test_figures_equal_the_oracle_with_1200_detections():
    truth, _ = generated(7, images=2)
    rng = np.random.default_rng(0)
    masks = [RLE.from_mask(mask) for mask in random_masks(rng, 1200, (20, 24), ("box",))]
    predictions = {
        0: [ScoredMask(mask, float(score)) for mask, score in zip(masks, rng.random(1200).round(2), strict=True)]
    }
    compare(truth, read_predictions(predictions, truth), (1, 10, 100, 1000))


def test_matching_equals_the_loop():
    rng = np.random.default_rng(0)
    for _ in range(200):
        iou = rng.choice([0.3, 0.5, 0.55, 0.7, 0.9, 1.0], (int(rng.integers(0, 9)), int(rng.integers(0, 6))))
        ignore = rng.random((3, iou.shape[1])) < 0.4
        matches = match(iou, ignore)
        hit, neutral = np.zeros((2, len(iou), 3, 10), bool)
        for table, bits in ((hit, matches.hit), (neutral, matches.neutral)):
            table[matches.rows] = np.unpackbits(bits, axis=1, count=30, bitorder="little").reshape(-1, 3, 10)
        for subset in range(3):
            for t, threshold in enumerate(np.linspace(0.5, 0.95, 10)):
                for row, neutral_match in enumerate(slow_match(iou, ignore[subset], threshold)):
                    assert (hit[row, subset, t], neutral[row, subset, t]) == (
                        neutral_match is False,
                        neutral_match is True,
                    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    path = write_cocoa(folder, 12, seed=4, size=(120, 160), photos=False)
    (folder / "results.json").write_text(json.dumps(export_results(open_dataset(path))))
    return path, folder / "results.json"


def write_results(real, folder):
    (folder / "results.json").write_text(json.dumps(export_results(open_dataset(real))))
    return folder / "results.json"


def test_order_from_true_targets_is_right_for_every_pair(scenes):
    methods = evaluate(*scenes, "order").figures["methods"]
    assert methods["R_hard"] == {"accuracy": 1, "coverage": 1, "accuracy_decided": 1} | {
        "pairs": methods["R_hard"]["pairs"]
    }
    assert methods["R_hard"]["pairs"] > 100
    assert methods["modal_vote"]["accuracy"] > 0.8
    assert methods["R_joint"] is None and methods["R_soft"] is None
    assert methods["area"]["accuracy"] < 1 and methods["y_axis"]["accuracy"] < 1


def test_order_on_real_images(real, tmp_path):
    methods = evaluate(real, write_results(real, tmp_path), "order").figures["methods"]
    assert methods["R_hard"] == {"accuracy": 1, "coverage": 1, "accuracy_decided": 1, "pairs": 32}
    assert evaluate(real, tmp_path / "results.json").figures["subsets"]["all"]["all"]["AP"] == pytest.approx(1)


def test_probabilities_give_joint_and_soft_order(scenes, tmp_path):
    path, results = scenes
    truth = read_truth(path)
    rows = json.loads(results.read_text())
    boxes, levels = [], []
    for image in truth.images:
        image_boxes = image.targets.boxes()[0].astype(float)
        codes = roi_levels(image.targets, image_boxes, np.arange(len(image_boxes)), 56)
        deepest = 7
        boxes.append(image_boxes)
        levels.append(np.stack([np.minimum(codes, deepest) == k for k in range(deepest + 1)], axis=1))
    (tmp_path / "results.json").write_text(json.dumps(rows))
    np.savez(
        tmp_path / "results.npz",
        boxes=np.concatenate(boxes).astype(np.float32),
        levels=(np.concatenate(levels) * 0.98 + 0.02 / 8).astype(np.float16),
    )
    methods = evaluate(path, tmp_path / "results.json", "order").figures["methods"]
    for name in ("R_joint", "R_soft", "modal_vote_pixel", "modal_vote_soft"):
        assert methods[name]["pairs"] == methods["R_hard"]["pairs"]
    assert methods["R_joint"]["accuracy"] > 0.97  # 56 x 56 cells blur the thinnest overlaps
    assert methods["R_soft"]["accuracy"] > 0.95
    np.savez(tmp_path / "results.npz", boxes=np.zeros((1, 4)), levels=np.zeros((1, 2, 3, 3)))
    with pytest.raises(PredictionError, match="rows"):
        evaluate(path, tmp_path / "results.json", "order")


def test_pairs_without_a_confident_pixel_are_decided_by_their_most_confident_pixels():
    """Amodal masks at C > 0.5 are just disjoint; the low probabilities of the overlap decide the order."""
    sure = np.clip(1 - (np.arange(12) - 3) / 4, 0, 1) * 0.98  # of A, falling; B is its mirror image
    assert 0 < float((sure * sure[::-1]).max()) < 0.25
    level = {"A": (1, 0), "B": (0.2, 0.8)}
    a, b = (
        replace(ScoredMask.from_codes(np.broadcast_to(inside > 0.5, (8, 12)) * 1, 1.0),
                box=np.array([0, 0, 12, 8], np.float32),
                probabilities=np.stack([1 - inside, *(share * inside for share in level[name])])[:, None].repeat(12, 1))
        for name, inside in (("A", sure), ("B", sure[::-1]))
    )  # fmt: skip
    for name in ("R_hard", "R_joint", "R_soft", "modal_vote_pixel", "modal_vote_soft"):
        assert pair_votes(a, b)[name] == 1 and pair_votes(b, a)[name] == -1
        assert pair_votes(replace(a, box=np.array([0, 0, 3, 8])), replace(b, box=np.array([9, 0, 12, 8])))[name] == 0


@pytest.mark.parametrize(("surest", "expected"), [(0.6, 1), (0.3, 1), (0.24, -1)])
def test_the_threshold_falls_only_if_no_pixel_passes(surest, expected):
    """One column votes for A, six vote for B at C_A C_B = 0.16: these count only if the one is below 0.25 itself."""
    inside = np.sqrt(np.array([surest, *[0.16] * 6]))
    a, b = (
        replace(ScoredMask.from_codes(np.ones((7, 7), int), 1.0), box=np.array([0, 0, 7, 7], np.float32),
                probabilities=np.stack([1 - inside, inside * visible, inside * (1 - visible)])[:, None].repeat(7, 1))
        for visible in (np.array([0.9, *[0.1] * 6]), np.array([0.1, *[0.9] * 6]))
    )  # fmt: skip
    votes = pair_votes(a, b)
    assert {votes[name] for name in ("R_hard", "R_joint", "R_soft", "modal_vote_pixel", "modal_vote_soft")} == {
        expected
    }


def test_perfect_predictions_have_perfect_figures(scenes):
    subsets = evaluate(*scenes).figures["subsets"]
    for subset in (occlusion for kind in subsets.values() for occlusion in kind.values()):
        assert subset["AP"] is None if subset["instances"] == 0 else subset["AR100"] == 1
    assert subsets["all"]["all"]["AP"] == pytest.approx(1)
    completion = evaluate(*scenes, "completion").figures["completion"]
    assert [completion[k] for k in ("mIoU_full", "mIoU_occ_gt_visible", "mIoU_occ_own_visible")] == [1, 1, 1]
    assert completion["occlusion_accuracy"] == 1
    assert completion["sem_dist_error"] < 0.01
    parts = evaluate(*scenes, "coco").figures["parts"]
    assert all(parts[part]["AP"] > 0.99 for part in ("amodal", "visible", "hidden"))
    counts = evaluate(*scenes, errors=True).diagnosis.counts
    assert counts["right"] == completion["instances"]
    assert sum(counts.values()) == counts["right"] + counts["duplicate"]


def to_predictions(truth, change=lambda rng, mask: mask, seed=0):
    rng = np.random.default_rng(seed)
    return {
        i: [
            ScoredMask(RLE.from_mask(change(rng, t.targets.amodal(n))), float(rng.random()))
            for n in range(len(t.rates))
        ]
        for i, t in images_by_id(truth).items()
    }


def test_figures_do_not_rise_with_false_positives_nor_depend_on_the_scale_of_scores(scenes):
    scenes_ = read_cocoa(scenes[0])
    truth = read_truth(scenes_)
    noisy = to_predictions(truth, lambda rng, mask: perturbed(rng, mask, 6))
    before = {i: list(masks) for i, masks in noisy.items()}
    base = evaluate(scenes_, noisy).figures["subsets"]
    assert noisy == before  # not mutated
    lifted = {i: [replace(mask, score=mask.score**3 * 7 - 2) for mask in masks] for i, masks in noisy.items()}
    assert evaluate(scenes_, lifted).figures["subsets"] == base
    speck = np.zeros((120, 160), bool)
    speck[0, 0] = True
    worse = {i: [*masks, ScoredMask(RLE.from_mask(speck), 2.0)] for i, masks in noisy.items()}
    after = evaluate(scenes_, worse).figures["subsets"]
    base_subsets = [(kind, occlusion) for kind in base for occlusion in base[kind]]
    for kind, occlusion in base_subsets:
        for name, value in base[kind][occlusion].items():
            assert value is None or after[kind][occlusion][name] <= value + 1e-12


def test_an_image_without_detections_is_all_misses(scenes):
    scenes_ = read_cocoa(scenes[0])
    predictions = to_predictions(read_truth(scenes_))
    half = {i: predictions[i] for i in list(predictions)[:6]}
    report = evaluate(scenes_, half, compat="sln")
    assert report.figures["subsets"]["all"]["all"]["AR100"] < 0.7
    assert report.figures["subsets_compat_sln"]["all"]["all"]["AR100"] == 1  # recall too high, as released
    assert "SLN release" in str(report)


def changed_rows(scenes, **change):
    rows = json.loads(scenes[1].read_text())
    rows[3].update(change)
    return rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999}, "image 999 is not in the ground truth"),
        ({"image_id": "x"}, "image 'x' is not in the ground truth"),
        ({"image_id": 1.5}, "names no image, its 'image_id' is 1.5"),
        ({"score": None}, "no finite 'score'"),
        ({"score": float("nan")}, "no finite 'score'"),
        ({"segmentation": None}, "has no 'segmentation'"),
        ({"segmentation": {"size": [160, 120], "counts": [19200]}}, "look swapped"),
        ({"visible_mask": {"size": [120, 160], "counts": [1]}}, "visible_mask: RLE runs sum to 1"),
        ({"levels": [7]}, "levels: an RLE is an object"),
        ({"category_id": 2**63}, "beyond 64 bits"),
    ],
)
def test_malformed_predictions_are_refused_with_their_row(scenes, tmp_path, change, message):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(changed_rows(scenes, **change)))
    with pytest.raises(PredictionError, match=message) as caught:
        evaluate(scenes[0], path, "completion")
    assert "p.json, row 3" in str(caught.value)
    path.write_text("{}")
    with pytest.raises(PredictionError, match="a results file is a list"):
        evaluate(scenes[0], path)


def test_released_proposals_split_over_files(scenes, tmp_path):
    """AmodalMask's keys: amodalMask and invisibleMask instead of segmentation and visible_mask."""
    truth = read_truth(scenes[0])
    rows = []
    for row in json.loads(scenes[1].read_text()):
        visible = parse_rle(row["visible_mask"], (120, 160)).decode()
        hidden = RLE.from_mask(parse_rle(row["segmentation"], (120, 160)).decode() & ~visible)
        rows.append({"image_id": row["image_id"], "category_id": 1, "score": 1.0, "amodalMask": row["segmentation"],
                     "invisibleMask": hidden.to_coco(), "foreground_ness": 0.5})  # fmt: skip
    for n in (0, 1):
        (tmp_path / f"{n}.json").write_text(json.dumps([row for row in rows if row["image_id"] % 2 == n]))
    files = [tmp_path / "0.json", tmp_path / "1.json"]
    assert evaluate(scenes[0], files).figures["subsets"]["all"]["all"]["AR100"] == 1
    predictions = read_predictions(files, truth)
    for image_id, image in images_by_id(truth).items():
        modal = {RLE.from_mask(mask) for mask in image.targets.modal()}
        assert {prediction.visible for prediction in predictions.of(image_id)} == modal


def test_error_types_of_small_scenes():
    masks = np.zeros((4, 20, 60), bool)
    masks[0, 5:15, 5:15], masks[1, 5:15, 10:25], masks[2, 5:15, 30:40], masks[3, 5:15, 45:55] = True, True, True, True
    scene = make_scene(masks)
    front, back, single, _ = masks

    def guess(amodal, visible=None, score=0.9):
        return ScoredMask(RLE.from_mask(amodal), score, visible=RLE.from_mask(amodal if visible is None else visible))

    shifted = np.roll(single, (4, 3), (0, 1))
    predictions = {1: [guess(front, front & ~back), guess(back), guess(back, score=0.1), guess(shifted)]}
    counts = evaluate([scene], predictions, errors=True).diagnosis.counts
    assert counts == {"right": 2, "not-proposed": 1, "hidden-missed": 0, "hidden-wrong": 0, "misplaced": 1,
                      "order-flipped": 1, "duplicate": 1}  # fmt: skip
    narrow = np.zeros((20, 60), bool)
    narrow[5:15, 15:25] = True  # the visible part of the instance behind, nothing of the hidden part
    tall = np.zeros((2, 40, 60), bool)
    tall[0, 0:26, 10:40], tall[1, 10:40, 10:40] = True, True
    visible_part = tall[1] & ~tall[0]
    predictions = {1: [guess(tall[0]), guess(visible_part)]}
    counts = evaluate([make_scene(tall)], predictions, errors=True).diagnosis.counts
    assert counts["hidden-missed"] == 1


def table(text):
    """The lines of a report after its card."""
    return text.partition("\n\n")[2].splitlines()


def test_reports_state_their_settings(scenes):
    report = evaluate(*scenes, max_dets=(10, 1, 100), nms="mask .6", given="image", errors=True)
    document = report.to_dict()
    assert document["schema"] == "amodal-data/evaluate/1"
    assert document["settings"]["max_dets"] == [1, 10, 100]
    assert document["settings"]["nms"] == "mask .6"
    assert {"annotator", "amodal-data", "pycocotools", "images"} <= set(document["settings"])
    assert {"input", "population", "averaging", "threshold", "classes"} <= set(document["settings"])
    for key, path in zip(("ground_truth", "results"), scenes, strict=True):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert document["settings"][key] == [{"name": path.name, "sha256": digest}]
    assert json.dumps(document)
    text = str(report)
    assert table(text)[0].split() == ["AP", "AR10", "AR100", "AR_N", "AR_P", "AR_H"]
    assert [line.split()[0] for line in table(text)[1:4]] == ["all", "things", "stuff"]
    assert "tied" in str(report)
    for protocol in ("coco", "order", "completion"):
        assert f"protocol {protocol}" in str(evaluate(*scenes, protocol))
    with pytest.raises(SelectionError):
        evaluate(*scenes, "order").write_images(io.StringIO())
    with pytest.raises(SelectionError, match="no protocol"):
        evaluate(*scenes, "bbox")
    out = io.StringIO()
    report.write_images(out)
    assert len(out.getvalue().splitlines()) == 13


def test_d2sa_prints_the_layout_of_table_3(tmp_path):
    path = write_flat(tmp_path, 4, "d2sa", seed=1, size=(96, 128), photos=False)
    (tmp_path / "r.json").write_text(json.dumps(export_results(open_dataset(path))))
    lines = table(str(evaluate(path, tmp_path / "r.json")))
    assert lines[0].split() == ["AP", "AR10", "AR100"]
    assert [line.split()[0] for line in lines[1:4]] == ["all", "partial", "heavy"]


def test_bordering_pairs_are_a_subset_of_overlapping_pairs(scenes):
    bordering, overlapping = (
        evaluate(*scenes, "order", pairs=pairs).figures["methods"]["R_hard"] for pairs in ("bordering", "overlap")
    )
    assert 0 < bordering["pairs"] < overlapping["pairs"]
    assert bordering["accuracy"] == 1


def test_the_command_prints_json_tables_and_csv(scenes, tmp_path):
    process = run_command("amodal-data", "evaluate", *scenes, "--csv", tmp_path / "e.csv", "--json")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["subsets"]["all"]["all"]["AP"] == pytest.approx(1)
    assert (tmp_path / "e.csv").read_text().startswith("image_id,right,")
    assert "R_hard" in run_command("amodal-data", "evaluate", *scenes, "-p", "order").stdout
    refused = run_command("amodal-data", "evaluate", *scenes, "--max-dets", "ten")
    assert refused.returncode == 2


@pytest.mark.parametrize("size", [28, 56])
def test_pasting_equals_a_slow_bilinear_reference(size):
    rng = np.random.default_rng(0)
    channels = rng.random((3, size, size)).astype(np.float32)
    box, window = np.array([3.3, 2.1, 21.7, 17.2]), (slice(0, 20), slice(1, 25))
    pasted = paste(channels, box, window)
    for y in range(20):
        for x in range(1, 25):
            row, column = (y + 0.5 - 2.1) / 15.1 * size - 0.5, (x + 0.5 - 3.3) / 18.4 * size - 0.5
            if not (-0.5 <= row <= size - 0.5 and -0.5 <= column <= size - 0.5):
                assert np.allclose(pasted[:, y, x - 1], [1, 0, 0])
                continue
            row, column = np.clip(row, 0, size - 1), np.clip(column, 0, size - 1)
            i, j = int(row), int(column)
            next_i, next_j = min(i + 1, size - 1), min(j + 1, size - 1)
            weight_i, weight_j = row - i, column - j
            expected = (1 - weight_i) * (
                (1 - weight_j) * channels[:, i, j] + weight_j * channels[:, i, next_j]
            ) + weight_i * ((1 - weight_j) * channels[:, next_i, j] + weight_j * channels[:, next_i, next_j])
            assert np.allclose(pasted[1:, y, x - 1], expected[1:], atol=1e-5)


def test_pairs_of_depth_constraint(scenes, tmp_path):
    listed = evaluate(*scenes, "order", pairs="constraint").figures["methods"]["R_hard"]
    assert listed == evaluate(*scenes, "order").figures["methods"]["R_hard"]  # here they are the overlapping ones
    build_targets(read_cocoa(scenes[0]), tmp_path / "c.h5")
    with pytest.raises(SelectionError, match="lists no depth_constraint"):
        evaluate(tmp_path / "c.h5", scenes[1], "order", pairs="constraint")


def test_annotators_are_selected_by_name(scenes, tmp_path):
    content = json.loads(scenes[0].read_text())
    content["annotations"].append({**content["annotations"][0], "id": 99, "author": "other"})
    path = tmp_path / "COCO_amodal_val2014.json"
    path.write_text(json.dumps(content))
    counts = {
        annotator: evaluate(path, scenes[1], annotator=annotator).figures["subsets"]["all"]["all"]["instances"]
        for annotator in ("first", "all", "synthetic")
    }
    assert counts["first"] == counts["synthetic"] == counts["all"] - len(content["annotations"][0]["regions"])


def test_boundary_ap_of_exact_masks(scenes):
    pytest.importorskip("faster_coco_eval")
    parts = evaluate(*scenes, "coco", boundary=True).figures["parts"]
    assert all(parts[part]["AP"] > 0.99 for part in ("amodal", "visible", "hidden"))


def test_predictions_from_level_codes(scenes):
    scenes_ = read_cocoa(scenes[0])
    predictions = {
        i: [ScoredMask.from_codes(codes, 0.5) for codes in t.targets.levels]
        for i, t in images_by_id(read_truth(scenes_)).items()
    }
    assert evaluate(scenes_, predictions, "order").figures["methods"]["R_hard"]["accuracy"] == 1


def test_predictions_in_python_are_checked(scenes):
    scenes_ = read_cocoa(scenes[0])
    small = ScoredMask(RLE.from_mask(np.ones((5, 5))), 0.5)
    with pytest.raises(PredictionError, match="a mask is"):
        evaluate(scenes_, {1: [small]})
    with pytest.raises(PredictionError, match="no finite 'score'"):
        evaluate(scenes_, {1: [ScoredMask(RLE.from_mask(np.ones((120, 160))), float("nan"))]})
    with pytest.raises(PredictionError, match="not in the ground truth"):
        evaluate(scenes_, {999: []})
    with pytest.raises(PredictionError, match="named twice"):
        evaluate(scenes[0], [scenes[1], scenes[1]])


def test_category_0_is_a_category(tmp_path):
    scene = make_scene(np.ones((1, 4, 4), bool))
    instance = replace(scene.instances[0], category_id=0)
    zero = replace(scene, instances=(instance,))
    (tmp_path / "r.json").write_text(
        json.dumps([{"image_id": 1, "category_id": 0, "score": 1, "segmentation": instance.amodal.to_coco()}])
    )
    assert evaluate([zero], tmp_path / "r.json", "coco").figures["parts"]["amodal"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"text", b""])
def test_malformed_sidecars_are_refused(scenes, tmp_path, content):
    (tmp_path / "r.json").write_bytes(scenes[1].read_bytes())
    (tmp_path / "r.npz").write_bytes(content)
    with pytest.raises(PredictionError, match="not a sidecar"):
        evaluate(scenes[0], tmp_path / "r.json", "order")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("max_dets", [(1, 10, 100), (2, 3, 5), (1,), (1, 2, 3, 4)])
@pytest.mark.parametrize("categories", [1, 5, 40])
def test_categories_evaluated_in_groups_have_equal_figures(categories, max_dets):
    """The oracle is the original COCOeval, over all categories and images at once."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from amodal_data.evaluation.protocols import cocoeval as coco

    rng = np.random.default_rng(categories)
    images = [{"id": image_id, "height": 40, "width": 40} for image_id in range(1, 9)]
    annotations, results = [], []
    for _ in range(120):
        x, y, size = rng.integers(0, 20, 3)
        mask = np.zeros((40, 40), bool)
        mask[y : y + size + 3, x : x + size + 3] = True
        image_id, category = int(rng.integers(1, 9)), int(rng.integers(1, categories + 1))
        rows = annotations if rng.random() < 0.5 else results
        score = {} if rows is annotations else {"score": float(rng.random())}
        rows.append(coco._row(category, RLE.from_mask(mask), **score))
        rows[-1] |= {"id": len(rows), "image_id": image_id}
    with contextlib.redirect_stdout(io.StringIO()):
        datasets = [coco._dataset(COCO(), images, rows) for rows in (annotations, results)]
        score = COCOeval(*datasets, "segm")
        score.params.maxDets = list(max_dets)
        score.evaluate()
        score.accumulate()
        if max_dets == (1, 10, 100):  # COCOeval's own summary has no other limits
            score.summarize()
    sums, counts = coco._mask_figures(coco._Content(images, annotations, results), max_dets)
    figures_ = np.where(counts > 0, sums / np.maximum(counts, 1), -1).tolist()
    precision, recall = score.eval["precision"][..., -1], score.eval["recall"]
    assert figures_ == pytest.approx(
        score.stats.tolist()
        if max_dets == (1, 10, 100)
        else [
            *(_mean_of(part) for part in (precision[..., 0], precision[0, ..., 0], precision[5, ..., 0])),
            *(_mean_of(precision[..., size]) for size in (1, 2, 3)),
            *(_mean_of(recall[:, :, 0, limit]) for limit in range(len(max_dets))),
            *(_mean_of(recall[:, :, size, -1]) for size in (1, 2, 3)),
        ],
        abs=1e-12,
    )


def _mean_of(values):
    defined = values[values > -1]
    return defined.mean() if defined.size else -1


@pytest.mark.parametrize("probabilities", [False, True])
def test_completion_equals_the_figures_of_pixels(probabilities):
    """Counted by runs; also without a prediction, and where levels extend beyond the amodal mask, as in some files."""
    rng, size = np.random.default_rng(5), (13, 11)
    images, predictions, codes, grids = [], {}, [], []
    for k in range(12):
        scene = make_scene(random_masks(rng, 5, size))
        object.__setattr__(scene, "image_id", k)
        images.append(scene)
        predictions[k] = []
        targets = layer_scene(scene)
        for n, code in enumerate(targets.levels):
            level = np.where(rng.random(size) < 0.3, rng.integers(1, 4, size), 0)
            amodal, visible = perturbed(rng, code > 0, 3), perturbed(rng, code == 1, 2)
            rles = tuple(RLE.from_mask(level == depth) for depth in (1, 2, 3)) if rng.random() < 0.8 else ()
            key = (int(targets.annotation_ids[n]), int(targets.region_index[n]))
            mask = ScoredMask(RLE.from_mask(amodal), 0.5, visible=RLE.from_mask(visible), levels=rles, instance=key)
            if probabilities:
                cells = rng.dirichlet(np.ones(4), (5, 5)).transpose(2, 0, 1)
                mask = replace(mask, box=np.array([1, 2, 9, 12], np.float32), probabilities=cells)
            if missing := rng.random() < 0.2:
                mask = ScoredMask(RLE(size, np.zeros(0, np.int32)), 0.5)
            codes.append(code)
            grids.append(grid_of(mask, (slice(0, size[0]), slice(0, size[1]))))
            predictions[k] += [] if missing else [mask]
    figures = evaluate(images, predictions, "completion").figures["completion"]
    assert figures == pytest.approx(completion(codes, grids), abs=1e-12)
