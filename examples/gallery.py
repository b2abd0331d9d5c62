"""Pictures of amodal data, each by a few lines: what the gallery of the documentation shows.

python examples/gallery.py OUT_DIR
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import amodal_data as ad
from amodal_data.inspector.drawing import as_image, draw_count_map, draw_instances, draw_levels, draw_sem_dist


@dataclass(frozen=True)
class Scenes:
    """Synthetic scenes: their cache, and the folder of their photos."""

    cache: ad.TargetCache
    photos: Path

    def photo(self, at: int) -> Path:
        """Where the photo of image ``at`` is."""
        return next(self.photos.rglob(self.cache.image(at).file_name))


def made(folder: Path) -> Scenes:
    """Three scenes of overlapping shapes, layered and cached."""
    file = ad.write_cocoa(folder, 3, seed=5, size=(300, 400), force=True)
    ad.build_targets(ad.read_cocoa(file), folder / "val.h5", force=True)
    return Scenes(ad.TargetCache(folder / "val.h5"), folder)


def contact_sheet(scenes: Scenes) -> Image.Image:
    """A contact sheet: whatever is worth a first look, a row an image."""
    return ad.contact_sheet([(*scenes.cache.read(at), scenes.photo(at)) for at in (0, 1)])


def x_ray(scenes: Scenes) -> Image.Image:
    """Visible parts filled, hidden parts striped in the colour of the hidden object."""
    photo = np.asarray(Image.open(scenes.photo(0)), float)
    return as_image(draw_instances(photo, scenes.cache[0]))


def level_plane(scenes: Scenes) -> Image.Image:
    """The level plane falls: what is seen, then what lies behind one, two, three."""
    photo, targets = np.asarray(Image.open(scenes.photo(0)), float), scenes.cache[0]
    return as_image(np.hstack([draw_instances(photo, targets, plane) for plane in range(4)]))


def maps_of_a_scene(scenes: Scenes) -> Image.Image:
    """How many objects lie over each pixel; levels and sem-dist map of the object behind most others."""
    photo, targets = np.asarray(Image.open(scenes.photo(0)), float), scenes.cache[0]
    deepest = int(targets.table.max(axis=0).argmax())
    levels, sem_dist = draw_levels(photo, targets, deepest), draw_sem_dist(photo, targets, deepest)
    return as_image(np.hstack([draw_count_map(photo, targets), levels, sem_dist]))


def set_in_front(scenes: Scenes) -> Image.Image:
    """A mask set in front of a scene: levels change as if it had been annotated, without building anew."""
    photo, targets = np.asarray(Image.open(scenes.photo(1)), float), scenes.cache[1]
    y, x = np.ogrid[: targets.size[0], : targets.size[1]]
    disc = (y - 150) ** 2 + (x - 200) ** 2 < 80**2
    after = targets.insert_front(ad.RLE.from_mask(disc), name="disc")
    return as_image(np.hstack([draw_instances(photo, one) for one in (targets, after)]))


PICTURES: tuple[Callable[[Scenes], Image.Image], ...] = (
    contact_sheet,
    x_ray,
    level_plane,
    maps_of_a_scene,
    set_in_front,
)


def draw_all(folder: Path) -> list[Path]:
    """Draw every picture into a folder."""
    scenes, paths = made(folder / "data"), []
    for picture in PICTURES:
        paths.append(folder / f"{picture.__name__}.png")
        picture(scenes).save(paths[-1])
    return paths


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery")
    out.mkdir(parents=True, exist_ok=True)
    print(*draw_all(out), sep="\n")
