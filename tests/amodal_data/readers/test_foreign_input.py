"""Files of other people's tools: the right masks and classes, or an error or a finding that says what is wrong."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from support.commands import run_command

from amodal_data import read_annotations, read_records
from amodal_data.errors import AnnotationError, LayoutError, SelectionError
from amodal_data.export.convert import convert
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.readers.stream import iter_annotations

SIZE = (40, 60)
SQUARE = [5, 5, 15, 5, 15, 15, 5, 15]  # 100 px
RIGHT = [30, 10, 50, 10, 50, 20, 30, 20]  # 200 px


def coco(annotations, categories=(), images=({"id": 1, "file_name": "a.jpg"},)):
    rows = [{"height": SIZE[0], "width": SIZE[1], **image} for image in images]
    objects = [{"id": n, "image_id": 1, "segmentation": [SQUARE], **row} for n, row in enumerate(annotations, 1)]
    return {"images": rows, "annotations": objects, "categories": list(categories)}


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def codes(scenes):
    return [finding.code for finding in scenes.findings]


def classes_of(scenes):
    return [(instance.category_id, instance.name) for scene in scenes for instance in scene.instances]


# Classes


CUP_PAN = [{"id": 1, "name": "cup"}, {"id": 2, "name": "pan"}]


@pytest.mark.parametrize("masks", ["modal", "amodal"])
def test_two_classes_with_one_id_or_one_name_are_named(masks, tmp_path):
    listed = [*CUP_PAN, {"id": "2", "name": "pot"}, {"id": 3, "name": "cup"}, {"id": "x"}, {"id": "x"}, {}, {}]
    path = written(tmp_path / "a.json", coco([{"category_id": n} for n in (1, 2, 3)], listed))
    options = {"masks": masks, "order": "front-first" if masks == "amodal" else None}
    scenes = read_annotations(path, **options)
    found = [finding.message for finding in scenes.findings if finding.code == "class-repeated"]
    assert found == ["two classes with id 2", "two classes with id 'x'", "two classes with name 'cup'"]
    assert list(iter_annotations(path, **options).file_findings) == list(scenes.file_findings)
    assert classes_of(scenes) == [(1, "cup"), (2, "pot"), (3, "cup")]


@pytest.mark.parametrize("categories, ids, expected, finding", [
    (CUP_PAN, [1, 2], [(1, "cup"), (2, "pan")], None),
    ([{"id": "7", "name": "cup"}, {"id": "8", "name": "pan"}], ["7", 8], [(7, "cup"), (8, "pan")], None),
    ([{"id": "c", "name": "cup"}, {"id": "p", "name": "pan"}], ["p", "c"], [(2, "pan"), (1, "cup")], None),
    (CUP_PAN, ["pan", "cup"], [(2, "pan"), (1, "cup")], None),
    (CUP_PAN, [3, 1], [(3, ""), (1, "cup")], "class-unknown"),
    (CUP_PAN, [None, 1], [(-1, ""), (1, "cup")], "class-unknown"),
    (CUP_PAN, ["jar", 1], [(-1, ""), (1, "cup")], "class-unknown"),
    (CUP_PAN[:1], [None, None], [(1, "cup"), (1, "cup")], None),
    ([], [5, None], [(5, ""), (1, "")], None),
    ([], ["pan", "cup"], [(2, "pan"), (1, "cup")], None),
])  # fmt: skip
def test_category_ids_of_any_kind_keep_their_names(categories, ids, expected, finding, tmp_path):
    rows = [{"segmentation": [mask], "category_id": value} for mask, value in zip((SQUARE, RIGHT), ids, strict=True)]
    path = written(tmp_path / "a.json", coco(rows, categories))
    scenes = read_annotations(path, masks="modal")
    assert classes_of(scenes) == expected and codes(scenes) == ([finding] if finding else [])
    streamed = iter_annotations(path, masks="modal")
    assert classes_of(streamed) == expected and streamed.categories == scenes.categories


def test_image_ids_as_text_are_numbered(tmp_path):
    images = [{"id": "left", "file_name": "l.jpg"}, {"id": "right", "file_name": "r.jpg"}]
    path = written(
        tmp_path / "a.json", coco([{"image_id": "right"}, {"image_id": "left"}, {"image_id": 1}], (), images)
    )
    scenes = read_annotations(path, masks="modal")
    assert [(scene.image_id, scene.file_name) for scene in scenes] == [(1, "l.jpg"), (2, "r.jpg")]
    assert codes(scenes) == ["ids-are-text", "image-unknown"]
    streamed = iter_annotations(path, masks="modal")
    assert {(scene.image_id, scene.file_name) for scene in streamed} == {(1, "l.jpg"), (2, "r.jpg")}
    digits = written(tmp_path / "b.json", coco([{"image_id": "12"}], (), [{"id": "12", "file_name": "a.jpg"}]))
    assert read_annotations(digits, masks="modal")[0].image_id == 12


@pytest.mark.parametrize("layout", ["coco", "coco-modal", "d2sa", "datumaro", "yolo", "records"])
def test_a_converted_file_lists_unused_classes_too(layout, tmp_path):
    """Splits that use other classes get the same numbers."""
    categories = [{"id": 4, "name": "pear"}, {"id": 2, "name": "plum"}, {"id": 9, "name": "fig"}]
    source = open_dataset(written(tmp_path / "a.json", coco([{"category_id": 9}], categories)), masks="amodal",
                          order="front-first")  # fmt: skip
    assert source.categories == {4: "pear", 2: "plum", 9: "fig"}
    out = convert(source, tmp_path / layout, layout, categories=source.categories).path
    if layout == "yolo":
        assert (out / "data.yaml").read_text().splitlines()[-3:] == ['  0: "pear"', '  1: "plum"', '  2: "fig"']
        assert (out / "labels" / "train" / "a.txt").read_text().startswith("2 ")
    elif layout == "datumaro":
        labels = json.loads(out.read_text())["categories"]["label"]["labels"]
        assert [label["name"] for label in labels] == ["pear", "plum", "fig"]
    elif layout == "records":
        assert json.loads(out.read_text())[0]["annotations"][0]["category_id"] == 9
    else:
        assert json.loads(out.read_text())["categories"] == categories


def test_a_cache_keeps_the_classes_of_its_source(tmp_path):
    from amodal_data import TargetCache, build_targets

    path = written(tmp_path / "a.json", coco([{"category_id": 2}], CUP_PAN))
    build_targets(read_annotations(path, masks="modal"), tmp_path / "a.h5")
    with TargetCache(tmp_path / "a.h5") as cache:
        assert cache.categories() == {1: "cup", 2: "pan"} == open_dataset(tmp_path / "a.h5").categories


def test_files_that_number_their_classes_differently_are_brought_together(tmp_path):
    one = written(tmp_path / "1.json", coco([{"category_id": 1}], CUP_PAN))
    other = written(tmp_path / "2.json", coco([{"category_id": 1}, {"category_id": 2}],
                                              [{"id": 1, "name": "pan"}, {"id": 2, "name": "jar"}]))  # fmt: skip
    scenes = read_annotations([one, other], masks="modal")
    assert classes_of(scenes) == [(1, "cup"), (2, "pan"), (3, "jar")]
    assert scenes.categories == {1: "cup", 2: "pan", 3: "jar"} and "classes-renumbered" in codes(scenes)


def yolo(root, numbers, split="train"):
    (root / split / "labels").mkdir(parents=True)
    (root / split / "images").mkdir()
    Image.new("RGB", (60, 40)).save(root / split / "images" / "a.png")
    lines = [f"{number} 0 0 0.5 0 0.5 0.5 0 0.5" for number in numbers]
    (root / split / "labels" / "a.txt").write_text("\n".join(lines))
    return root / split


@pytest.mark.parametrize("name, content, names", [
    ("data.yaml", "names: [apple, pear, plum]", ["apple", "plum"]),
    ("data.yaml", "names:\n  '0': apple\n  1: pear\n  2: plum\n", ["apple", "plum"]),
    ("train/classes.txt", "apple\npear\nplum\n", ["apple", "plum"]),
    ("classes.txt", "\ufeffapple\r\npear\r\nplum", ["apple", "plum"]),
    ("readme.md", "no names", ["0", "2"]),
])  # fmt: skip
def test_yolo_classes_are_numbered_by_their_own_numbers(name, content, names, tmp_path):
    folder = yolo(tmp_path, [0, 2])
    (tmp_path / name).write_text(content)
    scenes = read_annotations(folder, masks="amodal", order="front-first")
    assert classes_of(scenes) == [(1, names[0]), (3, names[1])]
    with pytest.raises(SelectionError, match=r"folders of their own: train\n(.|\n)*fix: name one of them"):
        read_annotations(tmp_path, masks="amodal", order="front-first")


@pytest.mark.parametrize("separator", ["labelme", "masks"])
def test_lists_of_classes_number_other_folders_too(separator, tmp_path):
    (tmp_path / "classes.txt").write_text("__ignore__\nzebra\napple\n")
    folder = tmp_path / "day"
    if separator == "labelme":
        shape = {"label": "apple", "shape_type": "polygon", "points": np.reshape(SQUARE, (-1, 2)).tolist()}
        written(folder / "a.json", {"shapes": [shape], "imageHeight": 40, "imageWidth": 60, "imagePath": "a.jpg"})
        scenes = read_annotations(folder, masks="modal")
    else:
        folder.mkdir()
        Image.fromarray(square_mask().astype(np.uint8) * 255).save(folder / "a_1_apple.png")
        scenes = read_annotations(folder, masks="modal", pattern="{image}_{object}_{name}.png")
    assert classes_of(scenes) == [(2, "apple")]


def test_labels_without_a_list_sort_as_numbers(tmp_path):
    shapes = [
        {"label": label, "shape_type": "polygon", "points": np.reshape(SQUARE, (-1, 2)).tolist()}
        for label in ("10", "9", "x2", "x10")
    ]
    path = written(tmp_path / "a.json", {"shapes": shapes, "imageHeight": 40, "imageWidth": 60, "imagePath": "a.jpg"})
    scenes = read_annotations(path, masks="modal")
    assert classes_of(scenes) == [(2, "10"), (1, "9"), (3, "x2"), (4, "x10")]


# Masks


def square_mask():
    mask = np.zeros(SIZE, bool)
    mask[5:15, 5:15] = True
    return mask


def picture(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def test_lossy_masks_are_cut_at_the_middle(tmp_path):
    picture(tmp_path / "a" / "1.jpg", square_mask().astype(np.uint8) * 255, quality=40)
    scenes = read_annotations(tmp_path, masks="modal", pattern="{image}/{object}.jpg")
    assert abs(scenes[0].instances[0].amodal.area - 100) <= 4 and codes(scenes) == ["mask-gray"]


def test_soft_edges_are_cut_at_the_middle(tmp_path):
    values = square_mask().astype(np.uint8) * 255
    values[4, 5:15], values[15, 5:15] = 100, 200
    picture(tmp_path / "a" / "1.png", values)
    scenes = read_annotations(tmp_path, masks="modal")
    assert scenes[0].instances[0].amodal.area == 110 and codes(scenes) == ["mask-gray"]


@dataclass(frozen=True)
class Map:
    """Pictures of two objects, of 100 and 40 px."""

    mode: str

    def values(self):
        numbers = np.zeros(SIZE, np.uint8)
        numbers[5:15, 5:15], numbers[20:24, 30:40] = 1, 2
        if self.mode == "uint16":
            return numbers.astype(np.uint16) * 300
        if self.mode == "rgb":
            return np.array([[0, 0, 0], [255, 0, 0], [0, 128, 7]], np.uint8)[numbers]
        return numbers


@pytest.mark.parametrize("mode", ["uint8", "uint16", "rgb"])
def test_a_map_of_instances_is_read_by_its_pattern_only(mode, tmp_path):
    picture(tmp_path / "a" / "map.png", Map(mode).values())
    scenes = read_annotations(tmp_path, masks="modal", pattern="{image}/map.png")
    assert sorted(instance.amodal.area for instance in scenes[0].instances) == [40, 100]
    scenes = read_annotations(tmp_path, masks="modal")
    assert not len(scenes) and codes(scenes) == ["mask-unusable"]
    assert "pattern without {object}" in scenes.findings[0].message


def test_palettes_are_read_by_their_colors(tmp_path):
    """White first: index 0 is the object. An instance map with a black background keeps its objects apart."""
    image = Image.fromarray((~square_mask()).astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "1.png")
    assert read_annotations(tmp_path, masks="modal")[0].instances[0].amodal.area == 100


def test_masks_with_a_white_background_are_refused(tmp_path):
    for n in (1, 2):
        picture(tmp_path / "a" / f"{n}.png", (~square_mask()).astype(np.uint8) * 255)
    with pytest.raises(LayoutError, match="black and white seem to be exchanged"):
        read_annotations(tmp_path, masks="modal")
    picture(tmp_path / "a" / "3.png", square_mask().astype(np.uint8) * 255)
    scenes = read_annotations(tmp_path, masks="modal")
    assert len(scenes[0].instances) == 3 and codes(scenes).count("mask-at-border") == 2


def test_one_flat_color_with_transparency_is_a_cutout(tmp_path):
    for n, color in enumerate(([200, 9, 9], [0, 0, 0])):
        pixels = np.zeros((*SIZE, 4), np.uint8)
        pixels[..., :3], pixels[..., 3] = color, square_mask() * 255
        picture(tmp_path / "a" / f"{n}.png", pixels)
    scenes = read_annotations(tmp_path, masks="modal")
    assert not len(scenes) and codes(scenes) == ["mask-unusable"] * 2 and "{alpha}" in scenes.findings[0].message
    (scene,) = read_annotations(tmp_path, masks="modal", pattern="{image}/{object}{alpha}.png")
    assert [instance.amodal.area for instance in scene.instances] == [100, 100]
    white = np.where(square_mask()[..., None], np.uint8(255), np.uint8(0)).repeat(4, axis=2)
    picture(tmp_path / "b" / "0.png", white)  # transparent where it is black: one mask either way
    assert read_annotations(tmp_path, masks="modal")[0].instances[0].amodal.area == 100


def test_maps_with_a_palette_are_read_by_index(tmp_path):
    """Two indices of one color are two objects; 255 beside numbered objects is not labeled."""
    numbers = Map("uint8").values()
    numbers[30:, :] = 255
    image = Image.fromarray(numbers).convert("P")
    image.putpalette([0, 0, 0] + [200, 10, 10] * 255)
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "map.png")
    scenes = read_annotations(tmp_path, masks="modal", pattern="{image}/map.png")
    assert [instance.amodal.area for instance in scenes[0].instances] == [100, 40] and codes(scenes) == ["mask-void"]


def test_fractions_and_exchanged_sizes_are_noticed(tmp_path):
    tiny = [value / 60 for value in SQUARE]
    path = written(tmp_path / "a.json", coco([{"segmentation": [tiny]}, {}]))
    assert "polygon-in-fractions" in codes(read_annotations(path, masks="modal"))
    tall = [5, 45, 15, 45, 15, 55, 5, 55]  # below the image, as if it were 60 high
    path = written(tmp_path / "b.json", coco([{"segmentation": [tall]}, {}]))
    assert "size-exchanged" in codes(read_annotations(path, masks="modal"))


def test_one_photo_never_serves_two_images(tmp_path):
    from amodal_data.readers.discovery import PhotoFinder

    for day in ("day1", "day2"):
        (tmp_path / day).mkdir()
        Image.new("RGB", (60, 40)).save(tmp_path / day / "p.jpg")
    names = ["day1/p.jpg", "day2/p.jpg"]
    finder = PhotoFinder([tmp_path / "day1"], names)
    assert finder.find("day1/p.jpg") == tmp_path / "day1" / "p.jpg" and finder.find("day2/p.jpg") is None
    assert PhotoFinder([tmp_path]).find("p.jpg") is None  # either of two
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    path = written(tmp_path / "a.json", coco([{"image_id": 0}, {"image_id": 1}], (), images))
    built = run_command("amodal-data", "build-targets", path, "--masks", "modal", "--images", tmp_path / "day1",
                        "-o", tmp_path / "a.h5")  # fmt: skip
    assert "1 of 2 photos found; missing: day2/p.jpg" in built.stderr
    shown = run_command("amodal-data", "inspect", tmp_path / "a.h5", "--images", tmp_path / "day2")
    assert "1 of 2 photos found" in shown.stderr


def test_cutouts_are_masks_when_asked(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 4)).astype(np.uint8)
    pixels[..., 3] = square_mask() * 255
    picture(tmp_path / "a" / "1.png", pixels)
    scenes = read_annotations(tmp_path, masks="modal", pattern="{image}/{object}{alpha}.png")
    assert scenes[0].instances[0].amodal.area == 100
    assert codes(read_annotations(tmp_path, masks="modal")) == ["mask-unusable"]


@pytest.mark.parametrize(
    "kind", ["bool", "uint8", "int8", "int64", "uint16", "float16", "float64", "one", "torch", "pil"]
)
def test_records_take_masks_of_any_kind(kind):
    def converted(mask):
        if kind == "one":
            return mask[None].astype(np.int32)
        if kind == "torch":
            return pytest.importorskip("torch").from_numpy(mask)
        return Image.fromarray(mask.astype(np.uint8) * 255) if kind == "pil" else mask.astype(kind)

    far = np.zeros(SIZE, bool)
    far[10:20, 10:40] = True
    objects = [{"segmentation": converted(mask)} for mask in (square_mask(), far)]
    record = {"file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1], "annotations": objects}
    (scene,) = read_records([record], masks="amodal", order="front-first")
    assert [instance.amodal.area for instance in scene.instances] == [100, 300]


@pytest.mark.parametrize("value, text", [
    (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE), "not a mask: int64 with 2400 values"),
    (np.full(SIZE, np.nan), "not finite"),
    (np.zeros((5, 5), np.int64), "RLE size"),
    (np.zeros(SIZE, complex), "no usable"),
])  # fmt: skip
def test_records_say_why_an_array_is_no_mask(value, text):
    record = {"file_name": "a.jpg", "height": 40, "width": 60, "annotations": [{"segmentation": value}]}
    scenes = read_records([record], masks="modal")
    assert not scenes[0].instances and text in scenes.findings[0].message, scenes.findings


@pytest.mark.parametrize("segmentation", [
    [SQUARE], SQUARE, [np.reshape(SQUARE, (-1, 2)).tolist()], np.reshape(SQUARE, (-1, 2)).tolist(),
])  # fmt: skip
def test_points_may_be_pairs(segmentation, tmp_path):
    path = written(tmp_path / "a.json", coco([{"segmentation": segmentation}]))
    assert read_annotations(path, masks="modal")[0].instances[0].amodal.area == 100


def test_base64_run_lengths_are_named(tmp_path):
    counts = {"size": list(SIZE), "counts": "ZWYxMA=="}
    path = written(tmp_path / "a.json", coco([{"segmentation": counts}]))
    assert "base64" in read_annotations(path, masks="modal").findings[0].message


def test_a_turned_rectangle_and_an_empty_group(tmp_path):
    square = np.reshape(SQUARE, (-1, 2)).tolist()
    right = np.reshape(RIGHT, (-1, 2)).tolist()
    shapes = [{"label": "a", "shape_type": "rotation", "points": square, "group_id": ""},
              {"label": "a", "shape_type": "polygon", "points": right, "group_id": ""}]  # fmt: skip
    path = written(tmp_path / "a.json", {"shapes": shapes, "imageHeight": 40, "imageWidth": 60, "imagePath": "a.jpg"})
    (scene,) = read_annotations(path, masks="modal")
    assert [instance.amodal.area for instance in scene.instances] == [100, 200]


def test_crowds_can_be_kept(tmp_path):
    path = written(tmp_path / "a.json", coco([{"iscrowd": 1}, {"segmentation": [RIGHT], "iscrowd": 0}]))
    assert len(read_annotations(path, masks="modal")[0].instances) == 1
    scenes = read_annotations(path, masks="modal", crowds="keep")
    assert [instance.amodal.area for instance in scenes[0].instances] == [100, 200] and scenes[0].unknown is None
    assert len(next(iter(iter_annotations(path, masks="modal", crowds="keep"))).instances) == 2
    with pytest.raises(SelectionError, match="'unknown' or 'keep'"):
        read_annotations(path, masks="modal", crowds="drop")
    built = run_command("amodal-data", "build-targets", path, "--masks", "modal", "--crowds", "keep",
                        "-o", tmp_path / "a.h5")  # fmt: skip
    assert "2 instances" in built.stdout
    assert run_command("amodal-data", "verify", tmp_path / "a.h5", "--annotations", path).returncode == 0


# Photos


def turned(path, orientation):
    """A photo of 60 x 40 whose stored pixels EXIF turns; its upper left corner is blue when upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.full((*SIZE, 3), 255, np.uint8)
    pixels[{3: np.s_[30:, 50:], 6: np.s_[30:, :10], 8: np.s_[:10, 50:]}[orientation]] = 0, 0, 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation, size", [(3, (40, 60)), (6, (60, 40)), (8, (60, 40))])
