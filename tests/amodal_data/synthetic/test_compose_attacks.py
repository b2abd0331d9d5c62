"""Composing with damaged photos, damaged folders, and several writers of one folder."""

import json
import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.commands import run_command

from amodal_data.errors import AnnotationError, InUseError, OutputExistsError, SelectionError
from amodal_data.io.files import sole_writer
from amodal_data.synthetic.composing.arrangement import SceneSpec
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.photo_folders import DecodedPhotos
from amodal_data.synthetic.composing.scene_writer import MAX_OBJECTS, MAX_SCENES, compose
from amodal_data.synthetic.composing.set_folder import COCOA, FLAT

TINY = SceneSpec(size=(64, 80), objects=(1, 3))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def cut_photos(modal, folder, names):
    """A bank whose photos ``names`` have a sound header and too little data."""
    folder.mkdir()
    for photo in modal.parent.glob("*.png"):
        content = photo.read_bytes()
        (folder / photo.name).write_bytes(content[:200] if photo.name in names else content)
    return build_object_bank(modal, [folder])


def test_photos_that_cannot_be_decoded_are_findings_and_others_are_used(modal, tmp_path):
    bank = cut_photos(modal, tmp_path / "photos", {"3.png", "7.png"})
    report = compose(bank, tmp_path / "a", 52, spec=TINY)
    lost = [finding.place.image_id for finding in report.findings if finding.code == "photo-unusable"]
    assert report.complete and report.scenes == 52 and lost == [3, 7]
    images = json.loads((tmp_path / "a" / COCOA).read_text())["images"]
    assert not {image["backdrop"] for image in images} & {3, 7}
    compose(bank, tmp_path / "jobs", 52, spec=TINY, jobs=2)
    compose(bank, tmp_path / "resumed", 52, spec=TINY, shard=(2, 2))
    compose(bank, tmp_path / "resumed", 52, spec=TINY, resume=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "jobs") == contents(tmp_path / "resumed")
    nothing = cut_photos(modal, tmp_path / "all", {photo.name for photo in modal.parent.glob("*.png")})
    with pytest.raises(SelectionError, match=r"no photo .* can be decoded"):
        compose(nothing, tmp_path / "b", 2, spec=replace(TINY, balance=True))


def test_photos_kept_decoded_are_bounded_in_bytes(tmp_path):
    for n, side in enumerate((10, 20, 30, 100)):
        Image.new("RGB", (side, side), (n, 0, 0)).save(tmp_path / f"{n}.png")
    photos = DecodedPhotos(3 * (20 * 20 + 30 * 30))
    for n in (0, 1, 2):
        assert photos(str(tmp_path / f"{n}.png")).getpixel((0, 0)) == (n, 0, 0)
    assert photos.kept_bytes == 3 * (20 * 20 + 30 * 30)
    photos(str(tmp_path / "1.png"))
    photos(str(tmp_path / "0.png"))  # 2 was used least lately
    assert photos.kept_bytes == 3 * (20 * 20 + 10 * 10)
    assert photos(str(tmp_path / "3.png")).size == (100, 100) and photos.kept_bytes == 0


def test_force_touches_nothing_while_another_process_composes(bank, tmp_path):
    compose(bank, tmp_path, 120, seed=1, spec=TINY, shard=(1, 3))
    before = contents(tmp_path)
    assert any(name.startswith("blocks/") for name in before)
    for lock in (".lock-all", ".lock-2-of-3"):
        with sole_writer(tmp_path / lock, "it"), pytest.raises(InUseError, match="is being written by process"):
            compose(bank, tmp_path, 120, seed=2, spec=TINY, force=True)
        assert contents(tmp_path) == before
    compose(bank, tmp_path, 20, seed=2, spec=TINY, force=True)
    assert {image["seed"] for image in json.loads((tmp_path / FLAT).read_text())["images"]} == {2}
    assert not (tmp_path / "blocks").exists()


