"""Published datasets, read from ``catalogue.toml``: file names, splits, counts, license, and where to get them.

This package downloads nothing; the facts serve to find and to recognize files.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """One annotation file: name, split, number of images and objects (0 = unknown), pattern of names ("" = name)."""

    name: str
    split: str
    images: int = 0
    annotations: int = 0
    pattern: str = ""

    def split_of(self, file_name: str) -> str | None:
        """The split of a file with this name, from the pattern if ``split`` is ""; None if the name is another one."""
        match = re.fullmatch(self.pattern or re.escape(self.name), file_name)
        return match and (self.split or match["split"])


@dataclass(frozen=True, slots=True)
class Dataset:
    """One published dataset. ``photo_url``: pattern with ``{folder}`` and ``{name}``; "" = there is none."""

    title: str
    license: str
    page: str
    parts: tuple[Part, ...]
    photos: str
    photo_url: str = ""


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
DATASETS: dict[str, Dataset] = {
    name: Dataset(**row | {"parts": tuple(Part(**part) for part in row["parts"])}) for name, row in _TABLE.items()
}
