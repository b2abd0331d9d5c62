"""Malicious caches, sidecar files, checkpoints and arrays: each is refused with a message, in bounded time."""

import json
import os
import signal
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
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
from amodal_data.inspector.target_dataset import open_dataset

TIME_LIMIT = 5
"""Seconds that an attack may take at most."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    path = write_cocoa(folder, 5, seed=2, size=(40, 50), instances=(3, 6), photos=False)
    build_targets(read_cocoa(path), folder / "c.h5")
    return folder


def in_time(call):
    """Run ``call`` for five seconds at most."""

    def raise_timeout(number, frame):
        raise TimeoutError(f"more than {TIME_LIMIT} s")

    before = signal.signal(signal.SIGALRM, raise_timeout)
    signal.alarm(TIME_LIMIT)
    try:
        return call()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attack_once(folder, path, seed):
    """Attack a cache. Returns the attack, "refused" or "read" (as its bytes state), and whether verify says ok."""
    name = hostile.attack(folder / "c.h5", path, seed)
    truth = read_cocoa(folder / "COCO_amodal_val2014.json")

    def read():
        try:
            with TargetCache(path, hold=bool(seed % 2)) as cache:
                for index in range(len(cache)):
                    image, targets = cache.read(index)
                    image_id, texts, codes, pairs = hostile.read_plainly(path, index)
                    assert (image.image_id, [image.file_name, image.annotator, *targets.names]) == (image_id, texts)
                    assert np.array_equal(targets.levels, codes) and targets.pairs.tolist() == pairs
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

    return name, in_time(read), in_time(check)


@pytest.mark.parametrize("seed", range(3 * len(hostile.ATTACKS)))
def test_an_attacked_cache_is_refused_or_read_exactly(scenes, tmp_path, seed):
    name, outcome, verified = attack_once(scenes, tmp_path / "c.h5", seed)
    assert not verified or equal_content(scenes / "c.h5", tmp_path / "c.h5"), f"{name}: {outcome}, verify ok"


def equal_content(path, other_path):
    """Do two caches have the same images and provenance? Attributes that verify cannot check are ignored."""
    ignored = {"package_version", "rasteriser", "coding", "pixel_order", "format", "settings_hash"}
    with h5py.File(path) as file, h5py.File(other_path) as other:
        columns = [*hostile.COLUMNS, "images", "ptr", "findings"]
        pairs = [(file[name], other[name]) for name in columns]
        if any(a.dtype != b.dtype or not np.array_equal(a, b) for a, b in pairs):
            return False
        attributes = [
            {name: str(value) for name, value in cache.attrs.items() if name not in ignored} for cache in (file, other)
        ]
        return attributes[0] == attributes[1]


def test_every_cache_that_a_build_writes_is_read(tmp_path):
    """The checks of structure refuse no valid cache."""
    rng = np.random.default_rng(7)
    scenes = []
    for _ in range(150):
        masks = random_masks(rng, int(rng.integers(0, 9)))
        if rng.random() < 0.5 or not len(masks):
            scenes.append(make_scene(masks.reshape(-1, 13, 11), rng.permutation(len(masks))))
        else:
            visible = masks & (rng.random(masks.shape) < 0.6)
            no_order = np.zeros((len(masks),) * 2, bool)
            scenes.append(make_scene(masks, visible=visible, in_front=no_order, total_order=False))
    build_targets(scenes, tmp_path / "c.h5")
    assert verify_cache(tmp_path / "c.h5").ok
    assert len(list(TargetCache(tmp_path / "c.h5", hold=False))) == 150


@pytest.mark.parametrize("kind", ["FIFO", "device", "folder"])
def test_fifos_devices_and_folders_are_refused(scenes, tmp_path, kind):
    path = tmp_path / "x.h5"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = "/dev/zero"

    def refuses(call):
        with pytest.raises(AmodalError, match=kind):
            in_time(call)

    torch = pytest.importorskip("torch")
    from amodal_data import iter_annotations, read_annotations
    from amodal_data.io.images import read_photo
    from sln.weights.files import read_checkpoint
    from sln.weights.pretrained import load_backbone

    refuses(lambda: TargetCache(path))
    refuses(lambda: read_checkpoint(path))
    refuses(lambda: load_backbone(torch.nn.Linear(1, 1), str(path), 18))
    refuses(lambda: read_photo(path))
    refuses(lambda: evaluate(scenes / "c.h5", path))
    refuses(lambda: iter_annotations(path))
    if kind != "folder":  # a folder may hold targets of the SLN release
        refuses(lambda: read_annotations(path))


def write_npz(path, members, compression=zipfile.ZIP_DEFLATED):
    """A ``.npz`` with any headers: name -> (dtype, shape, bytes)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, (kind, shape, content) in members.items():
            header = str({"descr": kind, "fortran_order": False, "shape": shape}).ljust(117).encode() + b"\n"
            magic = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
            archive.writestr(f"{name}.npy", magic + header + content)


