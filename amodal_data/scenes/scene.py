"""One annotated image: what every reader makes and everything after the readers works on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import SceneError
from amodal_data.masks.rle import RLE
from amodal_data.scenes.findings import Finding

_TOGETHER = 50
"""Images read at once: enough to spread the cost of a numpy call, few enough to stay small."""


class StoredValues(NamedTuple):
    """What the file says of a region beside its amodal mask. Checksums: masks stay undecoded until needed.

    ``area`` in pixels and ``occlusion_rate`` = hidden / (area + 1e-6), None where the file is silent;
    ``visible`` and ``hidden`` are COCO RLE objects as they came, ``box`` the amodal x, y, width, height;
    None where absent.
    """

    area: float | None = None
    occlusion_rate: float | None = None
    visible: Any = None
    hidden: Any = None
    box: tuple[float, float, float, float] | None = None


_SILENT = StoredValues()  # a file that says nothing beside the mask


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Instance:
    """One object of a scene.

    ``amodal``: the whole object. ``visible``: its modal mask where the layout gives one that is to be
    believed; None means "what the instances in front leave of it". ``region_index`` is the 0-based
    position in the file's list, ``order`` COCOA's rank (0 = none).
    """

    amodal: RLE
    annotation_id: int
    region_index: int
    category_id: int = 1
    is_stuff: bool = False
    order: int = 0
    name: str = ""
    visible: RLE | None = None
    declared: StoredValues = _SILENT

    def __repr__(self) -> str:
        name = f"{self.name!r:.60}, " if self.name else ""
        return f"Instance({name}class {self.category_id}, order {self.order}, {self.amodal.area:,} px)"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scene:
    """One annotated image, immutable, checked here once.

    ``size`` is ``(H, W)``; ``in_front`` bool [N, N], ``in_front[j, i]`` iff j is in front of i.
    ``total_order``: True = ``in_front`` is the whole truth (COCOA; pairs that it leaves open are ambiguous where they
    overlap); False = it is a hint for overlapping
    pairs, and what visible and hidden masks show comes first (flat layouts, where every instance has a
    visible mask). ``findings``: what was odd while reading it. ``constraint``: pairs of instances (front,
    back) that the file itself lists (COCOA's ``depth_constraint``). ``unknown``: where objects may be that are not
    among the instances (COCO's crowds). Raises :class:`SceneError` for masks
    of another size, a matrix of another shape, or two instances each in front of the other.
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
        what = f"{len(self.instances)} instances, {len(self.findings)} findings"
        return f"Scene({self.image_id}, {self.file_name!r:.80}, {height} x {width}, {what})"

    def __post_init__(self) -> None:
        n = len(self.instances)
        if self.in_front.shape != (n, n) or self.in_front.dtype != bool:
            raise SceneError(f"in_front is {self.in_front.dtype} {self.in_front.shape}, not bool {(n, n)}")
        if not self.total_order and any(instance.visible is None for instance in self.instances):
            raise SceneError(f"image {self.image_id}: no total order, and an instance without visible mask")
        if (self.in_front & self.in_front.T).any():
            raise SceneError(f"image {self.image_id}: two instances are each in front of the other")
        if self.total_order and _circular(self.in_front):
            raise SceneError(f"image {self.image_id}: instances are in front of each other in a circle")
        masks = [mask for instance in self.instances for mask in (instance.amodal, instance.visible)]
        for mask in (*masks, self.unknown):
            if mask is not None and mask.size != self.size:
                raise SceneError(f"image {self.image_id} is {self.size}, a mask {mask.size}")


def _circular(in_front: NDArray[np.bool_]) -> bool:
    n = len(in_front)
    if np.array_equal(np.sort(in_front.sum(axis=0)), np.arange(n)) and not (in_front & in_front.T).any():
        return False  # each has another number in front of it: a total order
    from scipy.sparse.csgraph import connected_components

    groups, _ = connected_components(in_front, directed=True, connection="strong")
    return bool(groups < n)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that scenes come from: base name and SHA-256 of its bytes."""

    name: str
    sha256: str


class Record(Protocol):
    """One annotated image as a reader found it, still raw: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def image_id(self) -> int:
        """Its id."""

    @property
    def file_name(self) -> str:
        """The name of its photo, as the file gives it."""


@runtime_checkable
class SceneSource(Protocol):
    """Scenes that know where they come from and can be cut into batches: :class:`Scenes`, or a stream."""

    dataset: str
    settings: dict[str, str]
    sources: tuple[Source, ...]

    @property
    def file_findings(self) -> tuple[Finding, ...]:
        """What was odd about the files as a whole; complete once the scenes were iterated."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Scene]: ...

    def batches(self, size: int) -> "Iterator[Scenes]":
        """Neighbouring scenes, ``size`` at a time, still raw."""

    def between(self, start: int, stop: int) -> "SceneSource":
        """Only scenes ``start`` to ``stop``."""


@dataclass(frozen=True, slots=True)
class _Mapped:
    """A reader whose scenes are changed."""

    read: Callable[[Any], list[Scene]]
    change: Callable[[Scene], Scene]

    def __call__(self, records: Any) -> list[Scene]:
        return [self.change(scene) for scene in self.read(records)]


class Scenes(Sequence[Scene]):
    """The annotated images of a file, each checked and rasterised when it is asked for.

    Cheap to slice and to pickle: it holds records, not masks. ``sources`` names the files,
    ``settings`` says how they were read, ``file_findings`` what was odd about them as a whole.
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
    ) -> None:
        self._records = records
        self._read = read
        self.dataset = dataset
        self.settings = dict(settings or {})
        self.sources = tuple(sources)
        self._file_findings = tuple(file_findings)

    @property
    def file_findings(self) -> tuple[Finding, ...]:
        """What was odd about the files as a whole."""
        return self._file_findings

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Scene: ...

    @overload
    def __getitem__(self, index: slice) -> "Scenes": ...

    def __getitem__(self, index: int | slice) -> "Scene | Scenes":
        if isinstance(index, slice):
            return Scenes(
                self._records[index],
                self._read,
                dataset=self.dataset,
                settings=self.settings,
                sources=self.sources,
                file_findings=self.file_findings,
            )
        return self._read([self._records[index]])[0]

    def __iter__(self) -> Iterator[Scene]:
        for start in range(0, len(self), _TOGETHER):
            yield from self._read(self._records[start : start + _TOGETHER])

    def between(self, start: int, stop: int) -> "Scenes":
        """Only scenes ``start`` to ``stop``."""
        return self[start:stop]

    def batches(self, size: int) -> "Iterator[Scenes]":
        """Neighbouring scenes, ``size`` at a time, still raw and without what concerns the whole file."""
        for at in range(0, len(self), size):
            yield Scenes(self._records[at : at + size], self._read, dataset=self.dataset)

    def first(self, n: int) -> "Scenes":
        """The first ``n`` images; ``settings`` says so."""
        scenes = self[:n]
        scenes.settings["limit"] = str(n)
        return scenes

    @property
    def file_names(self) -> list[str]:
        """The file name of every image, without reading the scenes."""
        return [record.file_name for record in self._records]

    @property
    def image_ids(self) -> list[int]:
        """The id of every image, without reading the scenes."""
        return [record.image_id for record in self._records]

    def shifted(self, by: int) -> "Scenes":
        """The same scenes with ``by`` added to every image id."""
        moved = self[:]
        moved._records = [replace(record, image_id=record.image_id + by) for record in self._records]
        return moved

    def mapped(self, change: Callable[[Scene], Scene], settings: Mapping[str, str]) -> "Scenes":
        """The same scenes, each changed when it is read; ``settings`` say how."""
        return Scenes(
            self._records,
            _Mapped(self._read, change),
            dataset=self.dataset,
            settings={**self.settings, **settings},
            sources=self.sources,
            file_findings=self.file_findings,
        )

    def followed_by(self, other: "Scenes", findings: Sequence[Finding] = ()) -> "Scenes":
        """These scenes and then those of another file of the same layout."""
        return Scenes(
            [*self._records, *other._records],
            self._read,
            dataset=self.dataset,
            settings=self.settings,
            sources=[*self.sources, *other.sources],
            file_findings=[*self.file_findings, *other.file_findings, *findings],
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings: of the files, then of every scene (reads each of them)."""
        return (*self.file_findings, *(finding for scene in self for finding in scene.findings))

    def __repr__(self) -> str:
        names = ", ".join(source.name for source in self.sources)
        return f"Scenes({self.dataset}: {len(self)} images from {names or 'memory'})"
