"""Outlines of masks that are stored as runs, and of the shapes of annotation tools."""

import json

import numpy as np
import pytest
from support.edit_page import levels, settled, stack
from support.editing import serving
from support.scenes import ellipse
from support.tool_layouts import in_base64, written

from amodal_data import RLE, layer_scene, read_annotations, read_cocoa, write_cocoa, write_flat
from amodal_data.editing.apply import apply_journal
from amodal_data.editing.journal import journal_path, open_journal
from amodal_data.editing.session import EditingSession
from amodal_data.editing.source import open_source
from amodal_data.errors import SelectionError
from amodal_data.masks.rle import merge, rasterize

SIZE = (60, 80)


def filled(polygons, size=SIZE):
    return merge(rasterize([np.array(polygon, float) for polygon in polygons], size))


def random_mask(rng):
    """Ellipses, some with a hole, and specks."""
    mask = np.zeros(SIZE, bool)
    for _ in range(int(rng.integers(1, 4))):
        y, x, a, b = rng.uniform((10, 10, 3, 3), (50, 70, 20, 20))
        mask |= ellipse(SIZE, y, x, a, b)
        if rng.random() < 0.5:
            mask &= ~ellipse(SIZE, y, x, a / 2, b / 2)
    return mask | (rng.random(SIZE) < rng.choice([0, 0.02]))


def cocoa_of_runs(path, masks):
    regions = [
        {"segmentation": RLE.from_mask(mask).to_coco(), "order": n, "name": "x"} for n, mask in enumerate(masks, 1)
    ]
    images = [{"id": 1, "height": SIZE[0], "width": SIZE[1], "file_name": "a.jpg"}]
    path.write_text(json.dumps({"images": images, "annotations": [{"id": 1, "image_id": 1, "regions": regions}]}))
    return path


def outline_all(source, journal, bend=None):
    """Send the outline of every instance of the first image as the page shows it, or bent; returns the masks."""
    with open_journal(journal, source.origin) as opened:
        session, revision = EditingSession(source, opened), 0
        shown = session.document(0)
        for position, outline in zip(shown["positions"], shown["outlines"], strict=True):
            polygons = outline or session.outline(0, position)["polygons"]
            polygons = [bend(polygon) if bend else polygon for polygon in polygons]
            revision = session.edit(0, revision, {"do": "outline", "instance": position, "polygons": polygons})[
                "revision"
            ]
        return session._image(0, source.start(0)).truth


@pytest.mark.parametrize("seed", range(6))
def test_an_outline_that_is_not_bent_gives_the_mask_back(tmp_path, seed):
    rng = np.random.default_rng(seed)
    masks = [mask for mask in (random_mask(rng) for _ in range(5)) if mask.any()]
    source = open_source(cocoa_of_runs(tmp_path / "a.json", masks))
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        assert session.document(0)["outlines"] == [None] * len(masks)
        for position, mask in enumerate(masks):
            assert filled(session.outline(0, position)["polygons"]) == RLE.from_mask(mask)
        for position in (len(masks), 10**6):
            with pytest.raises(SelectionError, match="no outline"):
                session.outline(0, position)
    outline_all(source, tmp_path / "j.jsonl")
    apply_journal(source, tmp_path / "j.jsonl", tmp_path / "o.json")
    assert (layer_scene(read_cocoa(tmp_path / "o.json")[0]).levels == layer_scene(source.scenes[0]).levels).all()
    (row,) = json.loads((tmp_path / "o.json").read_text())["annotations"]
    assert all(isinstance(region["segmentation"], dict) for region in row["regions"])


def bend_first(polygon):
    """The first corner moved to the left and up."""
    return [polygon[0] - 7.5, polygon[1] - 6, *polygon[2:]]


def test_bent_runs_equal_a_file_drawn_that_way(tmp_path):
    path = cocoa_of_runs(tmp_path / "a.json", [ellipse(SIZE, 30, 30 + 8 * n, 14, 10) for n in range(4)])
    source, content = open_source(path), json.loads(path.read_text())
    outline_all(source, journal_path(path), bend_first)
    apply_journal(source, journal_path(path), tmp_path / "o.json")
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        for n, region in enumerate(content["annotations"][0]["regions"]):
            (polygon,) = session.outline(0, n)["polygons"]
            region["segmentation"] = bend_first(polygon)
    (tmp_path / "hand.json").write_text(json.dumps(content))
    applied, by_hand, start = (
        layer_scene(read_cocoa(tmp_path / name)[0]) for name in ("o.json", "hand.json", "a.json")
    )
    assert (applied.levels == by_hand.levels).all() and (applied.levels != start.levels).any()


