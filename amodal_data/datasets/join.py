"""Join annotation files of one layout into one file of that layout."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from amodal_data.datasets.joined_ids import Id, Ids, MergedEntries, assign_ids, id_of, ids_in, replace_ids, write_map
from amodal_data.datasets.layout_parts import image_name, write_json
from amodal_data.errors import LayoutError, SelectionError
from amodal_data.io.files import refuse_existing
from amodal_data.io.image_names import normal_path
from amodal_data.io.text import count_of
from amodal_data.readers.amodal_coco import layout_of
from amodal_data.readers.annotation_index import annotation_keys, top_level
from amodal_data.readers.cocoa import with_images
from amodal_data.readers.json_files import load_json, refuse_foreign
from amodal_data.readers.order_rules import default_rule
from amodal_data.readers.plain_coco import unknown_layout

_ROWS = ("images", "annotations", "categories", "licenses")  # Keys of the lists that are joined
_CLASSES = ("neg_category_ids", "not_exhaustive_category_ids")  # Keys of class ids of an image, in LVIS


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What was written. ``renumbered``: kind of id (image, annotation, class, license) -> how many changed.

    ``left_out``: images whose photo an earlier file has. ``first_kept``: where files differ and the first one counts:
    keys such as ``"info"``, and names of classes and licenses.
    """

    path: str
    images: int
    annotations: int
    renumbered: dict[str, int]
    left_out: int
    first_kept: list[str]


@dataclass(slots=True)
class _File:
    """A parsed file. ``layout``: also the field of the order; "" = any. ``content``: all keys; None = it is a list."""

    path: Path
    layout: str
    content: dict[str, Any] | None
    images: list[Any]
    annotations: list[Any]

    def entries(self, key: str) -> list[Any]:
        """The list of classes or licenses."""
        entries = (self.content or {}).get(key)
        return entries if isinstance(entries, list) else []

    @property
    def class_ids(self) -> Iterator[Id]:
        """The classes that annotations and images have, with :attr:`default`."""
        lists = (image.get(key) for image in self.images if isinstance(image, dict) for key in _CLASSES)
        in_images = (id_of(value) for values in lists if isinstance(values, list) for value in values)
        yield from (key for key in in_images if key is not None)
        yield from chain(ids_in(self.annotations, "category_id"), self.default)

    @property
    def default(self) -> list[Id]:
        """The class that readers give to annotations without one, if this file has any: its only class, else 1."""
        classes = list(ids_in(self.entries("categories"), "id"))
        lacks = any(isinstance(row, dict) and row.get("category_id") is None for row in self.annotations)
        return [*classes, 1][:1] if lacks and len(classes) < 2 and self.layout != "cocoa" else []


def join_annotations(
    paths: Iterable[str | Path],
    output: str | Path,
    *,
    id_map: str | Path | None = None,
    skip_repeated: bool = False,
    force: bool = False,
    on_file: Callable[[int], None] = lambda _: None,
) -> JoinReport:
    """Join annotation files of one layout into one file of that layout; levels stay the same.

    Ids of images, annotations, classes and licenses stay where no earlier file has them. Classes of one name become one
    class. All else is kept; where files differ, the first one counts. id_map: a file, ``.csv`` or ``.json``, for the
    old and new ids. skip_repeated: leave out images whose photo an earlier file has.

    Raises :class:`SelectionError` if a photo is in two files, :class:`LayoutError` if layouts differ or a file has no
    lists of images and annotations, and the errors of reading and writing files.

    Examples:
        >>> import amodal_data as ad
        >>> from amodal_data.datasets.join import join_annotations
        >>> paths = [ad.write_cocoa("scenes", 3, split=split, photos=False) for split in ("train", "val")]
        >>> report = join_annotations(paths, "joined.json")
        >>> report.images, report.renumbered["image"]
        (6, 3)
    """
    sources, output, map_file = [Path(path) for path in paths], Path(output), Path(id_map) if id_map else None
    if len(sources) < 2:
        raise SelectionError("joining takes two files or more", place=", ".join(map(str, sources)))
    for target in filter(None, (output, map_file)):
        refuse_existing(target, force=force, inputs=sources)
    if map_file and map_file.suffix.lower() not in (".csv", ".json"):
        raise SelectionError("the map of ids is a .csv or .json file", place=str(map_file), fix="correct --id-map")
    files = []
    for path in sources:
        files.append(_open(path))
        on_file(1)
    _check_layouts(files)
    left_out = _leave_out_repeated(files, skip_repeated)
    classes = MergedEntries(["name"], [f.entries("categories") for f in files], [f.class_ids for f in files])
    licenses = MergedEntries(
        ["name", "url"], [f.entries("licenses") for f in files], [ids_in(f.images, "license") for f in files]
    )
    maps = {
        "image": assign_ids(chain(ids_in(f.images, "id"), ids_in(f.annotations, "image_id")) for f in files),
        "annotation": assign_ids(ids_in(f.annotations, "id") for f in files),
        "class": classes.ids,
        "license": licenses.ids,
    }
    for n, file in enumerate(files):
        _renumber(file, {kind: ids[n] for kind, ids in maps.items()}, len(classes.entries))
    document, differing = _document(files, classes, licenses)
    write_json(document, output)
    if map_file:
        write_map(sources, maps, map_file)
    return JoinReport(
        str(output), sum(len(file.images) for file in files), sum(len(file.annotations) for file in files),
        {kind: sum(old != new for ids in by_file for old, new in ids.items()) for kind, by_file in maps.items()},
        left_out, [*differing, *classes.differing, *licenses.differing],
    )  # fmt: skip


