"""Composing from several annotation files and folders, and without the photos of a test set."""

import hashlib
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from support.commands import run_command

import amodal_data.synthetic.composing.blending as blending
from amodal_data.errors import AnnotationError, LayoutError, SelectionError
from amodal_data.masks.rle import RLE, parse_rle
from amodal_data.publishing.card import dataset_card
from amodal_data.publishing.description import describe_dataset
from amodal_data.synthetic.composing.arrangement import Arrangement, Placement, Planner, SceneSpec, usual_sizes
from amodal_data.synthetic.composing.blending import paint
from amodal_data.synthetic.composing.coco_file import CocoFile
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.photo_choice import in_part
from amodal_data.synthetic.composing.photo_folders import DecodedPhotos
from amodal_data.synthetic.composing.scene_writer import compose
from amodal_data.synthetic.composing.set_folder import COCOA, FLAT

SMALL = SceneSpec(size=(96, 128), objects=(2, 5))


def codes(bank):
    return Counter(finding.code for finding in bank.findings)


def photo_ids(bank, source=0):
    return {item.image_id for item in (*bank.cutouts, *bank.backgrounds) if item.source == source}


def renamed(modal, folder, change, copied=range(1, 11)):
    """Another annotation file of some photos, whose rows ``change`` alters."""
    folder.mkdir()
    content = json.loads(modal.read_text())
    for photo in content["images"]:
        if photo["id"] in copied:
            shutil.copy(modal.parent / photo["file_name"], folder / photo["file_name"])
    change(content)
    (folder / "other.json").write_text(json.dumps(content))
    return folder / "other.json"


@pytest.fixture
def cutouts(tmp_path):
    """Three images with alpha: a red disk without a class, a soft green square and a palette image in subfolders."""
    folder = tmp_path / "cutouts"
    (folder / "jar").mkdir(parents=True)
    (folder / "cup").mkdir()
    y, x = np.mgrid[:60, :60]
    disk = np.zeros((60, 60, 4), np.uint8)
    disk[(y - 30) ** 2 + (x - 30) ** 2 < 400] = (220, 20, 20, 255)
    Image.fromarray(disk).save(folder / "disk.png")
    square = np.zeros((80, 50, 4), np.uint8)
    square[10:70, 10:40] = (20, 220, 20, 255)
    square[8:10, 10:40] = (20, 220, 20, 100)
    Image.fromarray(square).save(folder / "jar" / "1.png")
    palette = Image.fromarray(disk[..., 3]).convert("P")
    palette.save(folder / "cup" / "1.png", transparency=0)
    return folder


def test_without_new_options_nothing_changes(bank, tmp_path):
    """Digests of what the first version of compose wrote, without the sizes of its JPEG files."""
    compose(bank, tmp_path, 60, seed=5, spec=SMALL)
    digests = []
    for name in (COCOA, FLAT):
        content = json.loads((tmp_path / name).read_text())
        assert all(image.pop("bytes") for image in content["images"])
        digests.append(hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16])
    settings = hashlib.sha256((tmp_path / "compose.json").read_bytes()).hexdigest()[:16]
    assert [*digests, settings] == ["30247bf1f423145d", "6f68ddbdf299a51d", "7b53cd1bbccc05a7"]


