"""Predictions as lists, tables and pictures; predictors that are called and stream."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.networks import FEW_STEPS, small
from support.predictions import random_prediction

import sln
from amodal_data import layer_scene, read_records
from amodal_data.errors import AmodalError, PhotoError
from sln.config import Category
from sln.inference.sources import read_sources


@pytest.fixture(scope="module")
def model():
    return sln.Predictor(sln.build(small(*FEW_STEPS)), "cpu")


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("b.png", "a.png", "c.jpg"):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    return tmp_path / "photos"


@pytest.mark.parametrize("decoding", ["none", "rank", "sinkhorn"])
@pytest.mark.parametrize("seed", range(4))
def test_parts_keep_masks_levels_and_order(decoding, seed):
    whole = replace(random_prediction(np.random.default_rng(seed), 6), decoding=decoding,
                    categories=tuple(Category(id=n, name=f"class {n}") for n in range(6)))  # fmt: skip
    flags = np.array([True, False, True, True, False, False])
    for rows, indices in (
        (0, [0]), (-1, [5]), (np.int64(3), [3]), (slice(None, None, -2), [5, 3, 1]), ([4, 2, 4], [4, 2, 4]),
        (flags, [0, 2, 3]), (flags.tolist(), [0, 2, 3]), ([], []), (whole.scores > 2, []), (np.array([-2, 0]), [4, 0]),
    ):  # fmt: skip
        part = whole[rows]
        assert isinstance(part, sln.Prediction) and len(part) == len(indices)
        for name in ("masks", "visible_masks", "levels", "boxes", "scores", "confidence", "category_ids"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[indices]), name
        assert np.array_equal(part.modal(0.6), whole.modal(0.6)[indices])
        assert np.array_equal(part.order, whole.order[np.ix_(indices, indices)])
        assert part.class_names == [whole.class_names[n] for n in indices]
        assert part.to_coco(7) == [whole.to_coco(7)[n] for n in indices]
    assert [one.class_names for one in whole] == [[name] for name in whole.class_names]
    assert np.array_equal(whole[[3, 1]][0].levels, whole.levels[3:4])  # a part of a part


@pytest.mark.parametrize("rows", [6, -7, [0, 6], [True] * 5, np.zeros((2, 2), int), 0.5, "a", None, [[0]]])
def test_wrong_indices_are_errors(rows):
    with pytest.raises(IndexError):
        random_prediction(np.random.default_rng(0), 6)[rows]


def test_names_of_other_tools_are_answered():
    prediction = random_prediction(np.random.default_rng(0), 2)
    for name, right in (("xyxy", "boxes"), ("conf", "scores"), ("pred_masks", "masks"), ("names", "class_names")):
        with pytest.raises(AttributeError, match=rf"no '{name}': use \.{right}"):
            getattr(prediction, name)
    with pytest.raises(AttributeError, match=r"no 'nonsense'$"):
        _ = prediction.nonsense
    assert not hasattr(prediction, "__array__")


def test_the_photo_is_remembered(model, photos, tmp_path):
    path = photos / "a.png"
    with Image.open(path) as image:
        pixels = np.asarray(image)
        for photo in (path, str(path), pixels, image):
            found = model(photo)
            assert found.photo is photo and found[:1].photo is photo and found.only([]).photo is photo
    found = replace(random_prediction(np.random.default_rng(0), 3), photo=None)
    size = found.size
    photo = np.full((*size, 3), 200, np.uint8)
    drawn, gray = (np.asarray(replace(found, photo=value).plot(), int) for value in (photo, None))
    assert np.array_equal(drawn, found.plot(photo)) and abs(drawn - gray).max() > 10
    replace(found, photo=photo).save(tmp_path / "x.png")
    assert np.array_equal(Image.open(tmp_path / "x.png"), drawn)
    assert len(replace(found, photo=photo).layers()) == 3
    with pytest.raises(PhotoError):
        found.layers()
    with pytest.raises(PhotoError, match="height, width"):
        found.plot(photo[1:])
    completed = sln.complete(path, masks=np.ones((1, 48, 64), bool))
    completed.save(tmp_path / "whole.png")
    assert completed.photo is path and sln.complete((48, 64), masks=np.ones((1, 48, 64), bool)).photo is None


def test_show_needs_a_viewer(monkeypatch):
    shown = []
    monkeypatch.setattr("PIL.ImageShow.show", lambda picture: shown.append(picture.size) or True)
    random_prediction(np.random.default_rng(0), 2).show()
    assert len(shown) == 1
    monkeypatch.setattr("PIL.ImageShow.show", lambda picture: False)
    with pytest.raises(AmodalError, match="no viewer"):
        random_prediction(np.random.default_rng(0), 2).show()


def test_targets_draw_themselves_like_predictions(tmp_path):
    masks = np.zeros((2, 30, 40), bool)
    masks[0, 5:25, 5:25] = masks[1, 10:20, 20:38] = True
    record = {"file_name": "a.png", "height": 30, "width": 40,
              "annotations": [{"segmentation": mask, "category": "cup"} for mask in masks]}  # fmt: skip
    targets = layer_scene(read_records([record], masks="amodal", order="front-first")[0])
    assert np.array_equal(targets.masks, masks) and np.array_equal(targets.visible_masks[0], masks[0])
    assert targets.order.tolist() == [[0, 1], [-1, 0]] and targets.order.dtype == np.int8
    photo = np.full((30, 40, 3), 90, np.uint8)
    targets.save(tmp_path / "a.png", photo)
    assert np.array_equal(Image.open(tmp_path / "a.png"), targets.plot(photo)) and targets.plot().size == (640, 480)
    with pytest.raises(PhotoError):
        targets.plot(photo[:5])


def test_one_or_many(model, photos):
    paths = [photos / "a.png", photos / "b.png", photos / "c.jpg"]
    assert isinstance(model(paths[0]), sln.Prediction) and model([]) == []
    many = model(paths, batch=2)
    for source in (photos, str(photos / "*.[pj]*g"), iter(paths), [photos / "a.png", photos / "[bc].*"]):
        streamed = list(model.stream(source, batch=3))
        assert [str(found.photo) for found in streamed] == list(map(str, paths))
        for one, two in zip(streamed, many, strict=True):
            assert len(one) == len(two) and np.allclose(one.boxes, two.boxes, atol=1e-3)
    for score in (0.0, 0.02, 2.0):
        kept = model(paths[0], score=score)
        assert kept.scores.tolist() == [s for s in model(paths[0]).scores.tolist() if s >= score]
    assert len(list(model.stream(np.zeros((3, 40, 40, 3), np.uint8)))) == 3


def test_a_stream_opens_one_batch_at_a_time(model):
    opened = []

    def source():
        for n in range(10):
            opened.append(n)
            yield np.zeros((40, 40, 3), np.uint8)

    stream = model.stream(source())
    next(stream)
    assert opened == [0]
    next(stream), next(stream)
    assert opened == [0, 1, 2]


@pytest.mark.parametrize(
    "source, message",
    [
        ("https://example.org/a.jpg", "download it first"),
        ("photos", r"model\.stream"),
        ("*.png", r"model\.stream"),
        ("film.mp4", r"model\.stream"),
        (np.zeros((2, 40, 40, 3), np.uint8), r"model\.stream"),
        ("missing.png", "no such file"),
        (3, "a photo is a path"),
        (None, "a photo is a path"),
    ],
)
def test_odd_sources_are_answered(model, source, message, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    with pytest.raises(PhotoError, match=message):
        model(source)


@pytest.mark.parametrize("source", ["http://example.org/a.mp4", "missing.mp4", "nothing*.png", "broken.avi"])
def test_odd_streams_are_answered(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.avi").write_bytes(b"RIFF" + bytes(100))
    if source.startswith("broken"):
        pytest.importorskip("av")
    with pytest.raises(PhotoError):
        list(read_sources(source))


def test_frames_of_a_video(model, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(7):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 30 * n, np.uint8), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    frames = list(read_sources(tmp_path / "film.mp4"))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 7
    assert np.allclose([frame.mean() for frame in frames], [30 * n for n in range(7)], atol=6)
    assert [found.size for found in model.stream(tmp_path / "film.mp4", batch=3)] == [(48, 64)] * 7


def test_rows_of_a_table():
    prediction = random_prediction(np.random.default_rng(0), 3)
    try:
        import pandas  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match="amodal-data\\[pandas\\]"):
            prediction.to_dataframe()
        return
    table = prediction.to_dataframe()
    assert table["area"].tolist() == prediction.masks.sum((1, 2)).tolist()
    assert table["visible_area"].tolist() == prediction.visible_masks.sum((1, 2)).tolist()
    assert table["deepest"].tolist() == [max(0, int(codes.max()) - 1) for codes in prediction.levels]
    assert np.array_equal(table[["x0", "y0", "x1", "y1"]].to_numpy(np.float32), prediction.boxes)
