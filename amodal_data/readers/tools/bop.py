"""BOP scenes (BlenderProc, Isaac, the BOP benchmark): ``scene_gt.json`` beside pictures of the masks of each object."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from amodal_data.errors import AnnotationError, LayoutError, PhotoError, SelectionError
from amodal_data.io.images import PHOTO_SUFFIXES, PhotoHeader, read_header
from amodal_data.readers.class_lists import read_class_list
from amodal_data.readers.json_files import identifier, integer, load_json, text
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of
from amodal_data.scenes.scene import Source

_SCENE_FILE = re.compile(r"scene_gt(?!_info|_coco)(?P<camera>_\w+)?\.json")
_IMAGES_A_SCENE = 1_000_000  # Image 12 of scene 000003 has the id 3000012, whichever folder is read
_MASKS = ("mask", "mask_visib")  # Folders of whole objects and of their visible parts


def bop_files(path: Path) -> list[Path]:
    """The ``scene_gt.json`` of a scene folder, or of all scenes in the folder of a split; one for each camera.

    [] = this is no BOP folder. Raises :class:`SelectionError` for a folder of several splits.
    """
    for pattern in ("scene_gt*.json", "*/scene_gt*.json", "*/*/scene_gt*.json"):
        files = sorted(file for file in path.glob(pattern) if is_bop(file))
        if files and pattern.startswith("*/*/"):
            splits = sorted({file.parents[1].name for file in files})
            problem = f"BOP's splits lie in folders of their own: {', '.join(splits)}"
            raise SelectionError(problem, place=str(path), fix=f"name one of them, such as {path / splits[0]}")
        if files:
            return files
    return []


def is_bop(path: Path) -> bool:
    """Is this the ``scene_gt.json`` of a BOP scene, or ``scene_gt_CAMERA.json``?"""
    return _SCENE_FILE.fullmatch(path.name) is not None and path.is_file()


def bop_as_coco(file: Path) -> tuple[CocoBuilder, Source]:
    """Read a ``scene_gt.json``; masks stay in their files, ``mask/IMAGE_OBJECT.png`` and ``mask_visib/``, until used.

    Image sizes come from ``rgb/`` or ``gray/``, else from a mask. Image ids are 1,000,000 times the number of the
    scene's folder plus the number of the image. The class of an object is its ``obj_id``. Names come from
    ``classes.txt`` in the folder or up to two above it (the first line is object 1), else from ``models_info.json`` of
    the dataset, else they are those of the model files. The camera and the poses are not used.

    Raises :class:`AnnotationError` if the file or a folder of masks is missing, :class:`LayoutError` if the file is
    not BOP's.
    """
    content, source = load_json(file)
    if not isinstance(content, Mapping) or not all(isinstance(rows, list) for rows in content.values()):
        problem = "not BOP's scene_gt.json, which holds a list of objects for each image"
        raise LayoutError(problem, place=str(file))
    scene = _Scene(file, CocoBuilder(file.resolve().parent.name))
    numbers = {number: key for key in reversed(content) if (number := identifier(key)) is not None}
    for key in sorted(content.keys() - numbers.values()):
        scene.builder.report("annotation-malformed", f"image {key!r:.40} is not a number, or is listed twice")
    for number in sorted(numbers):
        scene.add_image(number, content[numbers[number]])
    for number in sorted(scene.photos.keys() - numbers.keys()):
        scene.builder.report("image-not-begun", f"{scene.photos[number].name} is not in {file.name}")
    scene.builder.classes = scene.class_names()
    masks = [mask for part in scene.masks for mask in sorted(part.iterdir()) if mask.is_file()]
    listing = [os.fsencode(f"{mask.name} {mask.stat().st_size}") for mask in masks]  # thousands, so they are not read
    return scene.builder, Source(scene.builder.source, digest_of([source.sha256.encode(), *listing]))


class _Scene:
    """A scene folder as one camera sees it. ``photos``: number of an image -> its photo; ``masks``: two folders."""

    def __init__(self, file: Path, builder: CocoBuilder) -> None:
        match = _SCENE_FILE.fullmatch(file.name)
        camera = (match and match["camera"]) or ""
        self.folder, self.builder, self._objects = file.resolve().parent, builder, set[int]()
        self.masks = [self.folder / f"{name}{camera}" for name in _MASKS]
        if missing := [part.name for part in self.masks if not part.is_dir()]:
            fix = "make the masks with the BOP toolkit (calc_gt_masks.py); to read visible masks alone, pass --pattern "
            fix += f'"{self.masks[1].name}/{{image}}_{{object}}.png" --masks modal'
            raise AnnotationError(f"no folder {' and no '.join(missing)} here", place=str(self.folder), fix=fix)
        listed = [path for name in ("gray", "rgb") for path in sorted((self.folder / f"{name}{camera}").glob("*"))]
        photos = [path for path in listed if path.suffix.lower() in PHOTO_SUFFIXES]
        self.photos = {number: path for path in photos if (number := identifier(path.stem)) is not None}
        self._photo_folder = f"rgb{camera}"

    def add_image(self, number: int, objects: list[Any]) -> None:
        """Add an image with the objects that ``scene_gt.json`` lists for it."""
        whole, visible = ([part / f"{number:06d}_{n:06d}.png" for n in range(len(objects))] for part in self.masks)
        photo = self.photos.get(number, self.folder / self._photo_folder / f"{number:06d}.png")
        try:
            header = _header(self.photos.get(number), whole)
        except PhotoError as error:
            self.builder.report("photo-unusable", f"{photo.name}: {error.message}")
            return
        name = photo.relative_to(self.folder.parent).as_posix()
        image_id = integer((identifier(self.folder.name) or 0) * _IMAGES_A_SCENE + number)
        image_id = self.builder.add_image(name, header.size if header else (None, None), image_id)
        if header and header.is_turned:
            self.builder.report("photo-turned", f"{photo.name}: EXIF orientation {header.orientation}", image_id)
        for n, entry in enumerate(objects):
            category = identifier(entry.get("obj_id")) if isinstance(entry, Mapping) else None
            if category is None:
                self.builder.report("annotation-malformed", f"object {n} has no integer 'obj_id'", image_id)
                continue
            self._objects.add(category)
            masks = {"visible_mask": visible[n], "category_id": category}
            self.builder.add_object(image_id, "", whole[n], **masks)

    def class_names(self) -> dict[int, str]:
        """Id -> name of the classes that are listed, and of those that have an object, by id."""
        split = self.folder.parent
        listed = read_class_list(self.folder, self.builder) or read_class_list(split, self.builder)
        models = next(iter(sorted(split.parent.glob("models*/models_info.json"))), None)
        names = {number: f"obj_{number:06d}" for number in self._objects} | self._model_names(models)
        names |= {number + 1: name for number, name in listed.items()}
        return dict(sorted(names.items()))

    def _model_names(self, models: Path | None) -> dict[int, str]:
        try:
            content = {} if models is None else load_json(models)[0]
        except AnnotationError as error:
            self.builder.report("annotation-malformed", f"models_info.json: {error.message}")
            return {}
        rows = content.items() if isinstance(content, Mapping) else ()
        numbered = {number: row for key, row in rows if (number := identifier(key)) is not None}
        return {
            number: (text(row.get("name")) if isinstance(row, Mapping) else "") or f"obj_{number:06d}"
            for number, row in numbered.items()
        }


def _header(photo: Path | None, masks: list[Path]) -> PhotoHeader | None:
    """The header of the photo, else of the first usable mask; None = there is none. Raises PhotoError for the photo."""
    if photo is not None:
        return read_header(photo)
    for mask in masks:
        with suppress(PhotoError):
            return read_header(mask)
    return None