def test_photos_are_upright_and_so_is_their_size(orientation, size, suffix, tmp_path):
    from amodal_data.io.images import read_header, read_photo

    turned(tmp_path / f"a.{suffix}", orientation)
    header = read_header(tmp_path / f"a.{suffix}")
    assert header.size == size and header.is_turned and header.stored_size == SIZE
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.shape[:2] == size and photo[5, 5, 0] < 60 and photo[-5, -5, 0] > 200
    assert header.misfit(size) == ""
    assert ("stored pixels" in header.misfit(SIZE)) == (orientation != 3)


def test_labels_of_yolo_cover_the_upright_photo(tmp_path):
    folder = yolo(tmp_path, [0])
    (folder / "images" / "a.png").unlink()
    turned(folder / "images" / "a.jpg", 6)
    scenes = read_annotations(folder, masks="amodal", order="front-first")
    assert scenes[0].size == (60, 40) and scenes[0].instances[0].amodal.decode()[:30, :20].all()
    assert codes(scenes) == ["photo-turned"]


def test_training_turns_photos_and_names_annotations_of_stored_pixels(tmp_path):
    pytest.importorskip("torch")
    from amodal_data.errors import PhotoError
    from sln.data.photos import find_photos

    turned(tmp_path / "a.jpg", 6)
    assert find_photos([("a.jpg", (60, 40))], [tmp_path]).turned == 1
    with pytest.raises(PhotoError, match=r"stored pixels, which EXIF orientation 6 turns(.|\n)*exiftool"):
        find_photos([("a.jpg", SIZE)], [tmp_path])


