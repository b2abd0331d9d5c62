"""What the editing page shows, read out of a browser."""

import numpy as np

_LEVELS = """picture.truth.table.map((row) => {
  const codes = Uint8Array.from(picture.truth.regions, (region) => row[region]);
  return Array.from({ length: picture.truth.height }, (_, y) =>
    String.fromCharCode(...codes.subarray(y * picture.truth.width, (y + 1) * picture.truth.width))).join("");
}).join("")"""


def levels(page):
    """Level codes of every pixel as the page has them, uint8 [N, H, W]."""
    height, width = page.evaluate("picture.shown")
    return np.frombuffer(page.evaluate(_LEVELS).encode("latin-1"), np.uint8).reshape(-1, height, width)


def stack(page):
    """The instances front to back."""
    return page.evaluate("editor.now.stack")


def settled(page, edits):
    """Wait until so many edits can be undone."""
    page.wait_for_function(f"() => editor.now?.undo === {edits}")


def click_pixel(page, x, y):
    """Click a point of the picture, in pixels of the image."""
    box, (height, width) = page.locator("#stage canvas").first.bounding_box(), page.evaluate("picture.size")
    page.mouse.click(box["x"] + x / width * box["width"], box["y"] + y / height * box["height"])
