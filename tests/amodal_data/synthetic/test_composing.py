"""Composed scenes: the choice of objects, their placement, blending, and exact annotations."""

import hashlib
import json
import shutil
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT, run_command
from support.scenes import ellipse

import amodal_data.synthetic.composing.blending as blending
from amodal_data import RLE, build_targets, layer_scene, read_cocoa, read_d2sa, verify_cache
from amodal_data.errors import OutputExistsError, SelectionError
from amodal_data.masks.rle import parse_rle
from amodal_data.synthetic.composing.arrangement import OCCLUSION, Arrangement, Placement, Planner, SceneSpec
from amodal_data.synthetic.composing.blending import paint
from amodal_data.synthetic.composing.cutouts import Rules
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.scene_writer import compose, to_scene
from amodal_data.synthetic.composing.set_folder import COCOA, FLAT

DATA = ROOT.parent / "shared" / "data" / "coco128"
SMALL = SceneSpec(size=(96, 128), objects=(2, 5))


def digest(folder):
    """Digest of every file of a composed set."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_whole_objects_become_cutouts_and_others_findings(bank):
    assert len(bank.cutouts) == 30 and len(bank.backgrounds) == 10
    assert Counter(finding.code for finding in bank.findings) == {"donor-cut": 10}
    for behind in bank.backgrounds:
        assert [bank.cutouts[n].image_id for n in behind.whole] == [behind.image_id] * 3
        assert behind.unknown.area > 0


def write_coco(folder, masks, **fields):
    rows = [
        {"id": n, "image_id": 1, "category_id": 1, "segmentation": RLE.from_mask(mask).to_coco()} | fields
        for n, mask in enumerate(masks, 1)
    ]
    size = masks[0].shape
    image = {"id": 1, "file_name": "1.png", "height": size[0], "width": size[1]}
    (folder / "a.json").write_text(json.dumps({"images": [image], "annotations": rows, "categories": []}))
    Image.new("RGB", size[::-1]).save(folder / "1.png")
    return folder / "a.json"


def test_each_rule_excludes_objects(tmp_path):
    size = (120, 160)
    good = ellipse(size, 60, 40, 30, 30)
    neighbor = ellipse(size, 60, 130, 20, 20)
    neighbor[:, 100:105] = False
    near = np.zeros(size, bool)
    near[49:71, 66:90] = True
    touching = near & ~good
    parts = ellipse(size, 20, 120, 10, 10) | ellipse(size, 60, 120, 10, 10)
    for masks, expected in (
        ([good, neighbor], {}),
        ([good, touching], {"donor-touched": 1}),  # the long side of the second one; of the first one little
        ([good, parts], {"donor-in-parts": 1}),
        ([good, ellipse(size, 60, 150, 20, 20)], {"donor-cut": 1}),
        ([good, ellipse(size, 60, 120, 5, 5)], {"donor-small": 1}),
        ([good, np.pad(np.ones((110, 150), bool), 5) & ~ellipse(size, 60, 40, 36, 36)], {"donor-large": 1}),
    ):
        result = build_object_bank(write_coco(tmp_path, masks), [tmp_path], rules=Rules(contact=0.2))
        assert Counter(finding.code for finding in result.findings) == expected, expected
        assert len(result.cutouts) == len(masks) - sum(expected.values())
    strict = build_object_bank(write_coco(tmp_path, [good, neighbor, touching]), [tmp_path], rules=Rules(contact=0.0))
    assert Counter(finding.code for finding in strict.findings) == {"donor-touched": 2}
    with pytest.raises(SelectionError, match="no whole object"):
        build_object_bank(write_coco(tmp_path, [good], iscrowd=1), [tmp_path])


def test_annotations_are_exact(bank, tmp_path):
    """Both files: levels equal a slow repainting, stored masks agree, and every object names its source."""
    report = compose(bank, tmp_path, 60, seed=2, spec=SMALL)
    assert report.complete and report.scenes == 60
    content = {name: json.loads((tmp_path / name).read_text()) for name in (COCOA, FLAT)}
    ids = {(item.image_id, item.annotation_id) for item in bank.cutouts}
    for name, read in ((COCOA, read_cocoa), (FLAT, read_d2sa)):
        scenes = read(tmp_path / name)
        build_targets(scenes, tmp_path / f"{name}.h5")
        verified = verify_cache(tmp_path / f"{name}.h5", scenes)
        assert verified.ok and verified.stored > 100, verified
        for scene in scenes:
            targets = layer_scene(scene)
            annotation = next(item for item in content[COCOA]["annotations"] if item["image_id"] == scene.image_id)
            cover, unknown = np.zeros(scene.size, np.uint8), np.zeros(scene.size, bool)
            if "unknown" in annotation:
                unknown = parse_rle(annotation["unknown"], scene.size).decode()
            for n, region in enumerate(annotation["regions"]):  # front to back
                mask = parse_rle(region["segmentation"], scene.size).decode()
                assert np.array_equal(targets.levels[n], np.where(mask, 1 + cover, 0))
                cover += mask
                cutout = region["donor"]
                assert (cutout["image_id"], cutout["annotation_id"]) in ids and cutout["license"] in (4, 6)
            assert np.array_equal(targets.map_values(targets.unknown), unknown)
    flat = content[FLAT]["annotations"]
    assert len({item["id"] for item in flat}) == len(flat)
    assert all("donor" in item for item in flat if not item["iscrowd"]) and any(item["iscrowd"] for item in flat)
    assert {item["name"] for item in content[FLAT]["categories"]} == {"cup", "box"}


@pytest.mark.slow
def test_occlusion_follows_the_spec_and_every_object_appears_unoccluded(bank):
    crowded = replace(SMALL, objects=(5, 8), size=(120, 160))
    for spec in (SMALL, replace(SMALL, occluded=0.3), crowded, replace(crowded, scale="usual")):
        planner, unoccluded = Planner(bank, spec), set()
        for number in range(150):
            scene = planner.arrange(np.random.default_rng([0, number]), number)
            unoccluded.add(scene.objects[0].cutout)
        assert np.abs(planner.counts / planner.counts.sum() - spec.shares()).max() < 0.03
        assert unoccluded == set(range(len(bank.cutouts)))
    assert sum(share for _, share in OCCLUSION) == pytest.approx(1)


def test_visible_parts_have_the_pixels_of_their_objects(bank, monkeypatch):
    """Without color transfer and shadows, pixels inside a visible part are those of the object."""
    monkeypatch.setattr(blending, "_COLOR_TRANSFER", (0.0, 0.0))
    monkeypatch.setattr(blending, "_CONTRAST_TRANSFER", (0.0, 0.0))
    monkeypatch.setattr(blending, "_SHADOWS", 0.0)
    from scipy import ndimage

    def photos(path):
        return Image.open(path).convert("RGB")

    planner, pixels = Planner(bank, SMALL), 0
    for number in range(20):
        rng = np.random.default_rng(number)
        scene = planner.arrange(rng, number)
        photo = paint(rng, scene, bank, photos)
        targets = layer_scene(to_scene(scene, bank, 1, "a.jpg"))
        for placed, visible in zip(scene.objects, targets.modal(), strict=True):
            cutout = bank.cutouts[placed.cutout]
            color = np.asarray(photos(cutout.photo))[cutout.mask.decode()][0].astype(int)
            inside = ndimage.binary_erosion(visible, iterations=4)
            assert np.abs(photo[inside].astype(int) - color).max(initial=0) <= 3
            pixels += inside.sum()
    assert pixels > 10_000


def test_mask_and_photo_are_mirrored_and_scaled_together(bank):
    """An edge lies where the mask says, mirrored or not."""
    cutout = bank.cutouts[0]
    mask = cutout.shape()
    for flip in (False, True):
        mirrored = mask[:, ::-1] if flip else mask
        placed = Placement(0, 20, 30, mirrored, flip=flip)
        scene = Arrangement(1, (0, 0, 128, 96), False, (placed,), np.zeros((96, 128), bool))
        photo = paint(np.random.default_rng(0), scene, bank, lambda path: Image.open(path).convert("RGB"))
        bright = photo.astype(int).sum(2)
        whole = np.zeros((96, 128), bool)
        whole[placed.window()] = mirrored
        surroundings = np.zeros_like(whole)
        surroundings[16 : 24 + mask.shape[0], 26 : 34 + mask.shape[1]] = True
        native = native_pixels(bank, 1)
        assert bright[whole].min() > bright[surroundings & ~whole & ~native & ~dilated(whole)].max()


def dilated(mask):
    from scipy import ndimage

    return ndimage.binary_dilation(mask, iterations=3)


def native_pixels(bank, background):
    """Pixels of a background's own objects, whole or not."""
    behind = bank.backgrounds[background]
    return np.any([behind.unknown.decode(), *(bank.cutouts[n].mask.decode() for n in behind.whole)], axis=0)


