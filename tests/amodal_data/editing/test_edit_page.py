"""The editing page in headless Chromium: moves by key, button and drag, undo, reload, two tabs, hostile names."""

import json

import numpy as np
import pytest
from support.edit_page import levels, settled, stack
from support.editing import DrawnImage, edits, serving
from support.scenes import ellipse

from amodal_data import RLE, layer_scene, read_cocoa, write_cocoa, write_flat
from amodal_data.editing.apply import apply_journal
from amodal_data.editing.journal import journal_path, read_journal
from amodal_data.editing.source import open_source
from amodal_data.masks.rle import parse_rle


@pytest.fixture
def cocoa(tmp_path):
    return write_cocoa(tmp_path / "cocoa", 3, seed=3, size=(120, 160), instances=(6, 7))


@pytest.fixture
def server(cocoa):
    with serving(cocoa) as server:
        yield server


def assert_levels(page, cocoa, order):
    """The page has the levels of the file with this order, numbers of its regions front to back."""
    content = json.loads(cocoa.read_text())
    (row,) = [row for row in content["annotations"] if row["image_id"] == page.evaluate("picture.id")]
    regions = [{"segmentation": row["regions"][n]["segmentation"], "order": k + 1} for k, n in enumerate(order)]
    path = cocoa.with_name("expected.json")
    path.write_text(json.dumps({**content, "annotations": [{"image_id": row["image_id"], "regions": regions}]}))
    expected = layer_scene(read_cocoa(path)[0])
    assert (levels(page)[order] == expected.levels).all()


def middle_pair(page):
    """An instance in the middle of the stack that overlaps one in front, and the nearest such one."""
    overlaps, order = page.evaluate("editor.now.overlaps"), stack(page)
    for at in range(len(order) - 1, 0, -1):
        ahead = [m for m in order[:at] if sorted((order[at], m)) in overlaps]
        if ahead:
            return order[at], ahead[-1]
    raise AssertionError("no overlap")


def after_move(order, n, before):
    rest = [m for m in order if m != n]
    place = len(rest) if before is None else rest.index(before)
    return [*rest[:place], n, *rest[place:]]


def test_an_instance_moves_by_key_button_and_drag(visit, server, cocoa):
    page = visit(server.url)
    original = order = stack(page)
    assert_levels(page, cocoa, order)
    n, front = middle_pair(page)
    page.click(f"#editor li[data-n='{n}'] .label")
    page.keyboard.press("]")
    settled(page, 1)
    order = after_move(order, n, front)
    assert stack(page) == order
    assert_levels(page, cocoa, order)
    assert page.evaluate("document.activeElement.dataset.n") == str(n)  # the row keeps the focus
    page.keyboard.press("Alt+ArrowDown")
    settled(page, 2)
    assert stack(page).index(n) > stack(page).index(front)
    page.click(f"#editor li[data-n='{n}'] [data-act=Forward]")
    settled(page, 3)
    order = stack(page)
    assert order.index(n) < order.index(front)
    assert_levels(page, cocoa, order)
    page.click(f"#editor li[data-n='{n}'] [data-act=Backward]")
    settled(page, 4)
    rows = page.locator("#stack li")
    first, last = rows.first.bounding_box(), rows.last.locator(".grip")
    moved = int(rows.last.get_attribute("data-n"))
    order = stack(page)
    last.hover()
    page.mouse.down()
    page.mouse.move(first["x"] + 20, first["y"] + 3, steps=5)
    page.mouse.up()
    settled(page, 5)
    order = after_move(order, moved, int(page.locator("#stack li").nth(1).get_attribute("data-n")))
    assert stack(page) == order
    assert_levels(page, cocoa, order)
    page.click("#undo")
    settled(page, 4)
    for left in (3, 2, 1, 0):
        page.keyboard.press("Control+z")
        settled(page, left)
    assert stack(page) == original and page.locator("#undo").is_disabled()
    for made in range(1, 6):
        page.keyboard.press("Control+Shift+z")
        settled(page, made)
    assert stack(page) == order
    assert_levels(page, cocoa, order)
    source = open_source(cocoa)
    apply_journal(source, journal_path(cocoa), cocoa.with_name("applied.json"))
    assert layer_scene(read_cocoa(cocoa.with_name("applied.json"))[0]).level_pixels().tolist() == page.evaluate(
        "picture.truth.instances.reduce((all, one) => one.levels.map((pixels, k) => pixels + (all[k] || 0)), [])"
    )


