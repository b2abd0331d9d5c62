"""Durable builds: every route gives the same bytes, and interrupted work is kept."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from support.commands import ROOT
from support.scenes import make_scene

from amodal_data import TargetCache, build_targets, iter_annotations, merge_shards, read_annotations, verify_cache
from amodal_data.cache import build as build_module
from amodal_data.errors import (
    AnnotationError,
    CacheError,
    CacheFormatError,
    LayoutError,
    OutputExistsError,
    SelectionError,
)
from amodal_data.synthetic.write_cocoa import write_cocoa, write_flat


def repeat_images(path, n, source=None):
    """A COCOA file of n images that repeats a few generated ones under new ids."""
    small = write_cocoa(path.parent / "small", 8, seed=3, size=(96, 128), photos=False, force=True)
    content = json.loads((source or small).read_text())
    images, annotations = content["images"], content["annotations"]
    path.write_text(
        json.dumps(
            {
                "images": [{**images[k % 8], "id": k, "file_name": f"{k:012d}.jpg"} for k in range(n)],
                "annotations": [{**annotations[k % 8], "id": k, "image_id": k} for k in range(n)],
            }
        )
    )
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """2,300 images: three shards; more than a megabyte in the largest columns."""
    return repeat_images(tmp_path_factory.mktemp("large") / "COCO_amodal_train2014.json", 2300)


@pytest.fixture(scope="module")
def small_build(tmp_path_factory):
    path = repeat_images(tmp_path_factory.mktemp("small") / "COCO_amodal_train2014.json", 230)
    build_targets(read_annotations(path), path.parent / "expected.h5")
    return path, (path.parent / "expected.h5").read_bytes()


@pytest.fixture
def small(small_build, monkeypatch):
    """230 images, with `SMALL_SHARDS` three shards as well, and the bytes of their cache."""
    monkeypatch.setattr(build_module, "SHARD", 100)
    return small_build


@pytest.fixture(scope="module")
def expected(large):
    path = large.parent / "expected.h5"
    build_targets(read_annotations(large), path)
    with h5py.File(path) as file:  # beyond HDF5's chunk cache of 1 MB
        assert file["runs/region"].nbytes > 2 * 2**20
    return path.read_bytes()


SMALL_SHARDS = ROOT / "tests" / "support" / "small_shards.py"
"""``amodal-data`` with shards of 100 images"""


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("route", ["jobs 2", "stream", "memory", "resume"])
def test_every_route_gives_the_same_bytes(small, tmp_path, monkeypatch, route):
    path, expected = small
    scenes = iter_annotations(path) if route == "stream" else read_annotations(path)
    if route == "memory":
        monkeypatch.setattr(build_module, "SHARD", 500)
    report = build_targets(scenes, tmp_path / "c.h5", jobs=2 if route == "jobs 2" else 1, resume=route == "resume")
    assert (tmp_path / "c.h5").read_bytes() == expected
    assert report.images == 230
    assert listing(tmp_path) == ["c.h5"]


@pytest.mark.parametrize("route", ["stream jobs 2", "memory"])
def test_long_columns_have_the_same_bytes_by_every_route(large, expected, tmp_path, monkeypatch, route):
    if route == "memory":
        monkeypatch.setattr(build_module, "SHARD", 5000)
        build_targets(read_annotations(large), tmp_path / "c.h5")
    else:
        build_targets(iter_annotations(large), tmp_path / "c.h5", jobs=2)
    assert (tmp_path / "c.h5").read_bytes() == expected


@pytest.mark.slow
def test_shards_merge_into_the_same_bytes(small, tmp_path):
    path, expected = small
    names = [tmp_path / f"{i}.h5" for i in (1, 2, 3)]
    for i, name in enumerate(names, 1):
        scenes = iter_annotations(path) if i == 2 else read_annotations(path)
        build_targets(scenes, name, shard=(i, 3))
    assert merge_shards(reversed(names), tmp_path / "c.h5").images == 230
    assert (tmp_path / "c.h5").read_bytes() == expected
    with TargetCache(names[1]) as cache:
        assert (cache.range.start, cache.range.stop, cache.range.total) == (76, 153, 230)
    with pytest.raises(CacheError, match="scenes 76 to 153 are in no shard"):
        merge_shards([names[0], names[2]], tmp_path / "d.h5")
    with pytest.raises(CacheError, match="are in no shard"):
        merge_shards(names[:2], tmp_path / "d.h5")
    with pytest.raises(CacheError, match="in no shard, or in two"):
        merge_shards([*names, shutil.copy(names[0], tmp_path / "twin.h5")], tmp_path / "d.h5")
    build_targets(read_annotations(path, annotator="all"), tmp_path / "other.h5", shard=(3, 3))
    with pytest.raises(CacheError, match="do not belong together"):
        merge_shards([*names[:2], tmp_path / "other.h5"], tmp_path / "d.h5")
    raw = bytearray(names[1].read_bytes())
    raw[5000] ^= 1
    names[1].write_bytes(raw)
    with pytest.raises(CacheError, match="damaged"):
        merge_shards(names, tmp_path / "d.h5")
    for bad in ((0, 3), (4, 3)):
        with pytest.raises(SelectionError, match="count from 1"):
            build_targets(read_annotations(path), tmp_path / "e.h5", shard=bad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_dask_cluster_gives_the_same_bytes(small, tmp_path):
    path, expected = small
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        build_targets(read_annotations(path), tmp_path / "c.h5", scheduler=cluster.scheduler_address)
    assert (tmp_path / "c.h5").read_bytes() == expected


def test_a_cluster_needs_the_package_distributed():
    result = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['distributed'] = None\n"
         "from amodal_data.cache.parallel import make_encoder; list(make_encoder(1, 'tcp://127.0.0.1:1')([[]]))"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert 'pip install "amodal-data[distributed]"' in result.stderr


@pytest.mark.slow
def test_kill_9_at_random_moments_then_resume(large, expected, tmp_path, run_process):
    """The short form of benchmarks/kill_and_resume.py."""
    rng = random.Random(0)
    out = tmp_path / "c.h5"
    command = ["amodal-data", "build-targets", large, "-o", out, "-q", "--resume"]
    run_process("amodal-data", "--help")  # the process server has started
    start = time.time()
    assert run_process(*command).returncode == 0
    duration = time.time() - start
    out.unlink()
    killed = 0
    for _ in range(6):  # each goes on from what the one before has left
        with run_process.start(*command) as process:
            time.sleep(rng.uniform(0.05, 0.7) * duration)
            process.kill()
        killed += process.returncode == -signal.SIGKILL
        if out.exists():
            assert out.read_bytes() == expected
            out.unlink()
    assert killed >= 3
    assert run_process(*command).returncode == 0
    assert out.read_bytes() == expected
    assert listing(tmp_path) == ["c.h5"]


def interrupted_build(path, out, shards=1):
    """Stop a build after some shards, as a crash would."""

    with pytest.raises(RuntimeError, match="crash"):
        build_targets(read_annotations(path), out, on_image=_crash_after(shards * 2))


def test_an_interrupted_build_is_kept_until_force_or_resume(small, tmp_path, monkeypatch):
    path, expected = small
    out = tmp_path / "c.h5"
    interrupted_build(path, out, 2)
    assert listing(tmp_path) == ["c.h5.parts"]
    assert listing(tmp_path / "c.h5.parts") == ["000000000.h5", "000000100.h5"]
    with pytest.raises(OutputExistsError, match="an interrupted build is here"):
        build_targets(read_annotations(path), out)
    encoded = []
    original = build_module.make_encoder
    monkeypatch.setattr(
        build_module,
        "make_encoder",
        lambda *how: lambda batches: (encoded.append(part.scenes) or part for part in original(*how)(batches)),
    )
    report = build_targets(read_annotations(path), out, resume=True)
    assert sum(encoded) == 30  # the two finished shards were not built again
    assert out.read_bytes() == expected
    assert report.images == 230 and report.instances == len(TargetCache(out).table())
    assert listing(tmp_path) == ["c.h5"]
    assert build_targets(read_annotations(path), out, resume=True).images == 230  # already finished


def test_shards_of_other_sources_and_damaged_shards_are_built_again(small, tmp_path):
    path, expected = small
    out = tmp_path / "c.h5"
    for fault in ("other settings", "damaged", "truncated"):
        interrupted_build(path, out)
        shard = tmp_path / "c.h5.parts" / "000000000.h5"
        if fault == "other settings":
            shutil.rmtree(shard.parent)
            with pytest.raises(RuntimeError):
                build_targets(read_annotations(path, annotator="all"), out, on_image=_crash_after(3))
        else:
            raw = bytearray(shard.read_bytes())
            raw[9000] ^= 4
            shard.write_bytes(raw if fault == "damaged" else raw[: len(raw) // 3])
        build_targets(read_annotations(path), out, resume=True)
        assert out.read_bytes() == expected
        out.unlink()
    interrupted_build(path, out)
    build_targets(read_annotations(path), out, force=True)
    assert out.read_bytes() == expected
    assert listing(tmp_path) == ["c.h5"]


def _crash_after(n):
    calls = itertools.count(1)

    def stop(images):
        if next(calls) > n:
            raise RuntimeError("crash")

    return stop


def test_only_scenes_from_files_can_be_resumed(tmp_path):
    with pytest.raises(SelectionError, match="only scenes that come from files"):
        build_targets([make_scene(np.ones((1, 2, 2), bool))], tmp_path / "c.h5", resume=True)
    with pytest.raises(SelectionError, match="shards need"):
        build_targets(iter([]), tmp_path / "c.h5", shard=(1, 2))


def test_resuming_over_another_cache_is_refused(large, tmp_path):
    build_targets([make_scene(np.ones((1, 2, 2), bool))], tmp_path / "c.h5")
    with pytest.raises(OutputExistsError):
        build_targets(read_annotations(large), tmp_path / "c.h5", resume=True)


@pytest.mark.slow
def test_signals_end_with_130_and_keep_finished_shards(tmp_path, run_process):
    """SIGTERM, then SIGINT in the build that goes on."""
    big = repeat_images(tmp_path / "COCO_amodal_val2014.json", 600)
    out = tmp_path / "c.h5"
    for parts, number in enumerate((signal.SIGTERM, signal.SIGINT)):
        with run_process.start(SMALL_SHARDS, "build-targets", big, "-o", out, "--resume") as process:
            while len(list(tmp_path.glob("c.h5.parts/*.h5"))) <= parts:
                time.sleep(0.02)
                assert process.poll() is None
            process.send_signal(number)
            stderr = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        assert "continue with --resume" in stderr and "Traceback" not in stderr
        assert not out.exists()
        assert len(listing(tmp_path / "c.h5.parts")) > parts
    assert run_process(SMALL_SHARDS, "build-targets", big, "-o", out, "--resume").returncode == 0
    assert listing(tmp_path) == [big.name, "c.h5", "small"]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.2, 0.75])
def test_a_full_disk(small, tmp_path, share, run_process):
    """A file-size limit stands in for a full disk: writes fail in the same places."""
    path, expected = small
    out = tmp_path / "c.h5"
    command = [SMALL_SHARDS, "build-targets", path, "-o", out]
    result = run_process(*command, file_size=int(len(expected) * share))
    assert result.returncode == 1, result.stderr
    assert "cannot write the cache" in result.stderr and "c.h5" in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()
    assert run_process(*command, "--resume").returncode == 0
    assert out.read_bytes() == expected
    assert listing(tmp_path) == ["c.h5"]


@pytest.mark.skipif(os.geteuid() != 0 and not os.access("/proc", os.W_OK), reason="needs a read-only folder")
def test_a_read_only_folder(large, run_process):
    result = run_process("amodal-data", "build-targets", large, "-o", "/proc/c.h5")
    assert result.returncode == 1
    assert "cannot write the cache" in result.stderr and "/proc/c.h5" in result.stderr


@pytest.mark.parametrize("layout", ["cocoa", "d2sa", "kins"])
def test_streams_give_the_scenes_of_the_ordinary_reader(tmp_path, layout):
    if layout == "cocoa":
        path = write_cocoa(tmp_path, 40, seed=5, size=(64, 64), photos=False)
    else:
        path = write_flat(tmp_path, 40, layout, seed=5, size=(64, 64), photos=False)
    scenes, stream = read_annotations(path), iter_annotations(path)
    assert len(stream) == len(scenes)
    build_targets(scenes, tmp_path / "a.h5")
    build_targets(stream, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert verify_cache(tmp_path / "a.h5", iter_annotations(path)).ok
    assert [scene.image_id for scene in stream.between(5, 9)] == [6, 7, 8, 9]
    assert [scene.image_id for scene in stream.first(2)] == [1, 2]
    assert [len(batch) for batch in stream.batches(17)] == [17, 17, 6]


def test_scattered_annotations_are_gathered(tmp_path):
    path = write_flat(tmp_path, 10, "d2sa", seed=5, size=(64, 64), photos=False)
    content = json.loads(path.read_text())
    random.Random(0).shuffle(content["annotations"])
    path.write_text(json.dumps(content))
    streamed = {scene.image_id: scene for scene in iter_annotations(path)}
    for scene in read_annotations(path):
        other = streamed[scene.image_id]
        assert [i.amodal for i in scene.instances] == [i.amodal for i in other.instances]
    assert len(streamed) == 10


def test_findings_of_a_streamed_file(tmp_path):
    path = write_cocoa(tmp_path, 4, seed=5, size=(64, 64), photos=False)
    content = json.loads(path.read_text())
    content["images"] += [{"id": 1}, {"id": 50, "file_name": "no size"}, 7, {"id": 51, "height": 5, "width": 5}]
    extra = {**content["annotations"][0], "author": "other"}
    content["annotations"] += [extra, {"image_id": 99, "regions": []}, "text", {"image_id": 2}]
    path.write_text(json.dumps(content))
    for annotator in ("first", "all", "other"):
        scenes, stream = read_annotations(path, annotator=annotator), iter_annotations(path, annotator=annotator)
        named = [sorted((scene.image_id, scene.annotator) for scene in source) for source in (stream, scenes)]
        assert named[0] == named[1]  # image 1 is complete last
        assert len(stream) == len(scenes)
        assert sorted(finding.code for finding in stream.file_findings) == sorted(
            finding.code for finding in scenes.file_findings
        )


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"images": [', AnnotationError, "not JSON"),
        ('{"images": [NaN]}', AnnotationError, "not JSON"),
        ("[]", LayoutError, "no lists"),
        ('{"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": 1}]}', LayoutError, "keys seen: bbox"),
    ],
)
def test_streams_that_cannot_be_read(tmp_path, content, error, message):
    path = tmp_path / "f.json"
    path.write_text(content)
    with pytest.raises(error, match=message):
        list(iter_annotations(path))
    with pytest.raises(AnnotationError, match="No such file"):
        iter_annotations(tmp_path / "missing.json")


@pytest.mark.slow
def test_the_commands_for_large_datasets(small, tmp_path, run_process):
    path, expected = small
    for i in (1, 2):
        part = ["build-targets", path, "--shard", f"{i}/2", "--jobs", "2", "--stream", "-q"]
        assert run_process("amodal-data", *part, cwd=tmp_path).returncode == 0
    shards = sorted(tmp_path.glob("*.h5"))
    assert [shard.name for shard in shards] == [f"COCO_amodal_train2014.shard-{i}-of-2.h5" for i in (1, 2)]
    result = run_process("amodal-data", "merge", *shards, "-o", "c.h5", cwd=tmp_path)
    assert result.returncode == 0
    assert "230 images" in result.stdout
    assert (tmp_path / "c.h5").read_bytes() == expected
    result = run_process("amodal-data", "merge", *shards, "-o", "c.h5", cwd=tmp_path)
    assert result.returncode == 2
    result = run_process("amodal-data", "build-targets", path, "--shard", "x")
    assert result.returncode == 2 and "1/3" in result.stderr


def test_verify_reports_missing_scenes(large, tmp_path):
    out = tmp_path / "c.h5"
    build_targets(read_annotations(large).between(0, 60), out)
    with h5py.File(out, "r+") as file:
        file.attrs["scenes"] = 61
    assert any("61 scenes" in difference for difference in verify_cache(out).differences)


def test_damage_is_detected_and_never_read_as_wrong_levels(large, tmp_path):
    """Bit flips and cuts: verify finds each, and a read gives the right levels or an error."""
    rng = random.Random(1)
    good = tmp_path / "good.h5"
    build_targets(read_annotations(large).between(0, 40), good)
    raw = good.read_bytes()
    with TargetCache(good) as cache:
        tables = [targets.table.tobytes() for targets in cache]
    for trial in range(100):
        bad = bytearray(raw)
        if trial % 4 == 0:
            bad = bad[: rng.randrange(len(bad))]
        else:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path = tmp_path / "bad.h5"
        path.write_bytes(bad)
        try:
            detected = not verify_cache(path).ok
        except CacheFormatError:
            detected = True
        assert detected or bad[:512] != raw[:512] or bytes(bad) == raw, f"trial {trial}"
        try:
            with TargetCache(path) as cache:
                for index in range(len(cache)):
                    try:
                        assert cache[index].table.tobytes() == tables[index], f"trial {trial}"
                    except CacheFormatError:
                        continue
        except CacheFormatError:
            continue


def test_a_new_build_keeps_other_files_of_an_interrupted_one(small, tmp_path):
    path, _ = small
    out = tmp_path / "c.h5"
    interrupted_build(path, out)
    (tmp_path / "c.h5.parts" / "notes.txt").write_text("mine")
    build_targets(read_annotations(path), out, force=True)
    assert listing(tmp_path / "c.h5.parts") == ["notes.txt"]


def write_two_annotators(folder, n):
    path = write_cocoa(folder, n, seed=5, size=(48, 64), photos=False)
    content = json.loads(path.read_text())
    content["annotations"] += [{**record, "author": "p1"} for record in content["annotations"][:n]]
    content["images"].append({"id": 900, "file_name": "nobody.jpg", "height": 5, "width": 5})
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("shards", [2, 5])
@pytest.mark.parametrize("reader", [read_annotations, iter_annotations])
def test_sharding_and_streaming_keep_findings(tmp_path, shards, reader):
    path = write_two_annotators(tmp_path, 3)
    build_targets(read_annotations(path), tmp_path / "whole.h5")
    names = [tmp_path / f"{i}.h5" for i in range(1, shards + 1)]
    for i, name in enumerate(names, 1):
        build_targets(reader(path), name, shard=(i, shards))
    merge_shards(names, tmp_path / "merged.h5")
    assert len(TargetCache(tmp_path / "merged.h5").findings) > 5
    if reader is read_annotations:
        assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    with pytest.raises(CacheError, match="in two"):
        merge_shards([*names, names[0], names[1]] if shards == 2 else [*names, names[-1]], tmp_path / "twice.h5")


def test_streamed_findings_are_those_of_the_ordinary_reader(tmp_path):
    path = write_two_annotators(tmp_path, 3)
    assert list(iter_annotations(path).file_findings) == list(read_annotations(path).file_findings)
    content = json.loads(path.read_text())
    content["annotations"].insert(0, {"id": 9, "image_id": 1, "foo": 1})  # broken, before the layout is known
    content["annotations"].append(7)
    path.write_text(json.dumps(content))
    assert list(iter_annotations(path).file_findings) == list(read_annotations(path).file_findings)
    assert sorted(scene.image_id for scene in iter_annotations(path)) == [1, 2, 3, 900]
    with pytest.raises(SelectionError, match="no annotations by 'eve'"):
        iter_annotations(path, annotator="eve")


def test_resume_uses_only_shards_of_the_same_build(small, tmp_path):
    path, _ = small
    out = tmp_path / "c.h5"
    interrupted_build(path, out)
    build_targets(read_annotations(path), out, shard=(1, 7), resume=True, force=True)
    assert len(TargetCache(out)) == 32
    with pytest.raises(OutputExistsError):
        build_targets(read_annotations(path), out, resume=True)  # a shard is not the whole
    raw = bytearray(out.read_bytes())
    raw[6000] ^= 1
    out.write_bytes(raw)
    with pytest.raises(OutputExistsError):
        build_targets(read_annotations(path), out, shard=(1, 7), resume=True)  # nor is a damaged one


def test_a_shard_is_verified_against_its_own_scenes(large, tmp_path):
    build_targets(read_annotations(large).between(0, 300), tmp_path / "c.h5", shard=(2, 3))
    assert verify_cache(tmp_path / "c.h5", read_annotations(large).between(0, 300)).ok


def test_an_empty_file_keeps_its_provenance(tmp_path):
    (tmp_path / "D2S_amodal_test_info.json").write_text('{"images": []}')
    build_targets(read_annotations(tmp_path / "D2S_amodal_test_info.json"), tmp_path / "c.h5")
    assert TargetCache(tmp_path / "c.h5").info.dataset == "d2sa"
