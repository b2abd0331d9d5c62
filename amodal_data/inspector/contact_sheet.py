"""The contact sheet: one row an image, from the photo to the sem-dist map of its most hidden instance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from amodal_data.cache import CachedImage
from amodal_data.errors import PhotoError
from amodal_data.inspector.drawing.labels import (
    INK,
    PALE,
    PAPER,
    font,
    sem_dist_legend,
    striped_legend,
    swatches,
    write_labels,
)
from amodal_data.inspector.drawing.panels import (
    as_image,
    draw_count_map,
    draw_instances,
    draw_levels,
    draw_sem_dist,
    fitted,
    label_places,
)
from amodal_data.io.images import open_photo
from amodal_data.layering.targets import LayeredTargets

_WIDE, _GAP, _HEAD, _CAPTION, _FOOT = 320, 12, 40, 24, 60
_TITLES = (
    "photo",
    "instances, hidden parts striped",
    "count map",
    "levels of one instance",
    "its sem-dist map",
)


def contact_sheet(
    images: Sequence[tuple[CachedImage, LayeredTargets, Path | None]],
) -> Image.Image:
    """Draw ``images`` (with the path of their photo, None = draw on grey), one row each.

    A photo that is missing, unreadable or of another shape is replaced by grey, and the caption says so.
    """
    highest = max(2, *(_highest(targets) for _, targets, _ in images), 0)
    rows = [_row(*one) for one in images]
    wide = len(_TITLES) * (_WIDE + _GAP) + _GAP
    sheet = Image.new("RGB", (wide, _HEAD + sum(row.height + _GAP for row in rows) + _FOOT), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(_TITLES):
        draw.text((_GAP + column * (_WIDE + _GAP), 12), title, INK, font(15))
    top = _HEAD
    for row in rows:
        sheet.paste(row, (_GAP, top))
        top += row.height + _GAP
    places = [(_GAP + column * (_WIDE + _GAP), top + 6) for column in range(len(_TITLES))]
    striped_legend(sheet, places[1])
    swatches(sheet, places[2], "objects over one pixel", range(1, highest + 1))
    swatches(sheet, places[3], "level: 0 = visible, l = behind l others", range(highest))
    sem_dist_legend(sheet, places[4], highest - 1)
    return sheet


def _highest(targets: LayeredTargets) -> int:
    """The largest count or code of an image."""
    return max(int((targets.table > 0).sum(axis=1).max(initial=0)), int(targets.table.max(initial=0)))


def _row(image: CachedImage, targets: LayeredTargets, photo_path: Path | None) -> Image.Image:
    shape = fitted(image.size, _WIDE)
    height = shape[0]
    view = targets.resized(shape)
    photo, problem = _photo(photo_path, shape, image.size)
    chosen = _most_hidden(targets)
    pictures = [photo, draw_instances(photo, view), draw_count_map(photo, view)]
    if chosen is not None:
        pictures += [draw_levels(photo, view, chosen), draw_sem_dist(photo, view, chosen)]
    row = Image.new("RGB", (len(_TITLES) * (_WIDE + _GAP) - _GAP, height + _CAPTION), PAPER)
    for column, picture in enumerate(pictures):
        panel = as_image(picture)
        if column == 1:
            write_labels(panel, label_places(view), [str(n) for n in range(len(targets.names))], 12)
        row.paste(panel, (column * (_WIDE + _GAP), 0))
    draw = ImageDraw.Draw(row)
    for column, caption in enumerate(_captions(image, targets, chosen, problem)):
        draw.text((column * (_WIDE + _GAP), height + 4), caption, PALE, font(12))
    return row


def _captions(image: CachedImage, targets: LayeredTargets, chosen: int | None, problem: str) -> list[str]:
    captions = [_printable(image.file_name or f"image {image.image_id}")[-44:] + problem]
    captions.append(f"{len(targets.names)} instances, {len(targets.pairs)} overlapping pairs")
    captions.append(f"up to {int(targets.count_map().max(initial=0))} over one pixel")
    if chosen is not None:
        areas, visible = targets.areas()
        hidden = (areas[chosen] - visible[chosen]) / areas[chosen]
        name = f" ({_printable(targets.names[chosen])[:20]})" if targets.names[chosen] else ""
        captions.append(f"instance {chosen}{name}: {hidden:.0%} hidden")
        behind = int(targets.table[:, chosen].max()) - 1
        captions.append(f"behind up to {behind} other{'s' * (behind != 1)}")
    return captions


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _most_hidden(targets: LayeredTargets) -> int | None:
    """The instance with the deepest level, things before stuff, then by hidden pixels; None without any."""
    areas, visible = targets.areas()
    if not areas.any():
        return None
    deepest = targets.table.max(axis=0).astype(np.int64) * (areas > 0)
    return int(np.lexsort((areas - visible, deepest, ~targets.is_stuff & (deepest > 1), areas > 0))[-1])


def _photo(path: Path | None, shape: tuple[int, int], size: tuple[int, int]) -> tuple[NDArray[np.float64], str]:
    grey = np.full((*shape, 3), 205.0)
    if path is None:
        return grey, "  (no photo)"
    try:
        with open_photo(path) as image:
            if (image.height, image.width) != size:
                return grey, f"  (photo is {image.width} x {image.height})"
            return np.asarray(image.convert("RGB").resize(shape[::-1]), np.float64), ""
    except PhotoError:
        return grey, "  (photo unreadable)"
