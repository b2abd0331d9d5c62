"""A folder of PNG masks, one an object: ``IMAGE/OBJECT.png`` or any other naming that a pattern tells."""

import re
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError, PhotoError, SelectionError
from amodal_data.io.images import read_mask
from amodal_data.masks.rle import RLE
from amodal_data.readers.region_masks import integer
from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of
from amodal_data.scenes.scene import Source

PATTERN = "{image}/{object}.png"
_FIELDS = {"image", "object", "name", "order"}
_FIELD = re.compile(r"\{(\w+)\}")


def masks_as_coco(folder: Path, pattern: str = PATTERN, visible: str | None = None) -> tuple[CocoBuilder, Source]:
    """The masks of a folder: what is not 0 in any channel is inside.

    pattern: paths below the folder, with ``{image}`` and ``{object}``, and if the names tell them ``{name}`` (the
    class) and ``{order}``. Objects are listed by ``{object}``, numbers by value. visible: the same for the visible
    masks, if there are any. Image ids count from 1 in order of name.

    Raises :class:`SelectionError` for a pattern without the two, :class:`LayoutError` if no file has such a name.
    """
    whole = _found(folder, pattern)
    if not whole:
        raise LayoutError(f"no mask is called {pattern}", place=str(folder), fix="--pattern tells how they are named")
    seen = {_key(fields): path for path, fields in _found(folder, visible)} if visible else {}
    for path, fields in list(whole):  # a pattern for whole masks may fit the visible ones too
        if path in seen.values():
            whole.remove((path, fields))
    sheet, digests, images = CocoBuilder(folder.name), [], dict[str, tuple[int, tuple[int, int]]]()
    for path, fields in whole:
        mask = _read(sheet, path)
        if mask is None:
            continue
        digests += [path.name.encode(), mask.compressed()]
        if fields["image"] not in images:
            images[fields["image"]] = sheet.image(f"{fields['image']}.png", mask.size), mask.size
        image_id, size = images[fields["image"]]
        if size != mask.size:
            sheet.note("rle-wrong-size", f"{path.name} is {mask.size} (height, width), the first one {size}", image_id)
            continue
        more: dict[str, Any] = {"file": path.name}
        if (order := integer(float(fields["order"])) if fields.get("order", "").isdecimal() else None) is not None:
            more["order"] = order
        if (other := seen.get(_key(fields))) is not None and (shown := _read(sheet, other)) is not None:
            digests.append(shown.compressed())
            more["visible_mask"] = shown.to_coco()
        sheet.add(image_id, fields.get("name", "object"), mask.to_coco(), **more)
    return sheet, Source(folder.name, digest_of(digests))


def _found(folder: Path, pattern: str) -> list[tuple[Path, dict[str, str]]]:
    """Files by a pattern and what it reads in their paths, sorted by image and object."""
    named = _FIELD.findall(pattern)
    if not {"image", "object"} <= set(named) <= _FIELDS or len(named) > len(set(named)):
        raise SelectionError(
            f"no pattern for masks: {pattern!r}",
            fix="it has {image} and {object}, perhaps {name} and {order}, once each",
        )
    parts = _FIELD.split(pattern)
    shape = "".join(f"(?P<{part}>[^/]+?)" if at % 2 else re.escape(part) for at, part in enumerate(parts))
    depth = pattern.count("/")
    paths = folder.glob("/".join(["*"] * (depth + 1)))
    found = []
    for path in paths:
        match = re.fullmatch(shape, path.relative_to(folder).as_posix(), re.IGNORECASE)
        if match and path.is_file():
            found.append((path, match.groupdict()))
    return sorted(found, key=lambda one: (_natural(one[1]["image"]), _natural(one[1]["object"]), one[0].name))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """A name as a key that sorts 2 before 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def _key(fields: dict[str, str]) -> tuple[str, str]:
    return fields["image"], fields["object"]


def _read(sheet: CocoBuilder, path: Path) -> RLE | None:
    try:
        return RLE.from_mask(read_mask(path))
    except PhotoError as error:
        sheet.note("rle-malformed", f"{path.name}: {error.message}")
        return None
