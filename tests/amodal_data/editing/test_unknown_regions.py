"""Regions in which objects are not annotated: marked on the page, and written where the layout has a place for them."""

import json

import numpy as np
import pytest
from support.edit_page import click_pixel, levels, settled
from support.editing import serving
from support.tool_layouts import written

from amodal_data import layer_scene, read_annotations, read_cocoa, write_cocoa, write_flat
from amodal_data.editing.apply import apply_journal
from amodal_data.editing.journal import journal_path, open_journal
from amodal_data.editing.session import EditingSession
from amodal_data.editing.source import open_source
from amodal_data.errors import LayoutError, SelectionError
from amodal_data.masks.rle import RLE, merge, rasterize

SQUARE, TRIANGLE = [20, 20, 60, 20, 60, 50, 20, 50], [100, 10, 140, 10, 120, 60]


@pytest.fixture
def cocoa(tmp_path):
    return write_cocoa(tmp_path / "cocoa", 2, seed=3, size=(120, 160), instances=(6, 7), photos=False)


def mask_of(*polygons):
    return merge(rasterize([np.array(polygon, float) for polygon in polygons], (120, 160)))


def test_a_region_is_marked_by_mouse_and_by_keyboard(visit, cocoa, tmp_path):
    with serving(cocoa) as server:
        page = visit(server.url)
        page.wait_for_function("() => editor.writer")
        before = levels(page)
        page.click("#mark")
        assert "not annotated" in page.locator("#editor-state").inner_text()
        for x, y in ((20, 20), (60, 20), (60, 50), (20, 20)):
            click_pixel(page, x, y)
        settled(page, 1)
        page.wait_for_function("() => !editor.draft")
        assert "not annotated" in page.locator("#legend").inner_text()
        page.keyboard.press("u")
        for key in ("Insert", "Shift+ArrowRight", "Insert", "Shift+ArrowDown", "Insert", "Enter"):
            page.keyboard.press(key)
        settled(page, 2)
        page.wait_for_function("() => !editor.draft")
        shown = page.evaluate(
            "Array.from(picture.truth.regions, (region) => Number(picture.truth.unknown.has(region)))"
        )
        assert levels(page).shape == before.shape and (levels(page) == before).all()
        page.keyboard.press("Control+z")
        settled(page, 1)
        page.keyboard.press("Control+Shift+z")
        settled(page, 2)
    apply_journal(open_source(cocoa), journal_path(cocoa), tmp_path / "o.json")
    applied, start = (read_cocoa(path)[0] for path in (tmp_path / "o.json", cocoa))
    assert applied.unknown == RLE.from_mask(np.reshape(shown, (120, 160))) and applied.unknown.area > 400
    assert (layer_scene(applied).levels == layer_scene(start).levels).all()


@pytest.mark.parametrize("layout", ["cocoa", "coco-depth", "coco-list", "d2sa", "kins"])
def test_unknown_pixels_are_written_where_the_layout_has_them(cocoa, tmp_path, layout):
    if layout in ("d2sa", "kins"):
        path, options = write_flat(tmp_path / layout, 2, layout, seed=2, size=(120, 160), photos=False), {}
    else:
        path, options = (cocoa, {}) if layout == "cocoa" else written(layout, cocoa, tmp_path)
    for polygons, source_path, output in (
        ([SQUARE], path, tmp_path / "1.json"),
        ([TRIANGLE], tmp_path / "1.json", tmp_path / "2.json"),
    ):
        source = open_source(source_path, **options)
        with open_journal(journal_path(source_path), source.origin) as journal:
            session = EditingSession(source, journal)
            shown = session.edit(1, 0, {"do": "unknown", "polygons": polygons})
            assert shown["document"]["truth"]["unknown"] and len(shown["positions"]) == len(source.scenes[1].instances)
        apply_journal(source, journal_path(source_path), output)
    start, applied = (read_annotations(file, **options) for file in (path, tmp_path / "2.json"))
    assert applied[1].unknown == mask_of(SQUARE, TRIANGLE) and applied[0].unknown is None
    for scene, expected in zip(applied, start, strict=True):
        assert (layer_scene(scene).levels == layer_scene(expected).levels).all()
    rows = json.loads((tmp_path / "2.json").read_text())["annotations"]
    assert len({row["id"] for row in rows}) == len(rows)
    assert layout == "cocoa" or sum(row.get("iscrowd") == 1 for row in rows) == 2


@pytest.mark.parametrize(("layout", "options", "fix"), [("cvat", {}, "COCO"), ("labelme", {}, "COCO"),
                                                        ("coco-depth", {"crowds": "keep"}, "--crowds")])  # fmt: skip
def test_other_layouts_refuse_them_and_say_where(cocoa, tmp_path, layout, options, fix):
    path, more = written(layout, cocoa, tmp_path)
    source = open_source(path, **more, **options)
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal)
        with pytest.raises(SelectionError, match="unknown") as caught:
            session.edit(0, 0, {"do": "unknown", "polygons": [SQUARE]})
        assert source.scenes[0].file_name in caught.value.place and fix in caught.value.fix
        journal.append({"image": source.scenes[0].image_id, "do": "unknown", "polygons": [SQUARE]})
    with pytest.raises(SelectionError, match="unknown") as caught:
        apply_journal(source, journal_path(path), tmp_path / "o.json")
    assert source.scenes[0].file_name in caught.value.place and not (tmp_path / "o.json").exists()
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        journal.append({"image": source.scenes[0].image_id, "do": "unknown", "polygons": "SQUARE"})
    with pytest.raises(LayoutError, match="cannot be repeated"):
        apply_journal(source, tmp_path / "j.jsonl", tmp_path / "o.json")
