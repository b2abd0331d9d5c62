"""Animate the level plane of a scene: first visible parts, then hidden parts level by level.

python examples/level_plane.py targets.h5 plane.webp --images data --id 17
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import amodal_data as ad
from amodal_data.inspector.drawing.panels import as_image, draw_instances
from amodal_data.readers.discovery import PhotoFinder

WIDTH = 480
"""Width of the picture in pixels."""
FRAME_TIME = 1100
"""Milliseconds for each frame."""


def frames(photo: Image.Image, targets: ad.LayeredTargets) -> list[Image.Image]:
    """Return the image, then a frame for each position of the level plane."""
    height = round(WIDTH * targets.size[0] / targets.size[1])
    small = np.asarray(photo.convert("RGB").resize((WIDTH, height)), np.float64)
    view = targets.resized((height, WIDTH))
    deepest = int(targets.table.max()) - 1
    pictures = [add_title(small, "image")]
    for plane in range(deepest + 1):
        text = "visible parts" if plane == 0 else f"and parts hidden behind {plane}"
        pictures.append(add_title(draw_instances(small, view, plane), f"level plane at {plane}: {text}"))
    return pictures


def add_title(picture: np.ndarray, text: str) -> Image.Image:
    """Add a line of text below a picture."""
    image = as_image(picture)
    sheet = Image.new("RGB", (image.width, image.height + 26), (252, 252, 250))
    sheet.paste(image)
    ImageDraw.Draw(sheet).text((6, image.height + 5), text, (38, 38, 44), ImageFont.load_default(14))
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("out", type=Path, help="animated .webp or .gif to write")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--id", type=int, required=True)
    arguments = parser.parse_args()
    cache = ad.TargetCache(arguments.cache)
    index = cache.image_ids.tolist().index(arguments.id)
    path = PhotoFinder([arguments.images]).find(cache.image(index).file_name)
    if path is None:
        raise SystemExit(f"no file of image {arguments.id} in {arguments.images}")
    with Image.open(path) as opened:
        first, *rest = frames(opened, cache[index])
    first.save(arguments.out, save_all=True, append_images=rest, duration=FRAME_TIME, loop=0, quality=80)
    print(arguments.out)
