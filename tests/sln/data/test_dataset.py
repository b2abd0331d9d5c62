"""Samples: images and targets equal dense crops of the whole image."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_data import TargetCache, build_targets, read_annotations, read_cocoa, write_cocoa
from amodal_data.errors import PhotoError
from amodal_data.io.images import read_photo
from sln.config import DataConfig
from sln.data.dataset import CachedTargets, batches, fit_in, jitter_colors
from sln.network.paste_masks import decode_levels
from sln.network.targets import Targets, level_shares, one_hot_levels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    scenes = write_cocoa(folder, 6, seed=4, size=(60, 80), instances=(3, 7))
    build_targets(read_cocoa(scenes), folder / "t.h5")
    return folder


def opened(folder, **settings):
    return CachedTargets(folder / "t.h5", [folder], DataConfig(**{"size": 64, **settings}), seed=1)


def test_a_whole_sample_is_the_resized_image(folder):
    data = opened(folder)
    batch = data[2]
    view = data.cache[2].resized((48, 64))
    assert batch.images.shape == (1, 3, 64, 64) and not batch.images[:, :, 48:].any()
    photo = np.asarray(Image.open(data.photos[2]).resize((64, 48), Image.Resampling.BILINEAR))
    assert (batch.images[0, :, :48].numpy() == photo.transpose(2, 0, 1)).all()
    regions, table = batch.targets.regions[0, :48].long(), batch.targets.table[0]
    codes = table[regions].permute(2, 0, 1).numpy()
    wide = [n for n, mask in enumerate(view.amodal()) if min(np.ptp(np.nonzero(mask), axis=1), default=0) >= 1]
    assert (codes == view.levels[wide]).all()
    for mask, box in zip(codes, batch.targets.boxes[0].tolist(), strict=True):
        y, x = np.nonzero(mask)
        assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    depth = batch.targets.depth(4)[0]
    assert (depth[:12].numpy() == view.depth_map()[2::4, 2::4]).all() and (depth[12:] == -1).all()


def test_roi_codes_equal_dense_crops(folder):
    data = opened(folder)
    batch = Targets.stack([data[i].targets for i in range(3)])
    owners, instances = batch.present.nonzero(as_tuple=True)
    boxes = batch.boxes[owners, instances] + torch.tensor([-3.3, -2.1, 4.7, 1.2])
    codes = batch.roi_codes(boxes, owners, instances, 20)
    for p in range(len(boxes)):
        dense = batch.table[owners[p]][batch.regions[owners[p]].long()][:, :, instances[p]].numpy()
        x0, y0, x1, y1 = boxes[p].double().numpy()
        for i, j in np.ndindex(20, 20):
            y = int(np.floor(np.float32(y0 + (i + 0.5) / 20 * (y1 - y0))))
            x = int(np.floor(np.float32(x0 + (j + 0.5) / 20 * (x1 - x0))))
            expected = dense[y, x] if 0 <= y < 64 and 0 <= x < 64 else 0
            assert codes[p, i, j] == expected


def test_level_shares_count_nine_samples_per_cell():
    codes = torch.tensor([[0, 1, 1, 2, 9, 0], [0, 1, 1, 2, 9, 0], [0, 1, 1, 1, 0, 0]], dtype=torch.uint8)[None]
    shares = level_shares(codes, 3)
    assert shares.shape == (1, 4, 1, 2)
    assert torch.allclose(shares[0, :, 0].T * 9, torch.tensor([[3.0, 6, 0, 0], [4, 1, 2, 2]]))
    assert one_hot_levels(shares)[0, :, 0].T.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    doubtful = torch.tensor([0.55, 0.45, 0, 0]).view(1, 4, 1, 1)
    assert one_hot_levels(doubtful).flatten().tolist() == [1, 0, 0, 0]


def test_encoding_and_decoding_codes_is_the_identity():
    codes = torch.randint(0, 7, (5, 28, 28), dtype=torch.uint8)
    doubled = codes.repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert torch.equal(decode_levels(level_shares(doubled, 4))[1], codes.clamp(max=4))


def test_augmentation_transforms_image_and_targets_together(folder):
    """The regions of an augmented sample are those of the same window of the image."""
    data = opened(folder, crop=0.5, jitter=0.0)
    for epoch in range(1, 9):
        batch = data.sample(1, epoch)
        frame = batch.frames[0]
        assert batch.targets.regions[0, : frame.resized[0], : frame.resized[1]].min() >= 1
        photo = read_photo(data.photos[1], frame.resized, frame.box)
        pixels = batch.images[0, :, : frame.resized[0], : frame.resized[1]].numpy().transpose(1, 2, 0)
        flip = not (pixels == photo).all()
        assert (pixels == (photo[:, ::-1] if flip else photo)).all()
        view = data.cache[1].resized(frame.resized, flip=flip, box=frame.box)
        regions = batch.targets.regions[0, : frame.resized[0], : frame.resized[1]].numpy()
        assert (regions == view.map_values(np.arange(1, len(view.table) + 1))).all()


def test_samples_depend_on_seed_and_epoch_only(folder):
    data, copy = opened(folder), opened(folder)
    first, same, second = data.sample(3, 1), copy.sample(3, 1), data.sample(3, 2)
    assert torch.equal(first.images, same.images) and torch.equal(first.targets.seeds, same.targets.seeds)
    assert not torch.equal(first.images, second.images) and int(first.targets.seeds) != int(second.targets.seeds)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_any_number_of_workers(folder, workers):
    data = opened(folder)
    plan = [[(0, 1), (5, 0)], [(3, 2)], [(2, 0), (1, 1), (4, 1)]]
    first, second, third = batches(data, plan, workers)
    assert [batch.targets.image_ids.tolist() for batch in (first, second, third)] == [[1, 6], [4], [3, 2, 5]]
    assert torch.equal(second.images, data.sample(3, 2).images)
    assert third.targets.table.shape[2] == third.targets.boxes.shape[1] == third.targets.present.shape[1]


def test_python_exits_while_workers_wait_for_work(folder, run_process):
    """They ignore SIGTERM, by which multiprocessing ends them."""
    script = folder / "script.py"
    script.write_text(f"""
