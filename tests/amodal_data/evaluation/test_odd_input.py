"""Evaluation of input that is unusual but legitimate: right, or refused, never silently wrong."""

import contextlib
import io
import json
import os
import unicodedata
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support.commands import run_command

from amodal_data import RLE, build_targets, evaluate, evaluate_all, read_annotations, verify_cache
from amodal_data.cache import TargetCache
from amodal_data.errors import AnnotationError, PredictionError, SelectionError
from amodal_data.evaluation import ground_truth
from amodal_data.evaluation.methods import name_methods
from amodal_data.evaluation.report import PROTOCOLS
from amodal_data.evaluation.results.results_writer import ResultsWriter
from amodal_data.evaluation.results.scored_masks import ScoredMask

HEIGHT, WIDTH = 40, 60


def square(x, y, side=10):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + side, x : x + side] = True
    return RLE.from_mask(mask).to_coco()


def row(image_id, x, y, score=0.9, category=1, side=10, **fields):
    mask = square(x, y, side)
    return {"image_id": image_id, "category_id": category, "score": score, "segmentation": mask, **fields}


def annotation(number, image_id, x, y, category=1, side=10, **fields):
    mask = square(x, y, side)
    entry = {"id": number, "image_id": image_id, "category_id": category, "segmentation": mask, "iscrowd": 0}
    return {**entry, "area": side * side, "bbox": [x, y, side, side], **fields}


def truth_file(folder, annotations, names=("hall.jpg", "kitchen.jpg", "door.jpg")):
    images = [{"id": n, "file_name": name, "height": HEIGHT, "width": WIDTH} for n, name in enumerate(names, 1)]
    categories = [{"id": n, "name": name} for n, name in enumerate(("cup", "dog", "cat"), 1)]
    path = folder / "gt.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def results_file(folder, rows, name="r.json"):
    path = folder / name
    path.write_text(json.dumps(rows))
    return path


def flat(entry):
    """The annotation in a layout that says what its masks cover: all of the object is visible."""
    return {**entry, "visible_mask": entry["segmentation"]}


