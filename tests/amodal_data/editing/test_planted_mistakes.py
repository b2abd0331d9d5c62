"""Mistakes planted into real annotations: the queue finds them, and mouse and keys correct them on the page."""

import copy
import json
import shutil
from itertools import pairwise

import numpy as np
from support.edit_page import settled
from support.editing import serving

from amodal_data import layer_scene, read_cocoa
from amodal_data.editing.apply import apply_journal
from amodal_data.editing.journal import journal_path
from amodal_data.editing.source import open_source

BENT = {188819: (1, 3, 40, 30), 6608: (0, 1, 20, 10), 200752: (1, 20, -30, 20)}  # Image -> region, point, its offset
TWICE = {6608: 9, 200752: 2}  # Image -> region that is listed twice
REORDER = """async () => { // what a user does: choose what a finding names, move it, keep what removes a finding
  const count = () => picture.findings.length;
  for (let tries = 0; count() && tries < 12; tries++)
    for (const [, , instance] of [...picture.findings]) for (const forward of [true, false]) {
      if (instance === null || !count()) continue;
      const before = count();
      await editor.step(instance, forward);
      if (count() >= before) await editor.send({ do: "undo" });
    }
  return count();
}"""


def planted(path, output):
    """Plant mistakes: orders swapped, points moved, regions listed twice, orders left out. Returns their number."""
    content, swapped = json.loads(path.read_text()), 0
    for scene, row in zip(read_cocoa(path), content["annotations"], strict=True):
        regions, image_id, pairs, taken = row["regions"], row["image_id"], layer_scene(scene).pairs.tolist(), set()
        n, point, dx, dy = BENT[image_id]
        regions[n]["segmentation"][2 * point] += dx
        regions[n]["segmentation"][2 * point + 1] += dy
        for pair in (
            pairwise(sorted(range(len(regions)), key=lambda n: regions[n]["order"])) if image_id == 6608 else ()
        ):
            if list(pair) in pairs and not taken & set(pair):
                one, other = (regions[n] for n in pair)
                one["order"], other["order"] = other["order"], one["order"]
                taken |= set(pair)
                swapped += 1
        if image_id in TWICE:
            del regions[-1]["order"]
            regions.append(copy.deepcopy(regions[TWICE[image_id]]))
    output.write_text(json.dumps(content))
    return swapped + len(BENT) + 2 * len(TWICE)


def bend_back(page, image_id):
    """Move the point that stands out, by keys."""
    n, point, dx, dy = BENT[image_id]
    page.evaluate(f"editor.choose({page.evaluate('editor.now.positions')}.indexOf({n}))")
    page.evaluate("editor.focus()")
    page.keyboard.press("o")
    for _ in range(point + 1):
        page.keyboard.press(".")
    for key, steps in (("ArrowLeft" if dx > 0 else "ArrowRight", dx), ("ArrowUp" if dy > 0 else "ArrowDown", dy)):
        for _ in range(abs(steps) // 10):
            page.keyboard.press(f"Shift+{key}")
    page.evaluate("editor.queue")
    page.keyboard.press("o")


def test_ten_mistakes_are_found_by_the_queue_and_corrected_on_the_page(browser, real, tmp_path):
    path = tmp_path / "planted.json"
    assert planted(real, path) == 10
    for photo in real.parent.glob("*.jpg"):
        shutil.copy(photo, tmp_path)
    with serving(path) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector("#grid button")
        queue = page.evaluate("filters.matching().map((image) => [image.id, image.findings.length])")
        assert [count for _, count in queue] == sorted((count for _, count in queue), reverse=True)  # findings first
        assert all(count for _, count in queue)
        codes = page.evaluate("about.images.map((image) => [image.id, image.findings.map(([code]) => code)])")
        assert {
            "stored-mask-differs", "area-differs", "region-duplicate", "order-missing"
        } <= {code for _, found in codes for code in found}  # fmt: skip
        for image_id, _ in queue:
            page.evaluate(f"open(about.images.findIndex((image) => image.id === {image_id}))")
            page.wait_for_function(f"() => picture.id === {image_id} && editor.writer")
            twin = page.evaluate("(picture.findings.find(([code]) => code === 'region-duplicate') ?? [])[2]")
            if twin is not None:
                page.evaluate(f"editor.choose({twin}); editor.focus()")
                page.keyboard.press("Delete")
                settled(page, 1)
            unordered = page.evaluate("(picture.findings.find(([code]) => code === 'order-missing') ?? [])[2]")
            if unordered is not None:  # the place in the stack is right: a move forth and back writes it
                edits = page.evaluate("editor.now.undo")
                page.evaluate(f"editor.choose({unordered}); editor.focus()")
                page.keyboard.press("]")
                settled(page, edits + 1)
                page.keyboard.press("[")
                settled(page, edits + 2)
            bend_back(page, image_id)
            assert page.evaluate(REORDER) == 0
        context.close()
    apply_journal(open_source(path), journal_path(path), tmp_path / "corrected.json")
    for one, other in zip(read_cocoa(tmp_path / "corrected.json"), read_cocoa(real), strict=True):
        first, second = layer_scene(one), layer_scene(other)
        expected = {mask: second.levels[n] for n, mask in enumerate(second.rles())}
        assert all(np.array_equal(first.levels[n], expected[mask]) for n, mask in enumerate(first.rles()))
