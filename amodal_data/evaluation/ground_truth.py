"""Ground truth to score against: the instances of each image, from scenes, a cache or an annotation file."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import TargetCache, is_cache
from amodal_data.errors import LayoutError, SelectionError
from amodal_data.io.image_names import ImageNames
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets, layer_scene
from amodal_data.masks.rle import RLE
from amodal_data.readers import ReadOptions, SceneStream, iter_annotations, read_annotations
from amodal_data.readers.categories import Categories
from amodal_data.readers.stream import items_of
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.scene import Scene, Scenes, SceneSource, Source

_STREAMED = 64 * 2**20  # bytes of an annotation file above which it is streamed, not held in memory
_CACHE_IN_MEMORY = 2**24  # bytes of a cache up to which it is held in memory
_READ_AHEAD = 16  # scenes read at once if images are requested one after the other


@dataclass(frozen=True, slots=True, eq=False)
class TruthImage:
    """One image of the ground truth, by one annotator.

    ``rates``: occlusion rate of each instance, hidden / (area + 1e-6), float64 [N]. ``constraint``: pairs
    (front, back) that the file lists, None if the source does not keep them (a cache, a flat file). ``masks``: the
    amodal masks, if already parsed. ``findings``: about this image, from reading it; () for a cache.
    """

    image_id: int
    targets: LayeredTargets
    rates: NDArray[np.float64]
    constraint: tuple[tuple[int, int], ...] | None = None
    file_name: str = ""
    masks: tuple[RLE, ...] | None = None
    findings: tuple[Finding, ...] = ()

    @classmethod
    def from_scene(cls, scene: Scene) -> "TruthImage":
        """Layer an annotated image."""
        targets, masks = layer_scene(scene), tuple(instance.amodal for instance in scene.instances)
        constraint = scene.constraint if scene.total_order else None
        rates = occlusion_rates(*targets.areas())
        return cls(scene.image_id, targets, rates, constraint, scene.file_name, masks, scene.findings)

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
    """Images that are read on demand; ``ids`` and ``file_names`` of all are available without reading.

    The last image is kept, because baselines are made from the image that they are scored on.
    """

    def __init__(self, ids: list[int], file_names: Callable[[], list[str]], read: Callable[[int], TruthImage]) -> None:
        self.ids, self.file_names, self._read = ids, file_names, read
        self._last: tuple[int, TruthImage] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        if self._last is None or self._last[0] != index % len(self):
            self._last = None  # free it first
            self._last = index % len(self), self._read(index % len(self))
        return self._last[1]


@dataclass(frozen=True)
class Truth:
    """All images. ``annotator`` names whose annotations they are; with "all" an image occurs once for each annotator.

    ``stream``: the scenes of a file too large to hold; then ``images`` is empty. ``excluded``: ids and file names of
    images of the source that are not scored (``only``). ``sources``: the annotation files. ``name``: path of the file
    or cache, "" = memory. ``read_findings``: the findings about files, and about all images of a cache.
    ``read_categories``: the classes.
    """

    images: Sequence[TruthImage]
    dataset: str
    annotator: str
    stream: SceneStream | None = None
    excluded: dict[int, str] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    name: str = ""
    read_findings: Callable[[], Iterable[Finding]] = tuple
    read_categories: Callable[[], Categories] = Categories

    @cached_property
    def categories(self) -> Categories:
        """The classes that the source lists, with the ids that it writes as text where they are known."""
        return self.read_categories()

    @cached_property
    def skipped(self) -> Counter[str]:
        """As :func:`count_skipped`, without what :attr:`TruthImage.findings` report."""
        return count_skipped(f for f in self.read_findings() if f.place.image_id not in self.excluded)

    @property
    def findings_remedy(self) -> str:
        """How to list the findings."""
        return f"amodal-data check {self.name} lists them" if self.name else "see findings of the scenes"

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
        """The image ids, in the order of ``file_names``, then the excluded ones."""
        return list(self.file_names | self.excluded)

    @cached_property
    def names(self) -> ImageNames:
        """The images by id and file name, in the order of ``ids``."""
        return ImageNames((self.file_names | self.excluded).items())


def count_skipped(findings: Iterable[Finding]) -> Counter[str]:
    """Number of objects and images that were skipped because of an error, by finding code."""
    return Counter(f.code for f in findings if f.severity == "error" and f.action.endswith("skipped"))


TruthSource = str | Path | Scenes | TargetCache | Iterable[Scene]


def read_truth(
    source: TruthSource,
    annotator: str = "first",
    only: Collection[int] | None = None,
    *,
    stream: bool = False,
    **reading: Unpack[ReadOptions],
) -> Truth:
    """Read ground truth from an annotation file, a cache, or scenes; each image is layered on demand.

    annotator: for images with several annotators, ``"first"`` keeps the first entry, ``"all"`` keeps all (each is
    scored against the same predictions), any other value the entries by that name. only: image ids to keep,
    None = all. stream: do not hold a large annotation file in memory. reading: see :func:`read_annotations`.

    Raises :class:`SelectionError` if reading options are given for anything but an annotation file.
    """
    name, options = "", {key: value for key, value in reading.items() if value is not None}
    if isinstance(source, str | Path):
        path, name = Path(source), str(source)
        if path.is_file() and is_cache(path):
            source = TargetCache(path, hold=path.stat().st_size <= _CACHE_IN_MEMORY)
        elif stream and path.is_file() and path.suffix != ".npz" and path.stat().st_size > _STREAMED:
            with suppress(LayoutError):  # a list of annotations can only be read as a whole
                return _streamed_truth(path, annotator, only, options)
        if not isinstance(source, TargetCache):
            source, options = read_annotations(path, annotator=annotator, **reading), {}
    if options:
        names = " and ".join(f"--{key.replace('_', '-')}" for key in options)
        fix = f"leave out {names}, or name the annotation file"
        raise SelectionError("this ground truth already says what its masks cover", fix=fix)
    if isinstance(source, TargetCache):
        images = _from_cache(source, annotator, only)
        pairs = [(image.image_id, image.file_name) for image in source.images()] if only is not None else []
        dataset, sources = source.info.dataset, source.info.sources
        name, listed = name or str(source.path), Categories(source.info.categories)
        findings: Callable[[], Iterable[Finding]] = partial(getattr, source, "findings")
    else:
        origin: SceneSource = source if isinstance(source, SceneSource) else Scenes([], list, dataset="custom")
        dataset, sources = origin.dataset, origin.sources
        listed = Categories(origin.categories, origin.category_texts if isinstance(origin, Scenes) else {})
        findings = partial(tuple, origin.file_findings)
        if not isinstance(source, Scenes) or annotator not in ("first", "all"):
            source = Scenes(list(source), list, dataset=dataset)  # in memory
        images = _from_scenes(source, annotator, only)
        pairs = list(zip(source.image_ids, source.file_names, strict=True))
    if not images and annotator not in ("first", "all"):
        raise SelectionError(f"no annotations by {annotator!r}", fix="'first', 'all', or the name of an annotator")
    excluded = {} if only is None else {image_id: file_name for image_id, file_name in pairs if image_id not in only}
    return Truth(images, dataset, annotator, None, excluded, sources, name, findings, lambda: listed)


def _streamed_truth(path: Path, annotator: str, only: Collection[int] | None, options: Mapping[str, Any]) -> Truth:
    """Raises :class:`LayoutError` for a layout that can only be read as a whole."""
    if "form" in options:
        raise LayoutError("Datumaro's importers read whole files")
    rules = {key: options.get(key) for key in ("masks", "order", "crowds")}
    scenes = iter_annotations(path, annotator=annotator, **rules)
    excluded = {} if only is None else {number: name for number, name in scenes.images if number not in only}

    def read_categories() -> Categories:
        listed = Categories.read(list(items_of(path, "categories.item")))
        return listed if listed.names else Categories(scenes.categories)

    findings = partial(getattr, scenes, "file_findings")
    return Truth((), scenes.dataset, annotator, scenes, excluded, scenes.sources, str(path), findings, read_categories)


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
