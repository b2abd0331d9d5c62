"""BOP scenes: levels, ids, names and photos as written, and a finding for everything that does not fit."""

import json
import pickle
import shutil
import tracemalloc
from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image
from support.commands import run_command
from support.malformed import mutate
from support.malformed_tools import broken, check_tool_file
from support.reader_properties import turned_photo
from support.scenes import make_scene, partial_order, random_masks
from support.tool_layouts import bop, png, visible_front_first

import amodal_data as ad
from amodal_data.datasets.layout_parts import open_parts
from amodal_data.errors import AnnotationError, LayoutError, SelectionError
from amodal_data.readers.discovery import PhotoFinder

SIZE = (13, 11)


@pytest.fixture
def scene(tmp_path):
    """A scene folder in a split of a dataset: two images, three objects of the classes 5, 2 and 5."""
    rng = np.random.default_rng(2)
    folder = tmp_path / "lm" / "train_pbr" / "000003"
    for image in (0, 12):
        amodal = random_masks(rng, 3, kinds=("box",))
        bop(folder, amodal, visible_front_first(amodal), image, [5, 2, 5])
    return folder


def counts(path):
    return Counter(finding.code for finding in ad.read_annotations(path).findings)


def change(folder, function):
    """Change the parsed ``scene_gt.json`` in place."""
    path = folder / "scene_gt.json"
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def test_random_scenes_come_back_to_the_pixel(tmp_path):
    rng = np.random.default_rng(7)
    truths = []
    for image in range(120):
        amodal = random_masks(rng, int(rng.integers(1, 7)))
        order = partial_order(rng, len(amodal))
        visible = np.array([mask & ~amodal[order[:, n]].any(axis=0) for n, mask in enumerate(amodal)])
        bop(tmp_path / "000000", amodal, visible, image)
        unordered = np.zeros((len(amodal), len(amodal)), bool)
        truths.append(make_scene(amodal, visible=visible, in_front=unordered, total_order=False))
    for image, truth in zip(ad.read_annotations(tmp_path / "000000"), truths, strict=True):
        targets, expected = ad.layer_scene(image), ad.layer_scene(truth)
        assert np.array_equal(targets.levels, expected.levels)
        assert np.array_equal(targets.in_front(), expected.in_front())
        assert np.array_equal(targets.ambiguous, expected.ambiguous)


def test_ids_names_and_photos(scene):
    bop(scene.parent / "000004", np.ones((1, *SIZE)), np.ones((1, *SIZE)), 12, [7])
    (scene.parents[1] / "models").mkdir()
    (scene.parents[1] / "models" / "models_info.json").write_text(
        json.dumps({"2": {"diameter": 1.0, "name": "can"}, "5": {"diameter": 2.0}, "9": {}})
    )
    alone, split = ad.read_annotations(scene), ad.open(scene.parent)
    assert alone.image_ids == [3000000, 3000012] and split.image_ids == [3000000, 3000012, 4000012]
    assert alone.file_names == ["000003/rgb/000000.png", "000003/rgb/000012.png"] == split.file_names[:2]
    assert split.classes == {2: "can", 5: "obj_000005", 7: "obj_000007", 9: "obj_000009"}
    assert [instance.category_id for instance in alone[0].instances] == [5, 2, 5]
    assert all(image.photo.shape == (*SIZE, 3) for image in split) and not split.findings
    (scene.parents[1] / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    assert list(ad.read_annotations(scene).categories.values()) == ["a", "b", "c", "d", "e", "obj_000009"]
    assert ad.read_annotations(scene / "scene_gt.json").image_ids == alone.image_ids


def test_cameras_and_gray_photos(scene):
    for name in ("mask", "mask_visib", "scene_gt.json"):
        path = scene / name
        shutil.copytree(path, scene / f"{name}_cam1") if path.is_dir() else shutil.copy(
            path, scene / "scene_gt_cam1.json"
        )
    (scene / "rgb").rename(scene / "gray_cam1")
    scenes = ad.read_annotations(scene)
    assert scenes.file_names[::2] == ["000003/rgb/000000.png", "000003/gray_cam1/000000.png"]
    assert len(set(scenes.image_ids)) == 4 and counts(scene) == {"ids-shifted": 1}
    assert all(len(image.instances) == 3 for image in scenes)


def test_masks_are_decoded_when_an_image_is_read(scene):
    for path in (scene / "mask").iterdir():
        path.write_bytes(b"not yet")
    scenes = pickle.loads(pickle.dumps(ad.read_annotations(scene)))
    assert len(scenes) == 2 and not scenes.file_findings and len(scenes.findings) == 6
    tracemalloc.start()
    for image in range(12, 40):
        bop(scene, np.ones((2, 200, 300)), np.ones((2, 200, 300)), image)
    tracemalloc.reset_peak()
    start = tracemalloc.get_traced_memory()[0]
    ad.read_annotations(scene)
    peak = tracemalloc.get_traced_memory()[1] - start
    tracemalloc.stop()
    assert peak < 28 * 200 * 300


def test_damaged_masks_are_findings(scene):
    masks = {name: scene / "mask" / f"{name}.png" for name in ("000000_000000", "000000_000001", "000000_000002")}
    masks["000000_000000"].unlink()
    masks["000000_000001"].write_bytes(png(np.ones((5, 5), bool)))
    Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE)).save(masks["000000_000002"])
    codes = ["mask-unusable", "rle-wrong-size", "mask-unusable"]
    findings = ad.read_annotations(scene)[0].findings
    assert sorted(finding.code for finding in findings) == sorted(codes)
    messages = {finding.place.region: finding.message for finding in findings}
    assert messages[0] == "mask/000000_000000.png: no such file"
    assert messages[1] == "mask/000000_000001.png is (5, 5) (height, width), its image (13, 11)"
    (scene / "mask_visib" / "000012_000000.png").unlink()
    assert [len(image.instances) for image in ad.read_annotations(scene)] == [0, 2]