@pytest.mark.parametrize("layout", ["labelme", "labelme-described", "cvat", "coco-z"])
def test_bent_outlines_of_tools_equal_files_drawn_that_way(tmp_path, layout):
    cocoa = write_cocoa(tmp_path / "cocoa", 2, seed=5, size=(120, 160), instances=(5, 7), photos=False)
    path, options = written(layout, cocoa, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    source = open_source(path, **options)
    truth = outline_all(source, journal_path(path), bend_first)
    content = json.loads(cocoa.read_text())
    (row,) = [row for row in content["annotations"] if row["image_id"] == content["images"][0]["id"]]
    for region in row["regions"]:
        region["segmentation"] = bend_first(region["segmentation"])
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / "cocoa.json").write_text(json.dumps(content))
    by_hand = read_annotations(written(layout, tmp_path / "hand" / "cocoa.json", tmp_path / "hand")[0], **options)
    output = tmp_path / ("out" if path.is_dir() else f"out{path.suffix}")
    assert apply_journal(source, journal_path(path), output).images == 1
    for scene, expected in zip(read_annotations(output, **options), by_hand, strict=True):
        assert (layer_scene(scene).levels == layer_scene(expected).levels).all()
    assert (truth.levels != layer_scene(source.scenes[0]).levels).any()
    assert {file: file.read_bytes() for file in before} == before


def test_shapes_of_labelme_become_polygons_when_they_are_bent(tmp_path):
    mask = ellipse((20, 30), 10, 8, 6, 5) | ellipse((20, 30), 10, 22, 5, 6)
    points = {"rectangle": [[10, 10], [40, 30]], "circle": [[50, 30], [60, 30]], "mask": [[5, 35], [34, 54]],
              "polygon": [[20, 5], [60, 8], [40, 50]], "line": [[0, 0], [9, 9]]}  # fmt: skip
    shapes = [{"label": kind, "group_id": 0 if kind == "polygon" else None, "shape_type": kind, "points": value, "x": 1}
              for kind, value in points.items()]  # fmt: skip
    shapes[2]["mask"] = in_base64(mask)
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps({"version": "5", "imagePath": "a.jpg", "imageHeight": 60, "imageWidth": 80, "shapes": shapes})
    )
    reading = {"masks": "amodal", "order": "front-first"}
    source = open_source(path, **reading)
    outline_all(source, journal_path(path))
    apply_journal(source, journal_path(path), tmp_path / "o.json")
    assert (
        layer_scene(read_annotations(tmp_path / "o.json", **reading)[0]).levels == layer_scene(source.scenes[0]).levels
    ).all()
    made = json.loads((tmp_path / "o.json").read_text())["shapes"]
    assert [shape["label"] for shape in made] == ["rectangle", "circle", "mask", "mask", "line", "polygon"]
    assert [shape["group_id"] for shape in made] == [None, None, 1, 1, None, 0] and made.pop(4) == shapes[4]
    assert all(shape["shape_type"] == "polygon" and shape["x"] == 1 and not shape.get("mask") for shape in made)


def test_shapes_of_cvat_become_polygons_when_they_are_bent(tmp_path):
    shapes = """<box label="a" xtl="10" ytl="10" xbr="40" ybr="30" rotation="30" z_order="3" occluded="1">
        <attribute name="n">7</attribute></box>
      <ellipse label="b" cx="50" cy="30" rx="15" ry="8" z_order="2"/><tag label="c"/>
      <mask label="a" rle="2, 6, 4, 6, 2" left="20" top="20" width="10" height="2" z_order="1"/>"""
    path = tmp_path / "a.xml"
    path.write_text(f'<annotations><image id="0" name="a.jpg" width="80" height="60">{shapes}</image></annotations>')
    source = open_source(path, masks="amodal")
    outline_all(source, journal_path(path))
    apply_journal(source, journal_path(path), tmp_path / "o.xml")
    written_text = (tmp_path / "o.xml").read_text()
    applied = read_annotations(tmp_path / "o.xml", masks="amodal")[0]
    assert (layer_scene(applied).levels == layer_scene(source.scenes[0]).levels).all()
    assert written_text.count("<polygon") == 3 and 'name="n">7<' in written_text and '<tag label="c"' in written_text
    assert "rle=" not in written_text and "rotation" not in written_text and 'occluded="1"' in written_text


def test_points_of_a_mask_of_runs_are_dragged_on_the_page(visit, tmp_path):
    path = write_flat(tmp_path / "flat", 1, "d2sa", seed=4, size=(120, 160), photos=False)
    with serving(path) as server:
        page = visit(server.url)
        page.wait_for_function("() => editor.writer")
        before = levels(page)
        n = stack(page)[0]
        page.click(f"#editor li[data-n='{n}'] .label")
        page.keyboard.press("o")
        page.wait_for_selector(".points circle")
        box = page.locator(".points circle").last.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 50, y + 40, steps=3)
        page.mouse.up()
        settled(page, 1)
        bent = levels(page)
        assert (bent != before).any() and page.evaluate(f"editor.now.outlines[{n}]")
        page.keyboard.press("Control+z")
        settled(page, 0)
        assert (levels(page) == before).all() and page.locator(".points circle").count() > 3
        page.keyboard.press(".")
        page.keyboard.press("Shift+ArrowUp")
        settled(page, 1)
        assert (levels(page) != before).any()
        truth = server.session._image(0, server.session._start(0)).truth
        assert (levels(page) == truth.levels).all()
    apply_journal(open_source(path), journal_path(path), tmp_path / "o.json")
    assert (layer_scene(read_annotations(tmp_path / "o.json")[0]).levels == truth.levels).all()
