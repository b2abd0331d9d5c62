"""Orders that are swapped in real annotations: the queue finds them, and moves on the page correct them."""

import json
import shutil
from itertools import pairwise

from support.editing import serving

from amodal_data import layer_scene, read_cocoa
from amodal_data.editing.apply import apply_journal
from amodal_data.editing.journal import journal_path
from amodal_data.editing.source import open_source

CORRECT = """async () => { // what a user does: choose what a finding names, move it, keep what removes a finding
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
    """Swap the orders of overlapping neighbors; what the file stores beside them stays. Returns the number."""
    content, count = json.loads(path.read_text()), 0
    for scene, row in zip(read_cocoa(path), content["annotations"], strict=True):
        pairs, taken = layer_scene(scene).pairs.tolist(), set()
        order = sorted(range(len(scene.instances)), key=lambda n: scene.instances[n].order)
        for pair in pairwise(order):
            if list(pair) in pairs and not taken & set(pair):
                one, other = (row["regions"][scene.instances[n].region_index] for n in pair)
                one["order"], other["order"] = other["order"], one["order"]
                taken |= set(pair)
                count += 1
    output.write_text(json.dumps(content))
    return count


def test_planted_mistakes_are_found_and_corrected_on_the_page(browser, real, tmp_path):
    path = tmp_path / "planted.json"
    count = planted(real, path)
    for photo in real.parent.glob("*.jpg"):
        shutil.copy(photo, tmp_path)
    assert count >= 5
    with serving(path) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector("#grid button")
        found = page.evaluate("filters.matching().map((image) => image.findings.length)")
        assert found == sorted(found, reverse=True) and found[0] > 0  # images with findings come first
        flagged = page.evaluate("filters.matching().filter((image) => image.findings.length).map((image) => image.id)")
        for image_id in flagged:
            page.evaluate(f"open(about.images.findIndex((image) => image.id === {image_id}))")
            page.wait_for_function(f"() => picture.id === {image_id} && editor.writer")
            assert page.evaluate(CORRECT) == 0
        assert page.evaluate("about.images.filter((image) => image.findings.length).length") == 0
        context.close()
    apply_journal(open_source(path), journal_path(path), tmp_path / "corrected.json")
    for one, other in zip(read_cocoa(tmp_path / "corrected.json"), read_cocoa(real), strict=True):
        first, second = layer_scene(one), layer_scene(other)
        masks = second.rles()
        expected = {mask: second.levels[n] for n, mask in enumerate(masks)}
        assert all((first.levels[n] == expected[mask]).all() for n, mask in enumerate(first.rles()))