def test_odd_masks_are_findings(scene):
    amodal = np.zeros((4, *SIZE), bool)
    amodal[0, :6], amodal[1, 3:9], amodal[2, 3:9] = True, True, True
    visible = visible_front_first(amodal)
    visible[1, 0] = True
    soft = np.where(amodal[0], 255, 0).astype(np.uint8)
    soft[5, :2] = 140
    bop(scene, amodal, visible, 20, [1, 1, 1, 1])
    Image.fromarray(soft).save(scene / "mask" / "000020_000000.png")
    image = ad.read_annotations(scene)[2]
    layered = ad.check([image])
    assert layered.counts == {"mask-gray": 1, "region-empty": 1, "visible-outside-amodal": 1}
    assert not image.instances[2].visible.area  # wholly hidden
    assert ad.layer_scene(image).levels[2].max() == 3


def test_odd_entries_are_findings(scene):
    change(scene, lambda content: content["0"].extend([{"obj_id": "x"}, None, {}]))
    change(scene, lambda content: content.update({"a": [], "00": [], "77": [], "78": [{"obj_id": 1}]}))
    (scene / "rgb" / "000099.jpg").write_bytes(b"")
    (scene / "rgb" / "000078.png").write_bytes(b"damaged")
    assert counts(scene) == {
        "annotation-malformed": 5, "image-not-begun": 1, "image-size-unknown": 1, "image-unannotated": 1,
        "photo-unusable": 1,
    }  # fmt: skip
    (scene / "rgb" / "000078.png").unlink()
    turned_photo(scene / "rgb" / "000000.png")
    assert counts(scene)["photo-turned"] == 1
    shutil.rmtree(scene / "rgb")
    assert ad.read_annotations(scene)[0].size == SIZE  # of the masks


def test_damaged_scenes_never_crash_or_lie(tmp_path):
    outcomes = Counter()
    for seed in range(100):
        rng, random = np.random.default_rng(seed), Random(seed)
        folder = tmp_path / "000001"
        for image in range(2):
            amodal = random_masks(rng, 3)
            bop(folder, amodal, visible_front_first(amodal), image)
        if random.random() < 0.7:
            change(folder, lambda content, random=random: mutate(random, content))
        for path in random.sample(sorted(path for path in folder.rglob("*") if path.is_file()), random.randint(0, 3)):
            path.write_bytes(broken(random, path.read_bytes())) if random.random() < 0.7 else path.unlink()
        try:
            outcomes[check_tool_file(folder, {})] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        shutil.rmtree(folder)
    assert min(outcomes[kind] for kind in ("refused", "findings", "read")) > 1, outcomes


