"""Foreign photos: formats, limits of size, and errors that cost no other photo."""

import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from support.commands import run_command

from amodal_data.errors import PhotoError
from amodal_data.io.images import MAX_PIXELS, open_photo, photo_size, read_photo
from amodal_data.readers.discovery import PhotoFinder

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n(owned) print flush\nshowpage\n%%EOF\n"


@pytest.fixture
def place(tiny_run):
    """A trained network and its photos."""
    return tiny_run.parent


def png(width, height, path):
    """Write a PNG whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    raw = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = zlib.compress(bytes(100))
    raw += struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    path.write_bytes(raw)


def attack(kind, path):
    if kind == "PostScript":
        path.write_bytes(EPS)
    elif kind == "slim":
        Image.new("L", (1, 9000)).save(path, "PNG")
    elif kind == "huge":
        png(60_000, 60_000, path)
    elif kind == "bomb":
        png(30_000, 3_000, path)  # within the limits, and nothing behind it
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"GIF89a" + bytes(4))


ATTACKS = ("PostScript", "slim", "huge", "bomb", "FIFO", "device", "cut")


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_bad_photo_costs_no_other(place, tmp_path, kind):
    folder = tmp_path / "photos"
    folder.mkdir()
    good = next((place / "val2014").iterdir())
    (folder / "b.jpg").write_bytes(good.read_bytes())
    attack(kind, folder / "a.jpg")
    with pytest.raises(PhotoError):
        read_photo(folder / "a.jpg")
    result = run_command("sln", "predict", place / "run", folder, "-o", tmp_path / "out", "--save", "coco,png,html",
                       "--min-score", 0)  # fmt: skip
    special = kind in ("FIFO", "device")  # not a file: left out, as other files of a folder
    assert result.returncode == (0 if special else 1), result.stderr
    assert "in 1 image\n" in result.stdout and "a.jpg" in result.stderr and "owned" not in result.stdout + result.stderr
    assert {row["file_name"] for row in json.loads((tmp_path / "out" / "predictions.json").read_text())} == {"b.jpg"}
    assert (tmp_path / "out" / "overlays" / "b.png").exists()


def test_postscript_is_never_run(tmp_path):
    """Pillow opens by content and hands PostScript to Ghostscript; the formats are listed, so that it does not."""
    (tmp_path / "gs").write_text("#!/bin/sh\ntouch ran\n")
    (tmp_path / "gs").chmod(0o755)
    (tmp_path / "a.jpg").write_bytes(EPS)
    code = "from pathlib import Path\nfrom amodal_data.io.images import read_photo\nread_photo(Path('a.jpg'))\n"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert "not a photo this package can read" in result.stderr and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif"])
def test_formats(tmp_path, suffix):
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:3] = 200
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    assert photo_size(path) == (6, 8)
    assert np.abs(read_photo(path).astype(int) - pixels).mean() < 20
    assert PhotoFinder([tmp_path]).find(path.name) == path


def test_limits_hold_before_anything_is_decoded(tmp_path):
    png(10_001, 10_000, tmp_path / "a.png")
    with pytest.raises(PhotoError, match="more than"):
        photo_size(tmp_path / "a.png")
    png(MAX_PIXELS // 20_000, 20_000, tmp_path / "b.png")
    assert photo_size(tmp_path / "b.png") == (20_000, MAX_PIXELS // 20_000)
    with pytest.raises(PhotoError, match="damaged"), open_photo(tmp_path / "b.png") as image:
        image.load()


def test_photos_in_folders(tmp_path):
    for name in ("b.JPG", "a.webp", "notes.txt", "c.tiff", ".hidden.png", "sub/d.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "e.png")
    pytest.importorskip("torch")
    from sln.inference.sources import find_inputs

    inputs = find_inputs([tmp_path])
    assert [path.name for path in inputs.paths] == ["a.webp", "b.JPG", "c.tiff", "d.bmp"]
    assert [path.name for path in inputs.skipped] == ["e.png", "notes.txt"]


def test_predictions_are_kept_after_an_interruption(place, tmp_path):
    from sln import load
    from sln.inference.folder import predict_photos

    photos = sorted((place / "val2014").iterdir())[:3]
    predictor = load(place / "run", "cpu")
    predict = predictor.predict
    calls = []

    def interrupted(opened, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(opened, **options)

    predictor.predict = interrupted
    report = predict_photos(predictor, photos, tmp_path, ("coco", "html", "png"), batch=1)
    assert report.interrupted and report.photos == 2
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert {row["file_name"] for row in rows} == {photo.name for photo in photos[:2]}
    assert len(np.load(tmp_path / "predictions.npz")["levels"]) == len(rows)
    assert '"id":2' in (tmp_path / "predictions.html").read_text()


def test_pictures_are_named_after_their_photos(place, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.jpg").write_bytes(next((place / "val2014").iterdir()).read_bytes())
    (tmp_path / "x" / "other.jpg").write_bytes((tmp_path / "x" / "same.jpg").read_bytes())
    run_command("sln", "predict", place / "run", tmp_path / "x", tmp_path / "y", "-o", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert "other.png" in names and "same.png" not in names and sum(name.startswith("same-") for name in names) == 4


def test_a_slim_photo_makes_no_slim_picture(place, tmp_path):
    Image.new("RGB", (2000, 12), "red").save(tmp_path / "wide.png")
    Image.new("RGB", (12, 2000), "red").save(tmp_path / "high.png")
    from sln import load
    from sln.inference.folder import predict_photos

    predict_photos(
        load(place / "run", "cpu"), [tmp_path / "wide.png", tmp_path / "high.png"], tmp_path / "out", ("png",)
    )
    for path in (tmp_path / "out" / "overlays").iterdir():
        with Image.open(path) as picture:
            assert picture.width * picture.height < 2_000_000


def test_a_broken_exif_block_is_a_broken_photo(tmp_path):
    import random

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
    raw = (tmp_path / "a.jpg").read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        broken = bytearray(raw)
        for _ in range(3):
            broken[rng.randrange(20, 90)] = rng.randrange(256)
        (tmp_path / "b.jpg").write_bytes(broken)
        try:
            read_photo(tmp_path / "b.jpg")
        except PhotoError:
            continue


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("box", [None, (21.0, 30.0, 581.0, 450.0)])
def test_reduced_decoding_comes_close_and_changes_nothing_where_it_saves_nothing(tmp_path, orientation, box):
    y, x = np.mgrid[:480, :640]
    waves = [128 + 100 * np.sin(x / step + y / (2 * step)) for step in (23, 31, 47)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.stack(waves, 2).astype(np.uint8))
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    image.save(tmp_path / "a.png", exif=exif)
    if orientation == 6:
        box = box and (box[1], box[0], box[3], box[2])
    height, width = (480, 640) if orientation != 6 else (640, 480)
    for part, differs in ((1.5, False), (2, True), (3.1, True), (9, True)):
        size = (int((box[3] - box[1] if box else height) / part), int((box[2] - box[0] if box else width) / part))
        whole, reduced = (read_photo(tmp_path / "a.jpg", size, box, reduced=value) for value in (False, True))
        assert whole.shape == reduced.shape == (*size, 3)
        assert (whole != reduced).any() == differs
        assert np.abs(whole.astype(int) - reduced).mean() < 1.5 and np.abs(whole.astype(int) - reduced).max() < 24
        assert (
            read_photo(tmp_path / "a.png", size, box) == read_photo(tmp_path / "a.png", size, box, reduced=True)
        ).all()
