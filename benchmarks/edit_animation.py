"""Animate edits of the order on the editing page: levels follow each key.

python benchmarks/edit_animation.py scenes/COCO_amodal_val2014.json docs/images/edit-order.webp --image 2 --instance 5
(the scenes: ad.write_cocoa("scenes", 4, seed=12, size=(300, 400), instances=(6, 8)))
(needs playwright and Chromium; photos are looked for beside the file, whose journal must be new)
"""

import argparse
import io
import tempfile
from pathlib import Path

from editing import editing_page
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page

from amodal_data.editing.journal import open_journal
from amodal_data.editing.session import EditingSession
from amodal_data.editing.source import open_source

WIDTH = 840  # Of the animation in pixels
FRAME_TIME = 1300  # Milliseconds
CAPTION = 34  # Height of the line below the page in pixels
KEYS = [
    ("", "select an instance"),
    ("]", "]  moves it in front of the next one"),
    ("]", "]  and of the one after that"),
    ("}", "}  to the front of all"),
    ("{", "{  behind all"),
    ("Control+z", "Ctrl+Z  takes an edit back"),
]


def shoot(page: Page, text: str) -> Image.Image:
    """The picture and the stack of the page, with a line of text below."""
    boxes = [page.locator(name).bounding_box() for name in ("#stage", "#editor")]
    assert all(boxes)
    left, top = (min(box[key] for box in boxes if box) - 8 for key in ("x", "y"))
    right, bottom = (max(box[a] + box[b] for box in boxes if box) + 8 for a, b in (("x", "width"), ("y", "height")))
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    frame = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")  # type: ignore[arg-type]
    frame = frame.resize((WIDTH, round(WIDTH * frame.height / frame.width)), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (WIDTH, frame.height + CAPTION), "white")
    sheet.paste(frame)
    ImageDraw.Draw(sheet).text((12, frame.height + 6), text, "black", ImageFont.load_default(18))
    return sheet


def animate(source: Path, image: int, instance: int) -> list[Image.Image]:
    """Open an image, press the keys, and return a frame for each."""
    opened = open_source(source)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_journal(Path(folder) / "edits", opened.origin) as journal,
        editing_page(EditingSession(opened, journal, [source.parent]), image) as page,
    ):
        page.evaluate(f"editor.choose({instance}); editor.focus()")
        frames = []
        for key, text in KEYS:
            if key:
                page.keyboard.press(key)
                page.evaluate("editor.queue")
            frames.append(shoot(page, text))
    height = max(frame.height for frame in frames)  # findings come and go
    return [frame.crop((0, 0, WIDTH, height)) for frame in frames]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--image", type=int, required=True)
    parser.add_argument("--instance", type=int, required=True)
    arguments = parser.parse_args()
    first, *rest = animate(arguments.source, arguments.image, arguments.instance)
    first.save(arguments.out, save_all=True, append_images=rest, duration=FRAME_TIME, loop=0, quality=70, method=6)
    print(arguments.out, arguments.out.stat().st_size)
