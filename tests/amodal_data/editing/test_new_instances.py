"""New instances: drawn on the page, and written as a file that somebody drew that way."""

import copy
import json

import numpy as np
import pytest
from support.edit_page import click_pixel, levels, settled, stack
from support.editing import DrawnImage, edits, random_step, serving, shown_levels
from support.tool_layouts import written

from amodal_data import layer_scene, read_annotations, read_cocoa, write_cocoa, write_flat
from amodal_data.editing.apply import apply_journal
from amodal_data.editing.journal import journal_path, open_journal
from amodal_data.editing.session import EditingSession
from amodal_data.editing.source import open_source
from amodal_data.errors import SelectionError
from amodal_data.layering.targets import layer_with_findings

TRIANGLE = [10.5, 10, 120, 14.25, 100, 100]


@pytest.fixture
def cocoa(tmp_path):
    return write_cocoa(tmp_path / "cocoa", 3, seed=3, size=(120, 160), instances=(6, 7), photos=False)


def drawn_levels(scene):
    """The level map of every instance by its mask: instances may be listed in another order."""
    targets = layer_scene(scene)
    return {mask: targets.levels[n].tobytes() for n, mask in enumerate(targets.rles())}


def with_regions(content, place, regions):
    """A COCOA file with new regions in front of those of one annotation, the last in front, and nothing that follows
    from the order."""
    content = copy.deepcopy(content)
    ranked = sorted(content["annotations"][place]["regions"], key=lambda region: region["order"])
    old = [{key: region[key] for key in ("segmentation", "name", "order", "isStuff")} for region in ranked]
    new = [
        {"segmentation": polygon, "name": name, "order": -n, "isStuff": 0} for n, (polygon, name) in enumerate(regions)
    ]
    content["annotations"][place]["regions"] = [*reversed(new), *old]
    content["annotations"][place] |= {"depth_constraint": "", "size": len(new) + len(old)}
    return content


def draw(session, place, polygon, label, **fields):
    """Draw an instance in front of all."""
    shown = session.document(place)
    front = shown["positions"][shown["stack"][0]] if shown["stack"] else None
    event = {"do": "draw", "polygons": [polygon], "name": label, "before": front} | fields
    return session.edit(place, shown["revision"], event)


def random_polygon(rng, size=(120, 160)):
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 12))))
    center, radius = rng.uniform(0.3, 0.7, 2) * size[::-1], rng.uniform(15, 0.4 * min(size), len(angles))
    return (center + np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]).round(2).ravel().tolist()


def test_an_instance_is_drawn_by_mouse(visit, cocoa, tmp_path):
    with serving(cocoa) as server:
        page = visit(server.url)
        page.wait_for_function("() => editor.writer")
        before, order = levels(page), stack(page)
        page.click("#draw")
        assert "hidden parts too" in page.locator("#editor-state").inner_text()
        for x, y in ((10, 10), (120, 14), (100, 100)):
            click_pixel(page, x, y)
        assert page.locator(".draft circle").count() == 3 and page.evaluate("editor.now.undo") == 0
        click_pixel(page, 10, 10)  # the first point closes
        assert page.evaluate("document.activeElement.id") == "new-name"
        page.keyboard.type("<b>jug</b>")
        page.click("#new-tools button >> text=Add")
        settled(page, 1)
        page.wait_for_function("() => document.activeElement.dataset.n === '7'")
        assert stack(page) == [7, *order] and page.locator(".draft").count() == 0
        (points,) = page.evaluate("editor.now.outlines[7]")
        assert np.abs(np.subtract(points, [10, 10, 120, 14, 100, 100])).max() < 0.5
        expected = with_regions(json.loads(cocoa.read_text()), 0, [(points, "<b>jug</b>")])
        (tmp_path / "hand.json").write_text(json.dumps(expected))
        by_hand = read_cocoa(tmp_path / "hand.json")[0]
        assert {row.tobytes() for row in levels(page)} == set(drawn_levels(by_hand).values())
        page.keyboard.press("[")  # and can be edited like the others
        settled(page, 2)
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        settled(page, 0)
        assert (levels(page) == before).all() and stack(page) == order
        page.keyboard.press("Control+Shift+z")
        settled(page, 1)
        page.reload()
        page.wait_for_function("() => editor.now?.undo === 1")
        assert page.evaluate("picture.truth.instances[7].name") == "<b>jug</b>"
    apply_journal(open_source(cocoa), journal_path(cocoa), tmp_path / "applied.json")
    assert drawn_levels(read_cocoa(tmp_path / "applied.json")[0]) == drawn_levels(by_hand)


