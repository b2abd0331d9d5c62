"""InstaOrder's files (Lee and Park, CVPR 2022): which object of a pair hides the other, for the masks of COCO."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.errors import LayoutError
from amodal_data.readers.annotation_index import list_keys
from amodal_data.readers.json_files import identifier, load_json, text
from amodal_data.scenes.scene import Source

_ORDER = re.compile(r"(\d{1,9})<(\d{1,9})(?:&(\d{1,9})<(\d{1,9}))?")
Pair = tuple[int, int]  # annotation ids of an object and of one that it hides in part


@dataclass(frozen=True, slots=True)
class OrderPairs:
    """Pairs of COCO's annotations (front, back) by image id.

    ``mutual``: pairs left out because each of the two hides a part of the other. ``malformed``: entries left out.
    """

    source: Source
    by_image: Mapping[int, list[Pair]]
    mutual: int
    malformed: int

    def __str__(self) -> str:
        return f"{self.source.name} (sha256 {self.source.sha256[:12]})"


def read_instaorder(path: Path) -> OrderPairs:
    """Read ``InstaOrder_val2017.json``: of each image its pairs of objects of which one hides a part of the other.

    In ``order``, ``"0<1"`` says that object 0 of ``instance_ids`` hides object 1. Only ``occlusion`` is read, not
    ``depth``. Raises :class:`AnnotationError` if it is not JSON, :class:`LayoutError` if it is not InstaOrder's.
    """
    content, source = load_json(path)
    rows = content.get("annotations") if isinstance(content, Mapping) else None
    if not isinstance(rows, list) or not any(isinstance(row, Mapping) and "instance_ids" in row for row in rows):
        problem = "not InstaOrder's file: no 'annotations' with 'instance_ids' and 'occlusion'"
        keys = f"; keys: {list_keys(content)}" if isinstance(content, Mapping) else ""
        raise LayoutError(problem + keys, place=str(path))
    pairs: dict[int, dict[Pair, None]] = defaultdict(dict)
    malformed = 0
    for row in rows:
        for pair in _pairs(row):
            malformed += pair is None
            if pair is not None:
                pairs[row["image_id"]][pair] = None
    one_way = {image: [(a, b) for a, b in listed if (b, a) not in listed] for image, listed in pairs.items()}
    mutual = sum(len(listed) - len(one_way[image]) for image, listed in pairs.items()) // 2
    return OrderPairs(source, one_way, mutual, malformed)


def _pairs(row: Any) -> Iterator[Pair | None]:
    """The pairs of an image, both ways if each hides a part of the other; None for each entry that is no pair."""
    fields = row if isinstance(row, Mapping) else {}
    ids, entries = fields.get("instance_ids"), fields.get("occlusion")
    if type(fields.get("image_id")) is not int or not isinstance(ids, list) or not isinstance(entries, list):
        yield None
        return
    for entry in entries:
        order = text(entry.get("order")) if isinstance(entry, Mapping) else ""
        match = _ORDER.fullmatch("".join(order.split()))
        places = [int(n) for n in match.groups() if n is not None] if match else []
        objects = [identifier(ids[n]) if n < len(ids) else None for n in places]
        for front, back in zip(objects[::2], objects[1::2], strict=True):
            yield None if front is None or back is None or front == back else (front, back)
        if match is None:
            yield None
