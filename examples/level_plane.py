"""Draw a scene while the level plane falls: first what is seen, then level by level what is hidden.

python examples/level_plane.py targets.h5 plane.webp --images data --id 17
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import amodal_data as ad
from amodal_data.inspector.drawing import as_image, draw_instances
from amodal_data.readers.discovery import PhotoFinder

WIDE, MILLISECONDS = 480, 1100


def frames(photo: Image.Image, targets: ad.LayeredTargets) -> list[Image.Image]:
    """The photo, then one picture for each position of the plane."""
    height = round(WIDE * targets.size[0] / targets.size[1])
    small = np.asarray(photo.convert("RGB").resize((WIDE, height)), np.float64)
    view = targets.resized((height, WIDE))
    deepest = int(targets.table.max()) - 1
    shown = [titled(small, "the photo")]
    for plane in range(deepest + 1):
        text = "what is seen" if plane == 0 else f"and what lies behind {plane}"
        shown.append(titled(draw_instances(small, view, plane), f"level plane at {plane}: {text}"))
    return shown


def titled(picture: np.ndarray, text: str) -> Image.Image:
    """A picture with a line of text below it."""
    image = as_image(picture)
    sheet = Image.new("RGB", (image.width, image.height + 26), (252, 252, 250))
    sheet.paste(image)
    ImageDraw.Draw(sheet).text((6, image.height + 5), text, (38, 38, 44), ImageFont.load_default(14))
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("out", type=Path, help="an animated .webp or .gif")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--id", type=int, required=True)
    given = parser.parse_args()
    cache = ad.TargetCache(given.cache)
    at = cache.image_ids.tolist().index(given.id)
    found = PhotoFinder([given.images]).find(cache.image(at).file_name)
    if found is None:
        raise SystemExit(f"no photo of image {given.id} in {given.images}")
    with Image.open(found) as opened:
        first, *rest = frames(opened, cache[at])
    first.save(given.out, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0, quality=80)
    print(given.out)
