"""Ground truth to score against: the instances of each image, from scenes, a cache or an annotation file."""

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
from amodal_data.io.image_names import ImageNames
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets, layer_scene
from amodal_data.masks.rle import RLE
from amodal_data.readers import SceneStream, iter_annotations, read_annotations
from amodal_data.scenes.scene import Scene, Scenes, SceneSource, Source

_STREAMED = 64 * 2**20  # bytes of an annotation file above which it is streamed, not held in memory
_CACHE_IN_MEMORY = 2**24  # bytes of a cache up to which it is held in memory
_READ_AHEAD = 16  # scenes read at once if images are requested one after the other


@dataclass(frozen=True, slots=True, eq=False)
class TruthImage:
    """One image of the ground truth, by one annotator.

    ``rates``: occlusion rate of each instance, hidden / (area + 1e-6), float64 [N]. ``constraint``: pairs
    (front, back) that the file lists, None if the source does not keep them (a cache, a flat file). ``masks``: the
    amodal masks, if already parsed.
    """

    image_id: int
    targets: LayeredTargets
    rates: NDArray[np.float64]
    constraint: tuple[tuple[int, int], ...] | None = None
    file_name: str = ""
    masks: tuple[RLE, ...] | None = None

    @classmethod
    def from_scene(cls, scene: Scene) -> "TruthImage":
        """Layer an annotated image."""
        targets, masks = layer_scene(scene), tuple(instance.amodal for instance in scene.instances)
        constraint = scene.constraint if scene.total_order else None
        return cls(scene.image_id, targets, occlusion_rates(*targets.areas()), constraint, scene.file_name, masks)

    def highest_rates(self) -> NDArray[np.float64]:
        """Occlusion rates if all pixels whose visibility is unknown were hidden, float64 [N]; else as ``rates``."""
        if not self.targets.ambiguous.any():
            return self.rates
        areas, visible = self.targets.areas()
        return occlusion_rates(areas, visible - self.targets.undecided_areas())

    def amodal_masks(self) -> Sequence[RLE]:
        """The amodal mask of each instance."""
        return self.targets.rles() if self.masks is None else self.masks


class _LazyImages(Sequence[TruthImage]):
    """Images that are read on demand; ``ids`` and ``file_names`` of all are available without reading."""

    def __init__(self, ids: list[int], file_names: Callable[[], list[str]], read: Callable[[int], TruthImage]) -> None:
        self.ids, self.file_names, self._read = ids, file_names, read

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._read(index % len(self))


@dataclass(frozen=True)
class Truth:
    """All images. ``annotator`` names whose annotations they are; with "all" an image occurs once for each annotator.

    ``stream``: the scenes of a file too large to hold; then ``images`` is empty. ``excluded``: ids of the source that
    are not scored (``only``). ``sources``: the annotation files.
    """

    images: Sequence[TruthImage]
    dataset: str
    annotator: str
    stream: SceneStream | None = None
    excluded: Collection[int] = ()
    sources: Sequence[Source] = ()

    @cached_property
    def places(self) -> Mapping[int, Sequence[int]]:
        """The positions of each image id."""
        ids = self.images.ids if isinstance(self.images, _LazyImages) else [image.image_id for image in self.images]
        places: dict[int, list[int]] = defaultdict(list)
        for i, image_id in enumerate(ids):
            places[image_id].append(i)
        return places

    @cached_property
    def image_ids(self) -> Collection[int]:
        """The ids of all images to score."""
        if self.stream is None:
            return self.places.keys()
        return {image_id for image_id, _ in self.stream.images}.difference(self.excluded)

    def streamed(self) -> Iterator[TruthImage]:
        """All images of ``stream`` in file order."""
        assert self.stream is not None
        for scene in self.stream:
            if scene.image_id in self.image_ids:
                yield TruthImage.from_scene(scene)

    @cached_property
    def file_names(self) -> dict[int, str]:
        """The file name of every image id, as annotated; "" if unknown."""
        if self.stream is not None:
            pairs: Iterable[tuple[int, str]] = self.stream.images
        elif isinstance(self.images, _LazyImages):
            pairs = zip(self.images.ids, self.images.file_names(), strict=True)
        else:
            pairs = ((image.image_id, image.file_name) for image in self.images)
        return dict(pairs)

    @cached_property
    def ids(self) -> Sequence[int]:
        """The image ids, in the order of ``file_names``."""
        return list(self.file_names)

    @cached_property
    def names(self) -> ImageNames:
        """The images by id and file name, in the order of ``file_names``."""
        return ImageNames(self.file_names.items())


