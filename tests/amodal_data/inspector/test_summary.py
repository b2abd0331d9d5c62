import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.commands import run_command
from support.scenes import make_scene, random_masks

from amodal_data import RLE, build_targets, contact_sheet, layer_scene, summarize, write_cocoa, write_flat
from amodal_data.cache import CachedImage
from amodal_data.errors import SelectionError
from amodal_data.inspector.charts import draw_charts
from amodal_data.inspector.drawing.colors import IDENTITY, level_colors, sem_dist_colors
from amodal_data.inspector.drawing.labels import font, write_labels
from amodal_data.inspector.drawing.overlay import draw_overlay
from amodal_data.inspector.drawing.panels import draw_instances, draw_sem_dist, label_places
from amodal_data.inspector.drawing.sheets import panel_size, shorten
from amodal_data.inspector.summary import most_hidden
from amodal_data.inspector.target_dataset import open_dataset


def layered(masks, name="a.jpg"):
    scene = make_scene(masks)
    return CachedImage(1, name, scene.size), layer_scene(scene)


def test_the_summary_equals_counts_of_dense_maps():
    rng = np.random.default_rng(0)
    images = [layered(random_masks(rng, n, (20, 20))) for n in (1, 4, 6, 9)]
    summary = summarize(images)
    codes = [t.levels for _, t in images]
    for level, pixels in enumerate(summary.level_pixels):
        assert pixels == sum(int((c == level + 1).sum()) for c in codes)
    assert summary.instances == sum(summary.deepest) + summary.empty == 20
    assert sum(summary.hidden_share) == summary.instances - summary.empty
    assert summary.pairs == sum(len(t.pairs) for _, t in images)
    total = sum(int((c > 0).sum()) for c in codes)
    assert summary.lost_at_cap()[1] == sum(int((c > 2).sum()) for c in codes) / total
    hidden = [int((c > 1).sum()) for c in codes]
    assert summary.hardest == sorted(range(4), key=lambda i: -hidden[i])
    assert summary.to_dict()["level_pixels"]["0"] == summary.level_pixels[0]
    assert "level 0 (visible)" in str(summary)


def test_the_summary_of_no_images():
    assert summarize([]).to_dict()["images"] == 0
    assert "0 images" in str(summarize([]))


def test_hidden_parts_are_striped_and_the_outside_keeps_its_color():
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 5:35, 5:20] = masks[1, 10:30, 10:38] = True
    _, targets = layered(masks)
    photo = np.full((40, 40, 3), 200.0)
    picture = draw_instances(photo, targets)
    outside = ~masks.any(axis=0)
    assert len(np.unique(picture[outside], axis=0)) == 1
    hidden = np.pad(np.ones((16, 6), bool), [(12, 12), (12, 22)])
    assert len(np.unique(picture[hidden], axis=0)) == 2  # a stripe and what shines through
    m = draw_sem_dist(photo, targets, 1)
    assert not np.array_equal(m[20, 15], m[20, 30])
    assert np.array_equal(m[0, 0], picture[0, 0])
    assert [n for n, _, _ in label_places(targets)] == [0, 1]
    for n, x, y in label_places(targets):
        assert targets.modal(n)[y, x]


def test_deeper_levels_are_darker_and_low_confidence_is_grayer():
    levels = level_colors(np.arange(1, 7))
    assert (np.diff(levels.sum(axis=1)) < 0).all()  # deeper is darker
    sure = sem_dist_colors(np.array([1.0, 0, -1, -4, -9]))
    assert (sure == level_colors(np.array([1, 2, 3, 6, 9]))).all()  # one colour for one level, in every picture
    unsure = sem_dist_colors(np.array([0.6, -0.4]))
    assert (np.abs(unsure - 150) < np.abs(sure[:2] - 150)).all()
    assert len(np.unique(IDENTITY, axis=0)) == 7


