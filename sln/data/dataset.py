"""Training samples: images and cached targets, augmented by index and packed into batches."""

import atexit
import os
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amodal_data import TargetCache
from amodal_data.errors import AmodalError
from amodal_data.io.images import decode_photo
from amodal_data.layering.maps import ResizedTargets
from amodal_data.masks.boxes import map_boxes, union_boxes
from sln.config import DataConfig
from sln.data.photos import find_photos
from sln.errors import TrainingError
from sln.network.targets import Targets

Box = tuple[float, float, float, float]
Ids = Sequence[int]
_MAX_WORKERS = 16  # Worker processes that ``auto`` starts at most
_MIN_SIDE = 2  # Shorter side, in pixels of the input, that the box of an instance needs to be in a sample


@dataclass(frozen=True, slots=True)
class Frame:
    """How an image of size ``photo`` (H, W) lies in the square input of side ``side``.

    ``box`` (x0, y0, x1, y1) of the image is resized to ``resized`` (H, W), in the upper left corner.
    """

    side: int
    photo: tuple[int, int]
    resized: tuple[int, int]
    box: Box

    def to_photo(self, boxes: Tensor) -> Tensor:
        """Convert boxes [..., 4] from pixels of the input to pixels of the image."""
        x0, y0, x1, y1 = self.box
        scale = boxes.new_tensor([(x1 - x0) / self.resized[1], (y1 - y0) / self.resized[0]] * 2)
        return boxes * scale + boxes.new_tensor([x0, y0, x0, y0])

    def to_input(self, boxes: Tensor) -> Tensor:
        """The inverse of :meth:`to_photo`."""
        x0, y0, x1, y1 = self.box
        scale = boxes.new_tensor([self.resized[1] / (x1 - x0), self.resized[0] / (y1 - y0)] * 2)
        return (boxes - boxes.new_tensor([x0, y0, x0, y0])) * scale


def fit_in(photo: tuple[int, int], side: int, box: Box | None = None) -> Frame:
    """The frame that shows ``box`` of an image (default all of it) as large as ``side`` allows."""
    x0, y0, x1, y1 = box or (0.0, 0.0, float(photo[1]), float(photo[0]))
    scale = side / max(x1 - x0, y1 - y0)
    resized = (max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale)))
    return Frame(side, photo, resized, (x0, y0, x1, y1))


