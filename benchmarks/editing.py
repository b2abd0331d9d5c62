"""Time of edits on the page: 50 instances with outlines of 200 points on a photo of 4 megapixels.

python benchmarks/editing.py [--instances 50] [--points 200] [--rounds 12]    (needs playwright and Chromium)

Prints milliseconds, the median of the rounds. Of one move in the order: CPU of the server, CPU of the page, the wall
time to the new levels on the screen, and that to the server's answer with all that is around the picture. Of one step
of a point that is dragged: CPU of the page and wall time, and the time from one drawing of the levels to the next.
"""

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from amodal_data import layer_scene, read_cocoa
from amodal_data.editing.journal import journal_path, open_journal
from amodal_data.editing.server import EditingServer
from amodal_data.editing.session import EditingSession
from amodal_data.editing.source import open_source

SIZE = 1632, 2448  # Height and width of the photo in pixels
DRAG = 40  # Steps of a drag
MOST = """editor.now.stack.reduce((a, b) => // overlaps the most
  editor.partners(editor.now, a).size > editor.partners(editor.now, b).size ? a : b)"""
MOVED = """async ([n, forward]) => { // from a key to the new levels, and to the server's answer
  const start = performance.now(), table = () => picture.truth.table.map((row) => row.join()).join(";");
  const before = table(), frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const answered = editor.step(n, forward);
  await frame();
  const drawn = performance.now() - start, ahead = table();
  await answered;
  await frame();
  return { drawn: ahead !== before && ahead === table() ? drawn : null, all: performance.now() - start };
}"""
REPAINTED = """() => { const { repaint } = editor; editor.repaints = 0;
  editor.repaint = function () { this.repaints++; repaint.call(this); }; }"""


def write_scene(folder: Path, instances: int, points: int) -> Path:
    """A COCOA file of one image, with its photo and the visible masks of what is hidden."""
    rng, (height, width) = np.random.default_rng(0), SIZE
    photo = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC).save(folder / "a.jpg", quality=90)
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    regions: list[dict[str, Any]] = []
    for n in range(instances):
        wave = 1 + 0.15 * np.sin(rng.integers(3, 9) * angles + rng.uniform(0, 6)) + rng.normal(0, 0.01, points)
        center, radius = rng.uniform(0.15, 0.85, 2) * (width, height), rng.uniform(0.06, 0.16) * height
        outline = center + (np.stack([np.cos(angles), np.sin(angles)]) * wave * radius).T
        outline = outline.clip(0, (width, height)).round(2)
        regions.append({"segmentation": outline.ravel().tolist(), "order": n + 1, "name": f"object {n}"})
    path = folder / "scene.json"
    for _ in range(2):  # without stored masks, and with them
        content = {"images": [{"id": 1, "height": height, "width": width, "file_name": "a.jpg"}],
                   "annotations": [{"image_id": 1, "regions": regions}]}  # fmt: skip
        path.write_text(json.dumps(content))
        targets = layer_scene(read_cocoa(path)[0])
        for region, visible, hidden in zip(regions, targets.rles("modal"), targets.rles("hidden"), strict=True):
            area = visible.area + hidden.area
            region |= {"area": area, "occlude_rate": hidden.area / (area + 1e-6) if hidden.area else 0}
            if hidden.area:
                region |= {"visible_mask": visible.to_coco(), "invisible_mask": hidden.to_coco()}
    return path


def watch(session: EditingSession) -> list[float]:
    """Collect the CPU seconds of every edit of a session."""
    times: list[float] = []
    edit = session.edit

    def timed(*arguments: Any) -> dict[str, Any]:
        start = time.thread_time()
        try:
            return edit(*arguments)
        finally:
            times.append(time.thread_time() - start)

    session.edit = timed  # type: ignore[method-assign]
    return times


class Clock:
    """CPU seconds of the main thread of a page."""

    def __init__(self, page: Page) -> None:
        self._chromium = page.context.new_cdp_session(page)
        self._chromium.send("Performance.enable", {"timeDomain": "threadTicks"})

    def seconds(self) -> float:
        """Seconds since the page began."""
        values = self._chromium.send("Performance.getMetrics")["metrics"]
        return float(next(entry["value"] for entry in values if entry["name"] == "TaskDuration"))


def measure(page: Page, times: list[float], rounds: int) -> dict[str, float]:
    """Milliseconds of a move in the order, and of a step of a point that is dragged."""
    clock, figures = Clock(page), dict[str, list[float]]()
    n = page.evaluate(MOST)
    page.evaluate(f"editor.choose({n})")
    for turn in range(rounds):
        before, count = clock.seconds(), len(times)
        walls = page.evaluate(MOVED, [n, turn % 2 == 0])
        page.wait_for_timeout(50)
        assert len(times) == count + 1 and walls["drawn"], "the levels are those of the server's answer"
        figures.setdefault("move: server", []).append(1000 * times[-1])
        figures.setdefault("move: page", []).append(1000 * (clock.seconds() - before))
        figures.setdefault("move: to the levels", []).append(walls["drawn"])
        figures.setdefault("move: to the answer", []).append(walls["all"])
    page.keyboard.press("o")
    handle = page.locator(".points circle").nth(17).bounding_box()
    assert handle is not None
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(REPAINTED)
    started = time.perf_counter()
    for _ in range(rounds):
        before, start = clock.seconds(), time.perf_counter()
        for step in range(DRAG):
            page.mouse.move(x + step, y + step % 7)
            page.evaluate("new Promise(requestAnimationFrame)")
        figures.setdefault("drag: page", []).append(1000 * (clock.seconds() - before) / DRAG)
        figures.setdefault("drag: wall", []).append(1000 * (time.perf_counter() - start) / DRAG)
    figures["drag: levels"] = [1000 * (time.perf_counter() - started) / max(1, page.evaluate("editor.repaints"))]
    before, count = clock.seconds(), len(times)
    page.mouse.up()
    page.evaluate("editor.queue")
    figures["drop: server"] = [1000 * times[-1]] if len(times) > count else []
    figures["drop: page"] = [1000 * (clock.seconds() - before)]
    return {name: round(median(values), 1) for name, values in figures.items()}


@contextmanager
def editing_page(session: EditingSession, image: int) -> Iterator[Page]:
    """The editing page of a session in Chromium, opened at an image."""
    with EditingServer(session) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(300_000)
        page.goto(f"{server.url}#image={image}")
        page.wait_for_function("() => editor?.writer && document.querySelectorAll('#stack li').length")
        yield page
        browser.close()
        server.shutdown()


def main(instances: int, points: int, rounds: int) -> None:
    """Serve the scene, open it, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_scene(Path(folder), instances, points)
        source = open_source(path)
        with open_journal(journal_path(path), source.origin) as journal:
            session = EditingSession(source, journal, [path.parent])
            times = watch(session)
            with editing_page(session, 1) as page:
                for name, milliseconds in measure(page, times, rounds).items():
                    print(f"{name:<20}{milliseconds:>9} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    main(arguments.instances, arguments.points, arguments.rounds)
