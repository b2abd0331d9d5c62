"""Write some images of an annotation source in the layout of that source; everything else is kept as it is."""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import yaml

from amodal_data.cache import is_cache
from amodal_data.errors import AnnotationError, LayoutError, OutputExistsError, SelectionError
from amodal_data.io.files import folder_for, refuse_existing, replaced
from amodal_data.io.image_names import normal_path
from amodal_data.readers import ReadOptions, read_annotations
from amodal_data.readers.annotation_index import AnnotationIndex
from amodal_data.readers.cocoa import cocoa_images
from amodal_data.readers.dispatch import read_parsed
from amodal_data.readers.json_files import load_json, read_bytes
from amodal_data.readers.tools.bop import bop_files, is_bop
from amodal_data.readers.tools.datumaro import is_datumaro
from amodal_data.readers.tools.labelme import is_labelme, photo_name
from amodal_data.readers.tools.mask_folder import PATTERN, matching_files
from amodal_data.readers.tools.records import is_records, records_as_coco
from amodal_data.readers.tools.yolo import paired_files
from amodal_data.scenes.scene import Scenes

Dropped = Mapping[int, Collection[int]]  # image id -> positions of instances that are left out


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One image of a source: the id and file name that its reader gives it, and its place in the source.

    ``image_id`` None: the reader counts images, so the name decides. ``content``: its JSON or XML, or its files and
    their paths below the folder.
    """

    image_id: int | None
    name: str
    content: Any

    @property
    def key(self) -> str:
        """See :func:`photo_key`."""
        return photo_key(self.image_id, self.name)


def photo_key(image_id: int | None, name: str) -> str:
    """What tells photos apart: the file name, else the id."""
    return normal_path(name) or f"image {image_id}"


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationParts:
    """The images of a source, and how to write some of them in its layout.

    ``write_part(entries, output, dropped)`` writes a file, or a folder if ``is_folder``. ``layout``: such as
    ``"cocoa"``. ``instances``: can single instances be left out?
    """

    path: Path
    layout: str
    scenes: Scenes
    entries: Sequence[Entry]
    write_part: Callable[[Sequence[Entry], Path, Dropped], None]
    is_folder: bool = False
    instances: bool = False

    def scene_key(self, image_id: int | None, name: str) -> int | str:
        """What an entry and its scene share: the image id where the file has ids, else the file name."""
        return image_id if self.instances and image_id is not None else photo_key(image_id, name)

    def write(
        self, entries: Sequence[Entry], output: Path, dropped: Dropped | None = None, *, force: bool = False
    ) -> None:
        """Write some images. Raises :class:`OutputExistsError` for an existing output; a folder is never replaced."""
        self.check_output(output, force=force)
        folder_for(output if self.is_folder else output.absolute().parent)
        self.write_part(entries, output, dropped or {})

    def check_output(self, output: Path, *, force: bool) -> None:
        """Raise :class:`OutputExistsError` or :class:`SelectionError` for an output that must not be written."""
        if not self.is_folder:
            refuse_existing(output, force=force, inputs=[self.path])
            if output.is_dir():
                raise OutputExistsError("the output is a folder", place=str(output), fix="name a file")
            return
        if self.path.resolve() in output.resolve().parents:
            problem = "the output lies inside the folder that is read"
            raise SelectionError(problem, place=str(output), fix="choose another output")
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise OutputExistsError("the output is already there", place=str(output), fix="remove it first")


def open_parts(path: Path, *, link: bool = False, **reading: Unpack[ReadOptions]) -> AnnotationParts:
    """Open annotations to write parts of them; a JSON file is read and parsed once.

    link: files of folder layouts become symbolic links, not copies. reading: see :func:`read_annotations`. Raises as
    that does, and :class:`LayoutError` for sources of one image, caches, BOP scenes, and formats read by Datumaro.
    """
    if reading.get("form") is not None:
        fix = f"amodal-data convert {path} --format {reading['form']} --to coco -o coco.json"
        raise LayoutError("files of this format cannot be written back", place=str(path), fix=fix)
    if path.is_dir() or is_bop(path):
        return _open_folder(path, link, reading)
    if path.is_file() and is_cache(path):
        raise LayoutError("this is a target cache", place=str(path), fix="name the annotations that it was built from")
    if path.suffix == ".npz":
        raise _single_image(path)
    if path.suffix.lower() == ".xml":
        return _open_cvat(path, reading)
    content, source = load_json(path)
    scenes = read_parsed(content, source, path, **reading)
    if is_labelme(content):
        raise _single_image(path)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return _coco_parts(path, content, scenes)
    if is_datumaro(content):
        return AnnotationParts(path, "datumaro", scenes, _datumaro_entries(content), _json_writer(content, "items"))
    rows = content if isinstance(content, list) else content.get("annotations")
    if not isinstance(rows, list):
        raise _single_image(path)
    images = records_as_coco(rows)["images"] if is_records(rows) else cocoa_images(rows)
    entries = [Entry(image["id"], image["file_name"], row) for image, row in zip(images, rows, strict=True)]
    return AnnotationParts(path, scenes.dataset, scenes, entries, _json_writer(content, "annotations"))


def _single_image(path: Path) -> LayoutError:
    return LayoutError("this file holds one image only", place=str(path), fix=f"name its folder: {path.parent}")


def _json_writer(content: Any, key: str) -> Callable[[Sequence[Entry], Path, Dropped], None]:
    """Write the entries as the document: a list, or the list under ``key``."""

    def write(entries: Sequence[Entry], output: Path, dropped: Dropped) -> None:
        rows = [entry.content for entry in entries]
        write_json(rows if isinstance(content, list) else {**content, key: rows}, output)

    return write


def write_json(content: Any, output: Path) -> None:
    """Write a JSON file. NaN stays NaN, as in the source."""
    with replaced(output) as file:
        file.write(json.dumps(content))


def _datumaro_entries(content: Mapping[str, Any]) -> list[Entry]:
    items = [item for item in content["items"] if isinstance(item, Mapping)]
    names = [item.get("image", {}).get("path") or item.get("id", "") for item in items]
    names = [name.replace("\\", "/").rsplit("/", 1)[-1] if name[:1] in ("/", "\\") else name for name in names]
    return [Entry(None, name, item) for name, item in zip(names, items, strict=True)]


def _coco_parts(path: Path, content: Mapping[str, Any], scenes: Scenes) -> AnnotationParts:
    """A document with lists ``images`` and ``annotations``: COCO's and every layout like it, COCOA too."""
    regions, annotations = scenes.dataset == "cocoa", content.get("annotations", [])
    index = AnnotationIndex(path.name, content["images"], annotations, regions=regions)

    def write(entries: Sequence[Entry], output: Path, dropped: Dropped) -> None:
        ids = {entry.image_id for entry in entries}
        removed = {id(index.by_image[n][k]) for n in dropped for k in dropped[n]} if not regions else set()
        cut = {id(index.by_image[n][0]): dropped[n] for n in dropped} if regions else {}
        kept = [
            without_regions(row, cut[id(row)]) if id(row) in cut else row
            for row in annotations
            if isinstance(row, Mapping) and index.number_of(row.get("image_id")) in ids and id(row) not in removed
        ]
        write_json({**content, "images": [entry.content for entry in entries], "annotations": kept}, output)

    names = {n: image_name(image, index.by_image.get(n, ())) for n, image in index.images.items()}
    entries = [Entry(image_id, names[image_id], image) for image_id, image in index.images.items()]
    return AnnotationParts(path, scenes.dataset, scenes, entries, write, instances=True)