def mirror_photo(image: Tensor, frame: Frame) -> Tensor:
    """Flip the image in inputs [B, 3, side, side] horizontally; padding stays where it is."""
    mirrored, width = image.clone(), frame.resized[1]
    mirrored[..., :width] = image[..., :width].flip(3)
    return mirrored


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``images`` uint8 [B, 3, side, side] (0 = padding), their ``targets`` and ``frames`` [B]."""

    images: Tensor
    targets: Targets
    frames: tuple[Frame, ...]

    def to(self, device: torch.device | str) -> "Batch":
        """The same on another device."""
        return Batch(self.images.to(device, non_blocking=True), self.targets.to(device), self.frames)

    def pin_memory(self) -> "Batch":
        """The same in pinned memory, which a GPU copies from while it computes."""
        return Batch(self.images.pin_memory(), self.targets.pin_memory(), self.frames)

    def parts(self, n: int) -> "Iterator[Batch]":
        """Split into n batches."""
        size = -(-len(self.images) // n)
        for start in range(0, len(self.images), size):
            rows = slice(start, start + size)
            yield Batch(self.images[rows], self.targets.part(rows), self.frames[rows])

    @classmethod
    def stack(cls, samples: Sequence["Batch"]) -> "Batch":
        """Join samples into one batch."""
        targets = Targets.stack([sample.targets for sample in samples])
        frames = tuple(frame for sample in samples for frame in sample.frames)
        return cls(torch.cat([sample.images for sample in samples]), targets, frames)


class CachedTargets(Dataset[Batch]):
    """The images of a target cache, as batches of one.

    ``dataset[i]`` is the whole image i; ``dataset.sample(i, epoch)`` a random augmentation of it, the same for the
    same epoch in every process. Each process opens the cache and the image files when it first needs them.

    cache: path of a finished cache. images: folders of image files. categories: ids of the classes, in order; class
    0 without them, and for any other id. Image files are found here and their headers checked; raises
    :class:`amodal_data.errors.PhotoError` that lists those that are missing or do not fit.

    ``turned``: number of photos that their EXIF data turns upright.

    Examples:
        >>> import amodal_data as ad
        >>> import sln
        >>> scenes = ad.read_cocoa(ad.write_cocoa("data", 2, seed=1, size=(96, 128)))
        >>> report = ad.build_targets(scenes, "t.h5")
        >>> data = sln.CachedTargets("t.h5", ["data"], sln.load_config("tiny").data)
        >>> len(data)
        2
    """

    def __init__(
        self, cache: str | Path, images: Iterable[str | Path], settings: DataConfig, seed: int = 0, categories: Ids = ()
    ) -> None:
        self.cache, self.settings, self.seed = TargetCache(cache), settings, seed
        self.categories = np.array(categories, np.int64)
        self.images = [self.cache.image(index) for index in range(len(self.cache))]
        sizes = [(image.file_name, image.size) for image in self.images]
        self.photos, self.turned = find_photos(sizes, [Path(folder) for folder in images])

    def __repr__(self) -> str:
        return f"CachedTargets({self.cache.path.name!r:.80}, {len(self):,} images, {self.settings.size} px)"

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: int) -> Batch:
        return self._crop(index, fit_in(self.images[index].size, self.settings.size), flip=False, epoch=0)

    def sample(self, index: int, epoch: int) -> Batch:
        """Image ``index``, cropped, flipped and color-jittered at random; seeded by ``epoch`` (from 1)."""
        rng = np.random.default_rng([self.seed, index, epoch])
        size = self.images[index].size
        frame = fit_in(size, self.settings.size, _random_box(rng, size, self.settings.crop))
        flip = self.settings.flip and bool(rng.random() < 0.5)
        return self._crop(index, frame, flip=flip, epoch=epoch, rng=rng)

    def _crop(
        self, index: int, frame: Frame, *, flip: bool, epoch: int, rng: np.random.Generator | None = None
    ) -> Batch:
        # what is evaluated is decoded in full, as in prediction
        photo = decode_photo(self.photos[index], frame.resized, frame.box, reduced=rng is not None)
        if rng is not None and self.settings.jitter:
            photo = jitter_colors(photo, self.settings.jitter, rng)
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else photo
        targets = self.cache[index]
        view = targets.resized(frame.resized, flip=flip, box=frame.box)
        image_id = self.images[index].image_id
        seed = hash((self.seed, image_id, epoch)) % 2**62
        canvas = on_canvas(np.asarray(photo), self.settings.size)
        ids = self.categories if len(self.categories) else np.zeros(1)
        classes = (targets.category_ids[:, None] == ids).argmax(1)
        return Batch(canvas, _to_tensors(view, self.settings.size, image_id, seed, classes), (frame,))


def on_canvas(photo: NDArray[np.uint8], side: int) -> Tensor:
    """An image [H, W, 3] in the upper left corner of a square, uint8 [1, 3, side, side], 0 elsewhere.

    Channels are last in memory, as images have them and convolutions are fastest.
    """
    canvas = np.zeros((1, side, side, 3), np.uint8)
    canvas[0, : photo.shape[0], : photo.shape[1]] = photo
    return torch.from_numpy(canvas).permute(0, 3, 1, 2)


def _random_box(rng: np.random.Generator, size: tuple[int, int], min_scale: float) -> Box | None:
    if min_scale >= 1:
        return None
    scale = rng.uniform(min_scale, 1)
    height, width = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    y, x = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
    return float(x), float(y), float(x + width), float(y + height)


def jitter_colors(photo: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Jitter brightness, contrast and saturation by factors in 1 +- strength, in any order; hue stays.

    All three are linear in the colors. So they become one matrix, and colors are clipped once, at the end.
    """
    color = np.eye(3, 4)  # the last column is added
    gray = np.array([[0.299, 0.587, 0.114]])
    mean = np.asarray(photo.resize((32, 32), Image.Resampling.NEAREST)).mean(axis=(0, 1))  # of a grid of pixels
    for name in rng.permutation(3):
        factor = rng.uniform(max(0.0, 1 - strength), 1 + strength)
        target = np.zeros((1, 4))  # brightness: black
        if name == 1:  # contrast: the mean gray
            target[:, 3] = gray @ (color[:, :3] @ mean + color[:, 3])
        elif name == 2:  # saturation: the gray of each pixel
            target = gray @ color
        color = factor * color + (1 - factor) * target
    return photo.convert("RGB", tuple(color.ravel()))