from sln.config import DataConfig
from sln.data.dataset import CachedTargets, batches

loaded = batches(CachedTargets({str(folder / "t.h5")!r}, [{str(folder)!r}], DataConfig(size=64)), [[(0, 1)]] * 9, 1)
print(len(next(loaded).frames))
""")
    assert run_process(script).stdout == "1\n"


def test_boxes_convert_from_input_to_image():
    frame = fit_in((480, 640), 96)
    assert frame.resized == (72, 96)
    assert frame.to_photo(torch.tensor([0.0, 0, 96, 72])).tolist() == [0, 0, 640, 480]
    cut = fit_in((480, 640), 96, (100, 50, 300, 250))
    assert cut.to_photo(torch.tensor([48.0, 48, 96, 96])).tolist() == [200, 150, 300, 250]


def broken(kind):
    """The function that damages an image file in this way."""

    def missing(path):
        path.unlink()

    def truncated(path):
        path.write_bytes(path.read_bytes()[:700])

    def text(path):
        path.write_text("no photo")

    def other_size(path):
        Image.new("RGB", (50, 50)).save(path)

    def bomb(path):
        import struct
        import zlib

        def chunk(name, data):
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        path.write_bytes(png)

    return locals()[kind]


@pytest.mark.parametrize(
    "kind, message",
    [
        ("missing", "1 of 3 photos not found: COCO_val2014_000000000002.jpg"),
        ("text", "not a photo this package can read"),
        ("other_size", "is 50 x 50, but its annotations 80 x 60"),
        ("bomb", "more than 100,000,000 pixels"),
    ],
)
def test_image_files_are_checked_before_the_first_sample(tmp_path, kind, message):
    scenes = write_cocoa(tmp_path, 3, size=(60, 80))
    build_targets(read_cocoa(scenes), tmp_path / "t.h5")
    broken(kind)(tmp_path / "val2014" / "COCO_val2014_000000000002.jpg")
    with pytest.raises(PhotoError) as error:
        opened(tmp_path)
    assert message in str(error.value) and "fix:" in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_file_raises_from_every_process(tmp_path, workers):
    scenes = write_cocoa(tmp_path, 3, size=(60, 80))
    build_targets(read_cocoa(scenes), tmp_path / "t.h5")
    broken("truncated")(tmp_path / "val2014" / "COCO_val2014_000000000002.jpg")
    data = opened(tmp_path)
    with pytest.raises(PhotoError, match="damaged"):
        list(batches(data, [[(0, 1)], [(1, 1)]], workers))


def test_a_dataset_can_be_pickled(folder):
    import pickle

    data = pickle.loads(pickle.dumps(opened(folder)))
    assert isinstance(data.cache, TargetCache) and len(data) == 6
    assert torch.equal(data[0].images, opened(folder)[0].images)


def test_padding_stays_0_under_jitter(tmp_path):
    """Padding is 0 in training as in evaluation."""
    build_targets(read_cocoa(write_cocoa(tmp_path, 2, size=(40, 80))), tmp_path / "t.h5")
    settings = DataConfig(size=64, jitter=0.9, crop=1)
    data = CachedTargets(tmp_path / "t.h5", [tmp_path], settings)
    plain = CachedTargets(tmp_path / "t.h5", [tmp_path], DataConfig(size=64, jitter=0, crop=1, flip=False))
    for epoch in range(1, 6):
        batch = data.sample(0, epoch)
        height, width = batch.frames[0].resized
        assert not batch.images[:, :, height:].any() and not batch.images[:, :, :, width:].any()
        assert (batch.images != plain.sample(0, epoch).images).any()


def test_a_cache_replaced_under_workers_raises(tmp_path):
    """Otherwise training would mix the new file (in its workers) and the old one."""
    from amodal_data.errors import CacheFormatError

    build_targets(read_cocoa(write_cocoa(tmp_path, 4, size=(40, 50))), tmp_path / "t.h5")
    data = opened(tmp_path)
    other = write_cocoa(tmp_path / "other", 4, seed=9, size=(40, 50), photos=False)
    build_targets(read_cocoa(other), tmp_path / "t.h5", force=True)
    with pytest.raises(CacheFormatError, match="replaced"):
        list(batches(data, [[(0, 0), (1, 0)]], 2))


@pytest.fixture(scope="module")
def unordered(tmp_path_factory):
    """A photo with two objects of 20 x 20 px that share 10 columns, order unknown, and a photo without objects."""
    folder = tmp_path_factory.mktemp("unordered")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(folder / name)
    images = [{"id": n, "file_name": f"{name}.png", "height": 64, "width": 64} for n, name in enumerate("ab", 1)]
    squares = [[x, 10, x + 20, 10, x + 20, 30, x, 30] for x in (10, 20)]
    objects = [{"id": n, "image_id": 1, "segmentation": [square]} for n, square in enumerate(squares, 1)]
    (folder / "gt.json").write_text(json.dumps({"images": images, "annotations": objects}))
    build_targets(read_annotations(folder / "gt.json", masks="amodal", order="none"), folder / "t.h5")
    return folder


def test_pixels_of_unknown_order_are_not_learned(unordered):
    targets = Targets.stack([opened(unordered)[i].targets for i in range(2)])
    shared = torch.zeros(64, 64, dtype=torch.bool)
    shared[10:30, 20:30] = True
    assert torch.equal(targets.depth(1)[0] == -1, shared)
    assert not (targets.depth(1)[1] != 0).any() and not targets.present[1].any()  # the photo without objects
    boxes = torch.tensor([[10.0, 10, 30, 30], [20, 10, 40, 30]])
    images, instances = torch.zeros(2).long(), torch.arange(2)
    decided = targets.roi_decided(boxes, images, instances, 20)
    assert torch.equal(decided[0], ~shared[10:30, 10:30]) and torch.equal(decided[1], ~shared[10:30, 20:40])
    owners = targets.roi_owners(boxes, images, 20)
    assert torch.equal(owners[0] == -1, shared[10:30, 10:30])
    known = targets.roi_decided(boxes + 12, images, instances, 20)[0]
    assert known[8:, 8:].all()  # beyond the overlap everything is known


def test_training_says_what_it_cannot_learn(unordered):
    from sln.training.fit import _say_gaps

    notes = []
    _say_gaps(TargetCache(unordered / "t.h5"), notes.append)
    assert "1 of 2 images have no objects" in notes[0]
    assert "warning" in notes[1] and "depth order of 50.0% of the instance pixels is unknown" in notes[1]
    assert "--order" in notes[1]


def jittered_one_by_one(photo, strength, rng):
    """Brightness, contrast and saturation after one another, as torchvision blends them; clipped at the end."""
    pixels = np.asarray(photo, np.float64)
    to_gray = np.array([0.299, 0.587, 0.114])
    for name in rng.permutation(3):
        factor = rng.uniform(1 - strength, 1 + strength)
        gray = (pixels @ to_gray)[..., None]
        pixels = factor * pixels + (1 - factor) * (0, gray.mean(), gray)[name]
    return pixels.clip(0, 255)


@pytest.mark.parametrize("strength", [0.1, 0.3, 0.9])
def test_jitter_in_one_pass_equals_three(folder, strength):
    photo = Image.open(opened(folder).photos[1])
    for seed in range(6):
        jittered = np.asarray(jitter_colors(photo, strength, np.random.default_rng(seed)))
        expected = jittered_one_by_one(photo, strength, np.random.default_rng(seed))
        assert np.abs(jittered - expected).max() <= 4 and np.abs(expected - np.asarray(photo)).max() > 5


def test_each_jitter_is_that_of_torchvision(folder):
    from torchvision.transforms.v2 import functional

    class Factors:
        """A generator that changes one thing."""

        def __init__(self, changed):
            self.changed = changed

        def permutation(self, n):
            return np.arange(n)

        def uniform(self, low, high):
            self.changed -= 1
            return 1.2 if self.changed == -1 else 1.0

    photo = Image.open(opened(folder).photos[1])
    names = ("brightness", "contrast", "saturation")
    for n, name in enumerate(names):
        expected = np.asarray(getattr(functional, f"adjust_{name}")(photo, 1.2), int)
        assert np.abs(np.asarray(jitter_colors(photo, 0.3, Factors(n))) - expected).max() <= 2


def test_batches_can_be_pinned(folder, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = next(batches(opened(folder), [[(0, 1), (1, 1)]], 0))
    again = batch.pin_memory()
    assert len(pinned) == 10 and torch.equal(again.images, batch.images) and again.frames == batch.frames


@pytest.mark.parametrize("processors, processes, count", [(1, 1, 0), (2, 1, 1), (12, 1, 11), (64, 1, 16), (16, 4, 3)])
def test_workers_follow_the_processors(monkeypatch, processors, processes, count):
    from sln.data import dataset

    monkeypatch.setattr(dataset.os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert dataset.worker_count("auto") == count and dataset.worker_count(5) == 5