def test_a_move_to_the_front_and_the_back_passes_all_that_overlap(visit, server):
    page = visit(server.url)
    n, _ = middle_pair(page)
    partners = {m for pair in page.evaluate("editor.now.overlaps") if n in pair for m in pair} - {n}
    page.click(f"#editor li[data-n='{n}'] .label")
    page.keyboard.press("}")
    settled(page, 1)
    assert page.evaluate(f"picture.truth.instances[{n}].rate") == 0
    page.keyboard.press("{")
    settled(page, 2)
    order = stack(page)
    assert all(order.index(m) < order.index(n) for m in partners)


def test_two_instances_swap_by_mouse_and_by_keys(visit, server, cocoa):
    page = visit(server.url)
    page.wait_for_function("() => editor.writer")
    order, rows = stack(page), page.evaluate("[...editor.stack.children].map((row) => Number(row.dataset.n))")
    a, b, row = rows[0], rows[-1], "#stack li[data-n='{}'] .label"
    page.click(row.format(a))
    assert page.locator("#swap").is_disabled()
    page.click(row.format(b), modifiers=["Shift"])
    assert page.evaluate("[editor.chosen, editor.second]") == [a, b]
    assert page.locator(".chosen-outline").count() == 2 and page.locator("#stack li.second").count() == 1
    page.click("#swap")
    settled(page, 1)
    swapped = [{a: b, b: a}.get(n, n) for n in order]
    assert stack(page) == swapped and page.evaluate("[editor.chosen, editor.second]") == [a, b]
    assert_levels(page, cocoa, swapped)
    page.keyboard.press("x")
    settled(page, 2)
    assert stack(page) == order
    page.keyboard.press("Control+z")
    settled(page, 1)
    assert stack(page) == swapped
    page.keyboard.press("ArrowUp")  # one instance again
    rows = page.evaluate("[...editor.stack.children].map((row) => Number(row.dataset.n))")
    chosen = page.evaluate("editor.chosen")
    assert chosen == rows[rows.index(a) - 1] and page.evaluate("editor.second") is None
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowUp")
    second = rows[rows.index(chosen) - 1]
    assert page.evaluate("editor.second") == second
    page.keyboard.press("x")
    settled(page, 2)
    assert stack(page) == [{chosen: second, second: chosen}.get(n, n) for n in swapped]


def test_fast_keys_lose_no_edit(visit, server, cocoa):
    page = visit(server.url)
    n, _ = middle_pair(page)
    page.click(f"#editor li[data-n='{n}'] .label")
    page.keyboard.press("]")
    for _ in range(6):
        page.keyboard.press("[")
        page.keyboard.press("]")
    page.wait_for_function("() => editor.now.undo === 13")
    assert_levels(page, cocoa, stack(page))


def test_reload_keeps_the_edits_and_the_right_to_write(visit, server, cocoa):
    page = visit(server.url)
    n, _ = middle_pair(page)
    page.click(f"#editor li[data-n='{n}'] .label")
    page.keyboard.press("]")
    settled(page, 1)
    order = stack(page)
    page.reload()
    page.wait_for_selector("#stack li")
    assert stack(page) == order and page.evaluate("editor.now.undo") == 1
    page.wait_for_function("() => editor.writer")
    page.keyboard.press("Control+z")
    settled(page, 0)
    assert "1 edit" not in page.locator("#images").inner_text()


