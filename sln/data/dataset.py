"""Samples for training: photos and cached targets, augmented by index, packed into small batches."""

import os
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amodal_data import TargetCache
from amodal_data.errors import AmodalError
from amodal_data.io.images import read_photo
from amodal_data.layering.maps import ResizedTargets
from amodal_data.masks.boxes import EMPTY_BOX, union_boxes
from sln.config import DataConfig
from sln.data.copy_paste import paste, whole_one
from sln.data.photos import find_photos
from sln.errors import TrainingError
from sln.network.targets import Targets

_SMALLEST = 2
"""Instances whose box in the input is narrower than this many pixels are left out of a sample."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How a photo of size ``photo`` (H, W) lies in the square input of side ``side``.

    ``box`` (x0, y0, x1, y1) of the photo is scaled to ``shown`` (H, W) in the upper left corner.
    """

    side: int
    photo: tuple[int, int]
    shown: tuple[int, int]
    box: tuple[float, float, float, float]

    def to_photo(self, boxes: Tensor) -> Tensor:
        """Boxes in pixels of the input [..., 4] as boxes in pixels of the photo."""
        x0, y0, x1, y1 = self.box
        scale = boxes.new_tensor([(x1 - x0) / self.shown[1], (y1 - y0) / self.shown[0]] * 2)
        return boxes * scale + boxes.new_tensor([x0, y0, x0, y0])

    def to_input(self, boxes: Tensor) -> Tensor:
        """The inverse of :meth:`to_photo`."""
        x0, y0, x1, y1 = self.box
        scale = boxes.new_tensor([self.shown[1] / (x1 - x0), self.shown[0] / (y1 - y0)] * 2)
        return (boxes - boxes.new_tensor([x0, y0, x0, y0])) * scale


def fit_in(photo: tuple[int, int], side: int, box: tuple[float, float, float, float] | None = None) -> Frame:
    """The frame that shows ``box`` of a photo (default all of it) as large as ``side`` allows."""
    x0, y0, x1, y1 = box or (0.0, 0.0, float(photo[1]), float(photo[0]))
    scale = side / max(x1 - x0, y1 - y0)
    shown = (max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale)))
    return Frame(side, photo, shown, (x0, y0, x1, y1))