# Folders and formats


def test_labelme_in_subfolders_only(tmp_path):
    shape = {"label": "cup", "shape_type": "polygon", "points": np.reshape(SQUARE, (-1, 2)).tolist()}
    for day in ("day1", "day2"):
        content = {"shapes": [shape], "imageHeight": 40, "imageWidth": 60, "imagePath": "..\\photos\\a.jpg"}
        written(tmp_path / day / "labels" / "a.json", content)
    scenes = read_annotations(tmp_path, masks="modal")
    assert scenes.file_names == ["day1/photos/a.jpg", "day2/photos/a.jpg"]


@pytest.mark.parametrize("content, name", [
    ([{"id": 1, "data": {}, "annotations": [{"result": []}]}], "Label Studio"),
    ({"a.jpg123": {"filename": "a.jpg", "regions": []}}, "VIA"),
    ({"_via_settings": {}, "_via_img_metadata": {}}, "VIA"),
    ({"size": {"height": 4, "width": 4}, "objects": [{"classTitle": "cup"}]}, "Supervisely"),
    ({"images": [], "annotations": [{"segments_info": []}]}, "panoptic"),
])  # fmt: skip
def test_formats_that_are_not_read_are_named(content, name, tmp_path):
    with pytest.raises(LayoutError, match=f"{name}(.|\n)*fix: "):
        read_annotations(written(tmp_path / "a.json", content), masks="amodal", order="front-first")