def _to_tensors(view: ResizedTargets, side: int, image_id: int, seed: int, classes: NDArray[np.int64]) -> Targets:
    """Region map, table and boxes of a view; instances without pixels in it are left out."""
    height, width = view.size
    regions = np.zeros((side, side), np.int32)
    region_map = view.map_values(np.arange(1, len(view.table) + 1, dtype=np.uint16))  # small numbers are faster
    regions[:height, :width] = region_map
    corners = map_boxes(region_map, len(view.table))
    boxes, visible = (union_boxes(corners, rows).astype(np.float32) for rows in (view.table > 0, view.table == 1))
    kept = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= _MIN_SIDE
    table = np.pad(view.table[:, kept], [(1, 0), (0, 0)])
    unknown = np.append(False, view.unknown | view.visibility_unknown)
    columns = (regions, table, unknown, boxes[kept], visible[kept], classes[kept], np.ones(int(kept.sum()), bool))
    return Targets(*(torch.from_numpy(column)[None] for column in (*columns, np.array(image_id), np.array(seed))))


class _Batches(Dataset[Any]):
    """Batches of a dataset by their samples. Errors are returned: a worker would wrap them in a traceback."""

    def __init__(self, dataset: CachedTargets) -> None:
        self.dataset = dataset

    def __getitem__(self, samples: Sequence[tuple[int, int]]) -> Batch | AmodalError:
        try:
            return Batch.stack([self.dataset.sample(i, epoch) if epoch else self.dataset[i] for i, epoch in samples])
        except AmodalError as error:
            return error


def samples_after(previous: int, images: int, batch: int, seed: int) -> list[tuple[int, int]]:
    """The samples (image, epoch) of a step over all processes, after ``previous`` images of earlier steps.

    Epochs count from 1; each shuffles all images anew.
    """
    epochs_and_positions = (divmod(position, images) for position in range(previous, previous + batch))
    return [(_shuffled(images, seed, epoch)[position], epoch + 1) for epoch, position in epochs_and_positions]


@lru_cache(maxsize=4)  # steps need neighboring epochs only
def _shuffled(images: int, seed: int, epoch: int) -> list[int]:
    return np.random.default_rng([seed, epoch]).permutation(images).tolist()


def batches(
    dataset: CachedTargets, plan: Sequence[Sequence[tuple[int, int]]], workers: int | str, *, pin: bool = False
) -> Iterator[Batch]:
    """The batches of a plan, in order; each is a list of (image, epoch), epoch 0 = not augmented.

    pin: put them into pinned memory, for CUDA.
    Raises the errors of image files and of the cache unchanged, also those of worker processes.
    """
    with warnings.catch_warnings():  # more workers than processors are fine: they wait for image files
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        options: dict[str, Any] = {"num_workers": worker_count(workers), "worker_init_fn": _ignore_signals}
        options |= {"pin_memory": pin}
        loaded: Iterator[Any] = iter(DataLoader(_Batches(dataset), sampler=plan, batch_size=None, **options))
    stop = partial(_stop_workers, loaded)
    atexit.register(stop)
    try:
        while (batch := _next_batch(loaded)) is not None:
            yield batch
    finally:
        atexit.unregister(stop)
        stop()


def _next_batch(loaded: Iterator[Batch | AmodalError | None]) -> Batch | None:
    """The next batch; None = there are no more. Raises what a worker returned or died of."""
    try:
        batch = next(loaded, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        message = "a worker process that loads images was killed, perhaps for lack of memory"
        raise TrainingError(message, fix="--set train.workers=0") from error
    if isinstance(batch, AmodalError):
        raise batch
    return batch


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and batch systems signal all processes of a group; only the parent decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _stop_workers(loaded: Any) -> None:
    """End the workers of an iterator. They ignore SIGTERM, so Python would wait forever for one that is late."""
    workers = [worker for worker in active_children() if worker in getattr(loaded, "_workers", ())]
    if workers:
        loaded._shutdown_workers()
    for worker in workers:
        worker.kill()


def worker_count(workers: int | str) -> int:
    """Number of worker processes; ``auto`` is all processors but one, shared by the training processes here."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # as torchrun sets it
    return min(_MAX_WORKERS, (available - 1) // processes) if isinstance(workers, str) else workers