@pytest.mark.parametrize("photo", ["good", "missing", "wrong size", "broken"])
def test_contact_sheet_with_and_without_photos(tmp_path, photo):
    path = tmp_path / "a.jpg"
    size = (30, 20) if photo == "wrong size" else (20, 30)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    if photo == "broken":
        path.write_bytes(path.read_bytes()[:200])
    rng = np.random.default_rng(1)
    images = [layered(random_masks(rng, n, (20, 30)), "odd\nname\u202e.jpg") for n in (3, 1)]
    empty = layered(np.zeros((1, 20, 30)))
    sheet = contact_sheet([(*image, None if photo == "missing" else path) for image in [*images, empty]])
    assert sheet.width > 1500
    assert np.asarray(sheet).std() > 10
    grey = np.asarray(sheet)[60, 30]
    assert (grey == (90 if photo == "good" else 205)).all()


def test_choosing_images(tmp_path):
    rng = np.random.default_rng(2)
    build_targets([make_scene(random_masks(rng, 4, (20, 20))) for _ in range(5)], tmp_path / "c.h5")
    source = open_dataset(tmp_path / "c.h5")
    summary = source.summary()
    assert source.choose("first", 3, summary) == [0, 1, 2]
    assert source.choose("hardest", 2, summary) == summary.hardest[:2]
    assert source.choose("random", 3, summary) == source.choose("random", 3, summary)
    assert source.choose("findings", 3, summary) == []
    assert source.choose("first", 3, summary, [1]) == [0, 1, 2, 3, 4]
    with pytest.raises(SelectionError, match="no image with id 8"):
        source.choose("first", 3, summary, [8])


