"""Predictions as values and as files; the ``sln`` command as a user meets it."""

import json
import os
import subprocess
import sys
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.commands import ROOT, run_command
from support.networks import FEW_DETECTIONS, FEW_STEPS
from support.oracle import roi_levels

import sln as package
from amodal_data import build_targets, evaluate, instance_order, read_cocoa, relative_depth, write_cocoa
from amodal_data.errors import PhotoError, SelectionError
from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import read_truth
from amodal_data.evaluation.results.results_writer import write_predictions
from amodal_data.inspector.layered_predictions import layered_predictions
from amodal_data.io.images import read_photo
from sln import CachedTargets, Sources, build, fit, load, load_config
from sln.errors import ConfigError, MachineError
from sln.evaluation.evaluate import evaluate_model, score_at_truth_boxes
from sln.inference.comparison import ComparisonRow, comparison
from sln.inference.folder import photo_ids
from sln.inference.prediction import Prediction
from sln.inference.predictor import Predictor, detection_scores
from sln.inference.sources import find_inputs
from sln.network.sln import Detections
from sln.network.targets import level_shares


@pytest.fixture(scope="module")
def place(tiny_run):
    """The folder of scenes, a cache and a run of two steps."""
    return tiny_run.parent


def from_truth(targets, out=28, levels=4):
    """The truth as a network that knows everything would say it."""
    boxes = targets.boxes()[0].astype(np.float32)
    codes = roi_levels(targets, boxes, np.arange(len(boxes)), 3 * out)
    shares = level_shares(torch.from_numpy(codes), levels).numpy()
    return Prediction(targets.size, boxes, np.linspace(1, 0.5, len(boxes), dtype=np.float32), shares)


def test_a_prediction_made_of_the_truth_is_the_truth(place):
    data = CachedTargets(place / "t.h5", [place], load_config("tiny").data)
    found = {}
    for at in range(len(data)):
        targets = data.cache[at]
        prediction = from_truth(targets)
        found[data.images[at].image_id] = prediction.scored_masks()
        ious = [(a & b).sum() / (a | b).sum() for a, b in zip(prediction.amodal(), targets.amodal(), strict=True)]
        assert min(ious) > 0.85
        order = prediction.order
        assert (order == -order.T).all()
        for front, back in targets.pairs:
            both = (prediction.amodal()[front] & prediction.amodal()[back]).sum()
            assert order[front, back] == 1 or both < 10
        m = prediction.sem_dist()
        inside = prediction.amodal()
        assert m.dtype == np.float32 and m.max() < 1
        assert np.allclose((m - np.floor(m))[inside], prediction.confidence.clip(0, 1 - 2**-8)[inside], atol=1e-5)
        assert (-np.floor(m)[inside] == prediction.levels[inside] - 1).all()
        assert (prediction.modal() == (prediction.levels == 1)).all()
        a, b = prediction.levels[:2].astype(int)
        assert instance_order(relative_depth((a > 0, a - 1), (b > 0, b - 1))) in (order[0, 1], 0)
    report = evaluate(data.cache, found)
    assert report.figures["subsets"]["all"]["all"]["AP"] > 0.8


def test_scored_masks_equal_the_maps(place):
    prediction = from_truth(CachedTargets(place / "t.h5", [place], load_config("tiny").data).cache[0])
    drawn = layered_predictions(prediction.scored_masks(), prediction.size)
    assert (drawn.levels == prediction.levels).all()


def test_layered_predictions_keep_each_predictions_own_codes():
    codes = np.random.default_rng(0).integers(0, 5, (4, 9, 7)).astype(np.uint8)
    from amodal_data import RLE, ScoredMask

    found = [ScoredMask.from_codes(one, 0.5) for one in codes]
    assert (layered_predictions(found, (9, 7)).levels == codes).all()
    bare = ScoredMask(RLE.from_mask(codes[0] > 0), 0.5)
    assert (layered_predictions([bare], (9, 7)).levels[0] == (codes[0] > 0)).all()
    assert layered_predictions([], (9, 7)).levels.shape == (0, 9, 7)


