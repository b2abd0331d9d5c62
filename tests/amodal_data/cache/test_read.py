import json
import multiprocessing
import pickle

import h5py
import numpy as np
import pytest
from support.commands import ROOT
from support.scenes import make_scene, random_masks

from amodal_data import TargetCache, build_targets, layer_scene, read_cocoa, verify_cache, write_cocoa
from amodal_data.cache.header import file_digest
from amodal_data.cache.parallel import encode_scene
from amodal_data.errors import CacheError, CacheFormatError, ImageLookupError, OutputExistsError
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.scenes.findings import Finding, Place


def equal_targets(targets, expected):
    return all(
        np.array_equal(getattr(targets, name), getattr(expected, name))
        and getattr(getattr(targets, name), "dtype", None) == getattr(getattr(expected, name), "dtype", None)
        for name in type(targets).__slots__
    )


def varied_scenes():
    rng = np.random.default_rng(0)
    for n in (0, 1, 5, 65, 3):
        masks = random_masks(rng, n, (9, 8)) if n else np.zeros((0, 9, 8), bool)
        yield make_scene(masks)
    wide = np.zeros((1, 400, 400), bool)
    wide[0, 10:20] = True
    wide[0, :, 200:] = True
    yield make_scene(wide)


@pytest.fixture
def cache_path(tmp_path):
    build_targets(varied_scenes(), tmp_path / "c.h5")
    return tmp_path / "c.h5"


@pytest.mark.parametrize("preload", [True, False])
def test_a_round_trip_is_identical(cache_path, monkeypatch, preload):
    if not preload:
        monkeypatch.setattr("amodal_data.cache.read.PRELOAD_BYTES", 0)
    with TargetCache(cache_path) as cache:
        assert len(cache) == 6
        for scene, targets in zip(varied_scenes(), cache, strict=True):
            assert equal_targets(targets, layer_scene(scene))
        assert equal_targets(cache[-1], cache[5])
        assert [len(t.names) for t in cache[1:3]] == [1, 5]
        assert cache.image(0).file_name == "a.jpg"
        with pytest.raises(IndexError):
            cache[6]
        for index in (1.0, "a", None):
            with pytest.raises(TypeError):
                cache[index]


def test_the_same_scenes_give_the_same_bytes(cache_path, tmp_path):
    build_targets(varied_scenes(), tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == cache_path.read_bytes()


def test_provenance_and_table(tmp_path):
    path = write_cocoa(tmp_path, 3, seed=4, size=(96, 128), photos=False)
    scenes = read_cocoa(path)
    build_targets(scenes, tmp_path / "c.h5")
    cache = TargetCache(tmp_path / "c.h5")
    assert cache.info.dataset == "cocoa"
    assert cache.info.sources == scenes.sources
    assert cache.info.settings == {"annotator": "first"}
    table = cache.table()
    assert len(table) == sum(len(scene.instances) for scene in scenes)
    for image, scene in enumerate(scenes):
        rows, targets = table[table["image"] == image], layer_scene(scene)
        assert (rows["image_id"] == scene.image_id).all()
        assert rows["area"].tolist() == targets.amodal().sum(axis=(1, 2)).tolist()
        assert rows["visible_area"].tolist() == targets.modal().sum(axis=(1, 2)).tolist()
        assert rows["deepest_level"].tolist() == [int(codes.max()) - 1 for codes in targets.levels]
        assert np.array_equal(rows["amodal_box"], targets.boxes()[0])
        assert rows["occlusion_rate"].tolist() == [i.declared.occlusion_rate for i in scene.instances]
    assert "3 images of cocoa" in repr(cache)


def test_lookup_by_id(tmp_path):
    scenes = [make_scene(np.ones((1, 2, 2), bool)) for _ in range(2)]
    build_targets(scenes, tmp_path / "c.h5")
    cache = TargetCache(tmp_path / "c.h5")
    with pytest.raises(ImageLookupError, match="no entry for image id 9"):
        cache.by_id(9)
    with pytest.raises(ImageLookupError, match="2 entries"):
        cache.by_id(1)
    with pytest.raises(KeyError):
        cache.by_id(1, 8)
    build_targets(scenes[:1], tmp_path / "d.h5")
    assert cache.image_ids.tolist() == [1, 1]
    assert equal_targets(TargetCache(tmp_path / "d.h5").by_id(1, 7), cache[0])


def test_findings_and_unusual_names_are_kept(tmp_path):
    finding = Finding("order-missing", Place("ü\n.json", 1, 0), 'a "quoted" \udcff message')
    scene = make_scene(np.ones((1, 2, 2), bool), findings=(finding,))
    object.__setattr__(scene, "file_name", "snow\u2603 man\udc80\0.jpg")
    report = build_targets([scene], tmp_path / "c.h5")
    assert report.findings == TargetCache(tmp_path / "c.h5").findings == (finding,)
    assert TargetCache(tmp_path / "c.h5").image(0).file_name == "snow\u2603 man?\ufffd.jpg"


def test_an_existing_cache_is_only_replaced_by_force(cache_path):
    before = cache_path.read_bytes()
    with pytest.raises(OutputExistsError, match="already there"):
        build_targets([], cache_path)
    assert cache_path.read_bytes() == before
    build_targets([], cache_path, force=True)
    cache = TargetCache(cache_path)
    assert len(cache) == len(cache.table()) == len(cache.findings) == 0


def test_a_failed_build_leaves_no_file(tmp_path):
    def failing_scenes():
        yield make_scene(np.ones((1, 2, 2), bool))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        build_targets(failing_scenes(), tmp_path / "c.h5")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CacheError, match="cannot write"):
        build_targets([], tmp_path / "no" / "folder" / "c.h5")