TruthSource = str | Path | Scenes | TargetCache | Iterable[Scene]


def read_truth(
    source: TruthSource,
    annotator: str = "first",
    only: Collection[int] | None = None,
    *,
    masks: str | None = None,
    order: str | None = None,
    stream: bool = False,
) -> Truth:
    """Read ground truth from an annotation file, a cache, or scenes; each image is layered on demand.

    annotator: for images with several annotators, ``"first"`` keeps the first entry, ``"all"`` keeps all (each is
    scored against the same predictions), any other value the entries by that name. only: image ids to keep,
    None = all. masks, order: see :func:`read_annotations`. stream: do not hold a large annotation file in memory.

    Raises :class:`SelectionError` if masks or order are given for anything but an annotation file.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_file() and is_cache(path):
            source = TargetCache(path, hold=path.stat().st_size <= _CACHE_IN_MEMORY)
        elif stream and path.is_file() and path.suffix != ".npz" and path.stat().st_size > _STREAMED:
            with suppress(LayoutError):  # a list of annotations can only be read as a whole
                scenes = iter_annotations(path, annotator=annotator, masks=masks, order=order)
                excluded = () if only is None else {image_id for image_id, _ in scenes.images}.difference(only)
                return Truth((), scenes.dataset, annotator, scenes, excluded, scenes.sources)
        if not isinstance(source, TargetCache):
            source, masks, order = read_annotations(path, annotator=annotator, masks=masks, order=order), None, None
    if masks is not None or order is not None:
        fix = "leave out masks and order (--masks, --order), or name the annotation file"
        raise SelectionError("this ground truth already says what its masks cover", fix=fix)
    if isinstance(source, TargetCache):
        images, all_ids = _from_cache(source, annotator, only), source.image_ids.tolist()
        dataset, sources = source.info.dataset, source.info.sources
    else:
        dataset, sources = (source.dataset, source.sources) if isinstance(source, SceneSource) else ("custom", ())
        if not isinstance(source, Scenes) or annotator not in ("first", "all"):
            source = Scenes(list(source), list, dataset=dataset)  # in memory
        images, all_ids = _from_scenes(source, annotator, only), source.image_ids
    if not images and annotator not in ("first", "all"):
        raise SelectionError(f"no annotations by {annotator!r}", fix="'first', 'all', or the name of an annotator")
    return Truth(images, dataset, annotator, None, () if only is None else {*all_ids}.difference(only), sources)


def _from_cache(cache: TargetCache, annotator: str, only: Collection[int] | None) -> _LazyImages:
    entries = cache.images()
    kept = _select([image.image_id for image in entries], [image.annotator for image in entries], annotator, only)

    def read(i: int) -> TruthImage:
        image, targets = cache.read(kept[i])
        return TruthImage(image.image_id, targets, occlusion_rates(*targets.areas()), None, image.file_name)

    return _LazyImages([entries[i].image_id for i in kept], lambda: [entries[i].file_name for i in kept], read)


def _from_scenes(scenes: Scenes, annotator: str, only: Collection[int] | None) -> _LazyImages:
    ids, by_name = scenes.image_ids, annotator not in ("first", "all")
    authors = [scene.annotator for scene in scenes] if by_name else [""] * len(ids)
    kept = _select(ids, authors, annotator, only)
    ahead: dict[int, Scene] = {}
    last = -1

    def read(i: int) -> TruthImage:
        nonlocal last
        if i not in ahead:
            ahead.clear()
            stop = i + (_READ_AHEAD if i == last + 1 else 1)
            places = kept[i:stop]
            contiguous = places == list(range(places[0], places[-1] + 1))
            part = scenes[places[0] : places[-1] + 1] if contiguous else [scenes[place] for place in places]
            ahead.update(zip(range(i, stop), part, strict=False))
        last = i
        return TruthImage.from_scene(ahead.pop(i))

    return _LazyImages([ids[i] for i in kept], lambda: list(map(scenes.file_names.__getitem__, kept)), read)


def _select(ids: Sequence[int], authors: Sequence[str], annotator: str, only: Collection[int] | None) -> list[int]:
    """The positions of the entries to keep."""
    entries = enumerate(zip(ids, authors, strict=True))
    kept = [i for i, (_, author) in entries if annotator in ("first", "all", author)]
    if only is not None:
        kept = [i for i in kept if ids[i] in only]
    return kept if annotator == "all" else sorted({ids[i]: i for i in reversed(kept)}.values())
