"""A folder of PNG masks, one an object: ``IMAGE/OBJECT.png`` or any other naming that a pattern describes."""

import os
import re
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError, PhotoError, SelectionError
from amodal_data.io.images import read_mask
from amodal_data.masks.rle import RLE
from amodal_data.readers.json_files import integer
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of
from amodal_data.scenes.scene import Source

PATTERN = "{image}/{object}.png"  # how masks are named by default
_FIELDS = {"image", "object", "name", "order"}
_FIELD = re.compile(r"\{(\w+)\}")


def masks_as_coco(folder: Path, pattern: str = PATTERN, visible: str | None = None) -> tuple[CocoBuilder, Source]:
    """Read the masks of a folder; pixels that are not 0 in any channel are inside.

    pattern: path below the folder, with ``{image}`` and ``{object}``, and perhaps ``{name}`` (the class) and
    ``{order}``. Objects are listed by ``{object}``, numbers by value. visible: the pattern of the visible masks, if
    there are any. Image ids count from 1 in order of name.

    Raises :class:`SelectionError` for a pattern without the two fields, :class:`LayoutError` if no file matches.
    """
    amodal = _matching_files(folder, pattern)
    if not amodal:
        raise LayoutError(f"no mask is called {pattern}", place=str(folder), fix="name them with --pattern")
    visible_rows = _matching_files(folder, visible) if visible else []
    visible_files = {(fields["image"], fields["object"]): path for path, fields in visible_rows}
    visible_paths = set(visible_files.values())  # which the pattern of amodal masks may match too
    builder, digests, images = CocoBuilder(folder.name), [], dict[str, tuple[int, tuple[int, int]]]()
    for path, fields in amodal:
        if path in visible_paths or (mask := _read(builder, path)) is None:
            continue
        digests += [os.fsencode(path.name), mask.compressed()]
        if fields["image"] not in images:
            images[fields["image"]] = builder.add_image(f"{fields['image']}.png", mask.size), mask.size
        image_id, size = images[fields["image"]]
        if size != mask.size:
            message = f"{path.name} is {mask.size} (height, width), the first mask of its image {size}"
            builder.report("rle-wrong-size", message, image_id)
            continue
        values: dict[str, Any] = {"file": path.name}
        if (order := integer(float(fields["order"])) if fields.get("order", "").isdecimal() else None) is not None:
            values["order"] = order
        visible_path = visible_files.get((fields["image"], fields["object"]))
        if visible_path is not None and (visible_mask := _read(builder, visible_path)) is not None:
            digests.append(visible_mask.compressed())
            values["visible_mask"] = visible_mask.to_coco()
        builder.add_object(image_id, fields.get("name", "object"), mask.to_coco(), **values)
    return builder, Source(folder.name, digest_of(digests))


def _matching_files(folder: Path, pattern: str) -> list[tuple[Path, dict[str, str]]]:
    """Files that match a pattern, and the fields in their paths, sorted by image and object."""
    names = _FIELD.findall(pattern)
    if not {"image", "object"} <= set(names) <= _FIELDS or len(names) > len(set(names)):
        fix = "use {image} and {object}, perhaps {name} and {order}, each once"
        raise SelectionError(f"not a pattern of masks: {pattern!r}", fix=fix)
    parts = _FIELD.split(pattern)  # text and field names in turn
    expression = "".join(f"(?P<{part}>[^/]+?)" if n % 2 else re.escape(part) for n, part in enumerate(parts))
    files = []
    for path in folder.glob("/".join(["*"] * (pattern.count("/") + 1))):
        match = re.fullmatch(expression, path.relative_to(folder).as_posix(), re.IGNORECASE)
        if match and path.is_file():
            files.append((path, match.groupdict()))
    return sorted(files, key=lambda row: (_natural(row[1]["image"]), _natural(row[1]["object"]), row[0].name))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """A sort key by which 2 comes before 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def _read(builder: CocoBuilder, path: Path) -> RLE | None:
    try:
        return RLE.from_mask(read_mask(path))
    except PhotoError as error:
        builder.report("rle-malformed", f"{path.name}: {error.message}")
        return None