@pytest.mark.parametrize("name", ["caf\udce9", "999999999999999999", "-2", "scene"])
def test_odd_names_of_scenes(name, tmp_path):
    folder = bop(tmp_path / name, np.ones((1, *SIZE)), np.ones((1, *SIZE)), 3)
    (folder / "mask" / "000003_000001.png").symlink_to("nothing")
    (folder / "mask" / "caf\udce9.png").write_bytes(b"")
    report = ad.build_targets(ad.read_annotations(tmp_path), tmp_path / "a.h5")
    assert report.instances == 1 and not report.findings


def test_photos_are_not_looked_for_among_masks(scene):
    (scene / "depth").mkdir()
    shutil.copy(scene / "rgb" / "000012.png", scene / "depth")
    finder = PhotoFinder([scene.parent])
    assert finder.find("000012.png") == scene / "rgb" / "000012.png" and finder.find("000012_000000.png") is None


def test_errors_say_what_to_do(scene):
    with pytest.raises(SelectionError, match="splits lie in folders") as raised:
        ad.read_annotations(scene.parents[1])
    assert raised.value.fix.endswith("train_pbr")
    with pytest.raises(SelectionError, match="already give the order"):
        ad.read_annotations(scene, masks="amodal")
    with pytest.raises(LayoutError, match="cannot be written back") as raised:
        open_parts(scene.parent)
    assert "--to d2sa" in raised.value.fix
    shutil.rmtree(scene / "mask")
    with pytest.raises(AnnotationError, match="no folder mask here") as raised:
        ad.read_annotations(scene)
    assert '--pattern "mask_visib/{image}_{object}.png" --masks modal' in raised.value.fix
    assert len(ad.read_annotations(scene, pattern="mask_visib/{image}_{object}.png", masks="modal")) == 2
    for text in ("[]", '{"0": {}}', "{"):
        (scene / "scene_gt.json").write_text(text)
        with pytest.raises(AnnotationError, match=r"JSON|scene_gt"):
            ad.read_annotations(scene)


def test_visible_masks_in_coco_are_modal(scene):
    """BlenderProc's ``scene_gt_coco.json``: visible masks with the boxes of whole objects."""
    rle = ad.RLE.from_mask(np.eye(*SIZE) > 0).to_coco()
    image = {"id": 0, "file_name": "rgb/000000.png", "height": SIZE[0], "width": SIZE[1]}
    row = {"id": 1, "image_id": 0, "category_id": 5, "segmentation": rle, "bbox": [0, 0, 11, 13], "area": 11}
    content = {"images": [image], "annotations": [row], "categories": [{"id": 5, "name": "5"}]}
    (scene / "scene_gt_coco.json").write_text(json.dumps(content))
    assert len(ad.read_annotations(scene)) == 2
    scenes = ad.read_annotations(scene / "scene_gt_coco.json", masks="modal")
    assert scenes[0].instances[0].amodal.area == 11


def test_every_command_reads_a_scene_and_a_split(scene, tmp_path):
    for folder in (scene, scene.parent):
        checked = run_command("amodal-data", "check", folder, "--json")
        assert checked.returncode == 0 and json.loads(checked.stdout)["instances"] == 6
    cache, out = tmp_path / "c.h5", tmp_path / "d2sa.json"
    built = run_command("amodal-data", "build-targets", folder, "-o", cache, "--jobs", "2")
    assert built.returncode == 0, built.stderr
    assert run_command("amodal-data", "verify", cache, "--annotations", folder).returncode == 0
    assert "6" in run_command("amodal-data", "inspect", folder).stdout
    assert run_command("amodal-data", "convert", folder, "--to", "d2sa", "-o", out).returncode == 0
    for image, expected in zip(ad.read_annotations(out), ad.read_annotations(folder), strict=True):
        assert np.array_equal(ad.layer_scene(image).levels, ad.layer_scene(expected).levels)
        assert image.image_id == expected.image_id and image.file_name == expected.file_name
