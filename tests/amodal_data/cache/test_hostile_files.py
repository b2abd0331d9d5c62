"""Files made to harm: caches, companions, checkpoints, arrays. Each is refused in words, in bounded time."""

import json
import os
import signal
import struct
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import torch
from support import hostile_caches as hostile
from support.scenes import make_scene, random_masks

from amodal_data import (
    ScoredMask,
    TargetCache,
    build_targets,
    evaluate,
    read_cocoa,
    read_sln_release,
    verify_cache,
    write_cocoa,
)
from amodal_data.errors import AmodalError, CacheError, CacheFormatError, LayoutError, PredictionError, SceneError
from amodal_data.inspector.dataset import open_dataset

PATIENCE = 5
"""Seconds that no attack may take"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    path = write_cocoa(folder, 5, seed=2, size=(40, 50), instances=(3, 6), photos=False)
    build_targets(read_cocoa(path), folder / "c.h5")
    return folder


def in_time(what):
    """Run something that may take five seconds."""

    def late(number, frame):
        raise TimeoutError(f"more than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        return what()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(folder, path, seed):
    """Attack a cache once. Returns the attack, and how it ended: refused, or read as what its bytes state."""
    name = hostile.attack(folder / "c.h5", path, seed)
    truth = read_cocoa(folder / "COCO_amodal_val2014.json")

    def look():
        try:
            with TargetCache(path, hold=bool(seed % 2)) as cache:
                for at in range(len(cache)):
                    image, targets = cache.read(at)
                    image_id, texts, codes, pairs = hostile.stated(path, at)
                    assert (image.image_id, [image.file_name, image.annotator, *targets.names]) == (image_id, texts)
                    assert np.array_equal(targets.levels(), codes) and targets.pairs.tolist() == pairs
                summary = open_dataset(path).summary()
                assert str(summary) and all(map(str, summary.findings))
        except CacheError:
            return "refused"
        return "read"

    def check():
        try:
            return verify_cache(path, truth).ok
        except CacheError:
            return False

    return name, in_time(look), in_time(check)


@pytest.mark.parametrize("seed", range(3 * len(hostile.ATTACKS)))
def test_an_attacked_cache_is_refused_or_read_as_it_stands(scenes, tmp_path, seed):
    name, ended, verified = judge(scenes, tmp_path / "c.h5", seed)
    assert not verified or unchanged(scenes / "c.h5", tmp_path / "c.h5"), f"{name}: {ended}, and verify says ok"


def unchanged(one, other):
    """Do two caches say the same of every image, and of themselves? (The versions that made them cannot be checked.)"""
    free = {"package_version", "rasteriser", "coding", "pixel_order", "format", "settings_hash"}
    with h5py.File(one) as a, h5py.File(other) as b:
        columns = [*hostile.COLUMNS, "images", "ptr", "findings"]
        if any(a[name].dtype != b[name].dtype or not np.array_equal(a[name], b[name]) for name in columns):
            return False
        said = [{name: str(value) for name, value in file.attrs.items() if name not in free} for file in (a, b)]
        return said[0] == said[1]


def test_every_scene_that_can_be_built_can_be_read(tmp_path):
    """Structure is checked, and nothing that a builder writes is refused."""
    rng = np.random.default_rng(7)
    scenes = []
    for _ in range(150):
        masks = random_masks(rng, int(rng.integers(0, 9)))
        if rng.random() < 0.5 or not len(masks):
            scenes.append(make_scene(masks.reshape(-1, 13, 11), rng.permutation(len(masks))))
        else:
            shown = masks & (rng.random(masks.shape) < 0.6)
            scenes.append(
                make_scene(masks, visible=shown, in_front=np.zeros((len(masks),) * 2, bool), total_order=False)
            )
    build_targets(scenes, tmp_path / "c.h5")
    assert verify_cache(tmp_path / "c.h5").ok
    assert len(list(TargetCache(tmp_path / "c.h5", hold=False))) == 150


@pytest.mark.parametrize("kind", ["FIFO", "device", "folder"])
def test_what_is_no_file_is_refused_everywhere(scenes, tmp_path, kind):
    path = tmp_path / "x.h5"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = "/dev/zero"

    def refused(what):
        with pytest.raises(AmodalError, match=kind) as error:
            what()
        return str(error.value)

    from amodal_data import iter_annotations, read_annotations
    from amodal_data.io.images import read_photo
    from sln.weights import load_backbone, read_checkpoint

    in_time(lambda: refused(lambda: TargetCache(path)))
    in_time(lambda: refused(lambda: read_checkpoint(path)))
    in_time(lambda: refused(lambda: load_backbone(torch.nn.Linear(1, 1), str(path), 18)))
    in_time(lambda: refused(lambda: read_photo(path)))
    in_time(lambda: refused(lambda: evaluate(scenes / "c.h5", path)))
    in_time(lambda: refused(lambda: iter_annotations(path)))
    if kind != "folder":  # a folder may hold targets of the SLN release
        in_time(lambda: refused(lambda: read_annotations(path)))


def npz(path, members, **how):
    """A ``.npz`` of headers that announce anything: name -> (dtype, shape, bytes)."""
    with zipfile.ZipFile(path, "w", how.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, (kind, shape, content) in members.items():
            about = str({"descr": kind, "fortran_order": False, "shape": shape})
            head = about.ljust(117) + "\n"
            archive.writestr(
                f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + content
            )


def good(rows, levels=3, side=2):
    return {
        "boxes": ("<f4", (rows, 4), bytes(16 * rows)),
        "levels": ("<f2", (rows, levels, side, side), bytes(2 * rows * levels * side * side)),
    }


COMPANIONS = {
    "strings": lambda n: good(n) | {"boxes": ("<U4", (n, 4), bytes(64 * n))},
    "dates": lambda n: good(n) | {"levels": ("<M8[s]", (n, 3, 2, 2), bytes(96 * n))},
    "objects": lambda n: good(n) | {"levels": ("|O", (n, 3, 2, 2), bytes(96 * n))},
    "33 GB": lambda n: good(n) | {"levels": ("<f4", (n, 250, 1000, 1000), bytes(1000))},
    "300 levels": lambda n: good(n, levels=300),
    "not square": lambda n: good(n) | {"levels": ("<f2", (n, 3, 2, 3), bytes(36 * n))},
    "another length": lambda n: good(n + 1),
    "not finite": lambda n: good(n) | {"levels": ("<f2", (n, 3, 2, 2), b"\x00\x7c" * (12 * n))},
    "no probabilities": lambda n: good(n) | {"levels": ("<f2", (n, 3, 2, 2), b"\x00\x50" * (12 * n))},
    "missing": lambda n: {"boxes": good(n)["boxes"]},
    "cut short": lambda n: good(n) | {"levels": ("<f2", (n, 3, 2, 2), b"")},
    "negative": lambda n: good(n) | {"levels": ("<f2", (-n, 3, 2, 2), b"")},
    "no header": lambda n: good(n) | {"boxes": ("{", (n, 4), b"")},
    "endless": lambda n: good(n) | {"boxes": ("<f4", (2**62, 2**62), b"")},
}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("kind", COMPANIONS)
def test_companions_that_lie(scenes, tmp_path, kind, stored):
    results = tmp_path / "p.json"
    mask = TargetCache(scenes / "c.h5")[0].amodal_rle(0).to_coco()
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask}] * 3))
    npz(results.with_suffix(".npz"), COMPANIONS[kind](3), compression=0 if stored else zipfile.ZIP_DEFLATED)
    with pytest.raises(PredictionError, match="not a sidecar"):
        in_time(lambda: evaluate(scenes / "c.h5", results))


def test_companions_of_no_kind(scenes, tmp_path):
    results, beside = tmp_path / "p.json", tmp_path / "p.npz"
    results.write_text("[]")
    for content in (b"", b"PK\x03\x04" + bytes(100), b"hello" * 100, bytes(1000)):
        beside.write_bytes(content)
        with pytest.raises(PredictionError):
            evaluate(scenes / "c.h5", results)
    beside.unlink()
    os.mkfifo(beside)
    with pytest.raises(PredictionError, match="FIFO"):
        in_time(lambda: evaluate(scenes / "c.h5", results))


@pytest.mark.parametrize(
    "member",
    [
        ("<u8", (2**20, 2**20), b""), ("<u8", (60_000, 60_000), bytes(100)), ("<u4", (4, 4), bytes(64)),
        ("<u8", (4,), bytes(32)), ("|O", (4, 4), bytes(128)), ("<u8", (20_000, 20_000), None), ("<u8", (0, 4), b""),
    ],
)  # fmt: skip
def test_target_files_of_the_release_that_lie(tmp_path, member):
    kind, shape, content = member
    npz(tmp_path / "a.npz", {"layer": (kind, shape, bytes(8 * shape[0] * 2000) if content is None else content)})
    with pytest.raises(LayoutError):
        in_time(lambda: list(read_sln_release(tmp_path / "a.npz")))


def test_caches_replaced_while_they_are_open(scenes, tmp_path):
    """A process that opens its own handle must not read another file than the one it was told of."""
    import pickle

    path = tmp_path / "c.h5"
    path.write_bytes((scenes / "c.h5").read_bytes())
    cache = TargetCache(path)
    first = cache[0].levels()
    other = write_cocoa(tmp_path / "other", 5, seed=9, size=(40, 50), instances=(3, 6), photos=False)
    build_targets(read_cocoa(other), path, force=True)
    assert np.array_equal(cache[0].levels(), first)  # an open handle stays with its file
    with pytest.raises(CacheFormatError, match="replaced"):
        pickle.loads(pickle.dumps(cache))[0]
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            cache.read(1)
            os.write(write, b"read")
        except CacheFormatError:
            os.write(write, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 20) == b"refused"


def test_a_text_with_control_characters_reaches_no_terminal(scenes, tmp_path):
    """Names out of files are shown escaped, wherever they are printed."""
    content = json.loads((scenes / "COCO_amodal_val2014.json").read_text())
    content["images"][0]["file_name"] = "\x1b]0;owned\x07.jpg"
    content["annotations"][0]["regions"][0] |= {"name": "\x1b[31m=cmd()", "area": 1e9}
    path = tmp_path / "\x1b[31mred.json"
    path.write_text(json.dumps(content))
    for command in ("build-targets {p} -o {c}", "inspect {c} --findings", "verify {c} --annotations {p}",
                    "inspect {p} --findings", "evaluate {p} {p}"):  # fmt: skip
        arguments = [part.format(p=path, c=tmp_path / "c.h5") for part in command.split()]
        done = subprocess.run([sys.executable, "-m", "amodal_cli.data", *arguments], capture_output=True)
        assert b"\x1b" not in done.stdout + done.stderr and b"\x07" not in done.stdout + done.stderr, command


def test_rows_of_more_levels_than_there_are(scenes, tmp_path):
    mask = TargetCache(scenes / "c.h5")[0].amodal_rle(0)
    row = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask.to_coco()}
    (tmp_path / "p.json").write_text(json.dumps([row | {"levels": [mask.to_coco()] * 300}]))
    for protocol in ("amodal", "order", "completion"):
        with pytest.raises(PredictionError, match="300 levels"):
            evaluate(scenes / "c.h5", tmp_path / "p.json", protocol)
    with pytest.raises(PredictionError, match="300 levels"):
        evaluate(scenes / "c.h5", {1: [ScoredMask(mask, 0.5, levels=(mask,) * 300)]})


def test_boxes_beyond_any_number(scenes, tmp_path):
    results = tmp_path / "p.json"
    mask = TargetCache(scenes / "c.h5")[0].amodal_rle(0).to_coco()
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask}]))
    levels = np.full((1, 3, 2, 2), 0.3, np.float16)
    for boxes in (np.full((1, 4), 1e4000, np.longdouble), np.full((1, 4), 1e300)):
        np.savez(results.with_suffix(".npz"), boxes=boxes, levels=levels)
        with pytest.raises(PredictionError, match="not a sidecar"), np.errstate(over="ignore"):
            evaluate(scenes / "c.h5", results)


def test_a_circle_of_instances_is_no_order():
    """What a cache would refuse is not built either."""
    masks = np.ones((3, 4, 4), bool)
    circle = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], bool)
    with pytest.raises(SceneError, match="contains a cycle"):
        make_scene(masks, in_front=circle)
    assert make_scene(masks, in_front=np.triu(np.ones((3, 3), bool), 1)).total_order
