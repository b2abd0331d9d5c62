"""Open annotations or a cache as one dataset: count, look, select and convert without knowing the layout."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Unpack, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amodal_data.cache import CachedImage, TargetCache
from amodal_data.cache.read import PREVIEW_IMAGES
from amodal_data.datasets.filter import Conditions
from amodal_data.datasets.image_facts import ImageFacts, cached_facts, scene_facts
from amodal_data.datasets.layout_parts import photo_key
from amodal_data.datasets.split import TRAIN_VAL_TEST, divide, label_counts
from amodal_data.errors import LevelsError, PhotoError, SelectionError
from amodal_data.export.convert import LAYOUTS, Conversion, convert
from amodal_data.inspector.contact_sheet import contact_sheet
from amodal_data.inspector.drawing.overlay import small_size, views_figure
from amodal_data.inspector.summary import Summary
from amodal_data.inspector.target_dataset import TargetDataset, open_dataset
from amodal_data.io.images import read_display_photo
from amodal_data.io.text import suggest_name
from amodal_data.layering.targets import LayeredTargets
from amodal_data.readers import ReadOptions
from amodal_data.readers.discovery import PhotoFinder
from amodal_data.scenes.findings import Finding

SHOWN_IMAGES = 6  # Images on a contact sheet by default

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AnnotatedImage:
    """An image of a dataset with its targets. ``photo_file``: its photo, None = no folder of images holds it.

    Examples:
        >>> import amodal_data as ad
        >>> image = ad.open(ad.write_cocoa("scenes", 2, seed=1, size=(96, 128)))[0]
        >>> image.file_name, image.photo.shape, image.targets
        ('COCO_val2014_000000000001.jpg', (96, 128, 3), LayeredTargets(96 x 128, 8 instances, levels to 2))
    """

    image: CachedImage
    targets: LayeredTargets
    photo_file: Path | None

    @property
    def image_id(self) -> int:
        """Id of the image."""
        return self.image.image_id

    @property
    def file_name(self) -> str:
        """File name of the image, as annotated."""
        return self.image.file_name

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.size

    @property
    def photo(self) -> NDArray[np.uint8]:
        """The photo, RGB uint8 [H, W, 3], upright as the annotations; decoded at every access.

        Raises :class:`PhotoError` if it is missing, damaged, or of another size than the annotations say.
        """
        picture, problem = read_display_photo(self.photo_file, self.size, self.size)
        if picture is None:
            raise PhotoError(f"{self.file_name}: {problem}", fix="name the folder of the images with --images")
        return np.asarray(picture)

    def plot(self) -> Image.Image:
        """Draw the instances on the photo, or on gray if it can't be used; see :meth:`LayeredTargets.plot`."""
        return self.targets.plot(read_display_photo(self.photo_file, self.size, self.size)[0])

    def __repr__(self) -> str:
        height, width = self.size
        counts = f"{len(self.targets.names)} instances, {'a' if self.photo_file else 'no'} photo"
        return f"AnnotatedImage({self.image_id}, {self.file_name!r:.80}, {height} x {width}, {counts})"

    def _repr_html_(self) -> str:
        """Shown by notebooks: the photo with striped hidden parts, and the ``repr``."""
        return _images_figure([self], repr(self))


def open(
    path: Paths, *, images: Paths | None = None, annotator: str = "first", **reading: Unpack[ReadOptions]
) -> "Dataset":
    """Open annotations of any layout, or a cache, as a :class:`Dataset`.

    path: a file or folder, or several annotation files of one layout. images: folders of photos; None = the folder of
    the annotations. annotator, reading: see :func:`read_annotations`, such as ``masks="amodal"``. Raises as that does.

    Examples:
        >>> import amodal_data as ad
        >>> dataset = ad.open(ad.write_cocoa("scenes", 3, seed=1, size=(96, 128)))
        >>> len(dataset), dataset[0].photo.shape, dataset[0].targets.levels.shape[1:]
        (3, (96, 128, 3), (96, 128))
    """
    files = [Path(file) for file in ([path] if isinstance(path, str | Path) else path)]
    source = open_dataset(*files, annotator=annotator, **reading)
    folders = [file if file.is_dir() else file.absolute().parent for file in files] if images is None else images
    return Dataset(source, [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)])


