"""Write edits into the raw annotations of one image, as its layout stores them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from amodal_data.editing.edits import ImageEdits, Polygons
from amodal_data.editing.visible_masks import visible_masks
from amodal_data.errors import SelectionError
from amodal_data.export.coco import box_of
from amodal_data.export.cocoa import ranks_of
from amodal_data.layering.consistency import occlusion_rates
from amodal_data.layering.targets import LayeredTargets, layer_with_findings
from amodal_data.masks.contours import trace_parts, trace_ring
from amodal_data.masks.rle import RLE, merge
from amodal_data.readers.amodal_coco import LAYOUTS
from amodal_data.readers.json_files import integer
from amodal_data.readers.mask_decoder import decode_masks, flat_polygons
from amodal_data.readers.order_rules import OrderRule
from amodal_data.scenes.findings import Finding
from amodal_data.scenes.occlusion_order import parse_depth_constraint
from amodal_data.scenes.scene import Scene, Scenes

Row = Mapping[str, Any]
Rows = dict[int, Row]  # position in the source -> annotation
_PLACE = "\0place"  # Field that stands for the place in the list while a file is edited


@dataclass(frozen=True, slots=True)
class RowFormat:
    """The fields of a layout that say the order, and those that follow from it; "" = it has none.

    ``orders``: the rules of the fields. ``from_one``: their numbers count from 1, else from 0.
    ``named``: instances have names, else classes.
    ``cluster``: numbers count within groups of this field. ``visible``, ``hidden``, ``rate``: stored masks and share.
    ``amodal``, ``box``: amodal mask and its box. ``unknown``: what marks pixels of objects that are not annotated, a
    field of the image (COCOA) or of annotations of their own (COCO's crowds).
    """

    orders: tuple[OrderRule, ...]
    from_one: bool = True
    named: bool = False
    cluster: str = ""
    visible: str = ""
    hidden: str = ""
    rate: str = ""
    amodal: str = "segmentation"
    box: str = "bbox"
    unknown: str = "iscrowd"

    @classmethod
    def of(cls, scenes: Scenes) -> "RowFormat | None":
        """The format of the layout of some scenes; None = nothing in it says the order."""
        if scenes.dataset == "cocoa":
            masks: dict[str, Any] = {"visible": "visible_mask", "hidden": "invisible_mask", "rate": "occlude_rate"}
            return cls((OrderRule("order"),), named=True, unknown="unknown", **masks)
        if (row := LAYOUTS.get(scenes.settings.get("layout", ""))) is not None:
            fields = [name for name in (row.depth, "amodal_region.order") if name]
            rules = tuple(map(OrderRule, fields))
            masks = {name: getattr(row, name) for name in ("visible", "hidden", "rate", "amodal", "box")}
            return cls(rules, False, False, row.cluster, **masks)
        rule = OrderRule.parse(scenes.settings.get("order", "none"))
        crowds = scenes.settings["layout"] not in ("cvat", "labelme") and scenes.settings.get("crowds") != "keep"
        return cls((rule,), unknown="iscrowd" if crowds else "") if rule.defined else None

    @property
    def in_list(self) -> bool:
        """Does the place in the list say the order?"""
        return not self.orders[0].field if self.orders else False

    def stores_masks(self, rows: Rows) -> bool:
        """Is anything stored in some rows that another order would contradict?"""
        stored = {self.visible, self.hidden, self.rate} - {""}
        if not rows:
            return bool(stored)  # as the layout has it
        return any(stored & row.keys() for row in rows.values() if isinstance(row, Mapping))


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """An image as the source has it: its record, scene, targets and findings, its instances front to back."""

    record: Any
    scene: Scene
    targets: LayeredTargets
    findings: tuple[Finding, ...]
    edits: ImageEdits


def read_start(scenes: Scenes, index: int) -> Start:
    """Read an image before any edit. Raises :class:`LevelsError` if no level table can hold it."""
    record = scenes.record(index)
    scene = scenes.reread(record)
    targets, findings = layer_with_findings(scene)
    # a total order counts those in front; a partial one is completed by the list
    ranks = scene.in_front.sum(axis=0) if scene.total_order else ranks_of(targets)
    order = targets.region_index[np.argsort(ranks, kind="stable")].tolist()
    edits = ImageEdits(tuple(order), annotations=len(record.annotations))
    return Start(record, scene, targets, (*scene.findings, *findings), edits)


def edited_rows(start: Start, edits: ImageEdits, layout: RowFormat) -> Rows:
    """The annotations of an image after some edits, those that are left and new ones, by position in the source."""
    rows: Rows = dict(enumerate(start.record.annotations))
    stores_masks, classes = layout.stores_masks(rows), start.record.categories.names
    rows |= {n: _blank_row(layout, stores_masks) for n in edits.added}
    if edits.ordered or edits.added:
        for rule in layout.orders:
            rows |= _renumbered(rows, edits.order, rule, layout)
    outlined = _rasterized(start, {n: shape for n, shape in edits.outlines.items() if n not in edits.deleted}, layout)
    for n, mask in outlined.items():
        rows[n] = _with_outline(rows[n], edits.outlines[n], mask, layout)
    if stores_masks and (edits.order != start.edits.order or edits.deleted or outlined):
        rows |= _with_masks(rows, visible_masks(start.targets, start.edits.order, edits, outlined), layout)
    for n, name in edits.names.items():
        if layout.named:
            rows[n] = {**rows[n], "name": name}
        elif classes or n < edits.annotations:
            rows[n] = {**rows[n], "category_id": _class_id(start, name)}
    if not layout.named:
        rows |= {n: _crowd_row(start, mask, layout) for n, mask in _unknown_masks(start, edits, layout).items()}
    return {n: row for n, row in rows.items() if n not in edits.deleted}


def _blank_row(layout: RowFormat, stores_masks: bool) -> Row:
    """A new instance before its outline, order and name are known: the fields that follow from them."""
    row: dict[str, Any] = {"area": 0, "isStuff": 0} if layout.named else {"area": 0, layout.box: [], "iscrowd": 0}
    return row | ({layout.rate: 0} if layout.rate and stores_masks else {})


def _unknown_masks(start: Start, edits: ImageEdits, layout: RowFormat) -> dict[int, RLE]:
    """The masks of regions marked unknown. Raises :class:`SelectionError` for a layout that cannot hold them."""
    if edits.unknown and not layout.unknown:
        place = f"image {start.record.file_name or start.record.image_id}"
        fix = "leave out --crowds keep" if start.record.keep_crowds else "convert it to COCO first"
        raise SelectionError("files of this layout cannot mark pixels unknown", place=place, fix=fix)
    return _rasterized(start, edits.unknown, layout)


def _crowd_row(start: Start, mask: RLE, layout: RowFormat) -> Row:
    """COCO's annotation of pixels of objects that are not annotated, of the first class."""
    names = start.record.categories.names
    number = _class_id(start, names[min(names)]) if names else 1
    row = {"category_id": number, layout.amodal: mask.to_coco(), "area": mask.area, layout.unknown: 1}
    return row | {layout.box: _box_of(mask)}


def _rasterized(start: Start, outlines: Mapping[int, Polygons], layout: RowFormat) -> dict[int, RLE]:
    """The masks of new outlines. Raises :class:`SelectionError` for one that covers no pixel."""
    rows = [{layout.amodal: list(map(list, polygons))} for polygons in outlines.values()]
    decoder = replace(start.record, annotations=rows).masks(layout.amodal)
    decode_masks([decoder])
    if any(k not in decoder.masks or not decoder.masks[k].area for k in range(len(rows))):
        raise SelectionError("this outline covers no pixel of the image")
    return {n: decoder.masks[k] for k, n in enumerate(outlines)}


def _with_outline(row: Row, polygons: Polygons, mask: RLE, layout: RowFormat) -> Row:
    """The row with another amodal mask, written as the source writes it; area and box follow where it has them."""
    value, old = [list(polygon) for polygon in polygons], row.get(layout.amodal, [0] if layout.named else None)
    single = len(value) == 1 and isinstance(old, list) and bool(old) and not isinstance(old[0], list)
    changed = {**row, layout.amodal: mask.to_coco() if isinstance(old, dict) else value[0] if single else value}
    if "area" in row:
        changed["area"] = mask.area
    if layout.box in row:
        changed[layout.box] = _box_of(mask)
    return changed


def _box_of(mask: RLE) -> list[int]:
    """COCO's box of a mask that is not empty: x, y, width, height."""
    x0, y0, x1, y1 = box_of(mask)
    return [x0, y0, x1 - x0, y1 - y0]


def outlines_of(start: Start, edits: ImageEdits, layout: RowFormat) -> dict[int, Any]:
    """The amodal polygons of every instance by its position, each x, y, x, y, ...; None for a run-length mask."""
    shapes: dict[int, Any] = {}
    for n in edits.order:
        value = start.record.annotations[n].get(layout.amodal) if n < edits.annotations else None
        shapes[n] = edits.outlines.get(n) or (flat_polygons(value) if isinstance(value, list) else None)
    return shapes


def traced_outline(start: Start, position: int) -> list[list[float]]:
    """Polygons along pixel edges that give back exactly the amodal mask that an instance has in the source.

    Raises :class:`SelectionError` if there is no such instance, or there are no such polygons.
    """
    mask = next((each.amodal for each in start.scene.instances if each.region_index == position), None)
    polygons = trace_parts(mask) if mask is not None else None
    if mask is not None and polygons is None and (ring := trace_ring(mask)) is not None:
        polygons = [ring]
    if polygons is None:
        raise SelectionError(f"no outline gives back the mask of instance {position}")
    return polygons


def _class_id(start: Start, name: str) -> int | str:
    """The id of a class as the file writes it. Raises :class:`SelectionError` for a class that it does not list."""
    categories = start.record.categories
    texts = {number: key for key, number in categories.numbers.items()}
    for number, listed in categories.names.items():
        if listed == name:
            return texts.get(number, number)
    raise SelectionError(f"the file lists no class {name!r:.60}", fix="choose one of its classes")


def edited_record(start: Start, edits: ImageEdits, layout: RowFormat) -> tuple[Any, list[int]]:
    """The raw annotations of an image after some edits, to be read again, and the source position of each.

    Where the list says the order, a field does so here, and every annotation keeps its place.
    """
    rows = edited_rows(start, edits, layout)
    record = replace(start.record, annotations=list(rows.values()))
    if hasattr(record, "annotation"):
        record = replace(record, annotation=cocoa_annotation(start, edits, rows, layout))
    if layout.in_list and edits.order != start.edits.order:
        record = replace(record, rule=replace(record.rule, field=_PLACE))
    return record, list(rows)


def listed_positions(rows: Rows, edits: ImageEdits, layout: RowFormat) -> list[int]:
    """The annotations as the file lists them: where the list says the order, instances exchange their places."""
    if not layout.in_list:
        return list(rows)
    order = [n for n in edits.order if n in rows]
    if layout.orders[0].farthest_first:
        order = order[::-1]
    places = dict(zip(sorted(order), order, strict=True))
    return [places.get(n, n) for n in rows]


def without_place(row: Row) -> Row:
    """A row as it is written."""
    return {key: value for key, value in row.items() if key != _PLACE}


def cocoa_annotation(start: Start, edits: ImageEdits, rows: Rows, layout: RowFormat) -> dict[str, Any]:
    """COCOA's annotation with other regions; ``size`` and the numbers in ``depth_constraint`` follow."""
    annotation = start.record.annotation
    changed = {**annotation, "regions": list(rows.values())}
    if "size" in annotation:
        changed["size"] = len(rows)
    if marked := list(_unknown_masks(start, edits, layout).values()):
        known = [] if start.scene.unknown is None else [start.scene.unknown]
        changed[layout.unknown] = merge(known + marked).to_coco()
    constraint = annotation.get("depth_constraint")
    pairs = parse_depth_constraint(constraint) if isinstance(constraint, str) else None
    if pairs:
        old = [integer(_value(row, "order")) for row in start.record.annotations]
        ranks = {rank: integer(_value(rows[n], "order")) for n, rank in enumerate(old) if n in rows}
        new = {rank: number for rank, number in ranks.items() if number is not None and old.count(rank) == 1}
        kept = [sorted((new[front], new[back])) for front, back in pairs if front in new and back in new]
        changed["depth_constraint"] = ",".join(f"{front}-{back}" for front, back in sorted(kept))
    return changed


def _renumbered(rows: Rows, order: Sequence[int], rule: OrderRule, layout: RowFormat) -> Rows:
    """The rows of ``order`` (front to back) with the numbers they have, given out in this order.

    If some are equal, or the first field of a layout lacks some, they are counted anew.
    """
    field, first = rule.field or _PLACE, rule is layout.orders[0]
    ranks = dict(zip(order, rule.ranks([rows[n] for n in order]), strict=True)) if rule.field else {}
    groups: dict[Any, list[int]] = {}
    for n in order:
        rank = ranks.get(n)
        if (rank is not None and rank > 0) if layout.cluster else (rank is not None or first):
            groups.setdefault(rows[n].get(layout.cluster), []).append(n)
    changed: Rows = {}
    for group in groups.values():
        known = {rank for n in group if (rank := ranks.get(n)) is not None}
        if len(known) == len(group):
            values = [_value(rows[n], field) for n in sorted(group, key=lambda n: ranks[n] or 0)]
        else:
            start = int(min(known)) if known and not rule.farthest_first else int(layout.from_one)
            values = list(range(start, start + len(group)))[:: -1 if rule.farthest_first else 1]
            texts = any(isinstance(_value(rows[n], field), str) for n in group)
            values = list(map(str, values)) if texts else values
        changed |= {n: _with_value(rows[n], field, value) for n, value in zip(group, values, strict=True)}
    return changed


def _value(row: Any, field: str) -> Any:
    for part in field.split("."):
        row = row.get(part) if isinstance(row, Mapping) else None
    return row


def _with_value(row: Any, field: str, value: Any) -> Row:
    name, _, rest = field.partition(".")
    inner = row.get(name)
    return {**row, name: _with_value(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value}


def _with_masks(rows: Rows, masks: Mapping[int, tuple[RLE, RLE]], layout: RowFormat) -> Rows:
    """The rows with other visible and hidden masks, in their fields; COCOA stores none of whole objects."""
    changed: Rows = {}
    for n, (visible, hidden) in masks.items():
        row = {key: value for key, value in rows[n].items() if key not in (layout.visible, layout.hidden)}
        if layout.rate in row:
            areas = np.array([hidden.area + visible.area]), np.array([visible.area])
            row[layout.rate] = float(occlusion_rates(*areas)[0]) if hidden.area else 0
        if hidden.area or not layout.from_one:  # flat layouts always store both
            row[layout.visible] = visible.to_coco()
            row |= {layout.hidden: hidden.to_coco()} if layout.hidden else {}
        changed[n] = row
    return changed