def test_an_image_too_complex_for_a_table_is_left_out_with_a_finding(tmp_path):
    scene = make_scene(np.ones((300, 2, 2), bool), source="f.json")
    assert encode_scene(scene)[0] is None
    report = build_targets([scene, make_scene(np.ones((1, 2, 2), bool))], tmp_path / "c.h5")
    assert (report.images, report.errors) == (1, 1)
    assert report.to_dict()["findings"] == {"image-too-complex": 1}
    assert report.findings[0].place == Place("f.json", 1)


def _read_in_worker(cache):
    return cache[3].table.tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_processes_read_a_cache(cache_path, method):
    cache = TargetCache(cache_path)
    table = cache[3].table.tobytes()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_read_in_worker, (cache,)) == table
    assert _read_in_worker(pickle.loads(pickle.dumps(cache))) == table
    cache.close()
    assert _read_in_worker(cache) == table


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"\x89HDF\r\n\x1a\n" + bytes(600), "not a target cache"),
        (lambda raw: b"PK\x03\x04" + bytes(600), "this is a checkpoint or an archive"),
        (lambda raw: raw.replace(b"version 1\n", b"version 9\n", 1), "version 9"),
        (lambda raw: raw[: len(raw) // 2], "damaged"),
        (lambda raw: b"", "not a target"),
        (lambda raw: raw.replace(b"amodal-targets\n", b"amodal-data/targets\n", 1), "an earlier format"),
        (lambda raw: b"amodal-data/targets\nversion 2\n" + raw[64:], "an earlier format"),
    ],
)
def test_files_that_are_no_valid_cache_are_refused(cache_path, damage, message):
    cache_path.write_bytes(damage(cache_path.read_bytes()))
    with pytest.raises(CacheFormatError, match=message) as caught:
        list(TargetCache(cache_path))
    assert "c.h5" in str(caught.value)
    if message != "damaged":
        assert "`amodal-data build-targets`" in str(caught.value)


def test_a_cache_of_an_earlier_format_is_recognized(cache_path):
    """It is refused in words, never read as an annotation file."""
    cache_path.write_bytes(b"amodal-data/targets\nversion 1\n" + cache_path.read_bytes()[64:])
    with pytest.raises(CacheFormatError, match="rebuild it with `amodal-data build-targets`"):
        open_dataset(cache_path)


def test_the_golden_file_is_read():
    """Written once by this version of the format; every reader of the format must read it."""
    cache = TargetCache(ROOT / "tests" / "golden" / "targets.h5")
    expected = json.loads((ROOT / "tests" / "golden" / "targets.json").read_text())
    assert cache.path.read_bytes().startswith(b"amodal-targets\nversion 1\nsha256 ") and cache.check_digest()
    info = {"dataset": cache.info.dataset, "masks": cache.info.masks, "format_version": cache.info.format_version}
    assert info == {"dataset": expected["dataset"], "masks": expected["masks"], "format_version": 1}
    assert [targets.level_pixels().tolist() for targets in cache] == expected["level_pixels"]
    assert [targets.unknown_rle().area for targets in cache] == expected["unknown"]
    assert [targets.ambiguous_pixels() for targets in cache] == expected["ambiguous"]
    assert [list(targets.names) for targets in cache] == expected["names"]
    assert verify_cache(cache.path).ok


def test_a_changed_level_raises_when_read(cache_path):
    digest = file_digest(cache_path)
    with h5py.File(cache_path, "r+") as file:
        file["levels"][3] ^= 1
    assert file_digest(cache_path) != digest
    assert not TargetCache(cache_path).check_digest()
    with pytest.raises(CacheFormatError, match="checksum"):
        list(TargetCache(cache_path))


def test_pointers_outside_their_column_raise(cache_path):
    with h5py.File(cache_path, "r+") as file:
        ptr = file["ptr"][:]
        ptr["levels"][3] += 10**6
        file["ptr"][...] = ptr
    with pytest.raises(CacheFormatError, match="do not cut 'levels' into slices"):
        list(TargetCache(cache_path))


def test_a_missing_cache():
    with pytest.raises(CacheError, match="No such file"):
        TargetCache("/nowhere/c.h5")