def test_images_beside_one_that_no_table_holds_are_shown(tmp_path):
    """The second of three images stacks 300 masks over one pixel, more levels than a table holds."""

    def mask(depth):
        pixels = np.zeros((20, 20), bool)
        pixels.flat[[0, depth + 1]] = True
        return RLE.from_mask(pixels).to_coco()

    images = [{"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 20} for n in (1, 2, 3)]
    rows = [
        {"id": 1000 * n + depth, "image_id": n, "category_id": 1, "segmentation": mask(depth), "occl_depth": depth}
        for n, count in ((1, 2), (2, 300), (3, 4))
        for depth in range(count)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cup"}]}))
    dataset = open_dataset(path, masks="amodal")
    summary = dataset.summary()
    assert dataset.image_ids == [1, 2, 3] and summary.images == 2
    assert summary.hardest == [2, 0] and [finding.place.image_id for finding in summary.findings] == [2]
    for pick, positions in (("first", [0, 2]), ("random", [0, 2]), ("hardest", [2, 0]), ("findings", [])):
        chosen = dataset.choose(pick, 3, summary)
        assert (sorted(chosen) if pick == "random" else chosen) == positions, pick
    assert dataset.choose("first", 3, summary, [1]) == [0]
    for options in (["--id", 1], ["--pick", "first"]):
        pictures = [tmp_path / "a.png", tmp_path / "a.html"]
        result = run_command("amodal-data", "inspect", path, "--masks", "amodal", "--force", "--png", pictures[0],
                             "--html", pictures[1], *options)  # fmt: skip
        assert result.returncode == 0 and all(picture.exists() for picture in pictures), result.stderr


@pytest.mark.parametrize("seed", range(20))
def test_the_most_hidden_instance_has_the_most_hidden_pixels(seed):
    """Not the deepest one, nor a thing before stuff; the first of equals, and never an empty one."""
    rng = np.random.default_rng(seed)
    _, targets = layered([np.zeros((20, 20), bool), *random_masks(rng, 6, (20, 20))])
    hidden = [int((codes > 1).sum()) if codes.any() else -1 for codes in targets.levels]
    assert most_hidden(targets) == hidden.index(max(hidden))
    assert most_hidden(layered(np.zeros((2, 4, 4), bool))[1]) is None
    assert most_hidden(layered(np.eye(3, dtype=bool)[:, None])[1]) == 0


@pytest.mark.parametrize("size", [(20, 30), (30, 20)])
def test_sheets_show_photos_upright(tmp_path, size):
    """Orientation 6: stored 20 x 30, upright 30 x 20; where annotations fit the stored pixels, those are shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.full((20, 30, 3), 40, np.uint8)
    pixels[:, :15] = 220
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    masks = np.zeros((1, *size), bool)
    sheet = np.asarray(contact_sheet([(*layered(masks), tmp_path / "a.png")]))
    light, dark = (sheet[45, 17], sheet[45, 327]) if size == (20, 30) else (sheet[45, 100], sheet[480, 100])
    assert (light == 220).all() and (dark == 40).all()


def test_a_plane_hides_deeper_levels():
    codes = np.zeros((3, 24, 24), bool)
    codes[:, 4:20, 4:20] = True
    targets = layer_scene(make_scene(codes))
    photo = np.full((24, 24, 3), 120.0)
    pictures = [draw_instances(photo, targets, plane) for plane in (0, 1, 2, None)]
    assert (pictures[2] == pictures[3]).all()
    assert not (pictures[0] == pictures[1]).all() and not (pictures[1] == pictures[2]).all()


def test_statistics_of_classes_equal_counts_of_dense_maps(tmp_path):
    """Random scenes with random classes, and an order that is known for some of them only."""
    rng, images, dense = np.random.default_rng(5), [], []
    for n in (1, 5, 7, 3, 4):
        masks = [*random_masks(rng, n, (40, 40)), np.zeros((40, 40), bool)]
        ids = rng.integers(1, 4, len(masks)).tolist()
        image, targets = layered(masks)
        targets = replace(targets, category_ids=np.array(ids), names=tuple("x" if k == 3 else "" for k in ids))
        images.append((image, targets))
        amodal, codes = np.array(masks, int).reshape(len(masks), -1), targets.levels.reshape(len(masks), -1)
        dense.append((np.array(ids), amodal, codes))
    summary = summarize(images, categories={1: "cup", 2: "pan"})
    total, *classes = summary.classes
    assert [row.instances for row in classes] == sorted((row.instances for row in classes), reverse=True)
    assert {row.class_id: row.name for row in classes} == {1: "cup", 2: "pan", 3: "x"}
    for row in summary.classes:
        chosen = [(amodal, codes, (ids == row.class_id) | (row.class_id is None)) for ids, amodal, codes in dense]
        areas = np.concatenate([amodal[mine].sum(axis=1) for amodal, _, mine in chosen])
        hidden = np.concatenate([(codes[mine] > 1).sum(axis=1) for _, codes, mine in chosen])
        overlaps = [((amodal @ amodal.T) > 0).sum(axis=1)[mine] > 1 for amodal, _, mine in chosen]
        assert row.images == sum(mine.any() for *_, mine in chosen) and row.instances == len(areas)
        assert (row.small, row.medium, row.large) == (
            ((areas > 0) & (areas < 1024)).sum(), ((areas >= 1024) & (areas < 9216)).sum(), (areas >= 9216).sum()
        )  # fmt: skip
        assert row.mean_area == pytest.approx(areas[areas > 0].mean())
        assert row.partly_hidden == ((hidden > 0) & (hidden < areas)).sum()
        assert row.fully_hidden == ((hidden > 0) & (hidden == areas)).sum() and row.order_unknown == 0
        assert row.overlapping == np.concatenate(overlaps).sum()
        assert row.mean_hidden_share == pytest.approx((hidden / np.maximum(areas, 1))[areas > 0].mean(), abs=1e-6)
        assert row.deepest == max(int(codes[mine].max(initial=0)) - 1 for _, codes, mine in chosen)
    assert summary.pairs == sum(np.count_nonzero(np.triu(amodal @ amodal.T, 1)) for _, amodal, _ in dense)
    assert summary.sizes() == {name: getattr(total, name) for name in ("small", "medium", "large")}
    assert "and 1 more classes" in summary.class_table(2) and draw_charts(summary).size[0] == 1200


def test_stats_in_all_forms(tmp_path):
    path = write_flat(tmp_path, 4, "d2sa", seed=2, size=(48, 64), photos=False)
    table, png = tmp_path / "c.csv", tmp_path / "s.png"
    result = run_command("amodal-data", "stats", path, "--csv", table, "--png", png, "--json")
    document = json.loads(result.stdout)
    assert document["schema"] == "amodal-data/stats/1" and document["images"] == 4
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["instances"] for row in rows] == [str(row["instances"]) for row in document["classes"]]
    assert sum(int(row["instances"]) for row in rows[1:]) == int(rows[0]["instances"]) == document["instances"]
    with Image.open(png) as picture:
        assert picture.size[0] == 1200
    assert run_command("amodal-data", "stats", path, "--png", png).returncode == 2
    text = run_command("amodal-data", "stats", path).stdout
    assert "instances by hidden part" in text and "mean hidden" in text
    squares = [{"segmentation": [[x, 2, x + 9, 2, x + 9, 9]], "category_id": 1} for x in (1, 5, 40)]
    path.write_text(json.dumps([{"file_name": "a.jpg", "height": 48, "width": 64, "annotations": squares}]))
    output = run_command("amodal-data", "stats", path, "--masks", "amodal", "--order", "none", "--json")
    unknown = json.loads(output.stdout)
    assert (unknown["pairs"], unknown["unordered_pairs"], unknown["undecided"]) == (1, 1, 2)
    assert unknown["classes"][0]["order_unknown"] == 2


def test_images_with_a_photo_come_first(tmp_path):
    scenes = write_cocoa(tmp_path, 6, seed=2, size=(96, 128))
    dataset = open_dataset(scenes)
    summary, names = dataset.summary(), dataset.file_names
    for photo in tmp_path.rglob("*.jpg"):
        if photo.name not in (names[1], names[4]):
            photo.unlink()
    for pick in ("first", "hardest", "random"):
        chosen = dataset.choose(pick, 3, summary, photo_folders=[tmp_path])
        assert sorted(chosen[:2]) == [1, 4] and len(chosen) == 3, pick
        assert dataset.choose(pick, 1, summary, photo_folders=[tmp_path])[0] in (1, 4)


def test_a_sheet_of_modal_masks_has_only_photo_and_instances():
    image = layered(np.eye(3, dtype=bool)[:, None])
    full, modal = (contact_sheet([(*image, None)], masks) for masks in ("amodal", "modal"))
    assert modal.width < 0.6 * full.width and modal.height == full.height


def test_small_images_are_enlarged_by_a_whole_factor_and_overlays_too():
    assert panel_size((30, 40), 400) == (300, 400) and panel_size((30, 39), 400) == (300, 390)
    assert panel_size((30, 300), 400) == (30, 300) and panel_size((600, 800), 400) == (300, 400)
    _, targets = layered(np.eye(3, dtype=bool)[:, None])
    assert draw_overlay(targets, ["0"] * 3).size == (639, 213)


def test_captions_are_cut_in_their_middle():
    assert shorten("short.jpg", 400) == "short.jpg"
    caption = shorten("very-" + "long-" * 60 + "name.jpg", 400)
    assert caption.startswith("very-long") and caption.endswith("name.jpg") and "…" in caption
    assert font(12).getlength(caption) <= 400 < font(12).getlength(caption + "xx")


def test_a_label_has_its_class_where_there_is_room():
    def labeled(text, places):
        picture = Image.new("RGB", (200, 60), "black")
        write_labels(picture, places, [text] * 2, 12)
        return (np.asarray(picture).max(axis=2) > 0).any(axis=0).sum()

    alone, number = labeled("0 elephant", [(0, 100, 30)]), labeled("0", [(0, 100, 30)])
    assert alone > 3 * number
    assert labeled("0 elephant", [(0, 60, 30), (1, 140, 30)]) == 2 * alone
    assert labeled("0 elephant", [(0, 90, 30), (1, 110, 30)]) == 2 * number
