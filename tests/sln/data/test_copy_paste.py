"""Copy-paste as augmentation: the photo and the targets change together, and levels stay exact."""

import numpy as np
import pytest
import torch

from amodal_data import RLE, build_targets, layer_scene, read_cocoa, write_cocoa
from amodal_data.io.images import read_photo
from amodal_data.masks.windows import window_of
from sln import CachedTargets, load_config
from sln.data.copy_paste import Cutout, paste, whole_one


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paste")
    scenes = write_cocoa(folder, 8, seed=3, size=(96, 128), instances=(2, 4))
    build_targets(read_cocoa(scenes), folder / "t.h5")
    return folder


def opened(place, share):
    config = load_config("tiny", settings=[f"data.paste={share}", "data.jitter=0", "data.size=128"], environment={})
    return CachedTargets(place / "t.h5", [place / "val2014"], config.data)


def test_samples_get_one_more_instance_and_are_the_same_every_time(place):
    plain, pasted = opened(place, 0), opened(place, 1)
    more = 0
    for index in range(8):
        one, two = plain.sample(index, 1), pasted.sample(index, 1)
        again = opened(place, 1).sample(index, 1)
        assert torch.equal(two.images, again.images) and torch.equal(two.targets.table, again.targets.table)
        changed = (one.images != two.images).any(1)[0]
        more += bool(changed.any())
        if changed.any():
            codes = two.targets.table[0].max(0).values  # how deep each instance is somewhere
            assert len(codes) >= 1
            front = two.targets.table[0][two.targets.regions[0].long()][..., -1] == 1  # the last one is in front
            assert (changed & ~near(front)).sum() == 0
            assert (front & changed).sum() > 0.5 * front.sum()
    assert more >= 5
    assert torch.equal(plain[0].images, pasted[0].images)  # not in training: as it is


def near(mask):
    return torch.nn.functional.max_pool2d(mask[None, None].float(), 9, 1, 4)[0, 0] > 0


def test_targets_are_those_with_the_same_mask_in_front(place):
    """And the mask lies where the photo shows it, whatever is shown at whatever size."""
    rng = np.random.default_rng(0)
    scenes = [layer_scene(scene) for scene in read_cocoa(place / "COCO_amodal_val2014.json")]
    mask = np.zeros((96, 128), bool)
    mask[20:60, 30:70] = True
    cut = Cutout(0, RLE.from_mask(mask), window_of(RLE.from_mask(mask)), 1, "square")
    done = 0
    for targets in scenes * 3:
        box = (8.0, 6.0, 104.0, 78.0) if rng.random() < 0.5 else (0.0, 0.0, 128.0, 96.0)
        size = (int(rng.integers(40, 150)), int(rng.integers(50, 200)))
        grey = np.full((*size, 3), 60, np.uint8)
        front, photo = paste(rng, cut, targets, grey, box, lambda wanted, _: np.full((*wanted, 3), 200, np.uint8))
        wanted = targets.insert_front(front.amodal_rle(len(front.names) - 1), category_id=1, name="square")
        assert np.array_equal(front.levels(), wanted.levels()) and front.names[-1] == "square"
        shown = front.resized(size, box=box).modal(len(front.names) - 1)
        bright = photo[..., 0] > 110
        assert (shown != bright).sum() <= 2 * (shown.sum() ** 0.5) * 4  # an edge of a pixel or two
        done += bool(bright.any())
    assert done > 20


def test_only_what_nothing_hides_is_pasted(place):
    cache = opened(place, 1).cache
    rng, seen = np.random.default_rng(1), 0
    for _ in range(60):
        found = whole_one(rng, len(cache), cache.__getitem__, 0)
        if found is None:
            continue
        seen += 1
        targets = cache[found.image]
        (n,) = (n for n in range(len(targets.names)) if targets.amodal_rle(n) == found.mask)
        assert found.image != 0 and targets.levels(n).max() == 1
        codes = targets.levels(n)
        assert not codes[0].any() and not codes[-1].any() and not codes[:, 0].any() and not codes[:, -1].any()
    assert seen > 20
    assert whole_one(rng, 1, cache.__getitem__, 0) is None


def test_the_pasted_photo_is_read_at_its_size(place):
    data = opened(place, 1)
    found = whole_one(np.random.default_rng(2), len(data), data.cache.__getitem__, 0)
    rows, columns = found.window
    box = (columns.start, rows.start, columns.stop, rows.stop)
    assert read_photo(data.photos[found.image], (20, 30), box).shape == (20, 30, 3)
