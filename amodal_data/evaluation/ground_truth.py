"""Ground truth to score against: the instances of each image, from scenes, a cache or a file."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import TargetCache, is_cache
from amodal_data.errors import LayoutError, SelectionError
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets, layer_scene
from amodal_data.masks.rle import RLE
from amodal_data.readers import SceneStream, iter_annotations, read_annotations
from amodal_data.readers.json_files import stem_of
from amodal_data.scenes.scene import Scene, Scenes, SceneSource, Source

_LARGE = 64 * 2**20
"""Bytes of an annotation file that is not held while it is scored against"""
_HELD = 2**24
"""Bytes of a cache that is held while it is scored against"""
_AHEAD = 16


@dataclass(frozen=True, slots=True, eq=False)
class TruthImage:
    """One image of the ground truth, as one person annotated it.

    ``rates``: occlusion rate of each instance, hidden / (area + 1e-6), float64 [N]. ``constraint``: pairs
    (front, back) that the file lists, None where the source does not keep them (a cache, a flat file). ``masks``: the
    amodal ones, where they are known already.
    """

    image_id: int
    targets: LayeredTargets
    rates: NDArray[np.float64]
    constraint: tuple[tuple[int, int], ...] | None = None
    file_name: str = ""
    masks: tuple[RLE, ...] | None = None

    @classmethod
    def of(cls, scene: Scene) -> "TruthImage":
        """From an annotated image."""
        targets = layer_scene(scene)
        masks = tuple(instance.amodal for instance in scene.instances)
        rates = occlusion_rates(*targets.areas())
        constraint = scene.constraint if scene.total_order else None
        return cls(scene.image_id, targets, rates, constraint, scene.file_name, masks)

    def amodal_masks(self) -> Sequence[RLE]:
        """The whole of each instance."""
        return self.targets.rles() if self.masks is None else self.masks


class _Lazy(Sequence[TruthImage]):
    """Images that are made when they are asked for. ``ids`` and ``file_names`` of all are known before."""

    def __init__(
        self, ids: Sequence[int], file_names: Callable[[], Sequence[str]], read: Callable[[int], TruthImage]
    ) -> None:
        self.ids, self.file_names, self._read = ids, file_names, read

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._read(index % len(self))


@dataclass(frozen=True)
class Truth:
    """All images. ``annotator`` says whose annotations they are; with "all" an image occurs once for each.

    ``stream``: where they come one after the other from a file too large to hold, and ``images`` is empty. ``others``:
    ids that the source knows too and nobody asked for. ``sources``: the annotation files they come from.
    """

    images: Sequence[TruthImage]
    dataset: str
    annotator: str
    stream: SceneStream | None = None
    others: Collection[int] = ()
    sources: Sequence[Source] = ()

    def items(self) -> Iterator[tuple[int, TruthImage]]:
        """Image ids and images by rising id, as often as there are annotators.

        COCOEval sorts so too: no figure depends on the order of the images in a file.
        """
        return ((image_id, self.images[at]) for image_id, places in sorted(self.places.items()) for at in places)

    @cached_property
    def places(self) -> Mapping[int, Sequence[int]]:
        """The positions of each image id."""
        ids = self.images.ids if isinstance(self.images, _Lazy) else [image.image_id for image in self.images]
        places: dict[int, list[int]] = defaultdict(list)
        for at, image_id in enumerate(ids):
            places[image_id].append(at)
        return places

    @cached_property
    def known(self) -> Collection[int]:
        """The ids of all images to score."""
        if self.stream is None:
            return self.places.keys()
        return {image_id for image_id, _ in self.stream.images}.difference(self.others)

    def streamed(self) -> Iterator[TruthImage]:
        """All images in file order, of a stream."""
        assert self.stream is not None
        for scene in self.stream:
            if scene.image_id in self.known:
                yield TruthImage.of(scene)

    def names(self) -> dict[int, str]:
        """The file name of every image id, without folders; "" where it is not known."""
        if self.stream is not None:
            pairs: Iterable[tuple[int, str]] = self.stream.images
        elif isinstance(self.images, _Lazy):
            pairs = zip(self.images.ids, self.images.file_names(), strict=True)
        else:
            pairs = ((image.image_id, image.file_name) for image in self.images)
        return {image_id: stem_of(name) for image_id, name in pairs}


TruthSource = str | Path | Scenes | TargetCache | Iterable[Scene]


def read_truth(
    source: TruthSource, annotator: str = "first", only: Collection[int] | None = None, *, stream: bool = False
) -> Truth:
    """Ground truth from an annotation file, a cache, or scenes; each image is layered when it is asked for.

    annotator: where several people annotated one image, ``"first"`` keeps the first entry, ``"all"`` every
    one (each is scored against the same predictions), anything else those of the person of that name.
    only: image ids to keep; None = all. stream: do not hold a large annotation file.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_file() and is_cache(path):
            source = TargetCache(path, hold=path.stat().st_size <= _HELD)
        elif stream and path.is_file() and path.suffix != ".npz" and path.stat().st_size > _LARGE:
            with suppress(LayoutError):  # a list of annotations is read as a whole
                scenes = iter_annotations(path, annotator=annotator)
                others = _others((image_id for image_id, _ in scenes.images), only)
                return Truth((), scenes.dataset, annotator, scenes, others, scenes.sources)
        if not isinstance(source, TargetCache):
            source = read_annotations(path, annotator=annotator)
    if isinstance(source, TargetCache):
        truth, about = _of_cache(source, annotator, only), (source.info.dataset, source.info.sources)
        others = _others(source.image_ids.tolist(), only)
    else:
        held = source if isinstance(source, Scenes) else list(source)
        truth = _of_scenes(held, annotator, only)
        others = _others(held.image_ids if isinstance(held, Scenes) else (one.image_id for one in held), only)
        about = (source.dataset, source.sources) if isinstance(source, SceneSource) else ("custom", ())
    if not truth and annotator not in ("first", "all"):
        raise SelectionError(f"no annotations by {annotator!r}", fix="'first', 'all', or an author")
    return Truth(truth, about[0], annotator, None, others, about[1])


