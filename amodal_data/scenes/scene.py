"""Annotated images as values: :class:`Scene` is the output of every reader and the input of all that follows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import SceneError
from amodal_data.masks.rle import RLE
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.occlusion_order import is_cyclic

_BATCH_SIZE = 50  # images decoded at once: enough to spread the cost of a numpy call, few enough to stay small


class StoredValues(NamedTuple):
    """Figures and masks that a file stores beside an amodal mask, to check it by; None = not in the file.

    ``area`` in pixels; ``occlusion_rate`` = hidden / (area + 1e-6); ``visible``, ``hidden``: RLE objects, not decoded;
    ``box``: amodal x, y, width, height in pixels.
    """

    area: float | None = None
    occlusion_rate: float | None = None
    visible: Any = None
    hidden: Any = None
    box: tuple[float, float, float, float] | None = None


_NOTHING_STORED = StoredValues()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Instance:
    """One object of a scene.

    ``amodal``: mask of the whole object. ``visible``: its visible mask; None = the amodal mask minus those of the
    instances in front. ``region_index``: 0-based position among the annotations of the image. ``order``: COCOA's rank,
    0 = none. ``declared``: stored figures and masks to check these by.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> instance = scenes[0].instances[0]
        >>> instance
        Instance('leaf', class 1, order 1, 248 px)
        >>> instance.amodal.area
        248
    """

    amodal: RLE
    annotation_id: int
    region_index: int
    category_id: int = 1
    is_stuff: bool = False
    order: int = 0
    name: str = ""
    visible: RLE | None = None
    declared: StoredValues = _NOTHING_STORED

    def __repr__(self) -> str:
        name = f"{self.name!r:.60}, " if self.name else ""
        return f"Instance({name}class {self.category_id}, order {self.order}, {self.amodal.area:,} px)"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scene:
    """One annotated image; immutable, and checked when it is made.

    - ``size``: (H, W) in pixels.
    - ``in_front``: bool [N, N]; ``in_front[j, i]`` is True iff instance j is in front of i.
    - ``total_order``: True = ``in_front`` decides alone, and overlaps of unordered pairs are ambiguous (COCOA). False =
      visible and hidden masks decide first, and ``in_front`` is a hint for overlapping pairs (flat layouts).
    - ``constraint``: pairs of instances (front, back) that the file lists (COCOA's ``depth_constraint``).
    - ``unknown``: pixels of objects that are not among the instances (COCO's crowds); None = there are none.

    Raises :class:`SceneError` if masks or matrix have another size, if the order is not one, or if ``total_order`` is
    False and an instance has no visible mask.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> scenes[0]
        Scene(1, 'COCO_val2014_000000000001.jpg', 96 x 128, 8 instances, 0 findings)
        >>> len(scenes[0].instances)
        8
    """

    image_id: int
    file_name: str
    size: tuple[int, int]
    instances: tuple[Instance, ...]
    in_front: NDArray[np.bool_]
    total_order: bool = True
    findings: tuple[Finding, ...] = ()
    source: str = ""
    annotator: str = ""
    constraint: tuple[tuple[int, int], ...] = ()
    unknown: RLE | None = None

    def __repr__(self) -> str:
        height, width = self.size
        counts = f"{len(self.instances)} instances, {len(self.findings)} findings"
        return f"Scene({self.image_id}, {self.file_name!r:.80}, {height} x {width}, {counts})"

    def __post_init__(self) -> None:
        n = len(self.instances)
        if self.in_front.shape != (n, n) or self.in_front.dtype != bool:
            raise SceneError(f"in_front must be bool {(n, n)}, found {self.in_front.dtype} {self.in_front.shape}")
        if not self.total_order and any(instance.visible is None for instance in self.instances):
            raise SceneError(f"image {self.image_id}: without a total order, every instance needs a visible mask")
        if (self.in_front & self.in_front.T).any():
            raise SceneError(f"image {self.image_id}: two instances are each in front of the other")
        if self.total_order and is_cyclic(np.argwhere(self.in_front), n):
            raise SceneError(f"image {self.image_id}: the order of the instances contains a cycle")
        masks = [mask for instance in self.instances for mask in (instance.amodal, instance.visible)]
        for mask in (*masks, self.unknown):
            if mask is not None and mask.size != self.size:
                raise SceneError(f"image {self.image_id} has size {self.size}, but a mask has size {mask.size}")


@dataclass(frozen=True, slots=True)
class Source:
    """An annotation file: base name and SHA-256 of its bytes."""

    name: str
    sha256: str


class Record(Protocol):
    """A dataclass with the raw annotations of one image."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def image_id(self) -> int:
        """Id of the image."""

    @property
    def file_name(self) -> str:
        """File name of the image, as annotated."""


@runtime_checkable
class SceneSource(Protocol):
    """Scenes with their origin, which can be read in batches: :class:`Scenes` or a stream."""

    dataset: str
    settings: dict[str, str]
    sources: tuple[Source, ...]
    categories: dict[int, str]

    @property
    def file_findings(self) -> tuple[Finding, ...]:
        """Findings about the files as a whole; complete after one iteration over the scenes."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Scene]: ...

    def batches(self, size: int) -> "Iterator[Scenes]":
        """Consecutive scenes, ``size`` at a time, not decoded yet."""

    def between(self, start: int, stop: int) -> "SceneSource":
        """Scenes ``start`` to ``stop`` only."""


def _read_mapped(read: Callable[[Any], list[Scene]], change: Callable[[Scene], Scene], records: Any) -> list[Scene]:
    return list(map(change, read(records)))


class Scenes(Sequence[Scene]):
    """The annotated images of one or more files; each is checked and rasterized when you index or iterate.

    Slicing and pickling are cheap, because records are held, not masks. ``read`` turns records into scenes.
    ``sources``: the files; ``settings``: how they are read; ``file_findings``: findings about the files as a whole;
    ``categories``: id -> name of the classes that they list, in their order, used or not; {} = they list none.

    Examples:
        >>> import amodal_data as ad
        >>> scenes = ad.read_cocoa(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128), photos=False))
        >>> len(scenes), scenes.dataset, scenes.findings
        (2, 'cocoa', ())
        >>> scenes.first(1)[0].size
        (96, 128)
    """

    def __init__(
        self,
        records: Sequence[Record],
        read: Callable[[Any], list[Scene]],
        *,
        dataset: str,
        settings: Mapping[str, str] | None = None,
        sources: Sequence[Source] = (),
        file_findings: Sequence[Finding] = (),
        categories: Mapping[int, str] | None = None,
    ) -> None:
        self.categories = dict(categories or {})
        self._records, self._read = records, read
        self.dataset, self.settings, self.sources = dataset, dict(settings or {}), tuple(sources)
        self.file_findings = tuple(file_findings)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Scene: ...

    @overload
    def __getitem__(self, index: slice) -> "Scenes": ...

    def __getitem__(self, index: int | slice) -> "Scene | Scenes":
        if isinstance(index, slice):
            return self._copy(_records=self._records[index])
        return self._read([self._records[index]])[0]

    def record(self, index: int) -> Any:
        """The raw annotations of image ``index``, a frozen dataclass; :meth:`reread` takes a changed copy."""
        return self._records[index]

    def reread(self, record: Any) -> Scene:
        """The scene of other raw annotations of one of these images."""
        return self._read([record])[0]

    def _copy(self, **changes: Any) -> "Scenes":
        scenes = copy(self)
        vars(scenes).update({"settings": dict(self.settings), **changes})
        return scenes

    def __iter__(self) -> Iterator[Scene]:
        for start in range(0, len(self), _BATCH_SIZE):
            yield from self._read(self._records[start : start + _BATCH_SIZE])

    def between(self, start: int, stop: int) -> "Scenes":
        """Scenes ``start`` to ``stop`` only."""
        return self[start:stop]

    def batches(self, size: int) -> "Iterator[Scenes]":
        """Consecutive scenes, ``size`` at a time, not decoded yet, without settings, sources and file findings."""
        for start in range(0, len(self), size):
            yield Scenes(self._records[start : start + size], self._read, dataset=self.dataset)

    def first(self, n: int) -> "Scenes":
        """The first ``n`` scenes, as ``limit`` in the settings says."""
        scenes = self[:n]
        scenes.settings["limit"] = str(n)
        return scenes

    @property
    def file_names(self) -> list[str]:
        """File name of every image; scenes are not read."""
        return [record.file_name for record in self._records]

    @property
    def image_ids(self) -> list[int]:
        """Id of every image; scenes are not read."""
        return [record.image_id for record in self._records]

    @property
    def category_texts(self) -> dict[str, int]:
        """Class ids that the files write as text -> class id."""
        listed = {id(classes): classes for record in self._records if (classes := getattr(record, "categories", None))}
        texts = ((key, n) for classes in listed.values() for key, n in classes.numbers.items())
        return {key: number for key, number in texts if number in self.categories}

    def shifted(self, by: int) -> "Scenes":
        """The same scenes with ``by`` added to every image id."""
        return self._copy(_records=[replace(record, image_id=record.image_id + by) for record in self._records])

    def renumbered(self, ids: Mapping[int, int], categories: Mapping[int, str]) -> "Scenes":
        """The same scenes with other class ids; ``ids``: old id -> new id; ``categories``: the new ones."""
        changed: Any = self._records  # only records with classes have any to renumber
        records = [replace(record, categories=record.categories.renumbered(ids)) for record in changed]
        return self._copy(_records=records, categories=dict(categories))

    def mapped(
        self, change: Callable[[Scene], Scene], settings: Mapping[str, str], categories: Mapping[int, str]
    ) -> "Scenes":
        """Apply ``change`` to each scene when it is read; ``settings`` are added to those of the scenes.

        categories: the classes after the change.
        """
        settings = {**self.settings, **settings}
        return self._copy(
            _read=partial(_read_mapped, self._read, change), settings=settings, categories=dict(categories)
        )

    def followed_by(self, other: "Scenes", findings: Sequence[Finding] = ()) -> "Scenes":
        """Append the scenes of another file of the same layout, and findings about the two."""
        return self._copy(
            categories={**self.categories, **other.categories},
            _records=[*self._records, *other._records],
            sources=(*self.sources, *other.sources),
            file_findings=(*self.file_findings, *other.file_findings, *findings),
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings: of the files, then of every scene, all of which are read."""
        return (*self.file_findings, *(finding for scene in self for finding in scene.findings))

    def __repr__(self) -> str:
        names = ", ".join(source.name for source in self.sources)
        return f"Scenes({self.dataset}: {len(self)} images from {names or 'memory'})"
