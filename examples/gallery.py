"""Draw the pictures of the documentation's gallery, each in a few lines.

python examples/gallery.py [FOLDER]

The documentation shows the pictures in docs/images/gallery, which is the folder by default.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import amodal_data as ad
from amodal_data.inspector.drawing.panels import as_image, draw_count_map, draw_instances, draw_levels, draw_sem_dist

GALLERY = Path(__file__).parents[1] / "docs" / "images" / "gallery"
SIZE = (300, 400)
CAPTION = 30
"""Height of a caption in pixels"""


@dataclass(frozen=True)
class Scenes:
    """A cache of synthetic scenes and the folder of their images."""

    cache: ad.TargetCache
    photos: Path

    def photo(self, index: int) -> np.ndarray:
        """Return the pixels of an image, float64 [H, W, 3]."""
        path = next(self.photos.rglob(self.cache.image(index).file_name))
        return np.asarray(Image.open(path), float)


def make_scenes(folder: Path) -> Scenes:
    """Write two scenes of overlapping shapes and build their targets."""
    file = ad.write_cocoa(folder, 2, seed=31, size=SIZE)
    ad.build_targets(ad.read_cocoa(file), folder / "val.h5")
    return Scenes(ad.TargetCache(folder / "val.h5"), folder)


def grid(panels: dict[str, np.ndarray | Image.Image]) -> Image.Image:
    """Return panels in two columns, each with a caption."""
    height, width = SIZE[0] + CAPTION, SIZE[1] + 8
    sheet = Image.new("RGB", (2 * width - 8, (len(panels) + 1) // 2 * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(19)
    for n, (caption, panel) in enumerate(panels.items()):
        x, y = n % 2 * width, n // 2 * height
        sheet.paste(as_image(panel) if isinstance(panel, np.ndarray) else panel, (x, y))
        draw.text((x + 2, y + SIZE[0] + 3), caption, "black", font)
    return sheet


def x_ray(scenes: Scenes) -> Image.Image:
    """Visible parts are filled. Hidden parts are striped in the color of the hidden object."""
    photo, targets = scenes.photo(0), scenes.cache[0]
    return grid({"image": photo, "whole objects": draw_instances(photo, targets)})


def given_masks_completed(scenes: Scenes) -> Image.Image:
    """Completion of visible masks by the weights in the package, without training."""
    import sln

    photo, visible = scenes.photo(1).astype(np.uint8), scenes.cache[1].modal()
    completed = sln.complete(photo, masks=visible[visible.any((1, 2))])
    given = draw_instances(photo.astype(float), scenes.cache[1], plane=0)
    return grid({"given: visible masks": given, "completed": completed.plot().resize(SIZE[::-1])})


def level_plane(scenes: Scenes) -> Image.Image:
    """The level plane falls: visible parts first, then parts hidden behind one, two and three objects."""
    photo, targets = scenes.photo(0), scenes.cache[0]
    captions = ["visible parts", "+ hidden by 1 object", "+ hidden by 2 objects", "+ hidden by 3 objects"]
    return grid({caption: draw_instances(photo, targets, plane) for plane, caption in enumerate(captions)})


def maps_of_a_scene(scenes: Scenes) -> Image.Image:
    """The maps of the paper, for the scene and for its most hidden object."""
    photo, targets = scenes.photo(0), scenes.cache[0]
    deepest = int(targets.table.max(axis=0).argmax())
    maps = {"image": photo, "objects at each pixel": draw_count_map(photo, targets)}
    maps["levels of an object"] = draw_levels(photo, targets, deepest)
    return grid(maps | {"its sem-dist map": draw_sem_dist(photo, targets, deepest)})


def inserted_in_front(scenes: Scenes) -> Image.Image:
    """A disk inserted in front of a scene. The levels of all other objects follow exactly."""
    photo, targets = scenes.photo(1), scenes.cache[1]
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    disk = (y - 150) ** 2 + (x - 200) ** 2 < 80**2
    changed = targets.insert_front(ad.RLE.from_mask(disk), name="disk")
    return grid({"before": draw_instances(photo, targets), "after": draw_instances(photo, changed)})


PICTURES: tuple[Callable[[Scenes], Image.Image], ...] = (
    x_ray,
    given_masks_completed,
    level_plane,
    maps_of_a_scene,
    inserted_in_front,
)


def draw_all() -> Iterator[tuple[str, Image.Image]]:
    """Draw every picture; yields its file name and the picture."""
    with tempfile.TemporaryDirectory() as folder:
        scenes = make_scenes(Path(folder))
        for picture in PICTURES:
            yield f"{picture.__name__}.webp", picture(scenes)


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else GALLERY
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in draw_all():
        picture.save(out / name, quality=88)
        print(out / name)