@pytest.mark.parametrize("raw, name", [
    (b"\x80\x04\x95\x00", "a pickle"), (b"PK\x03\x04", "files of PyTorch"),
    (b"<annotation><object><polygon/></object></annotation>", "LabelMe's old XML"),
    (b"<annotation><object><bndbox/></object></annotation>", "Pascal VOC"),
])  # fmt: skip
def test_files_that_are_no_json_are_named(raw, name, tmp_path):
    path = tmp_path / ("a.xml" if raw.startswith(b"<") else "a.json")
    path.write_bytes(raw)
    with pytest.raises(AnnotationError, match=name):
        read_annotations(path, masks="modal")


def test_the_file_of_one_image_of_sa1b_is_read(tmp_path):
    content = {"image": {"image_id": 5, "file_name": "sa_5.jpg", "height": 40, "width": 60},
               "annotations": [{"id": 1, "segmentation": {"size": [40, 60], "counts": [200, 10, 2190]}}]}  # fmt: skip
    (scene,) = read_annotations(written(tmp_path / "a.json", content), masks="modal")
    assert (scene.image_id, scene.file_name, scene.instances[0].amodal.area) == (5, "sa_5.jpg", 10)


@pytest.mark.parametrize("command", ["build-targets", "convert"])
@pytest.mark.parametrize("rows, reason", [([{"segmentation": []}], "segmentation-missing"), ([], "image-unannotated")])
def test_nothing_left_is_no_success(command, rows, reason, tmp_path):
    path = written(tmp_path / "a.json", coco(rows))
    out = ["-o", tmp_path / "out", "--masks", "modal"] + (["--to", "table"] if command == "convert" else [])
    done = run_command("amodal-data", command, path, *out)
    assert done.returncode == 1 and "no object is left" in done.stderr and reason in done.stderr
    assert not (tmp_path / "out").exists()


def test_streams_take_a_byte_order_mark_and_name_nan(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(coco([{}])).encode())
    assert len(next(iter(iter_annotations(path, masks="modal"))).instances) == 1
    path.write_text(json.dumps(coco([{"score": float("nan")}])))
    with pytest.raises(AnnotationError, match=r"NaN is no number(.|\n)*read_annotations"):
        iter_annotations(path, masks="modal")


def test_every_finding_says_what_you_can_do():
    from amodal_data import CODES

    assert all(code.remedy.endswith(".") and len(code.remedy) > 15 for code in CODES.values())
    assert {code.severity for code in CODES.values()} == {"info", "warning", "error"}
    explained = run_command("amodal-data", "explain", "crowd-unknown")
    assert "What you can do:" in explained.stdout and "--crowds keep" in explained.stdout
