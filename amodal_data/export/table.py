"""Targets as a table: one row per instance."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from amodal_data.cache import Images
from amodal_data.io.files import replaced, replaced_path
from amodal_data.layering.consistency import occlusion_rates


def cell(text: str) -> str:
    """A text as a CSV cell: an apostrophe comes first if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def row_cells(values: Iterable[Any]) -> list[Any]:
    """Values as the cells of a CSV row, see :func:`cell`."""
    return [cell(value) if isinstance(value, str) else value for value in values]


TABLE = (
    "image_id", "file_name", "annotation_id", "region_index", "category_id", "name", "is_stuff", "order",
    "area", "visible_area", "occlusion_rate", "deepest_level", "x0", "y0", "x1", "y1",
)  # fmt: skip
"""Columns of the table. x0 to y1: amodal box, half-open pixels; deepest_level: -1 = no pixel."""


def export_table(images: Images, out: IO[str]) -> int:
    """Write a header and one CSV row per instance to ``out``; returns the number of instances."""
    writer, rows = csv.writer(out), 0
    writer.writerow(TABLE)
    for row in _rows(images):
        writer.writerow(row_cells(row))
        rows += 1
    return rows


def write_table(images: Images, path: Path) -> None:
    """Write the table to a file: Parquet by the suffix ``.parquet``, else CSV."""
    if path.suffix == ".parquet":
        export_parquet(images, path)
        return
    with replaced(path, newline="") as file:
        export_table(images, file)


def export_parquet(images: Images, path: Path) -> int:
    """Write the table as Parquet; returns the number of instances. Raises ModuleNotFoundError without pyarrow."""
    import pyarrow
    from pyarrow import parquet

    columns = list(zip(*_rows(images), strict=True)) or [()] * len(TABLE)
    with replaced_path(path) as temporary:
        parquet.write_table(pyarrow.table(dict(zip(TABLE, map(list, columns), strict=True))), temporary)
    return len(columns[0])


def _rows(images: Images) -> Iterator[list[Any]]:
    """The values of :data:`TABLE`, one row per instance."""
    for image, targets in images:
        areas, visible = targets.areas()
        rates, boxes = occlusion_rates(areas, visible), targets.boxes()[0]
        deepest = targets.table.max(axis=0, initial=0).astype(int) - 1
        for n, name in enumerate(targets.names):
            ids = [int(targets.annotation_ids[n]), int(targets.region_index[n]), int(targets.category_ids[n])]
            kind = [name, int(targets.is_stuff[n]), int(targets.ranks[n])]
            statistics = [int(areas[n]), int(visible[n]), float(rates[n]), int(deepest[n]), *boxes[n].tolist()]
            yield [image.image_id, image.file_name, *ids, *kind, *statistics]
