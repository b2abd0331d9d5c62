"""Targets as a table: one row an instance."""

import csv
from collections.abc import Iterable
from typing import IO

from amodal_data.cache import CachedImage
from amodal_data.checks import occlusion_rates
from amodal_data.levels import LayeredTargets

__all__ = ["TABLE", "cell", "export_table"]

Images = Iterable[tuple[CachedImage, LayeredTargets]]


def cell(text: str) -> str:
    """A text as a CSV cell that no spreadsheet takes for a formula: an apostrophe in front if it looks like one."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


TABLE = (
    "image_id", "file_name", "annotation_id", "region_index", "category_id", "name", "is_stuff", "order",
    "area", "visible_area", "occlusion_rate", "deepest_level", "x0", "y0", "x1", "y1",
)  # fmt: skip
"""Columns of the table; the box is the amodal one, half-open pixels; deepest_level -1 = no pixel."""


def export_table(images: Images, out: IO[str]) -> int:
    """Write one CSV row an instance to ``out``, after a heading; returns the number of rows."""
    writer = csv.writer(out)
    writer.writerow(TABLE)
    rows = 0
    for image, targets in images:
        areas, visible = targets.areas()
        rates, boxes = occlusion_rates(areas, visible), targets.boxes()[0]
        deepest = targets.table.max(axis=0, initial=0).astype(int) - 1
        for n, name in enumerate(targets.names):
            about = [targets.annotation_ids[n], targets.region_index[n], targets.category_ids[n], cell(name)]
            kind = [int(targets.is_stuff[n]), targets.order[n]]
            figures = [areas[n], visible[n], float(rates[n]), deepest[n], *boxes[n].tolist()]
            writer.writerow([image.image_id, cell(image.file_name), *about, *kind, *figures])
            rows += 1
    return rows
