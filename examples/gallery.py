"""Draw the pictures of the documentation's gallery, each in a few lines.

python examples/gallery.py OUT_DIR
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import amodal_data as ad
from amodal_data.inspector.drawing.panels import as_image, draw_count_map, draw_instances, draw_levels, draw_sem_dist


@dataclass(frozen=True)
class Scenes:
    """A cache of synthetic scenes and the folder of their images."""

    cache: ad.TargetCache
    photos: Path

    def photo(self, index: int) -> Path:
        """Return the path of an image."""
        return next(self.photos.rglob(self.cache.image(index).file_name))


def make_scenes(folder: Path) -> Scenes:
    """Write three scenes of overlapping shapes and build their targets."""
    file = ad.write_cocoa(folder, 3, seed=5, size=(300, 400), force=True)
    ad.build_targets(ad.read_cocoa(file), folder / "val.h5", force=True)
    return Scenes(ad.TargetCache(folder / "val.h5"), folder)


def contact_sheet(scenes: Scenes) -> Image.Image:
    """A contact sheet: one row per image."""
    return ad.contact_sheet([(*scenes.cache.read(index), scenes.photo(index)) for index in (0, 1)])


def x_ray(scenes: Scenes) -> Image.Image:
    """Visible parts are filled, hidden parts striped in the color of the hidden object."""
    photo = np.asarray(Image.open(scenes.photo(0)), float)
    return as_image(draw_instances(photo, scenes.cache[0]))


def level_plane(scenes: Scenes) -> Image.Image:
    """The level plane: visible parts, then also parts hidden behind one, two and three objects."""
    photo, targets = np.asarray(Image.open(scenes.photo(0)), float), scenes.cache[0]
    return as_image(np.hstack([draw_instances(photo, targets, plane) for plane in range(4)]))


def maps_of_a_scene(scenes: Scenes) -> Image.Image:
    """The number of objects at each pixel; levels and sem-dist map of the most hidden object."""
    photo, targets = np.asarray(Image.open(scenes.photo(0)), float), scenes.cache[0]
    deepest = int(targets.table.max(axis=0).argmax())
    levels, sem_dist = draw_levels(photo, targets, deepest), draw_sem_dist(photo, targets, deepest)
    return as_image(np.hstack([draw_count_map(photo, targets), levels, sem_dist]))


def set_in_front(scenes: Scenes) -> Image.Image:
    """A mask inserted in front of a scene: the level table is updated exactly."""
    photo, targets = np.asarray(Image.open(scenes.photo(1)), float), scenes.cache[1]
    y, x = np.ogrid[: targets.size[0], : targets.size[1]]
    disc = (y - 150) ** 2 + (x - 200) ** 2 < 80**2
    changed = targets.insert_front(ad.RLE.from_mask(disc), name="disc")
    return as_image(np.hstack([draw_instances(photo, view) for view in (targets, changed)]))


PICTURES: tuple[Callable[[Scenes], Image.Image], ...] = (
    contact_sheet,
    x_ray,
    level_plane,
    maps_of_a_scene,
    set_in_front,
)


def draw_all(folder: Path) -> list[Path]:
    """Draw every picture into a folder and return the paths."""
    scenes, paths = make_scenes(folder / "data"), []
    for picture in PICTURES:
        paths.append(folder / f"{picture.__name__}.png")
        picture(scenes).save(paths[-1])
    return paths


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery")
    out.mkdir(parents=True, exist_ok=True)
    print(*draw_all(out), sep="\n")
