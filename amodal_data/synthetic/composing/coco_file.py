"""A plain COCO file with its photos as a source of cut-outs and backgrounds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from amodal_data.io.images import photo_problem
from amodal_data.masks.rle import merge
from amodal_data.readers.discovery import PhotoFinder
from amodal_data.readers.json_files import integer, load_json, text
from amodal_data.readers.plain_coco import plain_scenes
from amodal_data.readers.stream import SceneStream, items_of, iter_annotations
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene, Scenes
from amodal_data.synthetic.composing.cutouts import (
    Background,
    Cutout,
    PhotoObjects,
    Rules,
    SourceContent,
    whole_instances,
)
from amodal_data.synthetic.composing.photo_choice import SourcePhoto


@dataclass(frozen=True)
class CocoFile:
    """An annotation file whose photos lie in ``finder``.

    ``images``: file name and license of each image by its id; ``licenses``: name and URL by id.
    """

    scenes: Scenes | SceneStream
    images: Mapping[int, tuple[str, int]]
    licenses: Mapping[int, tuple[str, str]]
    finder: PhotoFinder

    @classmethod
    def open(cls, path: Path, folders: Sequence[str | Path], stream: bool) -> "CocoFile":
        """Open a file. stream: do not hold it in memory."""
        scenes: Scenes | SceneStream
        if stream:
            content = {key: list(items_of(path, f"{key}.item")) for key in ("images", "licenses")}
            scenes = iter_annotations(path, masks="modal")
        else:
            content, source = load_json(path)
            scenes = plain_scenes(content, path, source, masks="modal")
        images = _images(content.get("images"))
        finder = PhotoFinder([Path(folder) for folder in folders], [name for name, _ in images.values()])
        return cls(scenes, images, _licenses(content.get("licenses")), finder)

    @cached_property
    def photos(self) -> list[SourcePhoto]:
        """The photos of all images."""
        (source,), find = self.scenes.sources, self.finder.find
        return [SourcePhoto(source, n, name, find(name) or Path()) for n, (name, _) in self.images.items()]

    def read(self, allowed: Collection[SourcePhoto], licenses: Sequence[int], rules: Rules) -> SourceContent:
        """The whole objects and the photos that are allowed. licenses: ids of those to use, () = all."""
        ids = {photo.image_id for photo in self.photos if photo in allowed}
        names, photos = dict[int, str](), dict[int, PhotoObjects]()
        for scene in self.scenes:
            names |= {instance.category_id: instance.name for instance in scene.instances}
            if scene.image_id in ids:
                photos[scene.image_id] = self._objects(scene, licenses, rules)
        ordered = [photos[image_id] for image_id in self.images if image_id in photos]
        (source,) = self.scenes.sources
        return SourceContent(source, ordered, self.scenes.file_findings, names, self.licenses)

    def _objects(self, scene: Scene, licenses: Sequence[int], rules: Rules) -> PhotoObjects:
        (_, license_id), photo = self.images[scene.image_id], self.finder.find(scene.file_name)
        place = Place(scene.source, scene.image_id)
        if licenses and license_id not in licenses:
            return PhotoObjects((Finding("license-left-out", place, f"license {license_id}"),))
        if photo is None:
            return PhotoObjects((Finding("photo-missing", place, scene.file_name),))
        if (problem := photo_problem(photo, scene.size)) is not None:
            return PhotoObjects((Finding("photo-unusable", place, problem),))
        whole, findings = whole_instances(scene, rules)
        origin: dict[str, Any] = {"license": license_id, "file_name": scene.file_name}
        cutouts = tuple(
            Cutout(i.amodal, whole[n], photo, scene.image_id, i.annotation_id, i.category_id, i.name, **origin)
            for n, i in enumerate(scene.instances)
            if n in whole
        )
        rest = [i.amodal for n, i in enumerate(scene.instances) if n not in whole and len(i.amodal.switches)]
        rest += [scene.unknown] if scene.unknown is not None else []
        unknown = merge(rest) if rest else None
        background = Background(photo, scene.size, scene.image_id, whole=(), unknown=unknown, **origin)
        return PhotoObjects((*scene.findings, *findings), cutouts, background)


def _images(images: Any) -> dict[int, tuple[str, int]]:
    """File name and license of each image by its id."""
    return {
        integer(row.get("id")) or 0: (text(row.get("file_name")), integer(row.get("license")) or 0)
        for row in _rows(images)
    }


def _licenses(licenses: Any) -> dict[int, tuple[str, str]]:
    """Name and URL of each license by its id."""
    numbered = ((integer(row.get("id")), row) for row in _rows(licenses))
    return {n: (text(row.get("name")), text(row.get("url"))) for n, row in numbered if n is not None}


def _rows(entries: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
