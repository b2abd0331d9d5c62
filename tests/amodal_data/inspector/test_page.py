"""The inspector page in headless Chromium: real clicks, keys, drags and links."""

import json

import numpy as np
import pytest
from support.oracle import roi_levels
from support.scenes import make_scene

from amodal_data import RLE, ScoredMask, build_targets, read_annotations, read_cocoa, write_cocoa
from amodal_data.cache import CachedImage
from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import read_truth
from amodal_data.evaluation.protocols.pair_order import Grids, order_of
from amodal_data.evaluation.results.results_writer import write_predictions
from amodal_data.inspector.drawing.colors import BANDS, IDENTITY, sem_dist_colors
from amodal_data.inspector.page import write_page
from amodal_data.inspector.page_data import PageImage, _leb128
from amodal_data.inspector.summary import most_hidden
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.layering.targets import layer_scene
from amodal_data.scenes.findings import Finding, Place

VIEWS = ("photo", "instances", "layers", "levels", "semdist", "relative", "exploded")


@pytest.fixture
def visit(browser):
    """Open a page from disk; console messages, errors and requests to the network fail the test."""
    contexts, odd = [], []

    def visit(path, hash="", width=1280, height=800, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: odd.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: odd.append(f"error: {error}"))
        page.on("request", lambda r: odd.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(f"file://{path}{hash}")
        page.wait_for_function("() => document.documentElement.dataset.ready")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert odd == []


def address(page):
    return page.evaluate("location.hash")


def ready(page, text):
    page.wait_for_function(f"() => document.documentElement.dataset.ready === {json.dumps(text)}")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Six scenes, predictions that lack one instance of each, and pages without and with them."""
    folder = tmp_path_factory.mktemp("page")
    scenes = write_cocoa(folder, 6, seed=3, size=(240, 320), instances=(4, 7))
    build_targets(read_cocoa(scenes), folder / "t.h5")
    source = open_dataset(folder / "t.h5")
    predictions = {}
    for image, targets in source:
        instances = [n for n in range(len(targets.names)) if n != 1]
        predictions[image.image_id] = [_certain(targets, n, 0.9 - 0.1 * n) for n in instances]
    write_predictions(folder / "p.json", predictions)
    write_page(folder / "truth.html", source.page_images(range(6), [folder]), title="truth")
    images = source.page_images(source.worst(folder / "p.json"), [folder], (), folder / "p.json")
    write_page(folder / "both.html", images, title="both", facts={"images": 6})
    return folder


def _certain(targets, n, score):
    """Instance n as a confident network would predict it."""
    box = targets.boxes()[0][n].astype(np.float32)
    codes = roi_levels(targets, box[None], np.array([n]), 28)[0]
    probabilities = np.stack([codes == code for code in range(5)]).astype(np.float16) * 0.8 + 0.04
    mask = ScoredMask.from_codes(targets.levels[n], max(score, 0.1))
    return ScoredMask(mask.amodal, mask.score, 1, mask.visible, mask.levels, box, probabilities)


def targets_of(place, image_id):
    return next(targets for image, targets in open_dataset(place / "t.h5") if image.image_id == image_id)


def pixel_of(page, kind, x, y):
    """Screen position of a pixel, given as fractions of the picture."""
    box = page.locator(f"canvas[data-kind={kind}]").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def test_every_view_has_colors_and_its_own_address(visit, place):
    page = visit(place / "truth.html", "#image=2")
    for view in VIEWS:
        page.click(f"[data-view={view}]")
        ready(page, f"2 {view}")
        assert f"view={view}" in address(page) and view in page.title()
        colors = page.evaluate(
            "(() => { const c = document.querySelector('#stage canvas'); const d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; const s = new Set();"
            "for (let i = 0; i < d.length; i += 4) s.add(d[i] + ',' + d[i+1] + ',' + d[i+2]); return s.size; })()"
        )
        assert colors > 3, view
        assert page.locator(f"[data-view={view}]").get_attribute("aria-pressed") == "true"


def test_the_browser_unpacks_the_same_levels(visit, place):
    page = visit(place / "truth.html", "#image=4")
    codes = page.evaluate(
        "picture.truth.instances.map((_, n) => Array.from(picture.truth.regions, (r) => picture.truth.table[n][r]))"
    )
    targets = targets_of(place, 4)
    assert (np.array(codes, np.uint8).reshape(-1, 240, 320) == targets.levels).all()
    areas, visible = targets.areas()
    rows = page.locator("#tables tbody tr")
    assert rows.count() == len(areas)
    for n in range(len(areas)):
        cells = rows.nth(n).locator("td").all_inner_texts()
        share = 100 * (areas[n] - visible[n]) / areas[n]
        assert cells[4].replace(",", "") == str(areas[n]) and abs(float(cells[1][:-1]) - share) <= 0.51
        front = [str(a) for a, b in targets.pairs.tolist() if b == n]
        assert cells[2] == (", ".join(front) or "nothing")


def test_hovering_lists_instances_nearest_first(visit, place):
    page = visit(place / "truth.html", "#image=4")
    targets = targets_of(place, 4)
    levels = targets.levels
    y, x = np.unravel_index(int(levels.max(axis=0).argmax()), (240, 320))
    page.mouse.move(*pixel_of(page, "truth", (x + 0.5) / 320, (y + 0.5) / 240))
    text = page.locator("#hover").inner_text()
    stack = sorted((int(levels[n, y, x]), n) for n in range(len(levels)) if levels[n, y, x])
    _, *parts = text.split("\n")
    assert len(parts) == len(stack) > 1
    for part, (code, n) in zip(parts, stack, strict=True):
        assert (
            part.startswith(f"{n} ")
            and f"level {code - 1}," in part
            and f"- {code - 1} = {1 - code + 255 / 256:.3f}" in part
        )
    page.mouse.move(*pixel_of(page, "truth", 0.001, 0.001))
    if not levels[:, 0, 0].any():
        assert page.locator("#hover").inner_text().endswith("no instance")


def test_clicking_isolates_an_instance_and_escape_shows_all(visit, place):
    page = visit(place / "truth.html", "#image=4")
    targets = targets_of(place, 4)
    y, x = np.argwhere(targets.modal(0))[len(np.argwhere(targets.modal(0))) // 2]
    page.mouse.click(*pixel_of(page, "truth", (x + 0.5) / 320, (y + 0.5) / 240))
    assert "alone=0" in address(page) and "1 of" in page.locator("figcaption").inner_text()
    assert page.locator("#tables button").first.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert "alone" not in address(page) and not page.locator("#all").is_visible()
    page.locator("#tables button").nth(1).click()
    page.click("#all")
    assert "alone" not in address(page)
    page.locator("#tables button").nth(2).click()
    page.click("[data-view=levels]")
    assert page.locator("figcaption").inner_text().startswith("2 ")


def test_the_plane_falls_by_slider_keys_and_play(visit, place):
    page = visit(place / "truth.html", "#image=4&view=instances&plane=0")
    deepest = int(targets_of(place, 4).table.max()) - 1
    assert "visible parts" in page.locator("#plane-text").inner_text()

    def coloured():
        return page.evaluate(
            "(() => { const d = new Drawing(picture, picture.truth).clear();"
            " d.instances(chosenOf(picture, picture.truth, state), state.plane);"
            " return d.image.data.filter((value, at) => at % 4 === 3 && value > 0).length; })()"
        )

    visible = coloured()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("state.plane") == 1 and "plane=1" in address(page)
    page.focus("#plane")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("state.plane") == 0 and coloured() == visible
    page.click("#play")
    page.wait_for_function(f"() => state.plane === {deepest}", timeout=900 * (deepest + 3))
    assert "whole objects" in page.locator("#plane-text").inner_text()
    page.wait_for_function("() => document.getElementById('play').textContent === 'Play'")


def test_the_order_of_a_chosen_pair_is_shown(visit, place):
    page = visit(place / "truth.html", "#image=4&view=relative")
    for front, back in targets_of(place, 4).pairs.tolist():
        for a, b, text in ((front, back, "A ("), (back, front, "B (")):
            page.select_option("#pair-a", str(a))
            page.select_option("#pair-b", str(b))
            assert page.locator("#pair-text").inner_text().startswith(text)
    assert f"a={back}&b={front}" in address(page)


def test_searching_sorting_and_stepping(visit, place):
    page = visit(place / "truth.html")
    page.click("#grid button >> nth=0")
    assert page.locator("#images li").count() == 6
    hidden = [page.evaluate(f"about.images[{i}].hidden") for i in range(6)]
    order = page.evaluate("filters.matching().map((image) => image.hidden)")
    assert order == sorted(hidden, reverse=True)
    page.keyboard.press("j")
    ready(page, f"{page.evaluate('filters.matching()[1].id')} instances")
    page.keyboard.press("k")
    ready(page, f"{page.evaluate('filters.matching()[0].id')} instances")
    page.keyboard.press("/")
    page.keyboard.type("000003")
    assert page.locator("#images li").count() == 1 and page.locator("#count").inner_text() == "1 of 6 images"
    page.locator("#images button").click()
    ready(page, "3 instances")
    page.fill("#search", "")
    page.select_option("#sort", "file")
    assert page.evaluate("filters.matching().map((image) => image.id)") == [1, 2, 3, 4, 5, 6]
    page.keyboard.press("Escape")
    page.locator("h2").click()
    page.keyboard.press("5")
    ready(page, "3 semdist")


def test_a_link_restores_the_view(visit, place):
    page = visit(place / "truth.html", "#image=5&view=levels&alone=1&plane=0")
    assert page.evaluate("[picture.id, state.view, state.alone, state.plane]") == [5, "levels", 1, 0]
    page.evaluate("location.hash = '#image=2&view=photo'")
    ready(page, "2 photo")
    broken = visit(place / "truth.html", "#image=2&view=nonsense&plane=x&alone=99&a=8&b=-3")
    for view in VIEWS:
        broken.click(f"[data-view={view}]")


def test_the_exploded_view_turns_by_dragging(visit, place):
    page = visit(place / "truth.html", "#image=4&view=exploded")
    layers = page.locator(".exploded canvas")
    assert layers.count() == int(targets_of(place, 4).table.max())
    before = page.evaluate("document.querySelector('.turn').style.transform")
    box = page.locator(".exploded").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 290, box["y"] + 120, steps=4)
    page.mouse.up()
    assert page.evaluate("document.querySelector('.turn').style.transform") != before


def test_truth_and_predictions_side_by_side(visit, place):
    page = visit(place / "both.html")
    page.click("#grid button >> nth=0")
    assert page.evaluate("filters.matching()[0].errors") == max(page.evaluate("about.images.map((one) => one.errors)"))
    assert page.locator("figure").count() == 2 and page.locator("#tables table").count() == 2
    assert " right" in page.locator("#errors").inner_text()
    x, y = pixel_of(page, "truth", 0.3, 0.6)
    page.mouse.move(x, y)
    marks = page.locator(".mark:not([hidden])")
    assert marks.count() == 2
    assert len({page.evaluate("(m) => m.style.left + m.style.top", mark) for mark in marks.element_handles()}) == 1
    text = page.locator("#hover").inner_text()
    assert "truth, nearest first" in text and "predicted, nearest first" in text
    caption = page.locator("figcaption").nth(1).inner_text()
    page.fill("#least", "0.85")
    page.dispatch_event("#least", "input")
    assert page.locator("figcaption").nth(1).inner_text() != caption
    page.click("[data-view=levels]")
    page.locator("#tables table").first.locator("button").first.click()
    captions = page.locator("figcaption").all_inner_texts()
    assert captions[0].startswith("truth: 0 ") and captions[1].startswith("predicted: instance 0")
    page.locator("#tables table").first.locator("button").nth(1).click()  # the one that nothing predicts
    assert page.locator("#plane").get_attribute("step") == "0.05"
    for view in VIEWS:
        page.click(f"[data-view={view}]")


@pytest.mark.parametrize("width, side_by_side", [(1200, True), (1440, True), (390, False)])
def test_figures_are_side_by_side_from_1200_pixels(visit, tmp_path, width, side_by_side):
    masks = np.zeros((2, 480, 640), bool)
    masks[0, 100:300, 100:300] = masks[1, 200:400, 200:600] = True
    targets = layer_scene(make_scene(masks))
    predictions = [ScoredMask(mask, 0.9) for mask in targets.rles()]
    write_page(tmp_path / "p.html", [PageImage(CachedImage(1, "a", (480, 640)), targets, predictions)], title="a")
    page = visit(tmp_path / "p.html", "", width, 844)
    for view in VIEWS[1:]:
        page.click(f"[data-view={view}]")
        first, second = (figure.bounding_box() for figure in page.locator("figure").all())
        assert (first["y"] == second["y"]) == side_by_side, view
        assert (second["x"] > first["x"] + first["width"]) == side_by_side, view


def test_matched_instances_share_a_color_and_every_map_has_a_legend(visit, tmp_path):
    masks = np.zeros((3, 60, 80), bool)
    masks[0, 5:30, 5:30] = masks[1, 20:50, 20:60] = masks[2, 40:58, 50:78] = True
    targets = layer_scene(make_scene(masks))
    whole = targets.rles()
    wide = RLE.from_mask(np.ones((60, 80), bool))
    scored = ((wide, 0.9), (whole[2], 0.8), (whole[0], 0.7), (whole[0], 0.6))
    predictions = [ScoredMask(mask, score) for mask, score in scored]
    write_page(tmp_path / "p.html", [PageImage(CachedImage(1, "a", (60, 80)), targets, predictions)], title="a")
    page = visit(tmp_path / "p.html")
    assert page.evaluate("picture.matches") == [2, None, 1]
    true_hues, hues = page.evaluate("[picture.truth.hues, picture.predicted.hues]")
    assert true_hues == [0, 1, 2] and hues[1:3] == [2, 0] and not {hues[0], hues[3]} & set(true_hues)
    swatches = "(t) => [...t.querySelectorAll('.swatch')].map((s) => s.style.background)"
    tables = page.locator("#tables table").all()
    truth, predicted = (page.evaluate(swatches, table.element_handle()) for table in tables)
    assert predicted[1] == truth[2] and predicted[2] == truth[0] and len({*truth, predicted[0], predicted[3]}) == 5
    for view in VIEWS[1:]:
        page.click(f"[data-view={view}]")
        assert page.locator("#legend").inner_text(), view
    page.click("[data-view=semdist]")
    page.locator("#tables table").first.locator("button").nth(1).click()
    assert page.locator("figcaption").nth(1).inner_text() == "predicted: no matching detection"


def test_a_fractional_plane_thresholds_the_confidence(visit, place):
    page = visit(place / "both.html", "#image=4&view=levels")

    def count_pixels(plane):
        return page.evaluate(
            f"(() => {{ const t = picture.predicted; let n = 0; for (let i = 0; i < t.instances.length; i++)"
            f" for (let p = 0; p < t.regions.length; p++)"
            f" {{ const c = t.code(i, p); n += c > 0 && reaches(t, i, p, c, {plane}); }} return n; }})()"
        )

    counts = [count_pixels(plane) for plane in (0, 0.3, 0.6, 0.9, 1)]
    assert counts == sorted(counts) and counts[0] < counts[2] < counts[-1]


EVIL = '<script>document.title="taken"</script><img src=x onerror=alert(1)>"\'&'


def test_names_from_the_data_are_never_markup(visit, tmp_path):
    scene = make_scene([np.pad(np.ones((20, 20), bool), 10)] * 2)
    targets = layer_scene(scene)
    object.__setattr__(targets, "names", (EVIL, "</script><h1>x</h1>"))
    image = CachedImage(1, f"{EVIL}.jpg", targets.size)
    finding = Finding("size-differs", Place(EVIL, 1), EVIL)
    page_image = PageImage(image, targets, findings=(finding,))
    write_page(tmp_path / "evil.html", [page_image], title=EVIL, facts={EVIL: EVIL})
    page = visit(tmp_path / "evil.html")
    assert page.title().startswith(EVIL) and page.locator("h2").inner_text() == f"{EVIL}.jpg"
    assert page.locator("img:not(#grid img)").count() == 0 and page.locator("script:not([type])").count() == 1
    assert page.locator("h1").count() == 1 and EVIL in page.locator("#findings").inner_text()
    for view in VIEWS:
        page.click(f"[data-view={view}]")
    assert page.title() != "taken"


def test_the_policy_stops_foreign_scripts_and_requests(browser, place):
    """Unlike ``visit``, this test expects messages on the console."""
    page = browser.new_page()
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(f"file://{place / 'truth.html'}")
    page.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.taken = 1';"
        " document.body.append(s); const i = document.createElement('img'); i.src = 'https://example.org/x.png';"
        " document.body.append(i); })()"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.taken") is None
    assert len(messages) == 2 and all("Content Security Policy" in text for text in messages)
    page.close()


@pytest.mark.parametrize("size", [(1200, 800), (1440, 900), (1920, 1080), (390, 844)])
@pytest.mark.parametrize("name", ["truth", "both"])
def test_layout_has_no_overflow_and_no_overlap(visit, place, size, name):
    page = visit(place / f"{name}.html", "#image=2", *size)
    for view in VIEWS:
        page.click(f"[data-view={view}]")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        crossed = page.evaluate(
            "(() => { const boxes = ['#bar', '#views', '#tools', '#seen', '#details'].map((s) =>"
            " document.querySelector(s).getBoundingClientRect()); let n = 0;"
            " for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) { const a = boxes[i], b = boxes[j];"
            " n += a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1; }"
            " return n; })()"
        )
        assert crossed == 0, view
    if size[0] < 700:
        assert not page.locator("#list").is_visible()
        page.click("#show-list")
        page.locator("#images button").nth(1).click()
        assert not page.locator("#list").is_visible()


CONTRAST = """
(() => {
  const linear = (x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  const light = (c) => { const v = c.map((x) => linear(x / 255));
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const parse = (s) => s.match(/[\\d.]+/g).map(Number);
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("script, option, .tag")) continue;
    let under = node, back = [0, 0, 0, 0];
    for (; under && back.length === 4 && back[3] === 0; under = under.parentElement)
      back = parse(getComputedStyle(under).backgroundColor);
    const a = light(parse(getComputedStyle(node).color)), b = light(back);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5 && !node.closest("tr.off"))
      found.push(node.tagName + " " + node.textContent.slice(0, 30) + " " + ratio.toFixed(2));
  }
  return found;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names_of_controls(visit, place, scheme):
    page = visit(place / "both.html", color_scheme=scheme)
    for screen in ("findings", "images"):
        page.click(f"#show-{screen}")
        assert page.evaluate(CONTRAST) == []
    page.click("#grid button >> nth=0")
    for view in VIEWS:
        page.click(f"[data-view={view}]")
        assert page.evaluate(CONTRAST) == []
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter((e) => !(e.textContent.trim() || e.ariaLabel ||"
        " e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert nameless == []
    for role in ("navigation", "main", "banner"):
        assert page.get_by_role(role).count() == 1
    assert page.get_by_role("img").count() >= 2 and page.get_by_role("group", name="View").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_pages_are_small(tmp_path):
    scenes = write_cocoa(tmp_path, 4, seed=3)
    source = open_dataset(scenes)
    write_page(tmp_path / "none.html", [], title="none")
    empty = (tmp_path / "none.html").stat().st_size
    for folders, most in (([], 24), ([tmp_path], 160)):
        write_page(tmp_path / "p.html", source.page_images(range(4), folders), title="p")
        assert ((tmp_path / "p.html").stat().st_size - empty) / 4 < most * 1024
    assert empty < 72 * 1024


def test_a_hundred_images_are_ready_at_once(visit, tmp_path):
    scenes = write_cocoa(tmp_path, 10, seed=3)
    source = open_dataset(scenes)
    images = list(source.page_images(range(10), [tmp_path]))
    write_page(tmp_path / "p.html", images * 10, title="p")
    page = visit(tmp_path / "p.html")
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable")
    values = {metric["name"]: metric["value"] for metric in metrics.send("Performance.getMetrics")["metrics"]}
    assert values["TaskDuration"] < 2
    assert page.evaluate("pictures.size") == 0


def test_lists_grow_by_a_hundred_and_may_be_empty(visit, tmp_path):
    scene = make_scene(np.zeros((1, 20, 20), bool))
    images = [PageImage(CachedImage(n, f"{n}.jpg", (20, 20)), layer_scene(scene)) for n in range(130)]
    write_page(tmp_path / "p.html", images, title="p")
    page = visit(tmp_path / "p.html")
    assert page.locator("#grid li").count() == 100
    page.click("#more-cards")
    assert page.locator("#grid li").count() == 130 and not page.locator("#more-cards").is_visible()
    page.click("#grid button >> nth=0")
    assert page.locator("#images li").count() == 130
    assert [view.get_attribute("data-view") for view in page.locator("#views button").all()] == ["photo", "instances"]
    write_page(tmp_path / "none.html", [], title="none")
    assert "no images" in visit(tmp_path / "none.html").locator("#count").inner_text()


def test_a_page_of_predictions_without_truth(visit, tmp_path):
    predictions = [ScoredMask.from_codes(np.pad(np.ones((8, 8), np.uint8), 4) * code, 0.9) for code in (1, 2)]
    write_page(tmp_path / "p.html", [PageImage(CachedImage(1, "a.jpg", (16, 16)), predictions=predictions)], title="p")
    page = visit(tmp_path / "p.html")
    for view in VIEWS:
        page.click(f"[data-view={view}]")
    assert page.locator("#tables table").count() == 1


def test_the_real_sample_as_a_page(visit, real, tmp_path):
    source = open_dataset(real)
    write_page(tmp_path / "real.html", source.page_images(range(3), [real.parent]), title="real")
    page = visit(tmp_path / "real.html", "#image=6608")
    for _ in range(3):
        for view in VIEWS:
            page.click(f"[data-view={view}]")
        page.click("#next")
    assert (tmp_path / "real.html").stat().st_size < 3 * 150 * 1024


def test_numbers_of_any_size_are_packed():
    values = np.array([0, 1, 127, 128, 300, 16383, 16384, 2**21 - 1, 2**21, 2**31])
    packed, out = iter(_leb128(values)), []
    for byte in packed:
        value, shift = byte & 127, 7
        while byte & 128:
            byte = next(packed)
            value, shift = value | (byte & 127) << shift, shift + 7
        out.append(value)
    assert out == values.tolist()


WHITE = np.full((1, 3), 255.0)
MAPS = [sem_dist_colors(confidence - np.arange(6)) for confidence in (1.0, 0.9, 0.75, 0.6)]


@pytest.mark.parametrize(
    "colors, distance",
    [(np.vstack([colors, WHITE]), distance) for colors, distance in [
        (IDENTITY, 10), (BANDS, 12), *((colors, 10) for colors in MAPS)]],
)  # fmt: skip
def test_colors_stay_distinct_under_color_blindness(colors, distance):
    from colorspacious import cspace_convert

    for kind in ("deuteranomaly", "protanomaly", "tritanomaly"):
        blind = {"name": "sRGB1+CVD", "cvd_type": kind, "severity": 100}
        perceived = cspace_convert(cspace_convert(colors / 255, blind, "sRGB1").clip(0, 1), "sRGB1", "CAM02-UCS")
        distances = np.linalg.norm(perceived[:, None] - perceived[None], axis=2)
        assert distances[np.triu_indices(len(perceived), 1)].min() >= distance


def test_masks_are_matched_by_overlap(place):
    from amodal_data.inspector.page_data import image_document

    mask = RLE.from_mask(np.ones((4, 4)))
    targets = layer_scene(make_scene([np.ones((4, 4), bool), np.zeros((4, 4), bool)]))
    page_image = PageImage(CachedImage(1, "a", (4, 4)), targets, [ScoredMask(mask, 0.5)])
    assert image_document(page_image)["matches"] == [0, None]
    assert read_annotations(place / "COCO_amodal_val2014.json")


def test_views_of_one_instance_start_with_the_most_hidden(visit, place):
    page = visit(place / "truth.html", "#image=1&view=levels")
    for image_id in range(1, 7):
        page.evaluate(f"location.hash = '#image={image_id}&view=levels'")
        ready(page, f"{image_id} levels")
        assert page.locator("figcaption").inner_text().startswith(f"{most_hidden(targets_of(place, image_id))} ")


def test_portrait_photos_keep_their_shape(visit, tmp_path):
    scene = make_scene(np.ones((1, 640, 427), bool))
    write_page(tmp_path / "p.html", [PageImage(CachedImage(1, "a.jpg", (640, 427)), layer_scene(scene))], title="p")
    box = visit(tmp_path / "p.html").locator("#stage canvas").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(640 / 427, rel=0.01)


def test_instances_below_the_score_are_not_listed(visit, tmp_path):
    codes = np.pad(np.ones((8, 8), np.uint8), 4)
    predictions = [ScoredMask.from_codes(codes, 0.2), ScoredMask.from_codes(codes, 0.9)]
    write_page(tmp_path / "p.html", [PageImage(CachedImage(1, "a.jpg", (16, 16)), predictions=predictions)], title="p")
    page = visit(tmp_path / "p.html")
    page.mouse.move(*pixel_of(page, "predicted", 0.5, 0.5))
    assert page.locator("#hover span").count() == 2
    page.focus("#least")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("[state.least, state.plane === Infinity]") == [0.45, True]
    page.locator("#tables button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.dataset.pick") == "predicted 1"
    for hash in ("#alone=0.5", "#view=relative&a=0.5&b=1.5"):
        assert visit(tmp_path / "p.html", hash).evaluate("[state.alone, state.a]") == [None, None]


def test_numpy_torch_and_the_page_paste_boxes_equally(visit, tmp_path):
    """numpy, torch and JavaScript paste the same numbers, also for boxes that leave the image."""
    import torch

    from amodal_data.evaluation.protocols.pair_order import paste as numpy_paste
    from sln.network.paste_masks import paste as torch_paste

    rng = np.random.default_rng(0)
    size, boxes = (40, 60), np.array([[5.5, 3.2, 31.4, 30.9], [-7, 10, 20, 55], [30, 20, 30.4, 20.3]], np.float32)
    cells = (rng.integers(0, 256, (3, 7, 7)) / 255).astype(np.float32)  # as many shades as the page keeps
    predictions = []
    for box, inside in zip(boxes, cells, strict=True):
        masks = {"amodal": RLE.from_mask(np.ones(size)), "visible": RLE.from_mask(np.ones(size))}
        probabilities = np.stack([1 - inside, inside])
        predictions.append(ScoredMask(**masks, score=0.9, box=box, probabilities=probabilities))
    write_page(tmp_path / "p.html", [PageImage(CachedImage(1, "a.jpg", size), predictions=predictions)], title="p")
    page = visit(tmp_path / "p.html")
    window = (slice(0, size[0]), slice(0, size[1]))
    probabilities = torch.from_numpy(np.stack([prediction.probabilities for prediction in predictions]))
    by_torch = torch_paste(probabilities, torch.from_numpy(boxes), size)
    for n, prediction in enumerate(predictions):
        by_numpy = numpy_paste(prediction.probabilities, prediction.box, window)
        code = f"Array.from({{length: {40 * 60}}}, (_, p) => picture.predicted.confidence({n}, p))"
        by_page = np.array(page.evaluate(code)).reshape(size)
        assert np.abs(by_torch[n].numpy() - by_numpy).max() < 1e-5
        assert np.abs(by_page - (1 - by_numpy[0]).clip(0, 255 / 256)).max() < 0.01  # boxes in hundredths of a pixel


def test_the_page_orders_predicted_pairs_as_the_package(visit, place):
    page = visit(place / "both.html", "#image=4&view=relative")
    predictions = read_predictions(place / "p.json", read_truth(place / "t.h5")).of(4)
    for a in range(len(predictions)):
        for b in range(len(predictions)):
            expected = order_of(predictions[a], predictions[b], Grids()) if a != b else 0
            assert page.evaluate(f"picture.predicted.order({a}, {b})") == expected


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A page of three images: a cup hidden by a box, a cup alone, and a box with a finding."""
    folder = tmp_path_factory.mktemp("mixed")
    front, back = np.zeros((2, 60, 80), bool)
    front[10:50, 10:50], back[20:55, 20:70] = True, True
    images = []
    for number, (masks, names) in enumerate(
        (([front, back], ("box", "cup")), ([back], ("cup",)), ([front], ("box",))), 1
    ):
        targets = layer_scene(make_scene(masks))
        object.__setattr__(targets, "names", names)
        findings = [Finding("area-differs", Place("a.json", 3, 0), "12, the mask has 1600")] * (number == 3)
        name = "a-very-long-folder/" * 6 + f"photo-{number}.jpg"
        images.append(PageImage(CachedImage(number, name, (60, 80)), targets, findings=findings))
    write_page(folder / "p.html", images, title="mixed", facts={"findings": 2})
    return folder / "p.html"


def test_the_page_begins_with_thumbnails_and_back_returns_to_them(visit, mixed):
    page = visit(mixed)
    assert page.locator("#grid img").count() == 3 and not page.locator("#image-view").is_visible()
    assert page.evaluate("[...document.querySelectorAll('#grid img')].every((i) => i.complete && i.naturalWidth > 50)")
    assert page.evaluate("pictures.size") == 0 and "list=images" in address(page)
    page.locator("#grid button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    shown = page.evaluate("filters.matching()[1].id")
    ready(page, f"{shown} instances")
    assert not page.locator("#grid").is_visible() and page.locator("#stage canvas").is_visible()
    page.go_back()
    ready(page, "images")
    assert page.locator("#grid").is_visible()
    page.keyboard.press("f")
    ready(page, "findings")
    page.keyboard.press("g")
    ready(page, "images")


def test_filters_by_class_hidden_share_and_finding(visit, mixed):
    page = visit(mixed)

    def shown():
        return page.evaluate("filters.matching().map((image) => image.id).sort()")

    page.select_option("#class", "=cup")
    assert shown() == [1, 2] and page.locator("#grid li").count() == 2 and "class=" in address(page)
    page.select_option("#hidden", "3")  # the cup of image 1 is 51% hidden; class and share fit one instance
    assert shown() == [1]
    page.select_option("#class", "=box")
    assert shown() == [] and page.locator("#none").is_visible()
    page.click("#clear")
    assert shown() == [1, 2, 3] and not page.locator("#none").is_visible()
    page.select_option("#finding", "area-differs")
    assert shown() == [3] and page.locator("#count").inner_text() == "1 of 3 images"
    again = visit(mixed, address(page))
    assert again.locator("#grid li").count() == 1 and again.input_value("#finding") == "area-differs"
    again.click("#grid button")
    ready(again, "3 instances")
    again.keyboard.press("j")
    assert again.evaluate("picture.id") == 3 and "finding=area-differs" in address(again)


def test_findings_are_listed_and_lead_to_their_instance(visit, mixed):
    page = visit(mixed, "#list=findings")
    assert page.locator("#finding-count").inner_text().startswith("1 finding of 2")
    text = page.locator("#all-findings").inner_text()
    assert "area-differs (1)" in text and "12, the mask has 1600" in text
    page.click("#all-findings button")
    page.wait_for_function("() => location.hash.includes('alone=0')")
    assert page.evaluate("[picture.id, state.alone]") == [3, 0]
    assert "area-differs" in page.locator("#findings").inner_text()


CUT = """
[...document.querySelectorAll("body *")].filter((e) =>
  e.checkVisibility() && !e.matches("select, .cut span, option, #images") && e.scrollWidth > e.clientWidth + 1 &&
  getComputedStyle(e).overflowX !== "visible").map((e) => e.outerHTML.slice(0, 90))
"""


@pytest.mark.parametrize("width, height", [(1440, 900), (1280, 800), (390, 844)])
def test_nothing_is_cut(visit, mixed, place, width, height):
    for path, hashes in (
        (mixed, ("#list=images", "#list=findings", "#image=1")),
        (place / "truth.html", ("#image=4",)),
    ):
        for hash in hashes:
            page = visit(path, hash, width, height)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), hash
            assert page.evaluate(CUT) == [], hash
    name = visit(mixed, "", width, height).locator("#grid .cut").first
    assert name.evaluate("(e) => e.lastChild.getBoundingClientRect().right <= e.getBoundingClientRect().right + 1")


def test_labels_have_class_names_and_do_not_overlap(visit, place):
    page = visit(place / "truth.html", "#image=4")
    tags = page.locator(".tag").all()
    assert any(" " in tag.inner_text() for tag in tags)
    boxes = [tag.bounding_box() for tag in tags]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            wide = max(a["x"], b["x"]) < min(a["x"] + a["width"], b["x"] + b["width"]) - 1
            tall = max(a["y"], b["y"]) < min(a["y"] + a["height"], b["y"] + b["height"]) - 1
            names = a["width"] > 30 or b["width"] > 30
            assert not (wide and tall and names)