def image_name(image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> str:
    """File name of an image of COCO or COCOA, else the end of its URL; annotations: those of the image."""
    urls = [image.get("coco_url"), *(row.get("url") for row in annotations[:1])]
    name = image.get("file_name") or next((url.rsplit("/", 1)[-1] for url in urls if isinstance(url, str)), "")
    return name if isinstance(name, str) else ""


def without_regions(annotation: Mapping[str, Any], positions: Collection[int]) -> dict[str, Any]:
    """COCOA's annotation without some regions; ``size`` and ``depth_constraint`` follow."""
    regions = [region for n, region in enumerate(annotation["regions"]) if n not in set(positions)]
    changed = {**annotation, "regions": regions}
    if "size" in annotation:
        changed["size"] = len(regions)
    if isinstance(constraint := annotation.get("depth_constraint"), str):
        orders = {str(region.get("order")) for region in regions if isinstance(region, Mapping)}
        changed["depth_constraint"] = ",".join(pair for pair in constraint.split(",") if set(pair.split("-")) <= orders)
    return changed


def _open_cvat(path: Path, reading: ReadOptions) -> AnnotationParts:
    from defusedxml import ElementTree

    scenes = read_annotations(path, **reading)  # refuses what is not CVAT's
    root = ElementTree.fromstring(read_bytes(path), forbid_dtd=True)
    if root.find("meta//label/name") is None:  # without a list, the classes of a part would get other numbers
        _list_classes(root, scenes.categories.values())
    children = list(root)

    def write(entries: Sequence[Entry], output: Path, dropped: Dropped) -> None:
        kept = {id(entry.content) for entry in entries}
        root[:] = [child for child in children if child.tag != "image" or id(child) in kept]
        with replaced(output, "wb") as file:
            file.write(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))

    images = [child for child in children if child.tag == "image"]
    entries = [Entry(None, image.get("name", ""), image) for image in images]
    return AnnotationParts(path, "cvat", scenes, entries, write)


