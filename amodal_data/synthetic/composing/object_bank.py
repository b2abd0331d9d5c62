"""Collect what scenes are composed of, from annotation files and folders."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from amodal_data.errors import SelectionError
from amodal_data.io.text import suggest_name
from amodal_data.readers.categories import common_ids
from amodal_data.scenes.findings import Finding, count_findings, counts_text
from amodal_data.synthetic.composing.coco_file import CocoFile
from amodal_data.synthetic.composing.cutouts import Background, Cutout, ObjectBank, Rules, SourceContent
from amodal_data.synthetic.composing.photo_choice import Division, ExcludeList, choose_photos
from amodal_data.synthetic.composing.photo_folders import BackgroundFolder, CutoutFolder, photos_of_folder


def build_object_bank(
    path: str | Path | Sequence[str | Path],
    images: Sequence[str | Path],
    *,
    rules: Rules | None = None,
    classes: Sequence[str] = (),
    licenses: Sequence[int] = (),
    part: str = "all",
    held_out: float = 0.2,
    split: int = 0,
    stream: bool = False,
    exclude: Sequence[str | Path] = (),
    cutouts: str | Path | None = None,
    backgrounds: str | Path | None = None,
) -> ObjectBank:
    """Collect the whole objects and the photos of plain COCO files and of folders.

    path: one file or several. images: folders of photos; of several files one for each, in their order, or one for
    all. classes: names of the objects to paste, () = all. licenses: ids of the licenses to use, () = all; folders have
    none. part: ``train``, ``val`` (the share ``held_out`` of all photos, always the same ones) or ``all``; no photo,
    and so no object, is in both. split: seed of the division into train and val. stream: do not hold a file in memory;
    the bank is the same. exclude: lists of photos that must not be used. cutouts: a folder of images with alpha, whole
    objects whose class is the name of their subfolder. backgrounds: a folder of photos to paste into, instead of those
    of the files. Raises :class:`SelectionError` if no object or no background is left, or for an unknown class.
    """
    lists = [ExcludeList.read(Path(file)) for file in exclude]
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(file) for file in path]
    if len(set(paths)) < len(paths):
        raise SelectionError("the same file twice", place=", ".join(map(str, paths)), fix="name it once")
    files = [CocoFile.open(file, folders, stream) for file, folders in _with_folders(paths, images)]
    pasted = [] if cutouts is None else [CutoutFolder(photos_of_folder(Path(cutouts)))]
    behind = [] if backgrounds is None else [BackgroundFolder(photos_of_folder(Path(backgrounds)))]
    photos = [*(file.photos for file in files), *(folder.photos for folder in pasted)]
    photos += [folder.photos for folder in behind]
    division = Division(part, held_out, split)
    chosen, findings = choose_photos(list(chain.from_iterable(photos)), lists, division)
    allowed, rules = set(chosen), rules or Rules()
    contents = [file.read(allowed, licenses, rules) for file in files]
    contents += [folder.read(allowed, rules) for folder in pasted]
    if behind:
        contents = [*map(_without_backgrounds, contents), *(folder.read(allowed) for folder in behind)]
    place = ", ".join(dict.fromkeys(map(str, filter(None, (*paths, cutouts, backgrounds)))))
    bank = replace(_join(contents, findings), exclude=tuple(names.source for names in lists))
    _check_bank(bank, classes, place)
    return bank


def _with_folders(paths: Sequence[Path], images: Sequence[str | Path]) -> list[tuple[Path, Sequence[str | Path]]]:
    """Each annotation file with the folders of its photos."""
    if len(paths) < 2 or len(images) == 1:
        return [(path, images) for path in paths]
    if len(images) != len(paths):
        message = f"{len(paths)} files and {len(images)} folders of images"
        raise SelectionError(message, fix="give each file one folder, in the same order, or one for all (--images)")
    return [(path, [folder]) for path, folder in zip(paths, images, strict=True)]


def _without_backgrounds(content: SourceContent) -> SourceContent:
    return replace(content, photos=[replace(photo, background=None) for photo in content.photos])


def _join(contents: Sequence[SourceContent], findings: Sequence[Finding]) -> ObjectBank:
    """The bank of all sources; of several sources, licenses and the classes of later ones get new ids."""
    cutouts: list[Cutout] = []
    backgrounds: list[Background] = []
    names: dict[int, str] = {}
    findings, licenses = list(findings), _joint_licenses(contents)
    for n, content in enumerate(contents):
        ids, renumbered = common_ids(names, content.names, content.source.name)
        names |= {ids[number]: name for number, name in content.names.items()}
        findings += content.findings if content.is_folder else [*content.findings, *renumbered]
        for photo in content.photos:
            findings += photo.findings
            numbers = tuple(range(len(cutouts), len(cutouts) + len(photo.cutouts)))
            cutouts += [
                replace(item, source=n, category_id=ids[item.category_id], license=licenses[n, item.license]["id"])
                for item in photo.cutouts
            ]
            if (item := photo.background) is not None:
                license_id = licenses[n, item.license]["id"]
                backgrounds.append(replace(item, source=n, whole=numbers, license=license_id))
    no_derivatives = {row["id"]: row["name"] or row["url"] for row in licenses.values() if _forbids_derivatives(row)}
    sources = tuple(content.source for content in contents)
    rows = tuple(row for row in licenses.values() if row["id"] and len(contents) > 1)
    return ObjectBank(
        tuple(cutouts), tuple(backgrounds), tuple(findings), names, no_derivatives, sources, licenses=rows
    )


def _joint_licenses(contents: Sequence[SourceContent]) -> dict[tuple[int, int], dict[str, Any]]:
    """The licenses in use, by source and id there. Their new ``id`` counts from 1; one source keeps its ids."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for n, content in enumerate(contents):
        for number in sorted({item.license for photo in content.photos for item in photo.items()}):
            name, url = content.licenses.get(number, ("", ""))
            new = number if len(contents) == 1 or not number else 1 + sum(row["id"] > 0 for row in rows.values())
            rows[n, number] = {"id": new, "source": n + 1, "source_id": number, "name": name, "url": url}
    return rows


def _forbids_derivatives(license: Mapping[str, Any]) -> bool:
    """Does a license forbid derived works? Its address or name says so."""
    stated = f"{license['url']} {license['name']}".lower()
    return "-nd/" in stated or "noderiv" in stated


def _check_bank(bank: ObjectBank, classes: Sequence[str], place: str) -> None:
    names = sorted(set(bank.names.values()))
    if unknown := sorted(set(classes) - set(names)):
        raise SelectionError(f"no object of class {unknown[0]!r}", fix=suggest_name(unknown[0], names))
    counts = count_findings(bank.findings)
    reasons = counts_text(counts) or "the file has no objects of this part"
    if not any(not classes or cutout.name in classes for cutout in bank.cutouts):
        fix = "loosen the rules (contact, smallest), or allow more licenses or classes"
        if counts.get("photo-missing"):
            fix = "name the folder of the images (--images)"
        elif counts.get("photo-excluded"):
            fix = "exclude fewer photos (--exclude), or loosen the rules (contact, smallest)"
        elif counts.get("cutout-unusable"):
            fix = "save cut-outs as PNG with alpha: opaque where the object is, transparent around it"
        raise SelectionError(f"no whole object to compose scenes from: {reasons}", place=place, fix=fix)
    if not bank.backgrounds:
        fix = "pass a folder of photos with --backgrounds"
        if counts.get("photo-excluded"):
            fix += " that --exclude does not name; copies of an excluded photo count as that photo"
        raise SelectionError(f"no photo to paste objects into: {reasons}", place=place, fix=fix)