def oracle(path, rows, max_dets=(1, 10, 100)):
    """AP and AR of COCOeval itself on the files."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        score = COCOeval(truth, truth.loadRes(deepcopy(rows)), "segm")
        score.params.maxDets = list(max_dets)
        score.evaluate()
        score.accumulate()
    precision, recall = score.eval["precision"][:, :, :, 0, -1], score.eval["recall"][:, :, 0]
    return [
        precision[precision > -1].mean(),
        *(recall[..., n][recall[..., n] > -1].mean() for n in range(len(max_dets))),
    ]


def amodal(report):
    return report.figures["subsets"]["all"]["all"]


@pytest.fixture
def background(tmp_path):
    """Image 1 has an object, images 2 and 3 have none; the results have detections on 1 and 2."""
    rows = [row(2, 5, 5, 0.95), row(1, 20, 10, 0.9), row(2, 30, 20, 0.1)]
    return truth_file(tmp_path, [flat(annotation(1, 1, 20, 10))]), rows


def test_detections_on_images_without_objects_are_false_positives(background, tmp_path):
    path, rows = background
    expected = oracle(path, rows)
    assert expected[0] == pytest.approx(0.505, abs=0.01)
    build_targets(read_annotations(path), tmp_path / "c.h5")
    results = results_file(tmp_path, rows)
    for truth in (path, tmp_path / "c.h5", read_annotations(path)):
        reports = evaluate_all(truth, results, PROTOCOLS, errors=True).reports
        assert reports["coco"].figures["parts"]["amodal"]["AP"] == pytest.approx(expected[0], abs=1e-12)
        figures = amodal(reports["amodal"])
        assert [figures["AP"], figures["AR100"]] == pytest.approx([expected[0], expected[3]], abs=1e-12)
        assert {report.settings["images"] for report in reports.values()} == {3}
    with pytest.raises(PredictionError, match="image 9 is not in the ground truth: 1 "):
        evaluate(path, results_file(tmp_path, [row(9, 1, 1)]))


def test_caches_keep_images_without_objects(background, tmp_path):
    path, _ = background
    report = build_targets(read_annotations(path), tmp_path / "c.h5")
    assert (report.images, report.instances) == (3, 1)
    cache = TargetCache(tmp_path / "c.h5")
    assert cache.image_ids.tolist() == [1, 2, 3]  # after the others, so that these keep their positions
    assert cache[1].levels.shape == (0, HEIGHT, WIDTH)
    assert verify_cache(tmp_path / "c.h5", read_annotations(path)).ok
    assert cache.table().shape == (1,)
    assert [finding.code for finding in cache.findings] == ["image-unannotated"] * 2


@pytest.mark.parametrize("max_dets", [(1, 10, 200), (1, 10, 100), (5,), (1, 2, 3, 150)])
def test_coco_counts_as_many_detections_as_asked(tmp_path, max_dets):
    """150 objects of 1 px in one image, all found; COCOeval's limit is params.maxDets."""
    places = [(2 * n % 60, 2 * (2 * n // 60)) for n in range(150)]
    path = truth_file(tmp_path, [flat(annotation(n, 1, x, y, side=1)) for n, (x, y) in enumerate(places, 1)])
    rows = [row(1, x, y, 1 - n / 1000, side=1) for n, (x, y) in enumerate(places)]
    report = evaluate(path, results_file(tmp_path, rows), "coco", max_dets=max_dets)
    figures = report.figures["parts"]["amodal"]
    names = ["AP", *(f"AR{n}" for n in max_dets)]
    assert [figures[name] for name in names] == pytest.approx(oracle(path, rows, max_dets), abs=1e-12)
    assert report.settings["max_dets"] == list(max_dets)
    if max_dets[-1] == 200:
        assert figures["AP"] == pytest.approx(1) and figures["AR200"] == 1
        sampled = evaluate(path, tmp_path / "r.json", "coco", max_dets=max_dets, intervals=3)
        assert sampled.intervals["parts"]["amodal"]["AR200"] == [1, 1]


@pytest.mark.parametrize(
    ("classes", "texts"),
    [
        ((0, 1), ["no instance of the ground truth has class 0,", "count from 0: add 1"]),
        ((2, 3), ["class 3,", "subtract 1"]),
        ((1, 90), ["class 90,", "class ids of the ground truth (1, 2)"]),
        ((1, 2), []),
    ],
)
def test_class_ids_that_the_ground_truth_does_not_have_are_named(tmp_path, classes, texts):
    path = truth_file(tmp_path, [flat(annotation(1, 1, 5, 5, 1)), flat(annotation(2, 1, 30, 20, 2))])
    rows = [row(1, 5, 5, 0.9, classes[0]), row(1, 30, 20, 0.8, classes[1])]
    warnings = evaluate(path, results_file(tmp_path, rows), "coco").warnings
    assert len(warnings) == bool(texts)
    assert all(text in warnings[0] for text in texts)
    assert not evaluate(path, tmp_path / "r.json").warnings  # protocol amodal ignores classes


def test_empty_results_score_0(tmp_path):
    entries = [flat(annotation(1, 1, 5, 5)), {**annotation(2, 1, 12, 5), "visible_mask": square(15, 5, 5)}]
    path = truth_file(tmp_path, entries)
    reports = evaluate_all(path, results_file(tmp_path, []), PROTOCOLS, intervals=2).reports
    assert amodal(reports["amodal"])["AP"] == amodal(reports["amodal"])["AR100"] == 0
    parts = reports["coco"].figures["parts"]
    assert [parts[part]["AP"] for part in ("amodal", "visible", "hidden")] == [0, 0, 0]
    assert reports["order"].figures["methods"]["R_hard"]["accuracy"] == 0
    figures = reports["completion"].figures["completion"]
    assert figures["mIoU_full"] == figures["mIoU_occ_gt_visible"] == 0
    assert figures["sem_dist_error"] is figures["occlusion_accuracy"] is None  # nothing was said of levels


def named(tmp_path, *rows, names=("a/1.jpg", "b/1.jpg", "café.png")):
    """AP of rows for three images with an object each."""
    path = truth_file(tmp_path, [flat(annotation(n, n, 10 * n, 5)) for n in (1, 2, 3)], names)
    return amodal(evaluate(path, results_file(tmp_path, list(rows))))["AP"]


def test_images_are_named_by_file_name_or_text_id(tmp_path):
    composed, decomposed = "café.png", unicodedata.normalize("NFD", "café.png")
    ids = [{"file_name": "D:\\data\\a\\1.jpg"}, {"file_name": "/home/b/1.jpg"}, {"file_name": decomposed}]
    assert named(tmp_path, *(row("kitchen", 10 * n, 5, **ids[n - 1]) for n in (1, 2, 3))) == pytest.approx(1)
    assert named(tmp_path, row(1, 10, 5), row("b/1", 20, 5), row(composed[:-4], 30, 5)) == pytest.approx(1)
    assert named(tmp_path, row("1", 10, 5), row("2", 20, 5), names=("x.jpg", "y.jpg", "z.jpg")) > 0.6
    with pytest.raises(PredictionError, match=r"image 'kitchen' is not in the ground truth: 1 \('a/1.jpg'\)") as caught:
        named(tmp_path, row("kitchen", 10, 5))
    assert "integer id" in caught.value.fix and "file_name" in caught.value.fix
    with pytest.raises(PredictionError, match="is one of several: 1 ") as caught:
        named(tmp_path, row("x", 10, 5, file_name="1.jpg"))
    assert "folder" in caught.value.fix


def test_two_names_of_the_results_are_not_one_image(tmp_path):
    rows = [row(7, 10, 5, file_name="train/7.jpg"), row(8, 10, 5, file_name="val/7.jpg")]
    with pytest.raises(PredictionError, match="are one image of the ground truth, image 1"):
        named(tmp_path, *rows, names=("7.jpg", "8.jpg", "9.jpg"))


def test_masks_and_order_of_plain_coco(tmp_path):
    path = truth_file(tmp_path, [annotation(1, 1, 5, 5), annotation(2, 1, 12, 5)])
    results = results_file(tmp_path, [row(1, 5, 5)])
    output = run_command(
        "amodal-data", "evaluate", path, results, "--masks", "amodal", "--order", "front-first", "--json"
    )
    subsets = json.loads(output.stdout)["subsets"]["all"]
    assert (subsets["none"]["instances"], subsets["heavy"]["instances"]) == (1, 1)
    cache = tmp_path / "c.h5"
    build_targets(read_annotations(path, masks="amodal", order="front-first"), cache)
    assert evaluate(cache, results).figures == {"subsets": json.loads(output.stdout)["subsets"]}
    with pytest.raises(SelectionError, match="already says what its masks cover"):
        evaluate(cache, results, masks="amodal")


def test_figures_of_levels_need_levels(tmp_path):
    """A results file with amodal masks only, or with visible masks only, gives no sem-dist error."""
    path = truth_file(tmp_path, [flat(annotation(1, 1, 5, 5))])
    visible = {"visible_mask": square(5, 5)}
    for fields, has_error in (({}, False), ({"levels": []}, False), (visible, False), (visible | {"levels": []}, True)):
        report = evaluate(path, results_file(tmp_path, [row(1, 5, 5, **fields)]), "completion")
        assert (report.figures["completion"]["sem_dist_error"] is not None) == has_error
        assert any("sem_dist_error" in warning for warning in report.warnings) != has_error


def test_two_pipes_are_two_methods(tmp_path):
    path = truth_file(tmp_path, [flat(annotation(1, 1, 5, 5))])
    for name in ("a.json", "b.json"):
        results_file(tmp_path, [row(1, 5, 5)], name)
    ends = [os.open(tmp_path / name, os.O_RDONLY) for name in ("a.json", "b.json")]
    pipes = [os.pipe(), os.pipe()]
    for end, (_, writer) in zip(ends, pipes, strict=True):
        os.write(writer, os.read(end, 10_000))
        os.close(writer)
    methods = name_methods([Path(f"/dev/fd/{reader}") for reader, _ in pipes])
    assert list(methods) == ["pipe 1", "pipe 2"]
    evaluation = evaluate_all(path, methods)
    assert [amodal(reports["amodal"])["AP"] for reports in evaluation.methods.values()] == pytest.approx([1, 1])
    with pytest.raises(SelectionError, match="named twice"):
        name_methods([tmp_path / "a.json", tmp_path / "a.json"])
    with pytest.raises(SelectionError, match="named twice"):
        name_methods([Path("-"), Path("-")])


def unordered(tmp_path, *, overlap=5):
    """Two objects that share ``overlap`` columns of 10 rows, and one apart from them, without an order."""
    entries = [annotation(1, 1, 5, 5), annotation(2, 1, 15 - overlap, 5), annotation(3, 1, 40, 20)]
    return truth_file(tmp_path, entries)


def test_unknown_order_is_not_nothing_hidden(tmp_path):
    path = unordered(tmp_path)
    rows = [row(1, 5, 5, visible_mask=square(5, 5), levels=[]), row(1, 40, 20, 0.8)]
    results = results_file(tmp_path, rows)
    reports = evaluate_all(path, results, PROTOCOLS, masks="amodal", order="none", intervals=2).reports
    subsets = reports["amodal"].figures["subsets"]["all"]
    assert subsets["all"]["AR100"] == pytest.approx(2 / 3)
    for occlusion in ("none", "partial", "heavy"):  # hidden by 0 or by 50 %: each may be in any subset
        assert set(subsets[occlusion].values()) == {None}
    parts = reports["coco"].figures["parts"]
    assert parts["amodal"] is not None and parts["visible"] is parts["hidden"] is None
    figures = reports["completion"].figures["completion"]
    assert {name for name, value in figures.items() if value is not None} == {
        "instances",
        "mIoU_full",
        "pooled_IoU_full",
    }
    assert reports["order"].figures["methods"]["area"]["pairs"] == 0
    for report in reports.values():
        assert "does not say the depth order of 2 overlapping instances" in " ".join(report.warnings)
        assert "--order" in " ".join(report.warnings)


def test_subsets_that_do_not_depend_on_the_order_are_scored(tmp_path):
    """At most 10 % of an object may be hidden: it is certainly not in the subset heavy."""
    path = unordered(tmp_path, overlap=1)
    subsets = evaluate(path, results_file(tmp_path, [row(1, 5, 5)]), masks="amodal", order="none").figures["subsets"]
    assert subsets["all"]["none"]["AP"] is subsets["all"]["partial"]["AP"] is None
    assert subsets["all"]["heavy"]["instances"] == 0
    assert subsets["stuff"]["none"]["instances"] == 0


def test_inspect_names_unknown_order(tmp_path):
    path, cache = unordered(tmp_path), tmp_path / "c.h5"
    build_targets(read_annotations(path, masks="amodal", order="none"), cache)
    output = run_command("amodal-data", "inspect", cache)
    lines = [line.split() for line in output.stdout.splitlines()]
    assert ["not", "hidden", "1", "33.3%"] in [line[:4] for line in lines]
    assert ["order", "unknown", "2", "66.7%"] in [line[:4] for line in lines]
    assert "50 ambiguous pixels (0.69%)" in output.stdout
    summary = json.loads(run_command("amodal-data", "inspect", cache, "--json").stdout)
    assert (summary["undecided"], summary["undecided_pixels"], summary["level_pixels"]["0"]) == (2, 100, 200)


def test_equal_orders_of_overlapping_objects_are_a_warning_with_a_remedy(tmp_path):
    for values, code in (((0, 0, 0), "order-equal"), ((1, 1, 2), "order-open"), ((1, 2, 3), "")):
        shifts = zip((1, 2, 3), (5, 12, 40), values, strict=True)
        path = truth_file(tmp_path, [annotation(n, 1, x, 5, z_order=z) for n, x, z in shifts])
        arguments = ("build-targets", path, "--masks", "amodal", "--force", "-o", tmp_path / "c.h5")
        output = run_command("amodal-data", *arguments)
        assert not code or f"1 {code}" in output.stderr
        assert ("warning: order-equal" in output.stderr) == ("--order back-first" in output.stderr) == (values[0] == 0)


def test_a_threshold_of_scores_is_named(tmp_path):
    path = truth_file(tmp_path, [flat(annotation(1, 1, 5, 5))])
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:15, 5:15] = True
    box, levels = np.array([5, 5, 15, 15], np.float32), np.full((3, 4, 4), 1 / 3, np.float16)
    prediction = ScoredMask(RLE.from_mask(mask), 0.9, box=box, probabilities=levels)
    for min_score in (0.0, 0.05):
        with ResultsWriter(tmp_path / "r.json", min_score) as out:
            out.add(1, [prediction])
        warnings = evaluate(path, tmp_path / "r.json").warnings
        assert any("score below 0.05 were not written" in text for text in warnings) == (min_score > 0)


def without(entry, *keys):
    """The entry without some of its keys."""
    return {key: value for key, value in entry.items() if key not in keys}


def coco_report(path, rows):
    """Protocol coco: AP of amodal masks (None = n/a), and the warnings."""
    report = evaluate(path, results_file(path.parent, rows), "coco")
    part = report.figures["parts"]["amodal"]
    return part and part["AP"], list(report.warnings)


def test_skipped_objects_of_the_ground_truth_are_counted(tmp_path):
    entries = [flat(annotation(1, 1, 5, 5))]
    entries += [{**flat(annotation(n, 1, 12 * n, 20)), "segmentation": []} for n in (2, 3)]
    broken = {"size": [HEIGHT, WIDTH], "counts": [1, 2]}
    path = truth_file(tmp_path, [*entries, {**flat(annotation(4, 2, 5, 5)), "segmentation": broken}])
    results, cache = results_file(tmp_path, [row(1, 5, 5)]), tmp_path / "c.h5"
    build_targets(read_annotations(path), cache)
    for truth in (path, cache):
        for report in evaluate_all(truth, results, PROTOCOLS).reports.values():
            (warning,) = [text for text in report.warnings if "skipped" in text]
            assert "3 objects of the ground truth were skipped: 2 segmentation-missing, 1 rle-malformed" in warning
            assert f"amodal-data check {truth} lists" in warning
    assert "error segmentation-missing (2)" in run_command("amodal-data", "check", path).stdout


@pytest.mark.parametrize("entries", [[{**flat(annotation(1, 1, 5, 5)), "segmentation": []}], []])
def test_ground_truth_without_objects_is_an_error(tmp_path, entries):
    path = truth_file(tmp_path, entries)
    results = results_file(tmp_path, [row(1, 5, 5)])
    output = run_command("amodal-data", "evaluate", path, results)
    assert output.returncode == 1 and "no object to score against" in output.stderr
    assert ("1 segmentation-missing" in output.stderr) == bool(entries)
    with pytest.raises(AnnotationError, match="no object"):
        evaluate(read_annotations(path), results, "coco")


@pytest.mark.parametrize("ids", [("cup", "dog"), ("1", "2"), (1.0, "dog")])
def test_classes_are_named_by_text_in_results(tmp_path, ids):
    path = truth_file(tmp_path, [flat(annotation(1, 1, 5, 5, 1)), flat(annotation(2, 1, 30, 20, 2))])
    rows = [row(1, 5, 5, 0.9, ids[0]), row(1, 30, 20, 0.8, ids[1])]
    assert coco_report(path, rows) == (pytest.approx(1), [])
    build_targets(read_annotations(path), tmp_path / "c.h5")
    assert coco_report(tmp_path / "c.h5", rows) == (pytest.approx(1), [])


@pytest.mark.parametrize("streamed", [False, True])
def test_text_ids_of_the_ground_truth_are_those_of_results(tmp_path, monkeypatch, streamed):
    monkeypatch.setattr(ground_truth, "_STREAMED", 0 if streamed else 2**40)
    path = truth_file(tmp_path, [flat(annotation(1, 1, 5, 5, "n1")), flat(annotation(2, 1, 30, 20, "n2"))])
    content = json.loads(path.read_text())
    content["categories"] = [{"id": "n1", "name": "cat"}, {"id": "n2", "name": "dog"}]
    path.write_text(json.dumps(content))
    for ids in (("n1", "n2"), ("cat", "n2"), ("cat", "dog")):
        assert coco_report(path, [row(1, 5, 5, 0.9, ids[0]), row(1, 30, 20, 0.8, ids[1])]) == (pytest.approx(1), [])


def test_texts_that_are_no_class_are_named(tmp_path):
    path = truth_file(tmp_path, [flat(annotation(1, 1, 5, 5, 1)), flat(annotation(2, 1, 30, 20, 2))])
    score, warnings = coco_report(path, [row(1, 5, 5, 0.9, "cup"), row(1, 30, 20, 0.8, "bird")])
    assert score == pytest.approx(0.5)
    assert "1 of 2 predictions do not count" in warnings[0] and "'bird'" in warnings[0] and "'dog'" in warnings[0]
    score, warnings = coco_report(path, [row(1, 5, 5, 0.9, "bird"), row(2, 30, 20, 0.8, "bird")])
    assert score is None and len(warnings) == 1
    assert warnings[0].startswith("n/a") and "'bird'" in warnings[0] and "not predicted" not in warnings[0]
    assert not evaluate(path, tmp_path / "r.json").warnings  # protocol amodal ignores classes


def test_results_without_classes_are_not_0(tmp_path):
    entries = [flat(annotation(1, 1, 5, 5, 2)), flat(annotation(2, 1, 30, 20, 3))]
    rows = [without(row(1, 5, 5, 0.9), "category_id"), without(row(1, 30, 20, 0.8), "category_id")]
    score, warnings = coco_report(truth_file(tmp_path, entries), rows)
    assert score is None and "n/a: 2 of 2 predictions have no 'category_id'" in warnings[0]
    path = truth_file(tmp_path, [{**entry, "category_id": 2} for entry in entries])
    assert coco_report(path, rows) == (pytest.approx(1), [])  # one class: it is that class


def test_crowds_that_are_objects(tmp_path):
    path = truth_file(tmp_path, [annotation(1, 1, 5, 5), annotation(2, 1, 30, 20, iscrowd=1)])
    command = ("amodal-data", "evaluate", path, results_file(tmp_path, [row(1, 5, 5)]), "--json")
    options = ("--masks", "amodal", "--order", "front-first")
    counts = [
        json.loads(run_command(*command, *options, *more).stdout)["subsets"]["all"]["all"]["instances"]
        for more in ((), ("--crowds", "keep"))
    ]
    assert counts == [1, 2]


def test_masks_by_pattern_are_ground_truth(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(mask).save(folder / "hall__cup_0.png")
    options = ("--masks", "amodal", "--order", "none", "--pattern", "{image}__{name}_{object}.png")
    results = results_file(tmp_path, [row("hall", 5, 5)])
    output = run_command("amodal-data", "evaluate", folder, results, *options, "--json")
    assert json.loads(output.stdout)["subsets"]["all"]["all"]["AP"] == pytest.approx(1)


def test_equal_methods_have_no_difference(tmp_path):
    path = truth_file(tmp_path, [flat(annotation(n, n, 5, 5)) for n in (1, 2, 3)])
    rows = [row(n, 5, 5) for n in (1, 2, 3)]
    files = {name: results_file(tmp_path, rows, f"{name}.json") for name in ("a", "b")}
    text = evaluate_all(path, files, intervals=5).to_text()
    assert "+0.000 [+0.000, +0.000]  no difference" in text and "same sign" not in text


def test_folders_that_fit_no_image_are_an_error(tmp_path):
    names = ("day1/p.jpg", "day2/p.jpg", "door.jpg")
    with pytest.raises(PredictionError, match=r"'day9/p.jpg' is not in the ground truth"):
        named(tmp_path, row(1, 10, 5, file_name="day9/p.jpg"), names=names)
    rows = [row(9, 20, 5, file_name="D:\\set\\day2\\p.jpg"), row(8, 30, 5, file_name="any/door.jpg")]
    assert named(tmp_path, *rows, names=names) > 0.6