def valid_members(rows, levels=3, side=2):
    return {
        "boxes": ("<f4", (rows, 4), bytes(16 * rows)),
        "levels": ("<f2", (rows, levels, side, side), bytes(2 * rows * levels * side * side)),
    }


SIDECARS = {
    "strings": lambda n: valid_members(n) | {"boxes": ("<U4", (n, 4), bytes(64 * n))},
    "dates": lambda n: valid_members(n) | {"levels": ("<M8[s]", (n, 3, 2, 2), bytes(96 * n))},
    "objects": lambda n: valid_members(n) | {"levels": ("|O", (n, 3, 2, 2), bytes(96 * n))},
    "33 GB": lambda n: valid_members(n) | {"levels": ("<f4", (n, 250, 1000, 1000), bytes(1000))},
    "300 levels": lambda n: valid_members(n, levels=300),
    "not square": lambda n: valid_members(n) | {"levels": ("<f2", (n, 3, 2, 3), bytes(36 * n))},
    "another length": lambda n: valid_members(n + 1),
    "not finite": lambda n: valid_members(n) | {"levels": ("<f2", (n, 3, 2, 2), b"\x00\x7c" * (12 * n))},
    "no probabilities": lambda n: valid_members(n) | {"levels": ("<f2", (n, 3, 2, 2), b"\x00\x50" * (12 * n))},
    "missing": lambda n: {"boxes": valid_members(n)["boxes"]},
    "cut short": lambda n: valid_members(n) | {"levels": ("<f2", (n, 3, 2, 2), b"")},
    "negative": lambda n: valid_members(n) | {"levels": ("<f2", (-n, 3, 2, 2), b"")},
    "no header": lambda n: valid_members(n) | {"boxes": ("{", (n, 4), b"")},
    "endless": lambda n: valid_members(n) | {"boxes": ("<f4", (2**62, 2**62), b"")},
}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("kind", SIDECARS)
def test_malicious_sidecar_files(scenes, tmp_path, kind, stored):
    results = tmp_path / "p.json"
    mask = TargetCache(scenes / "c.h5")[0].amodal_rle(0).to_coco()
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask}] * 3))
    write_npz(results.with_suffix(".npz"), SIDECARS[kind](3), compression=0 if stored else zipfile.ZIP_DEFLATED)
    with pytest.raises(PredictionError, match="not a sidecar"):
        in_time(lambda: evaluate(scenes / "c.h5", results))


def test_sidecar_files_that_are_no_archive(scenes, tmp_path):
    results, sidecar = tmp_path / "p.json", tmp_path / "p.npz"
    results.write_text("[]")
    for content in (b"", b"PK\x03\x04" + bytes(100), b"hello" * 100, bytes(1000)):
        sidecar.write_bytes(content)
        with pytest.raises(PredictionError):
            evaluate(scenes / "c.h5", results)
    sidecar.unlink()
    os.mkfifo(sidecar)
    with pytest.raises(PredictionError, match="FIFO"):
        in_time(lambda: evaluate(scenes / "c.h5", results))


@pytest.mark.parametrize(
    "member",
    [
        ("<u8", (2**20, 2**20), b""), ("<u8", (60_000, 60_000), bytes(100)), ("<u4", (4, 4), bytes(64)),
        ("<u8", (4,), bytes(32)), ("|O", (4, 4), bytes(128)), ("<u8", (20_000, 20_000), None), ("<u8", (0, 4), b""),
    ],
)  # fmt: skip
def test_malicious_target_files_of_the_release(tmp_path, member):
    kind, shape, content = member
    write_npz(tmp_path / "a.npz", {"layer": (kind, shape, bytes(8 * shape[0] * 2000) if content is None else content)})
    with pytest.raises(LayoutError):
        in_time(lambda: list(read_sln_release(tmp_path / "a.npz")))


