"""Contact sheet: one row per image, from its photo to the levels of its most hidden instance."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_data.cache import CachedImage
from amodal_data.inspector.drawing.labels import instance_labels, striped_legend, swatches, write_labels
from amodal_data.inspector.drawing.panels import as_image, draw_count_map, draw_instances, draw_levels, label_places
from amodal_data.inspector.drawing.sheets import PANEL_WIDTH, Legend, Panel, panel_sheet, panel_size
from amodal_data.inspector.summary import most_hidden
from amodal_data.io.images import read_display_photo
from amodal_data.io.text import count_of, printable
from amodal_data.layering.targets import LayeredTargets

_TITLES = ("photo", "instances, hidden parts striped", "count map", "levels, most hidden instance")
_NO_PHOTO = 205.0  # Gray level that stands in for a photo


def contact_sheet(
    images: Sequence[tuple[CachedImage, LayeredTargets, Path | None]], masks: str = "amodal"
) -> Image.Image:
    """Draw one row per image: (image, its targets, path of its photo or None).

    Gray replaces a photo that is missing, unreadable or of another size; the caption then says why. masks: of
    ``"modal"`` masks only photo and instances are drawn, because they have no hidden parts.

    Examples:
        >>> import amodal_data as ad
        >>> data = ad.open(ad.write_cocoa("photos", 2, seed=1, size=(96, 128)))
        >>> sheet = ad.contact_sheet([(item.image, item.targets, item.photo_file) for item in data])
        >>> sheet.mode
        'RGB'
    """
    if masks == "modal":
        return panel_sheet([_row(*image)[:2] for image in images], ("photo", "instances"), {})
    counts = [int((targets.table > 0).sum(axis=1).max(initial=0)) for _, targets, _ in images]
    highest = max([2, *counts, *(int(targets.table.max(initial=0)) for _, targets, _ in images)])
    legends: dict[int, Legend] = {
        1: striped_legend,
        2: partial(swatches, title="instances over one pixel", labels=range(1, highest + 1)),
        3: partial(swatches, title="level: 0 = visible, k = hidden by k objects", labels=range(highest)),
    }
    return panel_sheet([_row(*image) for image in images], _TITLES, legends)


def _row(image: CachedImage, targets: LayeredTargets, path: Path | None) -> list[Panel]:
    shape = panel_size(image.size, PANEL_WIDTH)
    view = targets.resized(shape)
    name = printable(image.file_name or f"image {image.image_id}")
    image_file, problem = read_display_photo(path, image.size, shape)
    photo = np.full((*shape, 3), _NO_PHOTO) if image_file is None else np.asarray(image_file, np.float64)
    instances = as_image(draw_instances(photo, view))
    write_labels(instances, label_places(view), instance_labels(targets.names), 12)
    highest = int(targets.count_map().max(initial=0))
    panels = [
        Panel(as_image(photo), f"{name} ({problem.partition(':')[0]})" if problem else name),
        Panel(
            instances, f"{count_of(len(targets.names), 'instance')}, {count_of(len(targets.pairs), 'overlapping pair')}"
        ),
        Panel(as_image(draw_count_map(photo, view)), f"up to {highest} over one pixel"),
    ]
    n = most_hidden(targets)
    if n is not None:
        deepest, (areas, visible) = int(targets.table[:, n].max()) - 1, targets.areas()
        category = f" ({printable(targets.names[n])[:20]})" if targets.names[n] else ""
        hidden = f"instance {n}{category}: {(areas[n] - visible[n]) / areas[n]:.0%} hidden"
        hidden += f" by up to {count_of(deepest, 'object')}" * (deepest > 0)
        panels.append(Panel(as_image(draw_levels(photo, view, n)), hidden))
    return panels