def test_blocks_of_other_settings_and_damaged_ones_are_made_again(bank, tmp_path):
    compose(bank, tmp_path / "good", 101, seed=2, spec=TINY)
    compose(bank, tmp_path / "other", 101, seed=1, spec=TINY, shard=(1, 3))
    compose(bank, tmp_path / "a", 101, seed=2, spec=TINY, shard=(3, 3))
    foreign = (tmp_path / "other" / "blocks" / "000000.json").read_bytes()
    (tmp_path / "a" / "blocks" / "000000.json").write_bytes(foreign)
    own = tmp_path / "a" / "blocks" / "000002.json"
    sound = own.read_text()
    for damage in (b"", b"\xff\xfe", b"[]", b'{"sha256": 1, "content": [1]}', b"[" * 100_000, sound[:-9].encode(),
                   sound.replace('"is_stuff"', '"is_stiff"', 1).replace("0.", "1.", 1).encode(), None):  # fmt: skip
        own.unlink()
        os.mkfifo(own) if damage is None else own.write_bytes(damage)
        assert compose(bank, tmp_path / "a", 101, seed=2, spec=TINY, shard=(3, 3)).scenes == 1
        assert own.read_text() == sound
    assert compose(bank, tmp_path / "a", 101, seed=2, spec=TINY, resume=True).complete
    assert contents(tmp_path / "a") == contents(tmp_path / "good")


def test_resume_makes_photos_again_that_are_missing_empty_or_cut(bank, tmp_path):
    compose(bank, tmp_path, 60, spec=TINY)
    before = contents(tmp_path)
    (tmp_path / "images" / "000000000003.jpg").unlink()
    (tmp_path / "images" / "000000000004.jpg").write_bytes(b"")
    cut = tmp_path / "images" / "000000000055.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    report = compose(bank, tmp_path, 60, spec=TINY, resume=True)
    assert report.complete and report.scenes == 60 and contents(tmp_path) == before
    (tmp_path / COCOA).write_text('{"images": [{"id": "x"}], "annotations": []}')
    with pytest.raises(AnnotationError, match="damaged"):
        compose(bank, tmp_path, 60, spec=TINY, resume=True)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"[", None])
def test_settings_that_cannot_be_read_are_refused(content, bank, tmp_path):
    path = tmp_path / "compose.json"
    os.mkfifo(path) if content is None else path.write_bytes(content)
    with pytest.raises(
        OutputExistsError, match="cannot be read: this is a FIFO" if content is None else "other settings"
    ):
        compose(bank, tmp_path, 2, spec=TINY, resume=True)
    assert compose(bank, tmp_path, 2, spec=TINY, force=True).complete


def test_shards_without_blocks_do_not_lock_their_neighbors(bank, tmp_path):
    """Three of four shards of 50 scenes are empty; each may run while another does."""
    with sole_writer(tmp_path / ".lock-2-of-4", "it"):
        for number in (1, 3, 4):
            report = compose(bank, tmp_path, 50, spec=TINY, shard=(number, 4))
            assert report.scenes == (50 if number == 4 else 0)
    assert report.complete


def test_why_there_is_no_object_to_compose_from(modal, tmp_path):
    with pytest.raises(SelectionError, match=r"no whole object .*: 10 photo-missing(.|\n)*images="):
        build_object_bank(modal, [tmp_path])
    with pytest.raises(SelectionError, match="10 license-left-out"):
        build_object_bank(modal, [modal.parent], licenses=[77])


def test_endless_requests_are_refused(bank, modal, tmp_path):
    for n, objects in ((MAX_SCENES + 1, (1, 2)), (0, (1, 2)), (1, (1, MAX_OBJECTS + 1)), (1, (3, 2))):
        with pytest.raises(SelectionError, match="compose makes 1 to"):
            compose(bank, tmp_path / "a", n, spec=replace(TINY, objects=objects))
    command = ("amodal-data", "compose", modal, "--images", modal.parent, "-o", tmp_path / "b")
    for wrong in (["--objects", "1-" + "9" * 5000], ["--objects", "100000-100000"], ["-n", str(10**12)]):
        result = run_command(*command, *wrong)
        assert result.returncode == 2 and len(result.stderr) < 1000, result.stderr
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_findings_count_photos_once(modal, tmp_path):
    bank = cut_photos(modal, tmp_path / "photos", {"1.png"})
    report = compose(bank, tmp_path / "a", 55, spec=TINY)
    assert Counter(finding.code for finding in report.findings)["photo-unusable"] == 1
    assert np.isclose(sum(report.occlusion.values()), 1, atol=0.01)