def test_results_files_say_what_was_predicted(place, tmp_path):
    data = CachedTargets(place / "t.h5", [place], load_config("tiny").data)
    found = {data.images[at].image_id: from_truth(data.cache[at]).scored_masks() for at in range(3)}
    assert write_predictions(tmp_path / "p.json", found) == sum(map(len, found.values()))
    again = read_predictions(tmp_path / "p.json", read_truth(data.cache))
    for image_id, masks in found.items():
        for one, two in zip(masks, again.of(image_id), strict=True):
            assert (one.amodal, one.visible, one.levels) == (two.amodal, two.visible, two.levels)
            assert np.array_equal(one.box, two.box) and np.array_equal(one.probabilities, two.probabilities)
    write_predictions(tmp_path / "p.json", {1: []})
    assert not (tmp_path / "p.npz").exists()


def test_scores_are_objectness_times_confidence_inside():
    p = torch.zeros(2, 3, 2, 2)
    p[0, 0] = torch.tensor([[0.1, 0.3], [0.9, 0.6]])
    p[1, 0] = 1
    whole = torch.zeros(2, dtype=torch.int64)
    found = Detections(torch.zeros(2, 4), torch.tensor([0.5, 0.9]), whole, p, whole)
    settings = load_config("tiny").predict
    assert detection_scores(found, settings).tolist() == pytest.approx([0.5 * 0.8, 0])
    assert detection_scores(found, settings.model_copy(update={"score": "objectness"})).tolist() == pytest.approx(
        [0.5, 0.9]
    )


def test_predictions_do_not_depend_on_the_batch(place):
    predictor = load(place / "run", "cpu")
    photos = sorted((place / "val2014").iterdir())
    together = predictor.predict(photos)
    for photo, found in zip(photos, together, strict=True):
        alone = predictor.predict(photo)
        assert len(alone) == len(found) and np.allclose(alone.boxes, found.boxes, atol=1e-3)
        with Image.open(photo) as image:
            assert np.array_equal(predictor.predict(image).boxes, alone.boxes)
            assert np.array_equal(predictor.predict(np.asarray(image.convert("RGB"))).boxes, alone.boxes)
    assert predictor.predict([]) == []
    with pytest.raises(PhotoError, match="uint8"):
        predictor.predict(np.full((4, 4, 3), np.nan))


def test_a_model_scored_by_every_protocol(place):
    predictor = load(place / "run", "cpu")
    data = CachedTargets(place / "t.h5", [place], predictor.config.data)
    report = evaluate_model(predictor, data, limit=3)
    document = report.to_dict()
    assert set(document) == {"schema", "amodal", "coco", "order", "completion", "truth_boxes"}
    known = {"images": 3, "nms": "mask IoU 0.5, visible 0.3, score x 0.05"}
    assert document["amodal"]["settings"] | known == document["amodal"]["settings"]
    assert document["truth_boxes"]["instances"] == sum(len(data.cache[at].names) for at in range(3))
    assert json.dumps(document) and "at ground-truth boxes" in str(report)


def test_the_head_at_true_boxes_against_masks_it_cannot_miss(place, monkeypatch):
    """A head that answers with the truth gets 1.0 everywhere."""
    predictor = load(place / "run", "cpu")
    data = CachedTargets(place / "t.h5", [place], predictor.config.data)
    queue = []

    def knows(features, rois):
        targets, instances = queue.pop(0)
        return targets.roi_shares(rois.boxes, rois.images, instances, 28, 4)

    from sln.evaluation import evaluate as module

    batches = list(module.whole_batches(data))
    queue += [(b.targets, b.targets.present.nonzero(as_tuple=True)[1]) for b in batches]
    monkeypatch.setattr(predictor.model, "predict_rois", knows)
    figures = score_at_truth_boxes(predictor, data)
    assert figures.amodal_iou == figures.modal_iou == figures.hidden_iou == figures.own_hidden_iou == 1.0
    assert figures.order["R_hard"]["accuracy"] > 0.9


def test_pictures_have_a_panel_for_everything(place):
    data = CachedTargets(place / "t.h5", [place], load_config("tiny").data)
    photo = np.asarray(Image.open(data.photos[0]).convert("RGB"))
    prediction = from_truth(data.cache[0])
    with_truth = comparison([ComparisonRow("a", photo, prediction, data.cache[0])])
    without = comparison([ComparisonRow("a", photo, prediction), ComparisonRow("b", photo, Prediction(
        prediction.size, prediction.boxes[:0], prediction.scores[:0], prediction.probabilities[:0]))])  # fmt: skip
    assert with_truth.width == 5 * 412 + 12 and without.width == 3 * 412 + 12
    assert prediction.plot(photo).size == prediction.plot().size == (640, 480)
    assert "data:image/png;base64," in prediction._repr_html_() and repr(prediction) in prediction._repr_html_()