def test_excluded_photos_are_in_no_scene(modal, tmp_path):
    (tmp_path / "test.txt").write_text("3\n  7.png \n\nD:\\photos\\5.png\nmissing.png\n", "utf-8-sig")
    (tmp_path / "test.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "photos/9.png"}, {"id": 2}]}))
    (tmp_path / "names.json").write_text('[10, "8"]')
    lists = [tmp_path / name for name in ("test.txt", "test.json", "names.json")]
    bank = build_object_bank(modal, [modal.parent], exclude=lists)
    assert photo_ids(bank) == {1, 4, 6}
    assert codes(bank)["photo-excluded"] == 7
    unmatched = [(f.place.file, f.message) for f in bank.findings if f.code == "exclude-unmatched"]
    assert unmatched == [("test.txt", "missing.png")]
    compose(bank, tmp_path / "a", 8, spec=SMALL)
    settings = json.loads((tmp_path / "a" / "compose.json").read_text())
    assert [row["name"] for row in settings["exclude"]] == ["test.txt", "test.json", "names.json"]
    result = run_command("amodal-data", "compose", modal, "--images", modal.parent, "-o", tmp_path / "b", "-n", "2",
                         "--size", "96", "128", "--exclude", lists[0], "--exclude", lists[1])  # fmt: skip
    assert result.returncode == 0 and "5 photo-excluded" in result.stderr
    assert "warning: test.txt excludes 1 name that no source has: missing.png" in result.stderr


def test_photos_of_coco_are_excluded_by_the_id_in_their_names(modal, tmp_path):
    def change(content):
        for image in content["images"]:
            image["file_name"] = f"COCO_train2014_{image['id']:012d}.jpg"

    file = renamed(modal, tmp_path / "coco", change)
    (tmp_path / "test.txt").write_text("000000000004.jpg\nCOCO_val2014_000000000005.jpg\n")
    (tmp_path / "coco" / "photos").mkdir()
    for number in range(1, 11):
        Image.open(modal.parent / f"{number}.png").save(tmp_path / "coco/photos" / f"COCO_train2014_{number:012d}.jpg")
    bank = build_object_bank(file, [tmp_path / "coco" / "photos"], exclude=[tmp_path / "test.txt"])
    assert photo_ids(bank) == {1, 2, 3, 6, 7, 8, 9, 10} and "exclude-unmatched" not in codes(bank)


@pytest.mark.parametrize("content, error, message", [
    (b"", AnnotationError, "no photo is named"), (b"\xff\xfe\x00", AnnotationError, "neither text nor JSON"),
    (b'{"annotations": []}', LayoutError, "no list of images"), (b"[1, ", AnnotationError, "not JSON"),
    (b"[null, 1.5]", AnnotationError, "no photo is named"),
])  # fmt: skip
def test_lists_that_cannot_be_read_are_errors(modal, tmp_path, content, error, message):
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(error, match=message):
        build_object_bank(modal, [modal.parent], exclude=[tmp_path / "list"])


def test_backgrounds_are_photos_of_a_folder(modal, tmp_path):
    """Turned upright, and enlarged if they are small; objects keep their sizes; photos of the file stay donors."""
    folder = tmp_path / "rooms"
    (folder / "more").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying
    stored = np.zeros((90, 120, 3), np.uint8)
    stored[:, :60] = 255  # upright: the upper half is white
    Image.fromarray(stored).save(folder / "a.png", exif=exif)
    Image.fromarray(np.rot90(stored, -1)[::10, ::10]).save(folder / "more" / "b.png")
    (folder / "c.png").write_bytes(b"no photo")
    bank = build_object_bank(modal, [modal.parent], backgrounds=folder)
    assert [item.size for item in bank.backgrounds] == [(120, 90), (12, 9)] and len(bank.cutouts) == 30
    assert codes(bank)["photo-unusable"] == 1
    report = compose(bank, tmp_path / "a", 10, spec=SceneSpec(size=(96, 72), objects=(1, 1)))
    assert report.complete
    content = json.loads((tmp_path / "a" / FLAT).read_text())
    assert {image["backdrop_name"] for image in content["images"]} == {"a.png", "more/b.png"}
    assert {row["name"] for row in content["sources"]} == {"instances.json", "rooms"}
    assert not any(row["donor"]["at_home"] for row in content["annotations"])
    for image in content["images"]:
        covered = np.zeros((96, 72), bool)
        for row in content["annotations"]:
            if row["image_id"] == image["id"]:
                mask = parse_rle(row["segmentation"], (96, 72)).decode()
                y, x = np.nonzero(mask)
                covered[max(0, y.min() - 30) : y.max() + 30, max(0, x.min() - 30) : x.max() + 30] = True
        photo = np.asarray(Image.open(tmp_path / "a" / "images" / image["file_name"]).convert("L")).astype(int)
        assert photo[:40][~covered[:40]].min(initial=255) > 230 and photo[56:][~covered[56:]].max(initial=0) < 30
    (tmp_path / "none").mkdir()
    with pytest.raises(SelectionError, match="no image in this folder"):
        build_object_bank(modal, [modal.parent], backgrounds=tmp_path / "none")
    (tmp_path / "none" / "a.png").write_bytes(b"no photo")
    with pytest.raises(SelectionError, match=r"no photo to paste objects into: .*1 photo-unusable"):
        build_object_bank(modal, [modal.parent], backgrounds=tmp_path / "none")


def paste(bank, number, size):
    """A canvas of one gray with the cut-out in the middle, without color transfer or shadow; and the cut-out's mask."""
    mask = bank.cutouts[number].shape()
    placed = Placement(number, 20, 20, mask)
    scene = Arrangement(0, (0, 0, 9, 9), False, (placed,), np.zeros(size, bool))
    whole = np.zeros(size, bool)
    whole[placed.window()] = mask
    return paint(np.random.default_rng(0), scene, bank, DecodedPhotos(10**6)).astype(int), whole


def test_images_with_alpha_are_whole_objects(cutouts, tmp_path, monkeypatch):
    for name in ("_COLOR_TRANSFER", "_CONTRAST_TRANSFER"):
        monkeypatch.setattr(blending, name, (0.0, 0.0))
    monkeypatch.setattr(blending, "_SHADOWS", 0.0)
    Image.new("RGB", (40, 40)).save(cutouts / "plain.png")
    Image.new("RGBA", (40, 40)).save(cutouts / "nothing.png")
    Image.new("RGBA", (40, 40), (9, 9, 9, 255)).save(cutouts / "full.png")
    (cutouts / "jar" / "damaged.png").write_bytes((cutouts / "jar" / "1.png").read_bytes()[:60])
    small = Image.new("RGBA", (40, 40))
    small.paste((9, 9, 9, 255), (10, 10, 20, 20))
    small.save(cutouts / "small.png")
    (tmp_path / "walls").mkdir()
    Image.new("RGB", (9, 9), (128, 128, 128)).save(tmp_path / "walls" / "gray.png")
    bank = build_object_bank((), (), cutouts=cutouts, backgrounds=tmp_path / "walls")
    assert [(item.name, item.file_name, item.mask.area) for item in bank.cutouts] == [
        ("cup", "cup/1.png", 1245), ("object", "disk.png", 1245), ("jar", "jar/1.png", 1800)]  # fmt: skip
    assert bank.names == {1: "cup", 2: "jar", 3: "object"}
    assert codes(bank) == {"cutout-unusable": 4, "donor-small": 1}
    problems = {f.message.partition(":")[0]: f.message for f in bank.findings if f.code == "cutout-unusable"}
    assert "no alpha channel" in problems["plain.png"] and "every pixel is transparent" in problems["nothing.png"]
    assert "no pixel is transparent" in problems["full.png"] and "jar/damaged.png" in problems
    for number, color in ((1, (220, 20, 20)), (2, (20, 220, 20))):
        photo, mask = paste(bank, number, (100, 100))
        assert np.abs(photo[mask & ~near(~mask)] - color).max() <= 2
        assert np.abs(photo[~near(mask)] - 128).max() <= 1
        edge = photo[near(mask) & near(~mask)]
        low, high = np.minimum(color, 128), np.maximum(color, 128)
        assert ((edge >= low - 2) & (edge <= high + 2)).all()  # no black of transparent pixels
    report = compose(bank, tmp_path / "a", 12, spec=SMALL)
    content = json.loads((tmp_path / "a" / FLAT).read_text())
    assert report.cutouts == 3 and {row["id"]: row["name"] for row in content["categories"]} == bank.names
    origins = {(row["donor"]["source"], row["donor"]["file_name"]) for row in content["annotations"]}
    assert origins == {(1, "cup/1.png"), (1, "disk.png"), (1, "jar/1.png")}
    with pytest.raises(SelectionError, match="no photo to paste objects into"):
        build_object_bank((), (), cutouts=cutouts)
    with pytest.raises(SelectionError, match=r"1 cutout-unusable(.|\n)*PNG with alpha"):
        build_object_bank((), (), cutouts=tmp_path / "walls", backgrounds=cutouts)


def near(mask):
    return ndimage.binary_dilation(mask, iterations=5)


def test_several_files_keep_their_licenses_apart_and_share_classes(modal, cutouts, tmp_path):
    def change(content):
        """Class 1 is a jar and 2 a cup; license 4 forbids derived works, 6 is not listed."""
        content["categories"] = [{"id": 1, "name": "jar"}, {"id": 2, "name": "cup"}]
        content["licenses"] = [{"id": 4, "name": "Mine", "url": "http://x.org/by-nd/4.0/"}]

    file = renamed(modal, tmp_path / "other", change)
    for number in range(1, 11):  # other photos
        image = Image.open(file.parent / f"{number}.png").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        image.save(file.parent / f"{number}.png")
    bank = build_object_bank([modal, file], [modal.parent, file.parent], cutouts=cutouts)
    assert bank.names == {1: "cup", 2: "box", 3: "jar", 4: "object"}
    assert len(bank.cutouts) == 63 and len(bank.backgrounds) == 20
    assert [(row["source"], row["source_id"], row["name"]) for row in bank.licenses] == [
        (1, 4, "Attribution"), (1, 6, "Attribution-NoDerivs"), (2, 4, "Mine"), (2, 6, "")]  # fmt: skip
    assert bank.no_derivatives == {2: "Attribution-NoDerivs", 3: "Mine"} and codes(bank)["classes-renumbered"] == 1
    report = compose(bank, tmp_path / "a", 70, spec=SMALL)
    assert report.cutouts == 63
    content = {name: json.loads((tmp_path / "a" / name).read_text()) for name in (COCOA, FLAT)}
    sizes = {row["id"]: row["name"] for row in content[FLAT]["sources"]}
    assert sizes == {1: "instances.json", 2: "other.json", 3: "cutouts"}
    assert content[COCOA]["licenses"] == content[FLAT]["licenses"] == list(bank.licenses)
    names = {row["id"]: row["name"] for row in content[FLAT]["categories"]}
    by_image = {image["id"]: {image["license"]} for image in content[FLAT]["images"]}
    for row in content[FLAT]["annotations"]:
        if row["iscrowd"]:
            continue
        donor = row["donor"]
        expected = {1: {1: "cup", 0: "box"}, 2: {1: "jar", 0: "cup"}}.get(donor["source"])
        assert expected is None or names[row["category_id"]] == expected[donor["annotation_id"] % 2]
        source_id = 4 if donor["image_id"] < 9 else 6
        license_id = {1: {4: 1, 6: 2}, 2: {4: 3, 6: 4}}.get(donor["source"], {}).get(source_id, 0)
        assert donor["license"] == license_id
        by_image[row["image_id"]].add(license_id)
    assert all(image["licenses"] == sorted(by_image[image["id"]] - {0}) for image in content[FLAT]["images"])
    described = describe_dataset(tmp_path / "a")
    assert [name for name, _ in described.sources] == ["instances.json", "other.json", "cutouts"]
    assert "| 4 of `other.json` (Mine) | " in dataset_card(described)
    with pytest.raises(SelectionError, match="2 files and 3 folders"):
        build_object_bank([modal, file], [modal.parent] * 3)
    with pytest.raises(SelectionError, match="the same file twice"):
        build_object_bank([modal, modal], [modal.parent])
    result = run_command("amodal-data", "compose", modal, file, "--images", modal.parent, "--images", file.parent,
                         "-o", tmp_path / "b", "-n", "2", "--size", "96", "128")  # fmt: skip
    assert result.returncode == 0
    assert "under licenses 4 (Mine), 6 (Attribution-NoDerivs) must not be shared" in result.stderr


def test_no_photo_of_several_sources_is_in_two_parts(modal, tmp_path):
    """The second file numbers the same photos differently, and a folder holds copies under other names."""

    def change(content):
        for row in (*content["images"], *content["annotations"]):
            key = "image_id" if "image_id" in row else "id"
            row[key] += 100

    other = renamed(modal, tmp_path / "other", change)
    (tmp_path / "rooms").mkdir()
    for number in range(1, 11):
        shutil.copy(modal.parent / f"{number}.png", tmp_path / "rooms" / f"room{number}.png")
    files = ([modal, other], [modal.parent, other.parent])
    for split in range(3):
        division = {"held_out": 0.4, "split": split}
        alone = {part: photo_ids(build_object_bank(modal, [modal.parent], part=part, **division))
                 for part in ("train", "val")}  # fmt: skip
        for part, ids in alone.items():
            assert ids == {n for n in range(1, 11) if in_part(n, part, 0.4, split)}
            bank = build_object_bank(*files, part=part, **division)
            assert photo_ids(bank) == ids and {n - 100 for n in photo_ids(bank, 1)} == ids
            rooms = build_object_bank(*files, part=part, backgrounds=tmp_path / "rooms", **division)
            assert {item.file_name for item in rooms.backgrounds} == {f"room{n}.png" for n in ids}
    (tmp_path / "test.txt").write_text("room4.png\n107\n")
    bank = build_object_bank(*files, backgrounds=tmp_path / "rooms", exclude=[tmp_path / "test.txt"])
    assert photo_ids(bank) == set(range(1, 11)) - {4, 7} and codes(bank)["photo-excluded"] == 6
    assert {item.file_name for item in bank.backgrounds}.isdisjoint({"room4.png", "room7.png"})


def test_sources_are_asked_for_together(modal, cutouts, tmp_path):
    for given in ([modal], ["--cutouts", cutouts], ["--backgrounds", cutouts], []):
        result = run_command("amodal-data", "compose", *given, "-o", tmp_path / "a")
        assert result.returncode == 2 and "--images" in result.stderr, result.stderr
    assert not (tmp_path / "a").exists()


def test_several_sources_give_the_same_bytes_by_jobs_and_resume(modal, cutouts, tmp_path):
    bank = build_object_bank(modal, [modal.parent], cutouts=cutouts, backgrounds=modal.parent)
    for name, options in (("one", {}), ("jobs", {"jobs": 2}), ("part", {"shard": (1, 2)}), ("part", {"resume": True})):
        compose(bank, tmp_path / name, 60, spec=SMALL, seed=3, **options)
    contents = [
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("one", "jobs", "part")
    ]
    assert len(contents[0]) == 63 and contents[0] == contents[1] == contents[2]


def photo_of_boxes(folder, boxes):
    """A photo whose objects, one rectangle (top, left, bottom, right) each, have the class names of ``boxes``."""
    rows, names = [], sorted({name for name, _ in boxes})
    for number, (name, (top, left, bottom, right)) in enumerate(boxes, 1):
        mask = np.zeros((240, 320), bool)
        mask[top:bottom, left:right] = True
        segmentation = RLE.from_mask(mask).to_coco()
        rows.append({"id": number, "image_id": 1, "category_id": 1 + names.index(name), "segmentation": segmentation})
    categories = [{"id": 1 + n, "name": name} for n, name in enumerate(names)]
    image = {"id": 1, "file_name": "1.png", "height": 240, "width": 320}
    content = {"images": [image], "annotations": rows, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    Image.new("RGB", (320, 240)).save(folder / "1.png")
    return folder / "boxes.json"


BOXES = [("bus", (10, 10, 90, 90)), ("bus", (10, 120, 70, 180)), ("bus", (120, 10, 180, 70)),
         ("cup", (110, 130, 134, 154)), ("cup", (110, 180, 142, 212)), ("cup", (110, 240, 150, 280))]  # fmt: skip


def test_objects_of_the_usual_size_stand_on_one_ground(tmp_path):
    """Sizes follow the median of the class and the distance from one horizon; what is in front stands lower."""
    bank = build_object_bank(photo_of_boxes(tmp_path, BOXES), [tmp_path])
    assert usual_sizes(bank) == pytest.approx({"bus": 60 / 240, "cup": 32 / 240})
    planner = Planner(bank, SceneSpec(size=(240, 320), objects=(2, 6), scale="usual"))
    placed = 0
    for number in range(60):
        scene = planner.arrange(np.random.default_rng([1, number]), number)
        pasted = [item for item in scene.objects if not item.native]
        rows = [item.y + item.mask.shape[0] for item in pasted]
        assert rows == sorted(rows, reverse=True) and min(rows) > 120 and max(rows) <= 240
        usual = [planner.usual_sizes[bank.cutouts[item.cutout].name] * 240 for item in pasted]
        factors = [float(np.sqrt(item.mask.sum())) / size for item, size in zip(pasted, usual, strict=True)]
        assert all(0.55 < factor < 1.6 for factor in factors)
        if len(pasted) > 2:  # on one line through the horizon, up to rounding
            (slope, _), (residual, *_) = np.polyfit(factors, rows, 1), np.polyfit(factors, rows, 1, full=True)[1] or [0]
            assert slope > 0 or np.ptp(factors) < 0.1
            assert np.sqrt(residual / len(rows)) < 6
        placed += len(pasted)
    assert placed > 60 * 3


def test_the_scale_is_a_setting_of_the_set(modal, cutouts, tmp_path):
    command = ("amodal-data", "compose", modal, "--images", modal.parent, "--cutouts", cutouts, "-n", "4", "--size",
               "96", "128", "--scale")  # fmt: skip
    for name in ("usual", "photo"):
        result = run_command(*command, name, "-o", tmp_path / name)
        assert result.returncode == 0, result.stderr
    wishes = [json.loads((tmp_path / name / "compose.json").read_text())["wishes"] for name in ("usual", "photo")]
    assert wishes[0] == wishes[1] | {"scale": "usual"}
    assert (tmp_path / "usual" / FLAT).read_bytes() != (tmp_path / "photo" / FLAT).read_bytes()
    assert "usual" in run_command(*command, "own", "-o", tmp_path / "own").stderr


@pytest.mark.parametrize("stream", [False, True])
def test_one_photo_never_serves_two_names_that_differ_in_their_folders(modal, tmp_path, stream):
    content = json.loads(modal.read_text())
    for photo in content["images"][:2]:
        photo["file_name"] = f"room{photo['id']}/a.png"
    first = content["images"][0]["id"]
    (tmp_path / f"room{first}").mkdir()
    shutil.copy(modal.parent / f"{first}.png", tmp_path / f"room{first}" / "a.png")
    (tmp_path / "modal.json").write_text(json.dumps(content))
    source = CocoFile.open(tmp_path / "modal.json", [tmp_path], stream)
    assert [photo.path.name for photo in source.photos] == ["a.png"] + [""] * (len(content["images"]) - 1)