def test_a_second_tab_is_read_only_until_it_takes_over(visit, server):
    first = visit(server.url)
    first.wait_for_function("() => editor.writer")
    n, _ = middle_pair(first)
    second = visit(server.url)
    assert "Read-only" in second.locator("#editor-state").inner_text()
    assert second.locator("[data-act]:not(:disabled)").count() == 0
    second.click(f"#editor li[data-n='{n}'] .label")
    second.keyboard.press("]")
    second.click("#take")
    second.wait_for_function("() => editor.writer")
    assert second.evaluate("editor.now.undo") == 0  # the key did nothing
    second.click(f"#editor li[data-n='{n}'] .label")
    second.keyboard.press("]")
    settled(second, 1)
    first.click(f"#editor li[data-n='{n}'] .label")
    first.keyboard.press("]")
    first.wait_for_function("() => !editor.writer && editor.now.undo === 1")  # it reads what the other tab did
    assert "another tab" in first.locator("#editor-state").inner_text()
    visit.odd[:] = [line for line in visit.odd if "409" not in line]  # Chromium logs the refusal
    second.close()


def test_a_click_selects_what_lies_under_it_one_after_the_other(visit, server):
    page = visit(server.url)
    codes = levels(page)
    y, x = np.unravel_index(int((codes > 0).sum(0).argmax()), (120, 160))
    under = [n for _, n in sorted((codes[n, y, x], n) for n in range(len(codes)) if codes[n, y, x])]
    box = page.locator("#stage canvas").first.bounding_box()
    for n in [*under, under[0]]:
        page.mouse.click(box["x"] + (x + 0.5) / 160 * box["width"], box["y"] + (y + 0.5) / 120 * box["height"])
        assert page.evaluate("editor.chosen") == n
        assert page.locator(".chosen-outline").count() == 1
    page.keyboard.press("ArrowDown")
    assert page.evaluate("editor.chosen") != under[0]


def test_the_end_of_the_server_is_told(visit, cocoa):
    visit.outlive = True
    with serving(cocoa) as server:
        page = visit(server.url)
        page.wait_for_function("() => editor.writer")
        n, _ = middle_pair(page)
        page.click(f"#editor li[data-n='{n}'] .label")
    before, shown, painted = stack(page), levels(page), page.evaluate(CANVAS)
    page.keyboard.press("]")
    page.wait_for_function("() => editor.problem")
    assert "Nothing was saved" in page.locator("#editor-state").inner_text() and stack(page) == before
    assert (levels(page) == shown).all() and page.evaluate(CANVAS) == painted  # the move was drawn ahead
    visit.odd[:] = [line for line in visit.odd if "ERR_CONNECTION" not in line]


def act_randomly(page, rng):
    """One random edit by mouse or keys, as a user makes it."""
    rows = page.locator("#editor #stack li")
    row = rows.nth(int(rng.integers(rows.count())))
    row.locator(".label").click()
    kind = rng.choice(["key", "button", "drag", "name", "point", "delete", "undo", "redo"],
                      p=[0.2, 0.15, 0.15, 0.1, 0.15, 0.05, 0.1, 0.1])  # fmt: skip
    if kind == "key":
        page.keyboard.press(str(rng.choice(["]", "[", "}", "{", "Alt+ArrowUp", "Alt+ArrowDown"])))
    elif kind == "button" and row.locator("[data-act]:not(:disabled)").count():
        row.locator("[data-act]:not(:disabled)").first.click()
    elif kind == "drag":
        target = rows.nth(int(rng.integers(rows.count()))).bounding_box()
        row.locator(".grip").hover()
        page.mouse.down()
        page.mouse.move(target["x"] + 20, target["y"] + 2, steps=2)
        page.mouse.up()
    elif kind == "name":
        page.fill("#instance-name", str(rng.choice(["cup", "box", "Ω"])))
        page.keyboard.press("Enter")
    elif kind == "point" and page.locator("#bend:not(:disabled)").count():
        page.keyboard.press("o")
        points = page.locator(".points circle")
        box = points.nth(int(rng.integers(points.count()))).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + float(rng.uniform(-60, 60)), box["y"] + float(rng.uniform(-60, 60)), steps=2)
        page.mouse.up()
        page.keyboard.press("o")
    elif kind == "delete" and rows.count() > 4:
        page.keyboard.press("Delete")
    elif kind in ("undo", "redo"):
        page.keyboard.press({"undo": "Control+z", "redo": "Control+Shift+z"}[kind])
    page.evaluate("editor.queue")


