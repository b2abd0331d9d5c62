"""Depth order of pairs, sidecars and writers; figures that are not available."""

import json

import numpy as np
import pytest
from support.commands import run_command
from support.predictions import random_prediction
from support.scenes import make_scene, random_masks

from amodal_data import RLE, ScoredMask, evaluate, layer_scene, write_cocoa
from amodal_data.errors import PredictionError
from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import read_truth
from amodal_data.evaluation.protocols.order import pair_votes
from amodal_data.evaluation.protocols.pair_order import Grids, grid_of, order_of
from amodal_data.evaluation.results.results_writer import ResultsWriter, write_predictions
from amodal_data.evaluation.results.sidecar import open_sidecar, sidecar_path
from amodal_data.layering.sem_dist import instance_order, relative_depth
from amodal_data.masks.windows import crop, from_crop, intersect_windows, subtract, window_of


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_a_pair_is_consistent(tmp_path, seed):
    """Of the prediction, the protocol and a results file; test_page.py checks the page."""
    rng = np.random.default_rng(seed)
    prediction = random_prediction(rng)
    masks = prediction.scored_masks()
    order = prediction.order
    scene = make_scene(np.ones((1, 40, 50), bool))
    write_predictions(tmp_path / "p.json", {1: masks})
    read = read_predictions(tmp_path / "p.json", read_truth([scene])).of(1)
    for a in range(5):
        for b in range(5):
            if a != b:
                assert order[a, b] == order_of(masks[a], masks[b], Grids()) == -order[b, a]
                assert order[a, b] == pair_votes(masks[a], masks[b])["R_joint"]
                assert order[a, b] == order_of(read[a], read[b], Grids())


def test_without_probabilities_masks_decide_by_equations_4_and_5():
    rng = np.random.default_rng(1)
    for _ in range(50):
        codes = rng.integers(0, 4, (2, 9, 8)).astype(np.uint8)
        a, b = (ScoredMask.from_codes(part, 0.5) for part in codes)
        levels = codes.astype(int) - 1
        assert order_of(a, b, Grids()) == instance_order(
            relative_depth((codes[0] > 0, levels[0]), (codes[1] > 0, levels[1]))
        )
    bare = ScoredMask(RLE.from_mask(np.ones((9, 8))), 0.5)
    assert order_of(bare, bare, Grids()) == order_of(a, bare, Grids()) == 0


def test_saved_sem_dist_maps_equal_the_prediction(tmp_path):
    """`predict --save npy` writes the map of the prediction: outside, L is 0."""
    prediction = random_prediction(np.random.default_rng(2))
    from sln.inference.folder import save_sem_dist

    save_sem_dist(tmp_path / "m.npy", prediction, 0.0)
    saved, value = np.load(tmp_path / "m.npy"), prediction.sem_dist()
    assert np.abs(saved.astype(np.float32) - value).max() < 2e-3
    outside = ~prediction.amodal()
    assert np.array_equal(value[outside], prediction.confidence[outside].clip(0, 1 - 2**-8))