def test_photo_ids_never_repeat(tmp_path):
    names = ["COCO_val2014_000000000002.jpg", "x.png", "b/000000000002.jpg", "y.png"]
    assert photo_ids([Path(name) for name in names]) == [2, 1, 3, 4]
    with pytest.raises(PhotoError, match="no images here"):
        find_inputs([tmp_path])


def sln(*arguments, cwd=None, code=0, **environment):
    if "PYTHONPATH" in environment:  # what is installed is another process's matter
        command = [sys.executable, "-m", "amodal_cli.model", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})
    else:
        done = run_command("sln", *arguments, cwd=cwd, **environment)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_the_commands_one_after_the_other(place, tmp_path):
    settings = [part for setting in ("data.size=64", *FEW_STEPS) for part in ("--set", setting)]
    run = tmp_path / "runs" / "one"
    fitted = sln("fit", place / "t.h5", "--run", run, "--preset", "tiny", "--steps", 2, *settings, "--json")
    assert json.loads(fitted.stdout)["last"]["step"] == 2
    assert {p.name for p in run.iterdir()} == {
        "config.toml", "env.json", "metrics.jsonl", "metrics.csv", "curves.png", "last.pt", "best.pt", "overlays",
        "report.html",
    }  # fmt: skip
    again = sln("config", "--config", run / "config.toml", "--json")
    assert json.loads(again.stdout)["train"]["steps"] == 2
    assert "one" in sln("runs", tmp_path / "runs").stdout
    out = tmp_path / "out"
    sln("predict", run / "best.pt", place / "val2014", "-o", out, "--save", "coco,png,npy,html", "--min-score", 0)
    rows = json.loads((out / "predictions.json").read_text())
    assert {row["image_id"] for row in rows} == {1, 2, 3, 4, 5, 6} and rows[0]["file_name"].endswith(".jpg")
    assert len(list((out / "overlays").iterdir())) == 12
    assert '"id":6' in (out / "predictions.html").read_text()
    maps = np.load(out / "sem_dist" / f"{1:012d}.npy")
    assert maps.shape == (sum(row["image_id"] == 1 for row in rows), 60, 80)
    assert evaluate(place / "t.h5", out / "predictions.json", "order").figures["methods"]["R_joint"] is not None
    scored = sln(
        "evaluate",
        run,
        place / "t.h5",
        "--json",
        "-o",
        out / "val.json",
        "--png",
        out / "val.png",
        "--html",
        out / "val.html",
    )
    document = json.loads(scored.stdout)
    assert document["schema"] == "sln/evaluate/1" and document["amodal"]["schema"] == "amodal-data/evaluate/1"
    assert "truth" in (out / "val.html").read_text() and (out / "val.png").exists() and (out / "val.npz").exists()
    sln("export", run / "best.pt", "-o", out / "m.safetensors")
    assert "AP" in sln("evaluate", out / "m.safetensors", place / "t.h5", "--limit", 2).stdout
    assert "already" in sln("predict", run, place / "val2014", "-o", out, code=2).stderr


def test_bad_settings_are_told_all_at_once():
    done = sln("config", "--set", "train.stepz=4", "--set", "head.width=x", code=2, SLN_DATA__SIZE="77")
    for part in ("train.stepz: no such setting; did you mean train.steps?", "head.width", "data.size"):
        assert part in done.stderr
    with pytest.raises(ConfigError, match="not a multiple of head"):
        load_config(settings=["head.out=30"], environment={})