def _renumber(file: _File, ids: Mapping[str, Ids], classes: int) -> None:
    """Replace the ids of a file. If it has fewer than ``classes``, annotations without a class get their only one."""
    default = file.default if classes > len(file.entries("categories")) else []
    for row in file.annotations if default else ():
        if isinstance(row, dict) and row.get("category_id") is None:
            row["category_id"] = default[0]
    replace_ids(file.images, {"id": ids["image"], "license": ids["license"], **dict.fromkeys(_CLASSES, ids["class"])})
    replace_ids(file.annotations, {"id": ids["annotation"], "image_id": ids["image"], "category_id": ids["class"]})


def _open(path: Path) -> _File:
    """Parse a file and recognize its layout, "" = it has no annotations."""
    other = LayoutError(
        "this is no JSON file with lists of images and annotations", place=str(path),
        fix=f"amodal-data convert {path} --to coco -o coco.json, and join that",
    )  # fmt: skip
    if path.is_dir() or path.suffix.lower() in (".xml", ".npz"):
        raise other
    content, _ = load_json(path)
    refuse_foreign(content, str(path))
    bare = content if isinstance(content, list) else content.get("annotations") if "images" not in content else None
    if isinstance(bare, list) and bare and all(isinstance(row, dict) and "regions" in row for row in bare):
        return _File(path, "cocoa", None if content is bare else content, *with_images(bare))
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise other
    images, annotations = top_level(content, path)
    keys = annotation_keys(annotations)
    layout = "cocoa" if "regions" in keys else layout_of([dict.fromkeys(keys)]).replace("mvtec", "d2sa")
    if annotations and not layout:
        if "segmentation" not in keys:
            raise unknown_layout(keys, path)
        layout = f"coco, {default_rule(keys) or 'no field for depth order'}"
    return _File(path, layout, content, images, annotations)


def _check_layouts(files: Sequence[_File]) -> None:
    """Raise :class:`LayoutError` if two files differ in layout, or in the field that holds the order of objects."""
    first = next((file for file in files if file.layout), files[0])
    if other := next((file for file in files if file.layout not in ("", first.layout)), None):
        problem = f"files of different layouts: {first.path.name} ({first.layout}), {other.path.name} ({other.layout})"
        fix = "write both as COCO, with amodal-data convert FILE --to coco -o coco.json, and join those"
        raise LayoutError(problem, place=f"{first.path}, {other.path}", fix=fix)


def _leave_out_repeated(files: Sequence[_File], allowed: bool) -> int:
    """Leave out images whose photo an earlier file has; returns how many. Raises :class:`SelectionError` otherwise."""
    homes: dict[str, Path] = {}
    total = 0
    for file in files:
        names = list(_photo_names(file))
        repeated = [name for name in names if name in homes]
        if repeated and not allowed:
            problem = (
                f"{count_of(len(repeated), 'image')} of photos that an earlier file has, such as {repeated[0]!r:.80}"
            )
            fix = "--skip-repeated leaves them out; if photos differ, write their folder before file_name"
            raise SelectionError(problem, place=f"{homes[repeated[0]]}, {file.path}", fix=fix)
        if repeated:
            dropped = {id_of(image["id"]) for image, name in zip(file.images, names, strict=True) if name in homes}
            file.images = [image for image, name in zip(file.images, names, strict=True) if name not in homes]
            file.annotations = [
                row
                for row in file.annotations
                if not isinstance(row, dict) or id_of(row.get("image_id")) not in dropped
            ]
        total += len(repeated)
        homes |= {name: file.path for name in names if name and name not in homes}
    return total


def _photo_names(file: _File) -> Iterator[str]:
    """The file name of each image, as photos are told apart; "" = it has none."""
    rows = {id_of(row.get("image_id")): row for row in reversed(file.annotations) if isinstance(row, dict)}
    for image in file.images:
        key = id_of(image.get("id")) if isinstance(image, dict) else None
        yield "" if key is None else normal_path(image_name(image, [rows[key]] if key in rows else []))


def _document(files: Sequence[_File], classes: MergedEntries, licenses: MergedEntries) -> tuple[Any, list[str]]:
    """The content of the output, a list if all files are lists, and the keys in which files differ."""
    annotations = [row for file in files for row in file.annotations]
    if all(file.content is None for file in files):
        return annotations, []
    document: dict[str, Any] = {}
    differing: dict[str, None] = {}
    for file in files:
        for key, value in (file.content or {}).items():
            if key not in _ROWS and document.setdefault(key, value) != value:
                differing[key] = None
    lists = {
        "images": [image for file in files for image in file.images], "annotations": annotations,
        "categories": classes.entries, "licenses": licenses.entries,
    }  # fmt: skip
    present = {key for file in files for key in file.content or {}}
    return document | {key: rows for key, rows in lists.items() if key in present}, list(differing)
