"""Scenes, masks and small photo sets that tests are made of."""

import json

import numpy as np
from PIL import Image

from amodal_data import RLE, Instance, Scene
from amodal_data.scenes.occlusion_order import from_ranks


def make_scene(masks, ranks=None, visible=None, in_front=None, **more):
    """A scene from bool masks [N, H, W], front to back unless ranks or in_front say otherwise."""
    masks = np.asarray(masks, bool)
    ranks = np.arange(len(masks)) if ranks is None else np.asarray(ranks)
    shown = [None] * len(masks) if visible is None else [RLE.from_mask(v) for v in visible]
    instances = tuple(
        Instance(RLE.from_mask(mask), annotation_id=7, region_index=n, order=int(ranks[n]) + 1, visible=shown[n])
        for n, mask in enumerate(masks)
    )
    matrix = from_ranks(ranks) if in_front is None else in_front
    return Scene(1, "a.jpg", masks.shape[1:], instances, matrix, **more)


def random_masks(rng, n, size=(13, 11), kinds=("box", "speckle", "empty", "full", "twin", "edge")):
    """n bool masks of every awkward sort, [N, H, W]."""
    masks = np.zeros((n, *size), bool)
    for at in range(n):
        kind = kinds[int(rng.integers(len(kinds)))]
        y0, x0 = rng.integers(0, size[0]), rng.integers(0, size[1])
        y1, x1 = rng.integers(y0, size[0]) + 1, rng.integers(x0, size[1]) + 1
        if kind == "box":
            masks[at, y0:y1, x0:x1] = True
        elif kind == "speckle":
            masks[at] = rng.random(size) < rng.random()
        elif kind == "full":
            masks[at] = True
        elif kind == "twin" and at:
            masks[at] = masks[int(rng.integers(at))]
        elif kind == "edge":
            masks[at, :, :x1] |= rng.random() < 0.5
            masks[at, y0:, x0:] = True
    return masks


def partial_order(rng, n, density=0.5):
    """A transitively closed partial order as bool [N, N]."""
    ranks = rng.permutation(n)
    known = from_ranks(ranks) & (rng.random((n, n)) < density)
    for k in range(n):
        known |= known[:, k, None] & known[None, k, :]
    return known


def ellipse(size, y, x, ry, rx):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return ((rows - y) / ry) ** 2 + ((columns - x) / rx) ** 2 <= 1


def modal_photos(folder):
    """The modal annotations of ten photos of one colour each: three whole ellipses and one that the frame cuts."""
    rng, size = np.random.default_rng(1), (96, 128)
    images, annotations = [], []
    for n in range(1, 11):
        photo = np.zeros((*size, 3), np.uint8) + rng.integers(0, 120, 3, np.uint8)
        places = [(28, 30), (30, 90), (70, 60), (80, 120)]
        for at, (y, x) in enumerate(places):
            mask = ellipse(size, y, x, rng.uniform(12, 18), rng.uniform(12, 20))
            photo[mask] = rng.integers(130, 255, 3)
            row = {"id": len(annotations) + 1, "image_id": n, "category_id": 1 + at % 2, "iscrowd": 0}
            annotations.append(row | {"segmentation": RLE.from_mask(mask).to_coco(), "area": int(mask.sum())})
        Image.fromarray(photo).save(folder / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "height": 96, "width": 128, "license": 4 if n < 9 else 6})
    licenses = [{"id": 4, "url": "http://x.org/licenses/by/2.0/", "name": "Attribution"},
                {"id": 6, "url": "http://x.org/licenses/by-nd/2.0/", "name": "Attribution-NoDerivs"}]  # fmt: skip
    names = [{"id": 1, "name": "cup"}, {"id": 2, "name": "box"}]
    path = folder / "instances.json"
    content = {"images": images, "annotations": annotations, "categories": names, "licenses": licenses}
    path.write_text(json.dumps(content))
    return path