def test_precedence_of_settings(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[train]\nsteps = 2\nbatch = 2\nlr = 0.5\nseed = 2\n")
    config = load_config(
        "tiny",
        file,
        ["train.lr=0.25", "train.seed=3"],
        {"train.seed": 4},
        {"SLN_TRAIN__LR": "1", "SLN_TRAIN__BATCH": "6"},
    )
    assert (config.train.steps, config.train.batch, config.train.lr, config.train.seed) == (2, 6, 0.25, 4)


@pytest.mark.parametrize("preset", ["paper", "modern", "tiny"])
def test_printed_settings_can_be_read_back(preset, tmp_path):
    text = sln("config", "--preset", preset).stdout
    (tmp_path / "c.toml").write_text(text)
    assert load_config(file=tmp_path / "c.toml", environment={}) == load_config(preset, environment={})


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (("fit",), 2, "name a cache"),
        (("fit", "{t}", "--resume", "{run}"), 2, "--resume goes on"),
        (("fit", "{t}", "--images", "{empty}"), 1, "6 of 6 photos not found"),
        (("fit", "{t}", "--device", "cuda", "--run", "{new}"), 3, "no CUDA device"),
        (("fit", "{t}", "--run", "{run}"), 2, "never reused"),
        (("fit", "{json}", "--run", "{new}"), 1, "target cache"),
        (("fit", "--resume", "{empty}"), 2, "nothing to resume"),
        (("predict", "{json}", "{photos}", "-o", "{new}"), 1, "not a checkpoint"),
        (("predict", "{run}", "{empty}", "-o", "{new}"), 1, "no images here"),
        (("predict", "{run}", "{photos}", "-o", "{new}", "--save", "gif"), 2, "--save takes"),
        (("predict", "{run}", "{photos}", "-o", "{new}", "--device", "tpu"), 3, "device"),
        (("evaluate", "{run}", "{t}", "--images", "{empty}"), 1, "photos not found"),
        (("export", "{run}", "-o", "{new}.bin"), 2, ".safetensors"),
        (("runs", "{t}"), 2, ""),
    ],
)  # fmt: skip
def test_errors_are_clear_and_have_their_code(place, tmp_path, arguments, code, said):
    (tmp_path / "empty").mkdir()
    names = {
        "t": place / "t.h5", "run": place / "run", "empty": tmp_path / "empty", "new": tmp_path / "new",
        "json": place / "COCO_amodal_val2014.json", "photos": place / "val2014",
    }  # fmt: skip
    settings = ("--preset", "tiny") if arguments[0] == "fit" and "--resume" not in arguments else ()
    done = sln(*(part.format(**names) for part in arguments), *settings, code=code)
    assert said in done.stderr and done.stdout == ""


def test_photos_that_cannot_be_read_are_reported_and_the_others_done(place, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    good = sorted((place / "val2014").iterdir())[0].read_bytes()
    (folder / "a.jpg").write_bytes(good)
    (folder / "b.jpg").write_bytes(good[:600])
    (folder / "c.png").write_text("no")
    done = sln("predict", place / "run", folder, "-o", tmp_path / "out", code=1)
    assert "1 image\n" in done.stdout and "b.jpg" in done.stderr and "c.png" in done.stderr
    assert {row["image_id"] for row in json.loads((tmp_path / "out" / "predictions.json").read_text())} <= {1}
    sln("predict", place / "run", folder / "c.png", "-o", tmp_path / "none", "--save", "coco,html", code=1)
    assert not list((tmp_path / "none").glob("predictions.*"))  # nothing that the next try would have to replace


def test_listing_runs_needs_no_folder_of_runs(tmp_path):
    none = run_command("sln", "runs", cwd=tmp_path)
    assert none.returncode == 0 and "no runs in runs" in none.stderr and not list(tmp_path.iterdir())
    assert run_command("sln", "runs", "elsewhere", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    "versions, said", [({"torch": None}, "torch not installed"), ({"torch": "1.0"}, "needs torch")]
)
def test_a_machine_without_a_fitting_torch(monkeypatch, versions, said):
    from amodal_data.io import environment as doctor
    from sln.runtime.environment import require_torch

    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, real(name)))
    with pytest.raises(MachineError, match=said):
        require_torch()


