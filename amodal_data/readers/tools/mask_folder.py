"""A folder of masks as pictures: one an object, ``IMAGE/OBJECT.png``, or any other naming that a pattern describes."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amodal_data.errors import LayoutError, PhotoError, SelectionError
from amodal_data.io.images import read_instance_map, read_mask
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import from_crop
from amodal_data.readers.class_lists import read_class_list
from amodal_data.readers.json_files import integer
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of, natural_key
from amodal_data.scenes.scene import Source

PATTERN = "{image}/{object}.png"  # how masks are named by default
_FIELDS = {"image", "object", "name", "order", "alpha"}
_MOST_VALUES = 5000  # Objects in a map of instances; photos passed as maps have more colors
_Key = tuple[str, str]  # an image and an object in it
_Fields = dict[str, str]
_FIELD = re.compile(r"\{(\w+)\}")


def masks_as_coco(folder: Path, pattern: str = PATTERN, visible: str | None = None) -> tuple[CocoBuilder, Source]:
    """Read the masks of a folder; black pixels are outside.

    pattern: path below the folder, with ``{image}`` and ``{object}``, and perhaps ``{name}`` (the class) and
    ``{order}``. Without ``{object}``, a file is a map of instances: each value or color other than black is an object.
    ``{alpha}`` stands for nothing: files are cutouts, whose opaque pixels are inside. Objects are listed by
    ``{object}``, numbers by value. visible: the pattern of the visible masks, if there are any. Classes are numbered by
    ``classes.txt`` in the folder or above it, else by name. Image ids count from 1 in order of name.

    Raises :class:`SelectionError` for a pattern without ``{image}``, :class:`LayoutError` if no file matches, or if
    black and white seem to be exchanged.
    """
    files = matching_files(folder, pattern)
    if not files:
        example = next((path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.*"))), "none")
        fix = f"correct --pattern; one of the files is {example}"
        raise LayoutError(f"no mask is called {pattern}", place=str(folder), fix=fix)
    builder = CocoBuilder(folder.name)
    builder.list_classes(read_class_list(folder, builder).values())
    visible_files = matching_files(folder, visible) if visible else []
    visible_paths = {path for path, _ in visible_files}  # which the pattern of amodal masks may match too
    amodal = _MaskFiles(builder, [row for row in files if row[0] not in visible_paths], pattern, folder)
    visible_masks = {key: mask for _, key, _, mask in _MaskFiles(builder, visible_files, visible or "", folder)}
    digests, images, borders = [], dict[str, tuple[int, tuple[int, int]]](), 0
    for path, key, fields, mask in amodal:
        digests += [os.fsencode(path.name), mask.compressed()]
        if fields["image"] not in images:
            images[fields["image"]] = builder.add_image(f"{fields['image']}.png", mask.size), mask.size
        image_id, size = images[fields["image"]]
        if size != mask.size:
            message = f"{path.name} is {mask.size} (height, width), the first mask of its image {size}"
            builder.report("rle-wrong-size", message, image_id)
            continue
        if _covers_border(mask):
            borders += 1
            builder.report("mask-at-border", path.relative_to(folder).as_posix(), image_id)
        values: dict[str, Any] = {"file": path.name}
        if (order := integer(float(fields["order"])) if fields.get("order", "").isdecimal() else None) is not None:
            values["order"] = order
        if key in visible_masks:
            digests.append(visible_masks[key].compressed())
            values["visible_mask"] = visible_masks[key].to_coco()
        builder.add_object(image_id, fields.get("name", "object"), mask.to_coco(), **values)
    if borders and borders == amodal.count:
        problem = "every mask covers the border of its image: black and white seem to be exchanged"
        raise LayoutError(problem, place=str(folder), fix="invert the masks, so that the background is black")
    return builder, Source(folder.name, digest_of(digests))


class _MaskFiles:
    """The masks in some files: path, key, fields of the name and mask of each. Those that cannot be read are findings.

    ``count``: how many masks were read so far.
    """

    def __init__(self, builder: CocoBuilder, files: list[tuple[Path, _Fields]], pattern: str, folder: Path) -> None:
        self.count = 0
        self._folder = folder
        self._builder, self._files = builder, files
        self._are_maps, self._alpha = "{object}" not in pattern, "{alpha}" in pattern

    def __iter__(self) -> Iterator[tuple[Path, _Key, _Fields, RLE]]:
        for path, fields in self._files:
            try:
                masks = self._read_map(path) if self._are_maps else self._read_mask(path, fields["object"])
            except PhotoError as error:
                remedy = f"; {error.fix}" if error.fix else ""
                self._builder.report("mask-unusable", f"{self._name(path)}: {error.message}{remedy}")
                continue
            self.count += len(masks)
            yield from ((path, (fields["image"], name), fields, mask) for name, mask in masks.items())

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _read_map(self, path: Path) -> dict[str, RLE]:
        from scipy import ndimage  # slow to import, needed only here

        values, has_void = read_instance_map(path)
        if has_void:
            self._builder.report("mask-void", self._name(path))
        numbers, positions = np.unique(values, return_inverse=True)
        positions = positions.reshape(values.shape)
        if len(numbers) > _MOST_VALUES:
            raise PhotoError(f"{len(numbers)} values are more than a map of instances has", place=str(path))
        masks = {}
        for n, window in enumerate(ndimage.find_objects(positions + 1)):
            if numbers[n] and window is not None:
                masks[str(numbers[n])] = from_crop(positions[window] == n, window, values.shape)
        return masks

    def _read_mask(self, path: Path, name: str) -> dict[str, RLE]:
        picture = read_mask(path, alpha=self._alpha)
        if picture.is_gray:
            self._builder.report("mask-gray", self._name(path))
        return {name: RLE.from_mask(picture.mask)}


def _covers_border(mask: RLE) -> bool:
    """Is every pixel at the border of the image inside, but not every pixel of the image?"""
    inside = mask.decode()
    edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    return all(edge.all() for edge in edges) and not inside.all()


def matching_files(folder: Path, pattern: str) -> list[tuple[Path, _Fields]]:
    """Files that match a pattern, and the fields in their paths, sorted by image and object."""
    names = _FIELD.findall(pattern)
    if not {"image"} <= set(names) <= _FIELDS or len(names) > len(set(names)):
        fix = "use {image} and {object}, perhaps {name}, {order} and {alpha}, each once"
        raise SelectionError(f"not a pattern of masks: {pattern!r}", fix=fix)
    parts = _FIELD.split(pattern.replace("{alpha}", ""))  # text and field names in turn
    expression = "".join(f"(?P<{part}>[^/]+?)" if n % 2 else re.escape(part) for n, part in enumerate(parts))
    files = []
    for path in folder.glob("/".join(["*"] * (pattern.count("/") + 1))):
        match = re.fullmatch(expression, path.relative_to(folder).as_posix(), re.IGNORECASE)
        if match and path.is_file():
            files.append((path, match.groupdict()))
    return sorted(
        files, key=lambda row: (*(natural_key(row[1].get(key, "")) for key in ("image", "object")), row[0].name)
    )