def test_an_instance_is_drawn_by_keyboard_and_gets_a_class(visit, tmp_path):
    path = write_flat(tmp_path / "flat", 2, "d2sa", seed=4, size=(120, 160), photos=False)
    names = list(open_source(path).scenes.categories.values())
    with serving(path) as server:
        page = visit(server.url)
        page.wait_for_function("() => editor.writer")
        count = len(stack(page))
        page.keyboard.press("n")
        for keys in ("Insert", "Insert", "Shift+ArrowRight Insert", "Enter"):  # twice at one place is one point
            for key in keys.split():
                page.keyboard.press(key)
        assert page.locator(".draft circle").count() == 2
        assert "three or more points" in page.locator("#editor-state").inner_text()
        for key in ("Shift+ArrowDown", "ArrowLeft", "Insert", "ArrowUp", "Insert", "Backspace", "]", "Delete", "Enter"):
            page.keyboard.press(key)
        page.keyboard.type("no such class")
        page.keyboard.press("Enter")
        page.wait_for_function("() => editor.problem")
        assert "no class" in page.locator("#editor-state").inner_text() and page.locator(".draft circle").count() == 3
        page.fill("#new-name", names[1])
        page.keyboard.press("Enter")
        settled(page, 1)
        page.wait_for_function("() => !editor.draft")
        assert page.evaluate("editor.now.outlines.at(-1)") == [[80, 60, 90, 60, 89, 70]]
        assert page.evaluate("picture.truth.instances.at(-1).name") == names[1] and len(stack(page)) == count + 1
        page.keyboard.press("n")
        page.keyboard.press("Insert")
        page.keyboard.press("Escape")
        assert page.evaluate("editor.draft") is None and page.evaluate("editor.now.undo") == 1
        visit.odd[:] = [line for line in visit.odd if "400" not in line]  # Chromium logs the refusal


def test_the_first_instance_of_an_image(visit, tmp_path):
    """An image that nothing is annotated in: a page, and a row of its own in the file."""
    images = [{"id": n, "height": 120, "width": 160, "file_name": f"{n}.jpg"} for n in (1, 2)]
    regions = [{"segmentation": TRIANGLE, "order": 1, "name": "a"}]
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"images": images, "annotations": [{"id": 5, "image_id": 1, "regions": regions}]}))
    with serving(path) as server:
        page = visit(server.url, "#image=2")
        page.wait_for_function("() => editor.writer")
        assert stack(page) == []
        page.keyboard.press("n")
        for x, y in ((10, 10), (100, 10), (50, 60)):
            click_pixel(page, x, y)
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")  # without a name
        settled(page, 1)
        page.wait_for_function("() => editor.chosen === 0")
    apply_journal(open_source(path), journal_path(path), tmp_path / "o.json")
    first, second = json.loads((tmp_path / "o.json").read_text())["annotations"]
    assert first["id"] == 5 and (second["id"], second["image_id"], second["size"]) == (6, 2, 1)
    assert second["regions"][0]["order"] == 1 and not read_cocoa(tmp_path / "o.json").findings


@pytest.mark.parametrize("layout", ["cocoa", "coco-z", "coco-attributes", "coco-depth", "coco-list", "labelme",
                                    "labelme-described", "cvat"])  # fmt: skip