def slow_window(mask):
    rows, columns = np.nonzero(mask.decode())
    return None if not len(rows) else (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


def test_crops_and_differences_of_runs_equal_pixels():
    rng = np.random.default_rng(3)
    for _ in range(300):
        size = tuple(rng.integers(1, 12, 2).tolist())
        a, b = (RLE.from_mask(mask) for mask in random_masks(rng, 2, size))
        assert np.array_equal(subtract(a, b).decode(), a.decode() & ~b.decode())
        windows = [window_of(mask) for mask in (a, b)]
        for mask, window in zip((a, b), windows, strict=True):
            limits = None if window is None else (window[0].start, window[1].start, window[0].stop, window[1].stop)
            assert limits == slow_window(mask)
        y0, x0 = (int(rng.integers(side)) for side in size)
        window = (slice(y0, int(rng.integers(y0, size[0])) + 1), slice(x0, int(rng.integers(x0, size[1])) + 1))
        part = crop(a, window)
        assert np.array_equal(part, a.decode()[window])
        whole = np.zeros(size, bool)
        whole[window] = part
        assert from_crop(part, window, size) == RLE.from_mask(whole)
        common = intersect_windows(*windows)
        shared = a.decode() & b.decode()
        assert common is not None or not shared.any()


def test_masks_of_all_instances_equal_single_masks():
    rng = np.random.default_rng(4)
    for _ in range(60):
        masks = random_masks(rng, int(rng.integers(1, 8)))
        targets = layer_scene(make_scene(masks, rng.permutation(len(masks))))
        single_masks = {"amodal": targets.amodal_rle, "modal": targets.modal_rle, "hidden": targets.hidden_rle}
        for part, single_mask in single_masks.items():
            assert targets.rles(part) == [single_mask(n) for n in range(len(masks))]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    path = write_cocoa(folder, 8, seed=6, size=(60, 80), photos=False)
    assert run_command("amodal-data", "convert", path, "--to", "results", "-o", folder / "r.json").returncode == 0
    return folder


@pytest.mark.parametrize("protocol", ["amodal", "coco"])
def test_no_figure_depends_on_the_order_of_images(scenes, tmp_path, protocol):
    """All scores are tied, so the order of images matters: by rising id, as in COCOEval."""
    content = json.loads((scenes / "COCO_amodal_val2014.json").read_text())
    rows = json.loads((scenes / "r.json").read_text())
    rng = np.random.default_rng(5)
    rows = [row for row in rows if rng.random() < 0.6] + [{**row, "image_id": 9 - row["image_id"]} for row in rows]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    reports = []
    for trial in range(3):
        order = rng.permutation(8) if trial else np.arange(8)
        (tmp_path / "t.json").write_text(json.dumps({**content, "images": [content["images"][i] for i in order]}))
        reports.append(evaluate(tmp_path / "t.json", tmp_path / "r.json", protocol).figures)
    assert reports[0] == reports[1] == reports[2]


def write_classes(scenes, tmp_path, classes):
    from amodal_data.export.coco import export_coco
    from amodal_data.inspector.target_dataset import open_dataset

    content = export_coco(open_dataset(scenes / "COCO_amodal_val2014.json"))
    for i, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = 1 + i % classes
    path = tmp_path / f"{classes}.json"
    path.write_text(json.dumps(content))
    return path


def test_predictions_without_classes_are_not_scored_by_class(scenes, tmp_path):
    three, single = write_classes(scenes, tmp_path, 3), write_classes(scenes, tmp_path, 1)
    report = evaluate(three, scenes / "r.json", "coco")
    assert set(report.figures["parts"].values()) == {None}
    assert "classes were not predicted" in str(report) and "n/a" in str(report)
    assert evaluate(single, scenes / "r.json", "coco").figures["parts"]["amodal"]["AP"] == pytest.approx(1)
    first_image = [row for row in json.loads((scenes / "r.json").read_text()) if row["image_id"] == 1]
    (tmp_path / "one.json").write_text(json.dumps(first_image))
    assert evaluate(three, tmp_path / "one.json", "coco").figures["parts"]["amodal"] is not None


def test_figures_without_visible_masks_are_not_available(scenes, tmp_path):
    rows = json.loads((scenes / "r.json").read_text())
    bare = [{key: value for key, value in row.items() if key not in ("visible_mask", "levels")} for row in rows]
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    order = evaluate(scenes / "COCO_amodal_val2014.json", tmp_path / "bare.json", "order")
    assert order.figures["methods"]["R_hard"] is order.figures["methods"]["modal_vote"] is None
    assert order.figures["methods"]["area"]["pairs"] > 0 and "R_hard, modal_vote need" in str(order)
    completion = evaluate(scenes / "COCO_amodal_val2014.json", tmp_path / "bare.json", "completion")
    figures = completion.figures["completion"]
    assert figures["mIoU_occ_own_visible"] is figures["occlusion_accuracy"] is None and figures["mIoU_full"] == 1
    assert "occlusion_accuracy, sem_dist_error need" in str(completion)
    whole = evaluate(scenes / "COCO_amodal_val2014.json", scenes / "r.json", "completion")
    assert whole.figures["completion"]["occlusion_accuracy"] == 1 and not whole.warnings[1:]


@pytest.mark.parametrize(
    "key", ["inmodal_mask", "visible_segmentation", "modal_segmentation", "i_segm", "visable_mask"]
)
def test_unknown_keys_resembling_visible_mask_are_warnings(scenes, tmp_path, key):
    rows = [{**row, key: row["visible_mask"]} for row in json.loads((scenes / "r.json").read_text())]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    warnings = evaluate(scenes / "COCO_amodal_val2014.json", tmp_path / "r.json").warnings
    assert f"r.json: '{key}' is not read; did you mean 'visible_mask'?" in warnings


def test_files_with_common_images_are_refused(scenes, tmp_path):
    rows = json.loads((scenes / "r.json").read_text())
    for name, part in (("a", rows), ("b", rows[:1]), ("c", [])):
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    truth = scenes / "COCO_amodal_val2014.json"
    with pytest.raises(PredictionError, match=r"image 1 is in two results files(.|\n)*a.json, .*b.json"):
        evaluate(truth, [tmp_path / "a.json", tmp_path / "b.json"])
    assert evaluate(truth, [tmp_path / "a.json", tmp_path / "c.json"]).figures["subsets"]["all"]["all"]["AP"] == 1


def test_sidecars_are_mapped(tmp_path):
    """Rows are stored uncompressed and mapped; a compressed archive is read as well."""
    masks = random_prediction(np.random.default_rng(6), n=9).scored_masks()
    write_predictions(tmp_path / "p.json", {1: masks})
    sidecar = open_sidecar(tmp_path / "p.json")
    assert isinstance(sidecar.levels, np.memmap) and sidecar.levels.dtype == np.float16
    assert np.array_equal(sidecar.levels[3:5], np.stack([masks[n].probabilities for n in (3, 4)]))
    with np.load(sidecar_path(tmp_path / "p.json")) as plain:
        np.savez_compressed(tmp_path / "old.npz", boxes=plain["boxes"], levels=plain["levels"])
    old = open_sidecar(tmp_path / "old.json")
    assert not isinstance(old.levels, np.memmap) and np.array_equal(old.levels, sidecar.levels)


def test_grids_equal_crops_of_the_codes():
    codes = np.random.default_rng(7).integers(0, 4, (12, 10)).astype(np.uint8)
    prediction, window = ScoredMask.from_codes(codes, 0.5), (slice(2, 9), slice(3, 10))
    grid = grid_of(prediction, window)
    assert np.array_equal(grid.inside, codes[window] > 0)
    assert np.array_equal(grid.level, np.maximum(codes[window], 1) - 1)


def test_interrupted_writes_keep_complete_images(tmp_path):
    """Rows, boxes and levels of an image belong together, at any time of Ctrl-C."""
    masks = random_prediction(np.random.default_rng(8), n=3).scored_masks()

    class Interrupts:
        def __init__(self, file, after):
            self.file, self.after = file, after

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise KeyboardInterrupt

        def __getattr__(self, name):
            return getattr(self.file, name)

    for name in ("_out", "_levels"):
        path = tmp_path / f"{name}.json"
        with pytest.raises(KeyboardInterrupt), ResultsWriter(path) as out:
            out.add(1, masks)
            whole = getattr(out, name)
            setattr(out, name, Interrupts(whole, 1))
            try:
                out.add(2, masks)
            finally:
                setattr(out, name, whole)
        assert [row["image_id"] for row in json.loads(path.read_text())] == [1, 1, 1]
        assert np.array_equal(open_sidecar(path).levels[2], masks[2].probabilities)


def test_failed_writes_keep_the_previous_files(tmp_path, monkeypatch):
    masks = random_prediction(np.random.default_rng(9), n=3).scored_masks()
    write_predictions(tmp_path / "p.json", {1: masks})
    before = [(tmp_path / name).read_bytes() for name in ("p.json", "p.npz")]

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("os.fsync", full)
        write_predictions(tmp_path / "p.json", {1: masks[:1]})
    assert [(tmp_path / name).read_bytes() for name in ("p.json", "p.npz")] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "p.npz"]


def test_masks_of_an_unknown_part_are_refused():
    targets = layer_scene(make_scene(np.ones((2, 4, 4), bool)))
    assert targets.rles(np.int64(1)) == targets.rles(1) != targets.rles()
    with pytest.raises(KeyError):
        targets.rles("visible")