def _list_classes(root: Any, names: Iterable[str]) -> None:
    """List classes in CVAT's XML as its tasks do."""
    labels = root
    for tag in ("meta", "task", "labels"):
        nested = labels.find(tag)
        if nested is None:
            nested = root.makeelement(tag, {})
            labels.insert(0, nested)
        labels = nested
    for name in names:
        label, element = root.makeelement("label", {}), root.makeelement("name", {})
        element.text = name
        label.append(element)
        labels.append(label)


def _open_folder(path: Path, link: bool, reading: ReadOptions) -> AnnotationParts:
    """A folder of files, some for each image, whose classes are listed in a file of each part."""
    if reading.get("pattern") is None and (is_bop(path) or bop_files(path)):
        fix = f"convert them first: amodal-data convert {path} --to d2sa -o d2sa.json"
        raise LayoutError("BOP scenes cannot be written back", place=str(path), fix=fix)
    scenes = read_annotations(path, **reading)
    layout = scenes.settings.get("layout", scenes.dataset)
    entries = _folder_entries(path, layout, reading)
    classes = scenes.categories

    def write(parts: Sequence[Entry], output: Path, dropped: Dropped) -> None:
        for file, name in (row for entry in parts for row in entry.content):
            target = output / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if link:
                target.symlink_to(file.resolve())
            else:
                shutil.copy2(file, target)
        if layout == "yolo" and classes:
            names = {number - 1: name for number, name in classes.items()}
            (output / "data.yaml").write_text(yaml.safe_dump({"names": names}, allow_unicode=True), encoding="utf-8")
        elif classes and layout != "sln-release":  # without a list, the classes of a part would get other numbers
            (output / "classes.txt").write_text("".join(f"{name}\n" for name in classes.values()), encoding="utf-8")

    return AnnotationParts(path, layout, scenes, entries, write, is_folder=True)


def _folder_entries(path: Path, layout: str, reading: ReadOptions) -> list[Entry]:
    if layout == "yolo":
        photos = [(photo, label) for photo, label in paired_files(path) if photo is not None]
        return [
            _files_entry(path, photo.relative_to(path / "images").as_posix(), [photo, *([label] if label else [])])
            for photo, label in photos
        ]
    if layout == "labelme":
        return [entry for file in sorted(path.rglob("*")) if (entry := _labelme_entry(file, path)) is not None]
    if layout == "sln-release":
        return [_files_entry(path, file.stem, [file]) for file in sorted(path.glob("*.npz"))]
    files: dict[str, dict[Path, None]] = {}
    for pattern in (reading.get("pattern") or PATTERN, reading.get("visible_pattern")):
        for file, fields in matching_files(path, pattern) if pattern else []:
            files.setdefault(f"{fields['image']}.png", {})[file] = None
    return [_files_entry(path, name, list(rows)) for name, rows in files.items()]


def _labelme_entry(file: Path, root: Path) -> Entry | None:
    if file.suffix.lower() != ".json":
        return None
    try:
        content, _ = load_json(file)
    except AnnotationError:
        return None  # a finding of the reader
    if not is_labelme(content):
        return None
    image_path = content.get("imagePath")
    name = photo_name(image_path if isinstance(image_path, str) else "", file, root)
    photo = root / name
    return _files_entry(root, name, [file, *([photo] if photo.is_file() else [])])


def _files_entry(root: Path, name: str, files: Sequence[Path]) -> Entry:
    return Entry(None, name, [(file, file.relative_to(root)) for file in files])