def test_new_instances_equal_a_file_drawn_that_way(cocoa, tmp_path, layout):
    path, options = (cocoa, {}) if layout == "cocoa" else written(layout, cocoa, tmp_path)
    source, rng, content = open_source(path, **options), np.random.default_rng(6), json.loads(cocoa.read_text())
    files = [scene.file_name for scene in source.scenes]
    name = next(iter(source.scenes.categories.values()), "jug")
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal)
        for place, image in enumerate(content["images"]):
            index, polygons = files.index(image["file_name"]), [random_polygon(rng) for _ in range(4)]
            shown = [draw(session, index, polygon, name) for polygon in polygons[:3]][-1]
            moved, gone = (shown["positions"][n] for n in shown["stack"][1:3])
            bent = {"do": "outline", "instance": moved, "polygons": polygons[3:]}
            behind = {"do": "draw", "polygons": [TRIANGLE], "name": name, "before": None}
            for event in ({"do": "delete", "instance": gone}, bent, behind, {"do": "undo"}):
                shown = session.edit(index, shown["revision"], event)
            content = with_regions(content, place, [(polygons[3], name), (polygons[2], name)])
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / "cocoa.json").write_text(json.dumps(content))
    by_hand = tmp_path / "hand" / "cocoa.json"
    by_hand = by_hand if layout == "cocoa" else written(layout, by_hand, tmp_path / "hand")[0]
    output = tmp_path / ("out" if path.is_dir() else f"out{path.suffix}")
    assert apply_journal(source, journal_path(path), output).images == 3
    applied = read_annotations(output, **options)
    for scene, expected, start in zip(applied, read_annotations(by_hand, **options), source.scenes, strict=True):
        assert drawn_levels(scene) == drawn_levels(expected) != drawn_levels(start)
        assert len(scene.instances) == len(start.instances) + 2
        findings = {finding.code for finding in (*scene.findings, *layer_with_findings(scene)[1])}
        assert findings <= {finding.code for finding in start.findings}
    assert not {f.code for f in applied.file_findings} - {f.code for f in source.scenes.file_findings}


class DrawnAnew(DrawnImage):
    """Takes new instances too, numbered from those of the source."""

    def apply(self, event):
        if event["do"] != "draw":
            super().apply(event)
            return
        regions, count = copy.deepcopy(self.regions), len(self.states[0])
        order = sorted(regions, key=lambda m: (regions[m]["order"], m))
        n = max([count - 1, *regions]) + 1
        order.insert(len(order) if event["before"] is None else order.index(event["before"]), n)
        regions[n] = {"segmentation": event["polygons"][0], "name": event["name"]}
        for rank, m in enumerate(order, 1):
            regions[m]["order"] = rank
        self.states[self.place + 1 :] = [regions]
        self.place += 1


def test_new_instances_among_random_edits_equal_a_file_drawn_that_way(cocoa, tmp_path):
    count = edits(50)
    source, rng, drawn = open_source(cocoa), np.random.default_rng(4), DrawnAnew(cocoa, 1)
    with open_journal(journal_path(cocoa), source.origin) as journal:
        session = EditingSession(source, journal)
        shown, most = session.document(0), 0
        for _ in range(count):
            event = random_step(rng, shown, ["cup", "box"])
            if rng.random() < 0.25 and len(shown["positions"]) < 12:
                before = rng.choice([*shown["positions"], -1])
                event = {"do": "draw", "name": "new", "polygons": [random_polygon(rng)]}
                event["before"] = None if before < 0 else int(before)
            shown = session.edit(0, shown["revision"], event)
            drawn.apply(event)
            assert shown["positions"] == list(drawn.regions) and (shown_levels(shown) == drawn.levels()).all(), event
            most = max(most, sum(n >= len(drawn.states[0]) for n in shown["positions"]))
        assert most > 2
    apply_journal(source, journal_path(cocoa), tmp_path / "applied.json")
    drawn.path.write_text(json.dumps({"images": drawn.images, "annotations": [drawn.annotation()]}))
    assert drawn_levels(read_cocoa(tmp_path / "applied.json")[0]) == drawn_levels(read_cocoa(drawn.path)[0])


@pytest.mark.parametrize("layout", ["d2sa", "kins", "cocoa-cls"])
def test_new_instances_hide_others_in_flat_layouts(tmp_path, layout):
    path = write_flat(tmp_path / layout, 2, layout, seed=2, size=(120, 160), photos=False)
    source, rng = open_source(path), np.random.default_rng(1)
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal)
        name = next(iter(source.scenes.categories.values()))
        shown = [draw(session, 0, random_polygon(rng), name) for _ in range(2)][-1]
        back = shown["positions"][shown["stack"][-1]]
        shown = draw(session, 0, random_polygon(rng), name, before=back)
        image = session._image(0, source.start(0)).truth
    apply_journal(source, journal_path(path), tmp_path / "o.json")
    scenes = read_annotations(tmp_path / "o.json")
    targets, findings = layer_with_findings(scenes[0])
    masks, hand = [image.amodal_rle(n).decode() for n in shown["stack"]], {}
    covered = np.zeros(image.size, bool)
    for n, mask in zip(shown["stack"], masks, strict=True):
        hand[image.amodal_rle(n)] = (mask & ~covered).tobytes()
        covered |= mask
    assert {mask: targets.modal_rle(n).decode().tobytes() for n, mask in enumerate(targets.rles())} == hand
    assert drawn_levels(scenes[0]) == {mask: image.levels[n].tobytes() for n, mask in enumerate(image.rles())}
    assert len(hand) == len(source.scenes[0].instances) + 3 and not scenes[0].findings and not findings
    ids = [row["id"] for row in json.loads((tmp_path / "o.json").read_text())["annotations"]]
    assert len(set(ids)) == len(ids)