def _others(ids: Iterable[int], only: Collection[int] | None) -> Collection[int]:
    return () if only is None else {one for one in ids if one not in only}


def _of_cache(cache: TargetCache, annotator: str, only: Collection[int] | None) -> _Lazy:
    listed = cache.images()
    kept = _chosen([image.image_id for image in listed], [image.annotator for image in listed], annotator, only)

    def read(at: int) -> TruthImage:
        image, targets = cache.read(kept[at])
        return TruthImage(image.image_id, targets, occlusion_rates(*targets.areas()), None, image.file_name)

    return _Lazy([listed[at].image_id for at in kept], lambda: [listed[at].file_name for at in kept], read)


def _of_scenes(source: Iterable[Scene], annotator: str, only: Collection[int] | None) -> _Lazy:
    scenes: Sequence[Scene] = source if isinstance(source, Scenes) and annotator in ("first", "all") else list(source)
    ids = scenes.image_ids if isinstance(scenes, Scenes) else [scene.image_id for scene in scenes]
    who = [""] * len(ids) if isinstance(scenes, Scenes) else [scene.annotator for scene in scenes]
    kept = _chosen(ids, who, annotator, only)
    ahead: dict[int, Scene] = {}
    last = -1

    def read(at: int) -> TruthImage:
        nonlocal last
        if at not in ahead:
            ahead.clear()
            stop = at + (_AHEAD if at == last + 1 else 1)  # neighbours together, where they are asked for in a row
            places = kept[at:stop]
            whole = places == list(range(places[0], places[-1] + 1))
            several = scenes[places[0] : places[-1] + 1] if whole else [scenes[place] for place in places]
            ahead.update(zip(range(at, stop), several, strict=False))
        last = at
        return TruthImage.of(ahead.pop(at))

    def names() -> list[str]:
        every = scenes.file_names if isinstance(scenes, Scenes) else [scene.file_name for scene in scenes]
        return [every[place] for place in kept]

    return _Lazy([ids[place] for place in kept], names, read)


def _chosen(ids: Sequence[int], who: Sequence[str], annotator: str, only: Collection[int] | None) -> list[int]:
    """The positions of the entries to keep."""
    kept: list[int] = []
    seen: set[int] = set()
    for at, (image_id, author) in enumerate(zip(ids, who, strict=True)):
        if annotator not in ("first", "all", author) or (annotator != "all" and image_id in seen):
            continue
        if only is None or image_id in only:
            seen.add(image_id)
            kept.append(at)
    return kept