CANVAS = """(() => {
  const data = document.querySelector("#stage canvas").getContext("2d").getImageData(0, 0, 160, 120).data;
  return btoa(String.fromCharCode(...data.filter((_, at) => at % 4 < 3)));
})()"""


def test_the_page_shows_the_levels_of_a_file_drawn_that_way_after_every_edit(visit, server, cocoa):
    count = edits(15)
    page, reader, rng = visit(server.url), visit(server.url), np.random.default_rng(2)
    page.wait_for_function("() => editor.writer")
    drawn, made, changed = DrawnImage(cocoa, 1), 0, 0
    origin = open_source(cocoa).origin
    for step in range(count):
        before = levels(page)
        act_randomly(page, rng)
        events = read_journal(journal_path(cocoa), origin).events
        for event in events[made:]:
            drawn.apply(event)
        made = len(events)
        shown = levels(page)[np.argsort(page.evaluate("editor.now.positions"))]
        assert (shown == drawn.levels()).all(), events[-1:]
        changed += shown.shape != before.shape or (shown != before).any()
        if step % 5 == 4:  # what is on the screen is what a page draws that has just been opened
            reader.reload()
            reader.wait_for_selector("#stack li")
            assert page.evaluate(CANVAS) == reader.evaluate(CANVAS)
    assert changed > count / 3 and page.evaluate("editor.problem") == ""


REMEMBER = """() => { const { repaint } = editor; window.seen = [];
  editor.repaint = function () { seen.push(picture.truth.table.map((row) => row.join())); repaint.call(this); }; }"""