class Dataset(Sequence[AnnotatedImage]):
    """The images of annotation files or a cache, with their targets and photos; each is read when you ask for it.

    ``dataset[i]`` is an :class:`AnnotatedImage`, ``dataset[:10]`` a dataset. Iteration leaves out images that no level
    table can hold, finding ``image-too-complex``; indexing one raises :class:`LevelsError`.

    Examples:
        >>> import amodal_data as ad
        >>> dataset = ad.open(ad.write_flat("flat", 3, "d2sa", seed=1, photos=False))
        >>> dataset
        Dataset('D2S_amodal_validation.json', 3 images, 9 classes, amodal masks)
        >>> [finding.code for finding in dataset.findings]
        []
        >>> dataset[:2].to("coco", "two.json").images
        2
    """

    def __init__(self, source: TargetDataset, folders: Sequence[Path]) -> None:
        self._source, self._folders = source, folders

    def __len__(self) -> int:
        return len(self._source)

    @overload
    def __getitem__(self, index: int) -> AnnotatedImage: ...

    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...

    def __getitem__(self, index: int | slice) -> "AnnotatedImage | Dataset":
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        image, targets = self._source.read(index)
        return AnnotatedImage(image, targets, self._photos.find(image.file_name))

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for index in range(len(self)):
            try:
                yield self[index]
            except LevelsError:  # reported by ``findings``
                continue

    def subset(self, positions: Sequence[int]) -> "Dataset":
        """The images at some positions, in that order."""
        return Dataset(self._source.subset(positions), self._folders)

    def split(
        self,
        parts: Mapping[str, float] = TRAIN_VAL_TEST,
        *,
        seed: int = 0,
        group_by: str | None = None,
        stratify: bool = False,
    ) -> "dict[str, Dataset]":
        """Divide the images into parts that share no photo; equal to ``amodal-data split`` with the same options.

        parts: name -> share of the images; the shares sum to 1. seed: equal seeds give equal parts. group_by:
        ``"folder"``, or a regular expression whose match in the file name keeps images together. stratify: give every
        part its share of each class and of little and much hidden instances; reads all images once. (Images that the
        reader leaves out count in the command only.) Raises :class:`SelectionError` if a part gets no image.

        Examples:
            >>> import amodal_data as ad
            >>> dataset = ad.open(ad.write_cocoa("ten", 10, seed=1, size=(96, 128), photos=False))
            >>> parts = dataset.split({"train": 0.8, "val": 0.2})
            >>> len(parts["train"]), len(parts["val"])
            (8, 2)
        """
        keys = list(map(photo_key, self.image_ids, self.file_names))
        labels = list(map(label_counts, self._facts())) if stratify else None
        members = divide(keys, parts, labels, seed=seed, group_by=group_by)
        return {name: self.subset(positions) for name, positions in members.items()}

    def filter(
        self,
        *,
        classes: Collection[str] = (),
        exclude_classes: Collection[str] = (),
        hidden: tuple[float, float] = (0, 1),
        min_size: int = 0,
        findings: Collection[str] = (),
        without_findings: Collection[str] = (),
        images: Collection[int | str] = (),
    ) -> "Dataset":
        """The images that fulfill all conditions, as ``amodal-data filter`` keeps them; reads images once.

        Arguments: see :class:`amodal_data.datasets.filter.Conditions`. Raises :class:`SelectionError` for a class, a
        code of findings or an image that does not exist.

        Examples:
            >>> import amodal_data as ad
            >>> dataset = ad.open(ad.write_flat("five", 5, "d2sa", seed=1, size=(96, 128), photos=False))
            >>> hidden = dataset.filter(classes=["leaf"], hidden=(0.5, 1))
            >>> len(hidden), len(dataset.filter(images=[1, "d2sa_000003"]))
            (2, 2)
        """
        conditions = Conditions(classes, exclude_classes, hidden, min_size, findings, without_findings, images)
        conditions.check_masks(self.masks, self.name)
        chosen = self.subset(sorted(conditions.positions(list(zip(self.image_ids, self.file_names, strict=True)))))
        if conditions == Conditions(images=images):
            return chosen
        names, kept = set(self.classes.values()), []
        for position, image in enumerate(chosen._facts()):
            names.update(image.names)
            kept += [position] * conditions.keeps_image(image)
        conditions.check_classes(names, self.name)
        return chosen.subset(kept)

    def _facts(self) -> Iterator[ImageFacts]:
        """Areas, names and findings of every image."""
        origin, findings = self._source.origin, defaultdict[int, list[Finding]](list)
        for finding in origin.findings if isinstance(origin, TargetCache) else ():
            findings[finding.place.image_id].append(finding)
        for position in self._source.positions:
            if isinstance(origin, TargetCache):
                image, targets = origin.read(position)
                yield cached_facts(image, targets, findings[image.image_id])
            else:
                yield scene_facts(origin[position])

    @property
    def name(self) -> str:
        """Name of the file or files."""
        return self._source.name

    @property
    def masks(self) -> str:
        """What the masks cover: ``"amodal"`` (whole objects) or ``"modal"`` (visible parts)."""
        return self._source.masks

    @property
    def classes(self) -> dict[int, str]:
        """Id -> name of the classes that the source lists, used or not; {} = its instances have names only (COCOA)."""
        return dict(self._source.categories)

    @property
    def image_ids(self) -> list[int]:
        """Id of every image; no image is read."""
        return self._source.image_ids

    @property
    def file_names(self) -> list[str]:
        """File name of every image; no image is read."""
        return self._source.file_names

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every problem of these images, as :func:`amodal_data.check` reports them; reads all images once."""
        return self._summary.findings

    def stats(self) -> Summary:
        """Counts of images, instances, sizes, hidden parts, levels and classes; reads all images once."""
        return self._summary

    @cached_property
    def _summary(self) -> Summary:
        return self._source.summary()

    @cached_property
    def _photos(self) -> PhotoFinder:
        return PhotoFinder(self._folders, self.file_names)

    def to(self, layout: str, path: str | Path, *, force: bool = False) -> Conversion:
        """Write the images in a layout of :data:`amodal_data.export.convert.LAYOUTS`, and count what is lost.

        Raises :class:`SelectionError` for another layout, else as :func:`amodal_data.export.convert`.
        """
        if layout not in LAYOUTS:
            raise SelectionError(f"no layout is called {layout!r:.40}", fix=suggest_name(layout, LAYOUTS))
        return convert(self._source, Path(path), layout, masks=self.masks, categories=self.classes, force=force)

    def show(self, n: int = SHOWN_IMAGES) -> Image.Image:
        """Contact sheet of the first ``n`` images, a Pillow image: a notebook shows it, ``.show()`` opens a window."""
        return contact_sheet([(item.image, item.targets, item.photo_file) for item in islice(self, n)], self.masks)

    def __repr__(self) -> str:
        classes = f", {len(self.classes):,} classes" if self.classes else ""
        return f"Dataset({self.name!r:.80}, {len(self):,} images{classes}, {self.masks} masks)"

    def _repr_html_(self) -> str:
        """Shown by notebooks: the first images with striped hidden parts, and the ``repr``."""
        return _images_figure(list(islice(self, PREVIEW_IMAGES)), repr(self))


def _images_figure(items: Sequence[AnnotatedImage], text: str) -> str:
    """HTML of images side by side on their photos, with a caption."""
    views = [item.targets.resized(small_size(item.size, len(items))) for item in items]
    sized = zip(items, views, strict=True)
    photos = [read_display_photo(item.photo_file, item.size, view.size)[0] for item, view in sized]
    return views_figure(views, text, photos)