def test_a_file_keeps_its_ids_and_an_empty_labelme_file_gets_a_shape(tmp_path):
    images = [{"id": name, "height": 120, "width": 160, "file_name": name} for name in ("a.jpg", "b.jpg")]
    rows = [{"id": 41, "image_id": "a.jpg", "category_id": "cup", "segmentation": [TRIANGLE], "occl_depth": "7"}]
    coco = tmp_path / "coco.json"
    coco.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": "cup", "name": "cup"}]}))
    labelme = tmp_path / "a.json"
    content = {"imagePath": "a.jpg", "imageHeight": 120, "imageWidth": 160, "shapes": []}
    labelme.write_text(json.dumps(content))
    for path, options in ((coco, {"masks": "amodal"}), (labelme, {"masks": "amodal", "order": "front-first"})):
        source = open_source(path, **options)
        with open_journal(journal_path(path), source.origin) as journal:
            session = EditingSession(source, journal)
            for place in range(len(source.scenes)):
                draw(session, place, [50, 5, 90, 5, 90, 80], "cup")
        apply_journal(source, journal_path(path), path.with_name(f"o-{path.name}"))
    first, second, third = json.loads((tmp_path / "o-coco.json").read_text())["annotations"]
    assert first == rows[0] | {"occl_depth": "8"} and second["occl_depth"] == "7"
    assert [(row["id"], row["image_id"], row["category_id"]) for row in (second, third)] == [
        (42, "a.jpg", "cup"), (43, "b.jpg", "cup")]  # fmt: skip
    assert second["segmentation"] == [[50, 5, 90, 5, 90, 80]] and second["bbox"][:3] == [50, 5, 40]
    (shape,) = json.loads((tmp_path / "o-a.json").read_text())["shapes"]
    assert (shape["label"], shape["points"]) == ("cup", [[50, 5], [90, 5], [90, 80]])


@pytest.mark.parametrize("fields", [{"polygons": [[1, 2, 3, 4]]}, {"polygons": []}, {"polygons": [[900, 0] * 3]},
                                    {"name": None}, {"name": "x" * 201}, {"before": 99}, {"before": "0"}])  # fmt: skip
def test_an_instance_that_is_none_is_refused(cocoa, tmp_path, fields):
    source = open_source(cocoa)
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        with pytest.raises(SelectionError):
            draw(session, 0, TRIANGLE, "cup", **fields)
        assert session.document(0)["revision"] == 0


def test_an_instance_that_is_drawn_and_deleted_leaves_no_trace(cocoa, tmp_path):
    source = open_source(cocoa)
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        start = session.document(0)
        shown = draw(session, 0, TRIANGLE, "cup")
        shown = session.edit(0, 1, {"do": "delete", "instance": shown["positions"][shown["stack"][0]]})
        assert shown["document"]["truth"] == start["document"]["truth"]
    assert apply_journal(source, tmp_path / "j.jsonl", tmp_path / "o.json").images == 0


@pytest.mark.parametrize("layout", ["labelme", "cvat"])
def test_a_new_instance_of_several_polygons_is_a_group(cocoa, tmp_path, layout):
    path, options = written(layout, cocoa, tmp_path)
    source, polygons = open_source(path, **options), [[5, 5, 30, 5, 30, 40], [120, 5, 150, 5, 150, 40]]
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal)
        shown = draw(session, 0, None, next(iter(source.scenes.categories.values())), polygons=polygons)
        image = session._image(0, source.start(0)).truth
    output = tmp_path / ("out" if path.is_dir() else "out.xml")
    apply_journal(source, journal_path(path), output)
    scene = read_annotations(output, **options)[0]
    assert len(scene.instances) == len(shown["stack"])
    assert drawn_levels(scene) == {mask: image.levels[n].tobytes() for n, mask in enumerate(image.rles())}