@pytest.mark.parametrize("stored", [False, True])
def test_a_move_is_drawn_before_the_server_answers_where_the_order_alone_decides(visit, tmp_path, stored):
    path = write_cocoa(tmp_path / "cocoa", 1, seed=5, size=(120, 160), instances=(7, 8))
    if stored:  # a file says that a half of what others hide is visible
        path = write_flat(tmp_path / "flat", 1, "d2sa", seed=4, size=(120, 160), photos=False)
        content = json.loads(path.read_text())
        for row in (row for row in content["annotations"] if row.get("invisible_mask")):
            hidden = parse_rle(row["invisible_mask"], (120, 160)).decode()
            shown = hidden & (np.cumsum(hidden).reshape(hidden.shape) <= hidden.sum() // 2)
            visible = parse_rle(row["visible_mask"], (120, 160)).decode() | shown
            row |= {"visible_mask": RLE.from_mask(visible).to_coco()}
            row |= {"invisible_mask": RLE.from_mask(hidden & ~shown).to_coco()}
        path.write_text(json.dumps(content))
    with serving(path) as server:
        page, rng = visit(server.url), np.random.default_rng(0)
        page.evaluate(REMEMBER)
        ahead = 0
        for made in range(1, 13):
            order = stack(page)
            n, before = rng.choice(order, 2, replace=False).tolist()
            page.evaluate("seen = []")
            edit = {"do": "move", "instance": n, "before": before}
            page.evaluate("([edit, p]) => editor.send({...edit, instance: p[0], before: p[1]})",
                          [edit, [page.evaluate(f"editor.position({m})") for m in (n, before)]])  # fmt: skip
            settled(page, made)
            seen, table = page.evaluate("[seen, picture.truth.table.map((row) => row.join())]")
            assert seen in ([], [table])
            ahead += len(seen)
    assert ahead < 12 if stored else ahead == 12


def test_levels_follow_a_point_while_it_is_dragged(visit, server, cocoa):
    page = visit(server.url)
    outlined = page.evaluate("editor.now.stack.find((n) => editor.now.outlines[n])")
    page.click(f"#editor li[data-n='{outlined}'] .label")
    page.click("#bend")
    box = page.locator(".points circle").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = levels(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 50, steps=5)
    page.wait_for_function("() => editor.dragging && !editor.previewing")
    shown, painted = levels(page), page.evaluate(CANVAS)
    assert (shown != before).any() and page.evaluate("editor.now.undo") == 0
    page.mouse.up()
    settled(page, 1)
    assert (levels(page) == shown).all() and page.evaluate(CANVAS) == painted
    page.keyboard.press("Control+z")
    settled(page, 0)
    assert (levels(page) == before).all()


HOSTILE = [
    '<img src=x onerror="window.hit = 1">',
    "</script><script>window.hit = 1</script>",
    "\u202eevil",
    "a" * 500,
    "{{7*7}}",
]


def test_hostile_names_are_text(visit, tmp_path):
    masks = [RLE.from_mask(ellipse((60, 80), 30, 20 + 8 * n, 20, 15)).to_coco() for n in range(len(HOSTILE))]
    regions = [{"segmentation": masks[n], "order": n + 1, "name": name} for n, name in enumerate(HOSTILE)]
    content = {"images": [{"id": 1, "height": 60, "width": 80, "file_name": f"{HOSTILE[0]}.jpg"}],
               "annotations": [{"id": 1, "image_id": 1, "regions": regions}]}  # fmt: skip
    path = tmp_path / "<b>bad'\"&.json"
    path.write_text(json.dumps(content))
    with serving(path) as server:
        page = visit(server.url)
        for view in range(1, 8):
            page.keyboard.press(str(view))
        page.keyboard.press("2")
        page.click("#editor li[data-n='1'] .label")
        page.keyboard.press("]")
        settled(page, 1)
        labels = page.locator("#stack .label").all_inner_texts()
        assert labels[0].startswith("1 </script>") and any(HOSTILE[0] in label for label in labels)
        assert page.evaluate("window.hit") is None and page.locator("#editor img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_500_instances_open_and_move(visit, tmp_path):
    rng = np.random.default_rng(0)
    regions = []
    for n in range(500):
        x, y = rng.uniform(5, 280), rng.uniform(5, 200)
        regions.append(
            {"segmentation": [x, y, x + 15, y, x + 15, y + 15, x, y + 15], "order": n + 1, "name": f"box {n}"}
        )
    path = tmp_path / "many.json"
    content = {"images": [{"id": 1, "height": 240, "width": 320, "file_name": "a.jpg"}],
               "annotations": [{"id": 1, "image_id": 1, "regions": regions}]}  # fmt: skip
    path.write_text(json.dumps(content))
    with serving(path) as server:
        page = visit(server.url)
        assert page.locator("#editor li").count() == 500
        page.evaluate("editor.choose(editor.now.stack.findLast((n) => editor.partners(editor.now, n).size))")
        page.keyboard.press("}")
        settled(page, 1)
        assert_levels(page, path, stack(page))


def test_names_change_and_instances_go_and_come_back(visit, server):
    page = visit(server.url)
    n = stack(page)[1]
    page.click(f"#editor li[data-n='{n}'] .label")
    page.keyboard.press("F2")
    page.keyboard.type("<b>tea & pot</b>")
    page.keyboard.press("Enter")
    settled(page, 1)
    assert page.evaluate(f"picture.truth.instances[{n}].name") == "<b>tea & pot</b>"
    assert "<b>tea & pot</b>" in page.locator("#stack").inner_text()
    count = len(stack(page))
    page.keyboard.press("Delete")
    settled(page, 2)
    assert len(stack(page)) == count - 1 and "tea & pot" not in page.locator("#stack").inner_text()
    page.keyboard.press("Control+z")
    settled(page, 1)
    assert page.evaluate("document.activeElement.dataset.n === String(editor.chosen)")
    page.click(f"#editor li[data-n='{n}'] .label")
    page.fill("#instance-name", "jug")
    page.keyboard.press("Enter")
    settled(page, 2)
    page.click("#remove")
    settled(page, 3)
    assert "jug" not in page.locator("#stack").inner_text()


def test_done_opens_the_next_image_and_counts(visit, server):
    page = visit(server.url)
    page.wait_for_function("() => editor.writer")
    page.keyboard.press("d")
    page.wait_for_function("() => about.images.filter((image) => image.done).length === 1")
    page.wait_for_function("() => !about.images[picture.position].done")  # the next image is open
    page.click("#done")
    page.wait_for_function("() => about.images.filter((image) => image.done).length === 2")
    page.wait_for_function("() => document.getElementById('editor-state').textContent.includes('2 of 3 images done')")
    page.wait_for_function("() => !about.images[picture.position].done")


def test_points_of_an_outline_are_dragged_added_moved_and_deleted(visit, server, cocoa):
    page = visit(server.url)
    outlined = page.evaluate("editor.now.stack.find((n) => editor.now.outlines[n])")
    page.click(f"#editor li[data-n='{outlined}'] .label")
    page.click("#bend")
    before = page.evaluate(f"editor.now.outlines[{outlined}][0]")
    assert page.locator(".points circle").count() == len(before) // 2
    area = page.evaluate(f"picture.truth.instances[{outlined}].area")
    handle = page.locator(".points circle").first
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=4)
    page.mouse.up()
    settled(page, 1)
    after = page.evaluate(f"editor.now.outlines[{outlined}][0]")
    scale = 160 / page.locator("#stage canvas").first.bounding_box()["width"]
    old, new = np.reshape(before, (-1, 2)), np.reshape(after, (-1, 2))
    (moved,) = np.flatnonzero((old != new).any(axis=1))  # the topmost of points that lie close together
    assert np.abs(new[moved] - old[moved] - np.array([40, 30]) * scale).max() < 3
    assert page.evaluate(f"picture.truth.instances[{outlined}].area") != area
    edge = page.evaluate(
        """(() => {
          const edge = document.querySelector(".points .edge"), m = edge.getScreenCTM(), corners = [...edge.points];
          const sides = corners.map((a, k) => [a, corners[(k + 1) % corners.length]]);
          const length = ([a, b]) => Math.hypot(b.x - a.x, b.y - a.y);
          const [a, b] = sides.sort((one, other) => length(other) - length(one))[0];
          return [(a.x + b.x) / 2 * m.a + m.e, (a.y + b.y) / 2 * m.d + m.f];
        })()"""
    )
    page.mouse.move(*edge)
    page.mouse.down()
    page.mouse.move(edge[0] + 12, edge[1] + 12, steps=3)
    page.mouse.up()
    settled(page, 2)
    assert len(page.evaluate(f"editor.now.outlines[{outlined}][0]")) == len(before) + 2
    page.keyboard.press("Backspace")  # the new point is the chosen one
    settled(page, 3)
    assert page.evaluate(f"editor.now.outlines[{outlined}][0]") == after
    page.keyboard.press(".")
    for key in ("ArrowLeft", "Shift+ArrowDown", "Insert"):
        page.keyboard.press(key)
    settled(page, 6)
    moved = page.evaluate(f"editor.now.outlines[{outlined}][0]")
    assert len(moved) == len(before) + 2
    for left in range(5, -1, -1):
        page.keyboard.press("Control+z")
        settled(page, left)
    assert page.evaluate(f"editor.now.outlines[{outlined}][0]") == before
    assert page.evaluate(f"picture.truth.instances[{outlined}].area") == area
    assert_levels(page, cocoa, stack(page))
    for made in range(1, 7):
        page.keyboard.press("Control+Shift+z")
        settled(page, made)
    source = open_source(cocoa)
    apply_journal(source, journal_path(cocoa), cocoa.with_name("applied.json"))
    applied = layer_scene(read_cocoa(cocoa.with_name("applied.json"))[0 if page.evaluate("picture.id") == 1 else 1])
    assert (levels(page)[stack(page)] == applied.levels).all()