def test_caches_replaced_while_open(scenes, tmp_path):
    """A process that opens the file again must not read another file under the same name."""
    import pickle

    path = tmp_path / "c.h5"
    path.write_bytes((scenes / "c.h5").read_bytes())
    cache = TargetCache(path)
    first = cache[0].levels
    other = write_cocoa(tmp_path / "other", 5, seed=9, size=(40, 50), instances=(3, 6), photos=False)
    build_targets(read_cocoa(other), path, force=True)
    assert np.array_equal(cache[0].levels, first)  # an open handle still reads its file
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


def test_control_characters_are_escaped_on_the_terminal(scenes, tmp_path, run_process):
    """Names from files are escaped wherever they are printed."""
    content = json.loads((scenes / "COCO_amodal_val2014.json").read_text())
    content["images"][0]["file_name"] = "\x1b]0;owned\x07.jpg"
    content["annotations"][0]["regions"][0] |= {"name": "\x1b[31m=cmd()", "area": 1e9}
    path = tmp_path / "\x1b[31mred.json"
    path.write_text(json.dumps(content))
    for command in ("build-targets {p} -o {c}", "check {c}", "verify {c} --annotations {p}",
                    "check {p}", "evaluate {p} {p}"):  # fmt: skip
        arguments = [part.format(p=path, c=tmp_path / "c.h5") for part in command.split()]
        result = run_process("amodal-data", *arguments)
        assert "\x1b" not in result.stdout + result.stderr and "\x07" not in result.stdout + result.stderr, command


def test_results_with_too_many_levels(scenes, tmp_path):
    mask = TargetCache(scenes / "c.h5")[0].amodal_rle(0)
    row = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask.to_coco()}
    (tmp_path / "p.json").write_text(json.dumps([row | {"levels": [mask.to_coco()] * 300}]))
    for protocol in ("amodal", "order", "completion"):
        with pytest.raises(PredictionError, match="300 levels"):
            evaluate(scenes / "c.h5", tmp_path / "p.json", protocol)
    with pytest.raises(PredictionError, match="300 levels"):
        evaluate(scenes / "c.h5", {1: [ScoredMask(mask, 0.5, levels=(mask,) * 300)]})


def test_boxes_beyond_float32(scenes, tmp_path):
    results = tmp_path / "p.json"
    mask = TargetCache(scenes / "c.h5")[0].amodal_rle(0).to_coco()
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask}]))
    levels = np.full((1, 3, 2, 2), 0.3, np.float16)
    for boxes in (np.full((1, 4), 1e4000, np.longdouble), np.full((1, 4), 1e300)):
        np.savez(results.with_suffix(".npz"), boxes=boxes, levels=levels)
        with pytest.raises(PredictionError, match="not a sidecar"), np.errstate(over="ignore"):
            evaluate(scenes / "c.h5", results)


def test_a_cycle_of_instances_is_no_order():
    """A scene that a cache would refuse is not built either."""
    masks = np.ones((3, 4, 4), bool)
    cycle = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], bool)
    with pytest.raises(SceneError, match="contains a cycle"):
        make_scene(masks, in_front=cycle)
    assert make_scene(masks, in_front=np.triu(np.ones((3, 3), bool), 1)).total_order


def test_a_chunk_that_would_inflate_to_gigabytes_is_refused_unread(scenes, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes((scenes / "c.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file["findings" if len(file["findings"]) else "text"].id.write_direct_chunk(
            (0,), zlib.compress(bytes(2**28), 9)
        )
    hostile.repair(path)
    with pytest.raises(CacheFormatError, match=r"has a chunk of \d+ bytes for"):
        in_time(lambda: TargetCache(path))


def test_a_column_may_be_compressed_once(scenes, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes((scenes / "c.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        data = file["text"][:]
        del file["text"]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((len(data),))
        plan.set_deflate(1)
        plan.set_deflate(1)
        space = h5py.h5s.create_simple((len(data),))
        h5py.h5d.create(file.id, b"text", h5py.h5t.STD_U8LE, space, plan).write(h5py.h5s.ALL, h5py.h5s.ALL, data)
    hostile.repair(path)
    with pytest.raises(CacheFormatError, match="not stored as a cache stores it"):
        TargetCache(path)
