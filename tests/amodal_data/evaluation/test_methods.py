import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from markdown_it import MarkdownIt
from support.coco_oracle import perturbed
from support.commands import run_command
from support.scenes import make_scene, random_masks

from amodal_data import RLE, ScoredMask, evaluate, evaluate_all, write_cocoa, write_flat
from amodal_data.errors import PredictionError, SelectionError
from amodal_data.evaluation import bootstrap
from amodal_data.evaluation.report import PROTOCOLS
from amodal_data.export.coco import export_results
from amodal_data.inspector.target_dataset import open_dataset


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Ground truth, and three methods: exact, often wrong, without visible masks."""
    folder = tmp_path_factory.mktemp("methods")
    path = write_cocoa(folder, 8, seed=4, size=(60, 80), photos=False)
    rows = export_results(open_dataset(path))
    rng = np.random.default_rng(0)
    shifted = [{**row, "segmentation": RLE.from_mask(np.roll(mask_of(row), 5, 1)).to_coco()} for row in rows]
    worse = [
        {**(other if rng.random() < 0.4 else row), "score": rng.random()}
        for row, other in zip(rows, shifted, strict=True)
    ]
    amodal_only = [{key: value for key, value in row.items() if key not in ("visible_mask", "levels")} for row in worse]
    for name, part in (("exact", rows), ("worse_50%", worse), ("bare", amodal_only)):
        (folder / f"{name}.json").write_text(json.dumps(part))
    return [path, folder / "exact.json", folder / "worse_50%.json", folder / "bare.json"]


def mask_of(row):
    from amodal_data.masks.rle import parse_rle

    return parse_rle(row["segmentation"], tuple(row["segmentation"]["size"])).decode()


def leaves(figures, path=()):
    if isinstance(figures, dict):
        return {
            place: leaf for name, values in figures.items() for place, leaf in leaves(values, (*path, name)).items()
        }
    return {path: figures}


def test_protocols_in_a_single_pass_equal_separate_passes(files):
    evaluation = evaluate_all(*files[:2], PROTOCOLS, errors=True)
    for protocol in PROTOCOLS:
        report = evaluate(*files[:2], protocol, errors=protocol == "amodal")
        assert evaluation.reports[protocol].to_dict() == report.to_dict()


def test_reports_of_multiple_methods_equal_separate_reports(files):
    names = {file.stem: file for file in files[1:]}
    evaluation = evaluate_all(files[0], names, ["amodal", "order"])
    document = evaluation.to_dict()
    assert document["schema"] == "amodal-data/evaluate-many/1"
    assert list(document["methods"]) == ["exact", "worse_50%", "bare"]
    for name, file in names.items():
        assert document["methods"][name]["amodal"] == evaluate(files[0], file).to_dict()
        assert document["methods"][name]["order"] == evaluate(files[0], file, "order").to_dict()
    with pytest.raises(SelectionError, match="3 methods"):
        _ = evaluation.reports
    with pytest.raises(TypeError, match="max_det"):
        evaluate_all(files[0], names, max_det=3)
    with pytest.raises(SelectionError, match="no protocol 'bbox'"):
        evaluate_all(files[0], names, ["bbox"])
    with pytest.raises(SelectionError, match="no protocol selected"):
        evaluate_all(files[0], names, [])
    with pytest.raises(SelectionError, match="'errors' needs protocol 'amodal'"):
        evaluate_all(files[0], names, ["order"], errors=True)


def cells_of(form, text):
    """The cells of the body of a table."""
    if form == "latex":
        body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
        return [[cell.strip() for cell in line.removesuffix(r"\\").split(" & ")] for line in body]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, current = [], None
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            current = rows[-1]
        if token.type == "inline" and current is not None:
            current.append(token.content)
            current = None
    return rows[1:]


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_tables_hold_the_figures_and_mark_the_best(files, form):
    evaluation = evaluate_all(files[0], {file.stem: file for file in files[1:]}, ["amodal"], intervals=20)
    text = evaluation.to_text(form)
    rows = cells_of(form, text)
    assert [row[0] for row in rows] == ["exact", r"worse\_50\%" if form == "latex" else "worse_50%", "bare"]
    expected = [reports["amodal"].figures["subsets"]["all"]["all"]["AP"] for reports in evaluation.methods.values()]
    assert [float(re.search(r"\d\.\d{3}", row[1])[0]) for row in rows] == [
        pytest.approx(reports, abs=5e-4) for reports in expected
    ]
    bold = r"\textbf{1.000}" if form == "latex" else "**1.000**"
    assert rows[0][1].startswith(bold) and not any(bold in row[1] for row in rows[1:])
    assert all(re.search(r"\[\d\.\d{3}, \d\.\d{3}\]", row[1]) for row in rows)
    assert len({len(row) for row in rows}) == 1
    if form == "latex":
        assert text.count("{") == text.count("}")
        assert len(rows[0]) - 1 == text[text.index("{l") : text.index("}\n", text.index("{l"))].count("r")


def test_progress_counts_each_image_for_each_method(files):
    steps = []
    evaluate_all(files[0], {"exact": files[1], "bare": files[3]}, on_image=steps.append)
    assert sum(steps) == 2 * 8


def test_the_command_shows_progress_on_a_terminal_only(files):
    command = [sys.executable, "-m", "amodal_cli.data", "evaluate", files[0], files[1]]
    terminal, child = pty.openpty()
    shown = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=child, text=True, env={**os.environ, "TERM": "xterm"}
    )
    os.close(child)
    assert shown.returncode == 0 and b"scoring images" in os.read(terminal, 10_000)
    hidden = subprocess.run(command, capture_output=True, text=True)
    assert hidden.stdout == shown.stdout and hidden.stderr == ""


def test_csv_has_a_line_for_each_figure(files):
    evaluation = evaluate_all(files[0], {file.stem: file for file in files[1:]}, PROTOCOLS, intervals=10)
    lines = list(csv.DictReader(io.StringIO(evaluation.to_text("csv"))))
    for line in lines:
        report = evaluation.methods[line["method"]][line["protocol"]]
        value = leaves(report.figures)[tuple(line["figure"].split("/"))]
        assert line["value"] == ("" if value is None else str(value))
    assert len(lines) == sum(
        len(leaves(report.figures)) for reports in evaluation.methods.values() for report in reports.values()
    )
    assert any(line["low"] for line in lines)


def test_the_command_compares_files(files, tmp_path):
    process = run_command("amodal-data", "evaluate", *files, "-p", "amodal,completion", "--format", "json")
    assert process.returncode == 0, process.stderr
    assert list(json.loads(process.stdout)["methods"]["bare"]) == ["amodal", "completion"]
    text = run_command("amodal-data", "evaluate", *files, "--intervals", "30").stdout
    assert "worse_50% - exact" in text and "same sign" in text and "1.000*" in text
    assert run_command("amodal-data", "evaluate", *files, "--format", "latex").stdout.startswith("% protocol amodal")
    single = run_command("amodal-data", "evaluate", *files[:2], "--json", "--input", "boxes")
    assert json.loads(single.stdout)["schema"] == "amodal-data/evaluate/1"
    assert json.loads(single.stdout)["settings"]["input"] == "boxes"
    assert "errors" not in json.loads(single.stdout)
    for wrong in (["-p", "amodal,bbox"], ["-p", ","], ["--csv", tmp_path / "e.csv"]):
        assert run_command("amodal-data", "evaluate", *files, *wrong).returncode == 2
    missing = run_command("amodal-data", "evaluate", files[0], tmp_path / "gone.json")
    assert missing.returncode == 2 and "no such file" in missing.stderr


def test_parts_of_a_method_are_joined_only_with_the_option(files, tmp_path):
    rows = json.loads(files[1].read_text())
    halves = [[row for row in rows if row["image_id"] % 2 == k] for k in (0, 1)]
    parts = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, part in zip(parts, halves, strict=True):
        path.write_text(json.dumps(part))
    process = run_command("amodal-data", "evaluate", files[0], *parts)
    assert process.returncode == 2 and "--join" in process.stderr
    joined = run_command("amodal-data", "evaluate", files[0], *parts, "--join", "--json", "--csv", tmp_path / "e.csv")
    assert json.loads(joined.stdout)["subsets"] == evaluate(*files[:2]).figures["subsets"]
    assert [source["name"] for source in json.loads(joined.stdout)["settings"]["results"]] == ["a.json", "b.json"]
    assert evaluate(files[0], parts).figures == evaluate(*files[:2]).figures
    twice = run_command("amodal-data", "evaluate", *files[:2], files[1])
    assert twice.returncode == 2 and "twice" in twice.stderr
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    process = run_command(
        "amodal-data", "evaluate", files[0], tmp_path / "a.json", tmp_path / "deep" / "a.json", "--json"
    )
    assert list(json.loads(process.stdout)["methods"]) == [f"{tmp_path.name}/a", "deep/a"]


def small_set(seed, images=7):
    """Scenes, some without instances, and predictions with levels for most of them; categories 1 to 3."""
    rng = np.random.default_rng(seed)
    scenes, predictions = [], {}
    for k in range(images):
        masks = (
            random_masks(rng, int(rng.integers(0, 5)), (16, 18), ("box", "edge"))
            if k
            else random_masks(rng, 4, (16, 18))
        )
        scene = make_scene(masks) if len(masks) else make_scene(np.zeros((0, 16, 18), bool))
        instances = tuple(
            replace(instance, category_id=int(rng.integers(1, 4)), is_stuff=rng.random() < 0.3)
            for instance in scene.instances
        )
        scenes.append(replace(scene, image_id=k, instances=instances))
        if k == 2:
            continue
        predictions[k] = []
        for instance in instances:
            for _ in range(int(rng.integers(0, 4))):
                codes = perturbed(rng, instance.amodal.decode(), 1).astype(np.uint8) * rng.choice(
                    [1, 1, 2], (16, 18)
                ).astype(np.uint8)
                category = instance.category_id if rng.random() < 0.7 else 1
                predictions[k].append(ScoredMask.from_codes(codes, float(rng.random()), category))
    return scenes, predictions


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", [1, 2])
def test_resampled_figures_equal_figures_of_copied_images(protocol, seed):
    """The oracle copies each image as often as it was sampled."""
    from amodal_data.evaluation.ground_truth import read_truth
    from amodal_data.evaluation.report import Rules, score

    scenes, predictions = small_set(seed)
    weights_of_samples = bootstrap.sample_weights(6, len(scenes))
    scored = score(read_truth(scenes), predictions, [protocol], Rules(intervals=6, max_dets=(1, 3, 100)))
    samples = leaves(scored.samples[protocol])
    assert len(samples) > 5
    for b, weights in enumerate(weights_of_samples):
        copies = [(k, n) for k, times in enumerate(weights.tolist()) for n in range(times)]
        copied_scenes = [replace(scenes[k], image_id=100 * k + n) for k, n in copies]
        copied = {100 * k + n: predictions[k] for k, n in copies if k in predictions}
        expected = leaves(evaluate(copied_scenes, copied, protocol, max_dets=(1, 3, 100)).figures)
        for place, values in samples.items():
            value = expected.get(place)
            assert np.isnan(values[b]) if value is None else values[b] == pytest.approx(value, abs=1e-12), place


def test_the_difference_of_a_method_to_itself_is_zero():
    scenes, predictions = small_set(3)
    evaluation_of_equals = evaluate_all(scenes, {"a": predictions, "b": predictions}, PROTOCOLS, intervals=25)
    differences = leaves(evaluation_of_equals.differences["b"])
    assert all(leaf in (0, 1, [0, 0], None) for leaf in differences.values()) and [0, 0] in differences.values()
    assert leaves(evaluation_of_equals.differences)["b", "amodal", "subsets", "all", "all", "AP", "interval"] == [0, 0]
    worse = {k: masks[:-1] for k, masks in predictions.items()}
    evaluation = evaluate_all(scenes, {"a": predictions, "b": worse}, ["amodal"], intervals=25)
    change = evaluation.differences["b"]["amodal"]["subsets"]["all"]["all"]["AR100"]
    assert change["difference"] < 0 and change["interval"][0] <= change["difference"] <= change["interval"][1]
    reports = [reports_["amodal"].figures["subsets"]["all"]["all"]["AR100"] for reports_ in evaluation.methods.values()]
    assert change["difference"] == pytest.approx(reports[1] - reports[0])


def test_intervals_of_mostly_undefined_samples_are_not_available():
    undefined, mostly_undefined = np.full(10, np.nan), np.array([0.5] + [np.nan] * 9)
    assert bootstrap.intervals({"a": undefined, "b": mostly_undefined, "c": np.linspace(0, 1, 101)}) == {
        "a": None, "b": None, "c": [pytest.approx(0.025), pytest.approx(0.975)]}  # fmt: skip
    empty = evaluate(small_set(1, images=1)[0], {}, only=(), intervals=5)
    assert empty.intervals is None and empty.figures["subsets"]["all"]["all"]["AP"] is None


@pytest.mark.parametrize("layout", ["flat", "cocoa"])
def test_rows_with_gt_id_are_scored_without_matching(tmp_path, layout):
    """Also where another prediction has a larger IoU."""
    write = write_cocoa if layout == "cocoa" else lambda folder, n, **options: write_flat(folder, n, "d2sa", **options)
    path = write(tmp_path, 3, seed=2, size=(60, 80), photos=False)
    source = open_dataset(path)
    rows = []
    for i in range(len(source)):
        image, targets = source.read(i)
        for n, mask in enumerate(targets.rles()):
            row = {"image_id": image.image_id, "segmentation": mask.to_coco(), "gt_id": int(targets.annotation_ids[n])}
            rows.append(row | ({"gt_region": int(targets.region_index[n])} if layout == "cocoa" else {}))
    file = tmp_path / "r.json"
    file.write_text(json.dumps(rows))
    report = evaluate(path, file, "completion", given="visible mask")
    assert report.figures["completion"]["mIoU_full"] == 1 and report.settings["matching"] == "by gt_id"
    image_rows = [row for row in rows if row["image_id"] == rows[0]["image_id"]]
    image_rows[0]["segmentation"], image_rows[1]["segmentation"] = (
        image_rows[1]["segmentation"],
        image_rows[0]["segmentation"],
    )
    file.write_text(json.dumps(rows))
    swapped = evaluate(path, file, "completion").figures["completion"]
    a, b = (mask_of(row) for row in image_rows[:2])
    loss = 2 * (1 - (a & b).sum() / (a | b).sum())
    assert swapped["mIoU_full"] == pytest.approx(1 - loss / swapped["instances"])
    assert evaluate(path, file).figures["subsets"]["all"]["all"]["AP"] is not None  # without a score
    for change, message in (
        ({"gt_id": 10**6}, "names 0 instances"),
        ({"gt_id": "x"}, "are integers"),
        ({"gt_id": None}, "every row has one"),
        ({"gt_region": "x"}, "are integers"),
        (dict(product(["gt_id"], [rows[1]["gt_id"]])) | {"gt_region": rows[1].get("gt_region")}, "two predictions"),
    ):
        file.write_text(json.dumps([{**rows[0], **change}, *rows[1:]]))
        with pytest.raises(PredictionError, match=message):
            evaluate(path, file, "completion")
    last = rows[-1]["image_id"]
    for in_part in (lambda row: row["image_id"] != last, lambda row: row["image_id"] == last):
        mixed = [row if in_part(row) else {**row, "gt_id": None, "score": 0.5} for row in rows]
        file.write_text(json.dumps(mixed))
        with pytest.raises(PredictionError, match="every row of a file has a 'gt_id'"):
            evaluate(path, file, "completion")
    if layout == "cocoa":
        file.write_text(json.dumps([{key: value for key, value in row.items() if key != "gt_region"} for row in rows]))
        with pytest.raises(PredictionError, match="gt_region"):
            evaluate(path, file, "completion")


def test_pooled_figures_sum_pixels_of_all_instances():
    large, small = np.zeros((2, 10, 10), bool)
    large[:5], small[5:, :2] = True, True
    scene = make_scene(np.array([large, small]))
    predictions = {1: [ScoredMask(RLE.from_mask(large), 0.9), ScoredMask(RLE.from_mask(small[:, ::-1] | small), 0.8)]}
    figures = evaluate([scene], predictions, "completion").figures["completion"]
    assert figures["mIoU_full"] == pytest.approx((1 + 0.5) / 2)
    assert figures["pooled_IoU_full"] == pytest.approx((50 + 10) / (50 + 20))
    assert figures["pooled_IoU_occ_gt_visible"] is None