@pytest.mark.slow
def test_jobs_shards_and_resume_write_the_same_bytes(bank, tmp_path):
    compose(bank, tmp_path / "one", 120, seed=5, spec=SMALL)
    compose(bank, tmp_path / "two", 120, seed=5, spec=SMALL, jobs=2)
    for number in (2, 1):
        part = compose(bank, tmp_path / "parts", 120, seed=5, spec=SMALL, shard=(number, 2))
        assert part.complete == (number == 1)
    compose(bank, tmp_path / "stopped", 120, seed=5, spec=SMALL, shard=(2, 2))
    compose(bank, tmp_path / "stopped", 120, seed=5, spec=SMALL, resume=True)
    expected = digest(tmp_path / "one")
    assert len(expected) == 120 + 3
    for name in ("two", "parts", "stopped"):
        assert digest(tmp_path / name) == expected, name
    compose(bank, tmp_path / "one", 60, seed=6, spec=SMALL, force=True)
    other = digest(tmp_path / "one")
    assert len(other) == 60 + 3 and not set(other.values()) & set(expected.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_dask_cluster_gives_the_same_bytes(bank, tmp_path):
    distributed = pytest.importorskip("distributed")
    compose(bank, tmp_path / "one", 120, seed=5, spec=SMALL)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        compose(bank, tmp_path / "many", 120, seed=5, spec=SMALL, scheduler=cluster.scheduler_address)
    assert digest(tmp_path / "many") == digest(tmp_path / "one")


@pytest.mark.slow
def test_kill_9_then_resume(modal, tmp_path, run_process):
    command = ["amodal-data", "compose", modal, "--images", modal.parent, "-n", "150",
               "--size", "96", "128", "--seed", "4", "-q"]  # fmt: skip
    assert run_process(*command, "-o", tmp_path / "whole").returncode == 0
    with run_process.start(*command, "-o", tmp_path / "killed") as process:
        while not list((tmp_path / "killed").glob("blocks/*.json")):
            time.sleep(0.02)
        process.kill()
    assert run_process(*command, "-o", tmp_path / "killed", "--resume").returncode == 0
    expected, resumed = digest(tmp_path / "whole"), digest(tmp_path / "killed")
    assert {name: resumed[name] for name in expected} == expected
    assert all(name.endswith(".part") or "lock" in name for name in resumed.keys() - expected.keys())


def test_no_photo_is_in_train_and_val(modal):
    parts = {
        name: build_object_bank(modal, [modal.parent], part=name, held_out=0.4) for name in ("train", "val", "all")
    }
    ids = {name: {background.image_id for background in part_bank.backgrounds} for name, part_bank in parts.items()}
    assert ids["train"] and ids["val"] and not ids["train"] & ids["val"] and ids["train"] | ids["val"] == ids["all"]


def test_a_stream_gives_the_same_bank(modal, bank, tmp_path):
    """Also where annotations lie in another order than images."""
    content = json.loads(modal.read_text())
    content["annotations"].reverse()
    for path in (modal, modal.with_name("reversed.json")):
        path.write_text(json.dumps(content)) if path != modal else None
        loaded, streamed = (build_object_bank(path, [modal.parent], stream=stream) for stream in (False, True))
        assert [vars_of(cutout) for cutout in loaded.cutouts] == [vars_of(cutout) for cutout in streamed.cutouts]
        assert [(b.image_id, b.whole, b.license) for b in loaded.backgrounds] == [
            (b.image_id, b.whole, b.license) for b in streamed.backgrounds
        ]
        assert sorted(map(str, loaded.findings)) == sorted(map(str, streamed.findings))
        for name in ("names", "no_derivatives", "sources"):
            assert getattr(loaded, name) == getattr(streamed, name)
        assert all(a.unknown == b.unknown for a, b in zip(loaded.backgrounds, streamed.backgrounds, strict=True))


def vars_of(cutout):
    return (
        cutout.mask,
        cutout.photo,
        cutout.image_id,
        cutout.annotation_id,
        cutout.category_id,
        cutout.name,
        cutout.license,
    )


def test_resume_joins_shards_from_other_folders(bank, tmp_path):
    compose(bank, tmp_path / "one", 120, seed=5, spec=SMALL)
    for number in (1, 2):
        compose(bank, tmp_path / f"part{number}", 120, seed=5, spec=SMALL, shard=(number, 2))
        shutil.copytree(tmp_path / f"part{number}", tmp_path / "joined", dirs_exist_ok=True)
    assert compose(bank, tmp_path / "joined", 120, seed=5, spec=SMALL, resume=True).complete
    assert digest(tmp_path / "joined") == digest(tmp_path / "one")


def test_other_splits_hold_out_other_photos(modal):
    parts_val = []
    for split in range(3):
        parts = [
            build_object_bank(modal, [modal.parent], part=part, held_out=0.4, split=split) for part in ("train", "val")
        ]
        train, val = ({background.image_id for background in part_bank.backgrounds} for part_bank in parts)
        assert not train & val
        parts_val.append(frozenset(val))
    assert len(set(parts_val)) == 3


def test_licenses_and_classes(modal, bank, tmp_path):
    result = run_command("amodal-data", "compose", modal, "--images", modal.parent, "-o", tmp_path / "a", "-n", "3",
                       "--size", "96", "128")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "6 (Attribution-NoDerivs) must not be shared in derived works" in result.stderr
    assert "--licenses 4" in result.stderr
    result = run_command("amodal-data", "compose", modal, "--images", modal.parent, "-o", tmp_path / "b", "-n", "20",
                       "--size", "96", "128", "--licenses", "4", "--classes", "cup", "--json")  # fmt: skip
    assert result.returncode == 0 and "derived works" not in result.stderr
    report = json.loads(result.stdout)
    assert report["schema"] == "amodal-data/compose/1" and report["findings"]["license-left-out"] == 2
    annotations = json.loads((tmp_path / "b" / COCOA).read_text())["annotations"]
    regions = [region for annotation in annotations for region in annotation["regions"]]
    assert {r["name"] for r in regions if not r["donor"]["at_home"]} == {"cup"}
    assert {r["donor"]["license"] for r in regions} == {4}
    with pytest.raises(SelectionError, match="no object of class"):
        build_object_bank(modal, [modal.parent], classes=["cat"])
    balanced = Planner(bank, replace(SMALL, balance=True))
    assert len(balanced.groups) == 2


def test_foreign_files_and_other_settings_are_refused(bank, modal, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000000000001.jpg").write_text("mine")
    with pytest.raises(OutputExistsError):
        compose(bank, tmp_path, 2, spec=SMALL, force=True)
    assert (tmp_path / "images" / "000000000001.jpg").read_text() == "mine"
    compose(bank, tmp_path / "a", 2, spec=SMALL)
    with pytest.raises(OutputExistsError, match="already"):
        compose(bank, tmp_path / "a", 2, spec=SMALL)
    with pytest.raises(OutputExistsError, match="other settings"):
        compose(bank, tmp_path / "a", 3, spec=SMALL, resume=True)
    for wrong in (["--objects", "8-2"], ["--objects", "x"], ["--size", "10", "10"], ["--shard", "3/2"]):
        result = run_command("amodal-data", "compose", modal, "--images", modal.parent, "-o", tmp_path / "b", *wrong)
        assert result.returncode == 2, wrong


def test_unusable_photos_are_left_out(modal, tmp_path):
    for n in range(1, 9):
        Image.open(modal.parent / f"{n}.png").save(tmp_path / f"{n}.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no photo")
    partial = build_object_bank(modal, [tmp_path])
    counts = Counter(finding.code for finding in partial.findings)
    assert (counts["photo-unusable"], counts["photo-missing"]) == (2, 2) and len(partial.backgrounds) == 6


def test_a_malformed_unknown_mask_is_a_finding(tmp_path, bank):
    compose(bank, tmp_path, 3, spec=SMALL)
    content = json.loads((tmp_path / COCOA).read_text())
    content["annotations"][0]["unknown"] = {"size": [3, 3], "counts": "xx"}
    (tmp_path / "broken.json").write_text(json.dumps(content))
    scenes = read_cocoa(tmp_path / "broken.json")
    assert scenes[0].unknown is None and "rle-malformed" in [finding.code for finding in scenes[0].findings]


@pytest.mark.skipif(not DATA.exists(), reason="the shared data are missing")
def test_real_objects():
    bank = build_object_bank(DATA / "instances.json", [DATA])
    assert len(bank.cutouts) >= 150
    counts = Counter(finding.code for finding in bank.findings if finding.code.startswith("donor-"))
    assert len(bank.cutouts) + sum(counts.values()) == 929


@pytest.mark.slow
def test_the_recipe_from_a_coco_file_to_a_prediction(modal, tmp_path, run_process):
    example = ROOT / "examples" / "compose_coco.py"
    result = run_process(example, modal, modal.parent, tmp_path, "--scenes", "8", "--steps", "3")
    assert result.returncode == 0, result.stderr
    assert "objects in 8 scenes" in result.stdout and "first held-out scene" in result.stdout
