import multiprocessing
import pickle
import stat

import h5py
import numpy as np
import pytest
from support.scenes import make_scene, random_masks

from amodal_data import TargetCache, build_targets, layer_scene, read_cocoa, write_cocoa
from amodal_data.cache.header import file_digest
from amodal_data.cache.parallel import encode_scene
from amodal_data.errors import CacheError, CacheFormatError, ImageLookupError, OutputExistsError
from amodal_data.scenes.findings import Finding, Place


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        and getattr(getattr(a, name), "dtype", None) == getattr(getattr(b, name), "dtype", None)
        for name in type(a).__slots__
    )


def scenes_of_all_sorts():
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
    build_targets(scenes_of_all_sorts(), tmp_path / "c.h5")
    return tmp_path / "c.h5"


@pytest.mark.parametrize("preload", [True, False])
def test_round_trip_is_identical(cache_path, monkeypatch, preload):
    if not preload:
        monkeypatch.setattr("amodal_data.cache.read._PRELOAD_BYTES", 0)
    with TargetCache(cache_path) as cache:
        assert len(cache) == 6
        for scene, targets in zip(scenes_of_all_sorts(), cache, strict=True):
            assert same(targets, layer_scene(scene))
        assert same(cache[-1], cache[5])
        assert [len(t.names) for t in cache[1:3]] == [1, 5]
        assert cache.image(0).file_name == "a.jpg"
        with pytest.raises(IndexError):
            cache[6]
        for wrong in (1.0, "a", None):
            with pytest.raises(TypeError):
                cache[wrong]


def test_the_same_scenes_give_the_same_bytes(cache_path, tmp_path):
    build_targets(scenes_of_all_sorts(), tmp_path / "again.h5")
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
    assert len(table) == sum(len(s.instances) for s in scenes)
    for image, scene in enumerate(scenes):
        rows, targets = table[table["image"] == image], layer_scene(scene)
        assert (rows["image_id"] == scene.image_id).all()
        assert rows["area"].tolist() == targets.amodal().sum(axis=(1, 2)).tolist()
        assert rows["visible_area"].tolist() == targets.modal().sum(axis=(1, 2)).tolist()
        assert rows["deepest_level"].tolist() == [int(c.max()) - 1 for c in targets.levels()]
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
    assert same(TargetCache(tmp_path / "d.h5").by_id(1, 7), cache[0])


def test_findings_and_odd_names_survive(tmp_path):
    odd = Finding("order-missing", Place("ü\n.json", 1, 0), 'a "quoted" \udcff message')
    scene = make_scene(np.ones((1, 2, 2), bool), findings=(odd,))
    object.__setattr__(scene, "file_name", "snow\u2603 man\udc80\0.jpg")
    report = build_targets([scene], tmp_path / "c.h5")
    assert report.findings == TargetCache(tmp_path / "c.h5").findings == (odd,)
    assert TargetCache(tmp_path / "c.h5").image(0).file_name == "snow\u2603 man?\ufffd.jpg"


def test_nothing_is_overwritten_unasked(cache_path):
    before = cache_path.read_bytes()
    with pytest.raises(OutputExistsError, match="already there"):
        build_targets([], cache_path)
    assert cache_path.read_bytes() == before
    build_targets([], cache_path, force=True)
    cache = TargetCache(cache_path)
    assert len(cache) == len(cache.table()) == len(cache.findings) == 0


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    def breaks():
        yield make_scene(np.ones((1, 2, 2), bool))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        build_targets(breaks(), tmp_path / "c.h5")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CacheError, match="cannot write"):
        build_targets([], tmp_path / "no" / "folder" / "c.h5")


def test_an_image_beyond_a_table_is_left_out_with_a_finding(tmp_path):
    many = make_scene(np.ones((300, 2, 2), bool), source="f.json")
    assert encode_scene(many)[0] is None
    report = build_targets([many, make_scene(np.ones((1, 2, 2), bool))], tmp_path / "c.h5")
    assert (report.images, report.errors) == (1, 1)
    assert report.to_dict()["findings"] == {"image-too-complex": 1}
    assert report.findings[0].place == Place("f.json", 1)


def _read_in_worker(cache):
    return cache[3].table.tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_cache_goes_to_worker_processes(cache_path, method):
    cache = TargetCache(cache_path)
    wanted = cache[3].table.tobytes()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_read_in_worker, (cache,)) == wanted
    again = pickle.loads(pickle.dumps(cache))
    assert _read_in_worker(again) == wanted
    cache.close()
    assert _read_in_worker(cache) == wanted


def damaged(path, how):
    raw = bytearray(path.read_bytes())
    if how == "foreign":
        raw = bytearray(b"\x89HDF\r\n\x1a\n" + bytes(600))
    elif how == "checkpoint":
        raw = bytearray(b"PK\x03\x04" + bytes(600))
    elif how == "newer":
        raw = raw.replace(b"version 2\n", b"version 9\n", 1)
    elif how == "truncated":
        raw = raw[: len(raw) // 2]
    elif how == "empty":
        raw = bytearray()
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("foreign", "not a target cache"),
        ("checkpoint", "this is a checkpoint or an archive"),
        ("newer", "version 9"),
        ("truncated", "damaged"),
        ("empty", "not a target"),
    ],
)
def test_files_that_are_no_sound_cache(cache_path, how, said):
    damaged(cache_path, how)
    with pytest.raises(CacheFormatError, match=said) as caught:
        list(TargetCache(cache_path))
    assert "c.h5" in str(caught.value)


def test_a_changed_level_is_noticed_when_read(cache_path):
    digest = file_digest(cache_path)
    with h5py.File(cache_path, "r+") as file:
        file["levels"][3] ^= 1
    assert file_digest(cache_path) != digest
    assert not TargetCache(cache_path).check_digest()
    with pytest.raises(CacheFormatError, match="checksum"):
        list(TargetCache(cache_path))


def test_pointers_that_leave_their_column_are_noticed(cache_path):
    with h5py.File(cache_path, "r+") as file:
        ptr = file["ptr"][:]
        ptr["levels"][3] += 10**6
        file["ptr"][...] = ptr
    with pytest.raises(CacheFormatError, match="do not cut 'levels' into slices"):
        list(TargetCache(cache_path))


def test_a_missing_cache():
    with pytest.raises(CacheError, match="No such file"):
        TargetCache("/nowhere/c.h5")