def test_without_torch_settings_work_and_training_says_what_to_install(place, tmp_path):
    """As on a machine where only the base package is installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m\nreal = m.version\n"
        "def version(name):\n"
        "    if name in ('torch', 'torchvision'): raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
    )
    assert "steps" in sln("config", PYTHONPATH=str(tmp_path)).stdout
    done = sln("fit", place / "t.h5", "--preset", "tiny", code=3, PYTHONPATH=str(tmp_path))
    assert "torch and torchvision not installed" in done.stderr and "amodal-data[sln]" in done.stderr


@pytest.mark.slow
def test_doctor_speaks():
    assert "torchvision" in sln("doctor").stdout


def test_predictors_say_which_device_is_missing():
    with pytest.raises(MachineError, match="cuda:7"):
        Predictor(None, "cuda:7")


@pytest.mark.slow
def test_train_tiny(tmp_path, run_process):
    done = run_process(ROOT / "examples" / "train_tiny.py", tmp_path, "--scenes", "8", "--steps", "6")
    assert done.returncode == 0, done.stderr
    assert "held-out AP 0." in done.stdout and (tmp_path / "predictions.png").exists()


def test_the_first_annotator_counts_at_true_boxes(tmp_path, place):
    from dataclasses import replace

    from support.scenes import make_scene

    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:40, 10:40], masks[1, 25:55, 25:60] = True, True
    scenes = [make_scene(masks), make_scene(masks[::-1])]
    name = "COCO_val2014_000000000001.jpg"
    scenes = [replace(s, file_name=name, annotator=who) for s, who in zip(scenes, "ab", strict=True)]
    build_targets(scenes, tmp_path / "t.h5")
    predictor = load(place / "run", "cpu")
    data = CachedTargets(tmp_path / "t.h5", [place], predictor.config.data)
    figures = score_at_truth_boxes(predictor, data)
    assert len(data) == 2 and figures.instances == 2


def test_a_name_counts_more_than_a_number(place, tmp_path):
    data = CachedTargets(place / "t.h5", [place], load_config("tiny").data)
    mask = from_truth(data.cache[2]).scored_masks()[:1]
    write_predictions(tmp_path / "p.json", {77: mask}, {77: data.images[2].file_name})
    assert list(read_predictions(tmp_path / "p.json", read_truth(data.cache)).images) == [data.images[2].image_id]
    write_predictions(tmp_path / "p.json", {1: mask}, {1: "elsewhere.jpg"})
    with pytest.raises(ValueError, match=r"'elsewhere.jpg' is not in the ground truth"):
        read_predictions(tmp_path / "p.json", read_truth(data.cache))


def test_photos_are_turned_upright_and_deep_ones_refused(place, tmp_path):
    from amodal_data.io.images import read_photo

    photo = Image.new("RGB", (60, 40), "red")
    photo.putpixel((0, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.png", exif=exif)
    assert read_photo(tmp_path / "a.png").shape == (60, 40, 3)
    assert load(place / "run", "cpu").predict(tmp_path / "a.png").size == (60, 40)
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(PhotoError, match="8 bits"):
        read_photo(tmp_path / "deep.png")


def test_photos_in_any_form_and_rows_as_flags(place, tmp_path):
    """Pictures, results and completions take what their signatures say."""
    from amodal_data.io.images import photo_size
    from sln.completion.completer import Completer

    predictor = load(place / "run", "cpu")
    data = CachedTargets(place / "t.h5", [place], load_config("tiny").data)
    with Image.open(data.photos[0]) as opened:
        picture = opened.convert("RGB")
    pixels = np.asarray(picture)
    predictions = [predictor.predict(photo) for photo in (data.photos[0], str(data.photos[0]), picture, pixels)]
    assert len({prediction.scores.tobytes() for prediction in predictions}) == 1
    prediction = predictions[0]
    for photo in (None, picture, pixels, data.photos[0]):
        prediction.save(tmp_path / "a.png", photo)
        assert prediction.plot(photo).size == photo_size(tmp_path / "a.png")[::-1] == (640, 480)
    flags = np.arange(len(prediction)) % 2 == 0
    assert prediction.only(flags).scores.tolist() == prediction.scores[flags].tolist()
    assert prediction.only(np.flatnonzero(flags)).scores.tolist() == prediction.scores[flags].tolist()
    assert len(prediction.only([])) == 0
    masks = np.zeros((2, *prediction.size), bool)
    masks[0, 5:30, 5:20] = masks[1, 10:20, 20:40] = True
    completer = Completer.from_pretrained()
    for photo in (prediction.size, picture, pixels, data.photos[0]):
        assert (completer.complete(photo, masks).modal() == masks).all()
    with pytest.raises(PhotoError, match="no such file"):
        prediction.plot("nowhere.jpg")
    with pytest.raises(PhotoError, match="found list"):
        prediction.plot([1, 2])


def test_several_photos_of_one_name_are_told_apart_or_refused(tmp_path):
    from sln.data.photos import find_photos

    for folder in ("training", "testing"):
        (tmp_path / folder / "image_2").mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(tmp_path / folder / "image_2" / "000000.png")
    (found,) = find_photos([("training/image_2/000000.png", (6, 8))], [tmp_path]).paths
    assert found.parts[-3] == "training"
    with pytest.raises(PhotoError, match="2 times"):
        find_photos([("000000.png", (6, 8))], [tmp_path])
    assert find_photos([("000000.png", (6, 8))], [tmp_path / "testing"]).paths[0].parts[-3] == "testing"


def test_order_and_maps_at_other_sizes_agree_with_the_full_ones(place):
    prediction = from_truth(CachedTargets(place / "t.h5", [place], load_config("tiny").data).cache[0])
    confidence, codes = prediction.at_size(0, prediction.size)
    assert np.allclose(confidence, prediction.confidence[0], atol=1e-6) and (codes == prediction.levels[0]).all()
    assert prediction.at_size(0, (30, 40))[1].shape == (30, 40)


@pytest.mark.slow
def test_true_codes_survive_the_networks_own_grid(run_process):
    """Encode and decode at ROI resolution is the identity, and R right wherever the overlap meets the grid."""
    done = run_process(ROOT / "benchmarks" / "train_gates.py", "ceiling", "--scenes", "10")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("encode and decode equal 1.0000") == 2 and done.stdout.count("wrong 0") == 2


@pytest.mark.slow
def test_a_tiny_network_learns_two_scenes_by_heart(tmp_path):
    """The short form of `benchmarks/train_gates.py overfit`."""
    build_targets(read_cocoa(write_cocoa(tmp_path, 2, seed=5, size=(64, 64), instances=(3, 4))), tmp_path / "t.h5")
    settings = ["data.size=64", "data.flip=false", "train.steps=100", "train.batch=2", "train.lr=3e-3",
                FEW_DETECTIONS]  # fmt: skip
    config = load_config("tiny", settings=settings, environment={})
    run = fit(config, Sources(tmp_path / "t.h5", (tmp_path,)), tmp_path / "run", device="cpu")
    predictor = load(run.last, "cpu")
    figures = score_at_truth_boxes(predictor, CachedTargets(tmp_path / "t.h5", [tmp_path], config.data))
    assert figures.amodal_iou > 0.85 and figures.modal_iou > 0.75
    assert run.metrics()[-1]["total"] < 0.5 * run.metrics()[0]["total"]


def test_a_value_shows_and_saves_itself(place, tmp_path):
    data = CachedTargets(place / "t.h5", [place], load_config("tiny").data)
    photo = read_photo(data.photos[0])
    prediction = from_truth(data.cache[0])
    for name in ("a.png", "a.jpg", "a.webp"):
        prediction.save(tmp_path / name, photo)
        assert read_photo(tmp_path / name).shape == (480, 640, 3)
    plain, drawn = np.asarray(prediction.plot(), int), np.asarray(prediction.plot(photo), int)
    assert np.abs(plain - drawn).mean() > 5 and len(np.unique(plain.reshape(-1, 3), axis=0)) > 5
    assert prediction.plot(min_score=2.0).size == (640, 480)  # nothing is that sure: the best one is shown
    predictor = Predictor(build(load_config("tiny", environment={})), "cpu")
    one, two = predictor.predict([photo, photo])
    assert np.array_equal(one.scores, two.scores) and np.allclose(
        one.scores, predictor.predict(photo).scores, atol=1e-5
    )
    assert dir(package) == sorted(package.__all__)
    prediction.save(tmp_path / "by_path.png", data.photos[0])
    assert (read_photo(tmp_path / "by_path.png") == read_photo(tmp_path / "a.png")).all()
    with pytest.raises(SelectionError, match=r"unknown picture format: \.txt"):
        prediction.save(tmp_path / "a.txt")
    with pytest.raises(PhotoError, match="found int"):
        predictor.predict(3)
    assert escape(repr(predictor)) in predictor._repr_html_()
