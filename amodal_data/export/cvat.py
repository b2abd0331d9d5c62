"""Targets as XML of CVAT for images 1.1, with ``z_order``, groups and attributes."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from amodal_data.cache import CachedImage, Images
from amodal_data.export.coco import label_of
from amodal_data.io.files import replaced
from amodal_data.layering.targets import LayeredTargets
from amodal_data.masks.contours import trace_parts
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import crop, window_of
from amodal_data.scenes.occlusion_order import z_order

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ATTRIBUTES = (("name", "text"), ("is_stuff", "checkbox"))  # of every label, with CVAT's kind of input


def export_cvat(images: Images, path: Path, categories: Mapping[int, str] | None = None) -> None:
    """Write one XML file; the nearer an instance, the higher its ``z_order``.

    A mask without holes is a polygon along pixel edges, its parts share a ``group_id``; other masks are ``<mask>``.
    Masks without a pixel are left out. ``occluded`` is 1 if something hides a part. Attributes: ``name``, where it is
    not the label, and ``is_stuff``. categories: classes to list first; without them, labels are names.
    """
    labels = dict.fromkeys((categories or {}).values())
    entries: list[str] = []
    for image, targets in images:
        height, width = image.size
        head = f'<image id="{image.image_id}" name={_quote(image.file_name)} width="{width}" height="{height}">'
        entries.append("\n".join([head, *_shapes(image, targets, categories or {}, labels), "</image>\n"]))
    with replaced(path) as file:
        file.write(f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta>\n<task>\n'
                   f"<name>{escape(_clean(path.stem))}</name>\n<size>{len(entries)}</size>\n<mode>annotation</mode>\n"
                   "<labels>\n")  # fmt: skip
        file.writelines(map(_label, labels))
        file.write("</labels>\n</task>\n</meta>\n")
        file.writelines(entries)
        file.write("</annotations>\n")


def _label(name: str) -> str:
    """A label with its attributes, as CVAT lists it."""
    attributes = "".join(
        f"<attribute><name>{attribute}</name><mutable>False</mutable><input_type>{kind}</input_type>"
        f"<default_value>{default}</default_value><values>{default}</values></attribute>"
        for (attribute, kind), default in zip(_ATTRIBUTES, ("", "false"), strict=True)
    )
    return f"<label><name>{escape(_clean(name))}</name><type>any</type><attributes>{attributes}</attributes></label>\n"


def _shapes(
    image: CachedImage, targets: LayeredTargets, classes: Mapping[int, str], labels: dict[str, None]
) -> Iterator[str]:
    """The shapes of an image as listed; their labels are added to ``labels``."""
    nearness, masks, hidden = z_order(targets.in_front()), targets.rles(), np.subtract(*targets.areas())
    for n, mask in enumerate(masks):
        label = label_of(targets, n, classes)
        labels.setdefault(label)
        common = f'label={_quote(label)} source="file" occluded="{int(hidden[n] > 0)}" z_order="{nearness[n]}"'
        values = {"name": targets.names[n] if targets.names[n] != label else "",
                  "is_stuff": "true" if targets.is_stuff[n] else ""}  # fmt: skip
        attributes = "".join(
            f'<attribute name="{name}">{escape(_clean(value))}</attribute>' for name, value in values.items() if value
        )
        rings = trace_parts(mask)
        group = f' group_id="{n + 1}"' if rings and len(rings) > 1 else ""
        for ring in rings or ():
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in zip(ring[::2], ring[1::2], strict=True))
            yield f'<polygon {common}{group} points="{points}">{attributes}</polygon>'
        if rings is None and mask.area:
            yield f"<mask {common} {_runs(mask)}>{attributes}</mask>"


def _runs(mask: RLE) -> str:
    """Box and run lengths of a mask that is not empty: row by row inside the box, background first."""
    window = window_of(mask)
    assert window is not None
    (rows, columns), flat = window, crop(mask, window).ravel()
    ends = np.concatenate([[0], np.flatnonzero(np.diff(np.append(False, flat))), [flat.size]])
    box = {"left": columns.start, "top": rows.start, "width": columns.stop - columns.start}
    box["height"] = rows.stop - rows.start
    listed = " ".join(f'{key}="{value}"' for key, value in box.items())
    return f'rle="{", ".join(map(str, np.diff(ends).tolist()))}" {listed}'


def _clean(text: str) -> str:
    """A text without characters that XML cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def _quote(text: str) -> str:
    return quoteattr(_clean(text))