def mirror_photo(image: Tensor, frame: Frame) -> Tensor:
    """The mirror image of the photo in inputs [B, 3, side, side], in the same place."""
    found, width = image.clone(), frame.shown[1]
    found[..., :width] = image[..., :width].flip(3)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``images`` uint8 [B, 3, side, side] (0 = padding) and their ``targets``; ``frames`` [B]."""

    images: Tensor
    targets: Targets
    frames: tuple[Frame, ...]

    def to(self, device: torch.device | str) -> "Batch":
        """The same on another device."""
        return Batch(self.images.to(device, non_blocking=True), self.targets.to(device), self.frames)

    def parts(self, n: int) -> "Iterator[Batch]":
        """The batch cut into n."""
        size = -(-len(self.images) // n)
        for at in range(0, len(self.images), size):
            own = slice(at, at + size)
            yield Batch(self.images[own], self.targets.part(own), self.frames[own])

    @classmethod
    def stack(cls, samples: Sequence["Batch"]) -> "Batch":
        """Several samples as one batch."""
        targets = Targets.stack([sample.targets for sample in samples])
        return cls(torch.cat([s.images for s in samples]), targets, tuple(f for s in samples for f in s.frames))


class CachedTargets(Dataset[Batch]):
    """The images of a cache with their photos.

    ``dataset[i]`` is image i, whole; ``dataset.sample(i, draw)`` its ``draw``-th random augmentation, the same
    in every process. The cache and the photos are opened when first needed, once a process.

    cache: path of a finished cache. images: folders of photos. categories: ids of the classes told apart, in order;
    without them, and for any other id, the class is 0. Photos are found and their headers checked
    here; raises :class:`amodal_data.errors.PhotoError` listing those that are missing or do not fit.
    """

    def __init__(
        self,
        cache: str | Path,
        images: Iterable[str | Path],
        settings: DataConfig,
        seed: int = 0,
        categories: Sequence[int] = (),
    ) -> None:
        self.cache = TargetCache(cache)
        self.settings = settings
        self.seed = seed
        self.categories = np.array(categories, np.int64)
        self.images = [self.cache.image(at) for at in range(len(self.cache))]
        wanted = [(image.file_name, image.size) for image in self.images]
        self.photos = find_photos(wanted, [Path(folder) for folder in images])

    def __repr__(self) -> str:
        return f"CachedTargets({self.cache.path.name!r:.80}, {len(self):,} images, {self.settings.size} px)"

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: int) -> Batch:
        return self._cut(index, fit_in(self.images[index].size, self.settings.size), flip=False, draw=0)

    def sample(self, index: int, draw: int) -> Batch:
        """Image ``index`` as training sees it: cropped, mirrored and jittered at random, by seed and draw."""
        rng = np.random.default_rng([self.seed, index, draw])
        size = self.images[index].size
        frame = fit_in(size, self.settings.size, _crop(rng, size, self.settings.crop))
        flip = self.settings.flip and bool(rng.random() < 0.5)
        jitter = int(rng.integers(2**31))
        pasted = rng if self.settings.paste and rng.random() < self.settings.paste else None
        return self._cut(index, frame, flip=flip, draw=draw, jitter=jitter, pasted=pasted)

    def _cut(
        self,
        index: int,
        frame: Frame,
        *,
        flip: bool,
        draw: int,
        jitter: int | None = None,
        pasted: np.random.Generator | None = None,
    ) -> Batch:
        photo, targets = read_photo(self.photos[index], frame.shown, frame.box), self.cache[index]
        if pasted is not None and (one := whole_one(pasted, len(self), self.cache.__getitem__, index)) is not None:
            theirs = partial(read_photo, self.photos[one.image])
            targets, photo = paste(pasted, one, targets, photo, frame.box, theirs)
        if jitter is not None:
            photo = _jittered(photo, self.settings.jitter, jitter)
        view = targets.resized(frame.shown, flip=flip, box=frame.box)
        image_id = self.images[index].image_id
        seed = hash((self.seed, image_id, draw)) % 2**62
        canvas = on_canvas(photo[:, ::-1] if flip else photo, self.settings.size)
        classes = (targets.category_ids[:, None] == self.categories).argmax(1) if len(self.categories) else None
        return Batch(canvas, _packed(view, self.settings.size, image_id, seed, classes), (frame,))


def on_canvas(photo: NDArray[np.uint8], side: int) -> Tensor:
    """A photo [H, W, 3] in the upper left corner of a square, uint8 [1, 3, side, side], 0 elsewhere."""
    canvas = np.zeros((1, 3, side, side), np.uint8)
    canvas[0, :, : photo.shape[0], : photo.shape[1]] = photo.transpose(2, 0, 1)
    return torch.from_numpy(canvas)


def _crop(rng: np.random.Generator, size: tuple[int, int], smallest: float) -> tuple[float, float, float, float] | None:
    if smallest >= 1:
        return None
    scale = rng.uniform(smallest, 1)
    height, width = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    y, x = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
    return float(x), float(y), float(x + width), float(y + height)


def _jittered(photo: NDArray[np.uint8], strength: float, seed: int) -> NDArray[np.uint8]:
    """A photo [H, W, 3] with brightness, contrast and saturation changed at random; padding comes later and stays 0."""
    if strength == 0:
        return photo
    from torchvision.transforms import v2

    with torch.random.fork_rng(devices=[]):  # the transform draws from torch's global generator
        torch.manual_seed(seed)
        changed: Tensor = v2.ColorJitter(strength, strength, strength)(torch.tensor(photo).permute(2, 0, 1))
    return changed.permute(1, 2, 0).numpy()


def _packed(
    view: ResizedTargets, side: int, image_id: int, seed: int, classes: NDArray[np.int64] | None = None
) -> Targets:
    """A view's region map and table as tensors; what has no pixels in it is left out."""
    height, width = view.size
    regions = np.zeros((side, side), np.int32)
    regions[:height, :width] = view.draw(np.arange(1, len(view.table) + 1, dtype=np.int32))
    corners = _corners(regions, len(view.table))
    boxes, seen = (union_boxes(corners, part).astype(np.float32) for part in (view.table > 0, view.table == 1))
    kept = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= _SMALLEST
    table = np.pad(view.table[:, kept], [(1, 0), (0, 0)])
    return Targets(
        torch.from_numpy(regions)[None],
        torch.from_numpy(table)[None],
        torch.from_numpy(np.append(False, view.unknown))[None],
        torch.from_numpy(boxes[kept])[None],
        torch.from_numpy(seen[kept])[None],
        torch.from_numpy(np.zeros(len(kept), np.int64) if classes is None else classes)[kept][None],
        torch.ones(1, int(kept.sum()), dtype=torch.bool),
        torch.tensor([image_id]),
        torch.tensor([seed]),
    )


def _corners(regions: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """Where the n regions of a map (ids from 1) lie, int32 [4, n], as :func:`union_boxes` takes them."""
    corners = np.full((4, n), EMPTY_BOX, np.int32)
    for at, found in enumerate(ndimage.find_objects(regions, n)):
        if found is not None:
            y, x = found
            corners[:, at] = x.start, y.start, -x.stop, -y.stop
    return corners


def batches(dataset: CachedTargets, plan: Sequence[Sequence[tuple[int, int]]], workers: int | str) -> Iterator[Batch]:
    """The batches of a plan: each a list of (image, draw), draw 0 = not augmented.

    Raises whatever a photo or the cache raises, as itself, also out of a worker process.
    """
    with warnings.catch_warnings():  # more workers than processors may be meant: photos are waited for
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        processes = _processes(workers)
        loader: Iterable[Any] = DataLoader(
            _Plan(dataset, plan), batch_size=None, num_workers=processes, worker_init_fn=_leave_to_parent
        )
        rest = iter(loader)
    while True:
        try:
            batch = next(rest, None)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                "a process that loads photos was killed, perhaps for lack of memory", fix="--set train.workers=0"
            ) from error
        if batch is None:
            return
        if isinstance(batch, AmodalError):
            raise batch
        yield batch


def _leave_to_parent(_: int) -> None:
    """Ctrl-C and batch systems signal a whole group of processes: only the parent decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _processes(workers: int | str) -> int:
    """How many processes load photos: as many as asked for, or two where there are processors for them."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, available - 1) if isinstance(workers, str) else workers


class _Plan(Dataset[Any]):
    """A plan's batches by number. Errors travel as values: a worker would wrap them in a traceback."""

    def __init__(self, dataset: CachedTargets, plan: Sequence[Sequence[tuple[int, int]]]) -> None:
        self.dataset = dataset
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> Batch | AmodalError:
        try:
            rows = self.plan[number]
            return Batch.stack([self.dataset.sample(i, d) if d else self.dataset[i] for i, d in rows])
        except AmodalError as error:
            return error
