"""Random input as other people's tools and phones write it, with what is right for each.

A case is a folder with one to four objects whose masks and classes are known. Every object must be read with exactly
its mask and class, or an error or a finding must say why it is not: nothing is wrong or lost without a word.
"""

import json
import unicodedata
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from amodal_data import read_annotations, read_records
from amodal_data.errors import AmodalError

ALPHABET = ["cup", "pan", "jar", "10", "9", "caf\u00e9"]
SPELLINGS = ["NFC", "NFD"]


@dataclass
class Case:
    """``objects``: mask and class name of each object; ``options``: how to read them; ``records``: those in memory."""

    objects: list
    options: dict
    records: list = field(default_factory=list)
    lossy: bool = False


def foreign_case(seed, folder):
    """Write a random case into an empty folder."""
    rng = np.random.default_rng([7, seed])
    size = int(rng.integers(12, 40)), int(rng.integers(12, 40))
    masks = [rectangle(rng, size) for _ in range(int(rng.integers(1, 5)))]
    names = [ALPHABET[int(n)] for n in rng.integers(len(ALPHABET), size=len(masks))]
    return [records, mask_folder, instance_map, yolo, coco][seed % 5](rng, folder, size, masks, names)


def rectangle(rng, size):
    """A rectangle that does not touch the border, bool [H, W]: a polygon fills exactly these pixels."""
    mask = np.zeros(size, bool)
    y, x = (np.sort(rng.choice(np.arange(1, side), 2, replace=False)) for side in size)
    mask[y[0] : y[1], x[0] : x[1]] = True
    return mask


def corners(mask):
    y, x = np.nonzero(mask)
    x0, y0, x1, y1 = (int(value) for value in (x.min(), y.min(), x.max() + 1, y.max() + 1))
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def records(rng, folder, size, masks, names):
    kinds = ["bool", "uint8", "int16", "uint16", "int64", "float16", "float32", "float64", "channel", "pil", "values"]
    annotations = []
    for mask, name in zip(masks, names, strict=True):
        kind = kinds[int(rng.integers(len(kinds)))]
        value = mask * (255 if rng.random() < 0.3 else 1)
        if kind == "channel":
            value = value[None].astype(np.int32)
        elif kind == "pil":
            value = Image.fromarray(mask.astype(np.uint8) * 255)
        elif kind == "values":  # a map of several objects is no mask
            value = mask * rng.integers(1, 9, size)
        else:
            value = mask if kind == "bool" else value.astype(kind)
        annotations.append({"segmentation": value, "category": name})
    record = {"file_name": "a.jpg", "height": size[0], "width": size[1], "annotations": annotations}
    if rng.random() < 0.2:
        record = {"image": Image.new("RGB", size[::-1]), "annotations": annotations}
    return Case(list(zip(masks, names, strict=True)), {}, [record])


def mask_folder(rng, folder, size, masks, names):
    kind = ["1", "L", "P", "white-first", "RGB", "RGBA", "I;16", "jpg", "gray", "inverted", "alpha"][
        int(rng.integers(11))
    ]
    pattern = "{image}/{object}_{name}" + ("{alpha}" * (kind == "alpha")) + (".jpg" if kind == "jpg" else ".png")
    (folder / "a").mkdir()
    for n, (mask, name) in enumerate(zip(masks, names, strict=True), 1):
        mask_picture(rng, mask, kind).save(
            folder / "a" / f"{n}_{name}{pattern[-4:]}", quality=int(rng.integers(60, 96))
        )
    return Case(list(zip(masks, names, strict=True)), {"pattern": pattern}, lossy=kind in ("jpg", "gray"))


def mask_picture(rng, mask, kind):
    """A mask as a picture of some kind."""
    values = mask.astype(np.uint8)
    if kind == "1":
        return Image.fromarray(mask)
    if kind in ("P", "white-first"):
        picture = Image.fromarray(values if kind == "P" else 1 - values).convert("P")
        color = [int(value) for value in rng.integers(1, 256, 3)]
        picture.putpalette([0, 0, 0, *color] if kind == "P" else [*color, 0, 0, 0])
        return picture
    if kind in ("RGB", "RGBA"):
        colors = values[..., None] * rng.integers(1, 256, 3).astype(np.uint8)
        return Image.fromarray(np.dstack([colors, np.full(mask.shape, 255, np.uint8)])[..., : len(kind)])
    if kind == "I;16":
        return Image.fromarray(mask.astype(np.uint16) * np.uint16(rng.integers(1, 65536)))
    if kind == "alpha":
        return Image.fromarray(np.dstack([rng.integers(0, 256, (*mask.shape, 3)).astype(np.uint8), values * 255]))
    if kind == "gray":
        soft = values * 255
        soft[np.roll(mask, 1, axis=1) & ~mask] = rng.integers(1, 128)
        return Image.fromarray(soft)
    return Image.fromarray((1 - values if kind == "inverted" else values) * 255)


def instance_map(rng, folder, size, masks, names):
    """A picture in which every object has a value or a color; later objects lie over earlier ones."""
    numbers = np.zeros(size, np.int64)
    for n, mask in enumerate(masks, 1):
        numbers[mask] = n
    kept = [n for n in range(1, len(masks) + 1) if (numbers == n).any()]
    colors = np.concatenate([np.zeros((1, 3), np.uint8), rng.integers(1, 256, (len(masks), 3)).astype(np.uint8)])
    with_object = rng.random() < 0.3
    mode = ["L", "I;16", "RGB"][int(rng.integers(3))]
    values = colors[numbers] if mode == "RGB" else numbers.astype(np.uint8 if mode == "L" else np.uint16)
    (folder / "a").mkdir()
    Image.fromarray(values).save(folder / "a" / "1.png")
    pattern = "{image}/{object}.png" if with_object else "{image}/1.png"
    return Case([(numbers == n, "object") for n in kept], {"pattern": pattern})


def yolo(rng, folder, size, masks, names):
    """Labels of a photo that EXIF may turn; classes listed in one of several ways, or not; names in two spellings."""
    root = folder / "train"
    for part in ("images", "labels"):
        (root / part / "deep").mkdir(parents=True)
    stem = ["a", "caf\u00e9"][int(rng.integers(2))]
    spelled = [unicodedata.normalize(SPELLINGS[int(rng.integers(2))], stem) for _ in range(2)]
    orientation = int(rng.integers(1, 9))
    stored = size[::-1] if orientation >= 5 else size
    exif = Image.Exif()
    exif[0x0112] = orientation
    target = folder / "store.jpg" if rng.random() < 0.3 else root / "images" / "deep" / f"{spelled[0]}.jpg"
    Image.new("RGB", stored[::-1]).save(target, exif=exif)
    if target.name == "store.jpg":
        (root / "images" / "deep" / f"{spelled[0]}.jpg").symlink_to(target)
    height, width = size
    lines = []
    for mask, name in zip(masks, names, strict=True):
        ring = [f"{value / (height if n % 2 else width):.12g}" for n, value in enumerate(corners(mask))]
        lines.append(" ".join([str(ALPHABET.index(name)), *ring]))
    (root / "labels" / "deep" / f"{spelled[1]}.txt").write_text("\n".join(lines))
    quoted = [json.dumps(name, ensure_ascii=False) for name in ALPHABET]
    place = root if rng.random() < 0.5 else folder
    style = int(rng.integers(5))
    if style == 0:
        (place / "data.yaml").write_text(f"names: [{', '.join(quoted)}]\n")
    elif style == 1:
        (place / "data.yaml").write_text("names:\n" + "".join(f"  '{n}': {name}\n" for n, name in enumerate(quoted)))
    elif style == 2:
        (place / "classes.txt").write_text("\n".join(ALPHABET))
    elif style == 3:
        (place / "data.yaml").write_text("names: &a [*a, *a]\n")
    listed = style < 3
    objects = [(m, name if listed else str(ALPHABET.index(name))) for m, name in zip(masks, names, strict=True)]
    return Case(objects, {})


def coco(rng, folder, size, masks, names):
    """COCO with ids as numbers, digits, texts or names, some classes not listed, crowds, and points in pairs."""
    ids = [[1, 2, 3, 4, 5, 6], ["1", "2", "3", "4", "5", "6"], ["a", "b", "c", "d", "e", "f"]][int(rng.integers(3))]
    image_id = [5, "5", "left"][int(rng.integers(3))]
    unlisted = int(rng.integers(6)) if rng.random() < 0.3 else -1
    annotations = []
    for n, (mask, name) in enumerate(zip(masks, names, strict=True), 1):
        ring = corners(mask)
        form = [[ring], ring, [np.reshape(ring, (-1, 2)).tolist()], np.reshape(ring, (-1, 2)).tolist()][
            int(rng.integers(4))
        ]
        category = name if rng.random() < 0.2 else ids[ALPHABET.index(name)]
        annotations.append({"id": n, "image_id": image_id, "segmentation": form, "category_id": category,
                            "iscrowd": int(rng.random() < 0.2)})  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in zip(ids, ALPHABET, strict=True) if name != ALPHABET[unlisted]]
    image = {"id": image_id, "file_name": "a.jpg", "height": size[0], "width": size[1]}
    content = {"images": [image], "annotations": annotations, "categories": categories if unlisted >= 0 else [
        {"id": i, "name": name} for i, name in zip(ids, ALPHABET, strict=True)]}  # fmt: skip
    (folder / "a.json").write_text(json.dumps(content))
    return Case(list(zip(masks, names, strict=True)), {"crowds": "keep"} if rng.random() < 0.5 else {})


def check_foreign_case(case, folder):
    """Read a case: "refused" by one of our errors, or "read" with or without "findings"; anything else fails."""
    files = sorted(folder.glob("*.json"))
    source = files[0] if files else folder / "train" if (folder / "train").is_dir() else folder
    try:
        options = {"masks": "modal", **case.options}
        scenes = read_records(case.records, masks="modal") if case.records else read_annotations(source, **options)
        instances = [instance for scene in scenes for instance in scene.instances]
    except AmodalError as error:
        assert str(error) and "should not happen" not in str(error)
        return "refused"
    findings = [finding for finding in scenes.findings if finding.code not in ("photo-turned", "ids-are-text")]
    expected = list(case.objects)
    for instance in instances:
        matches = [
            n for n, (mask, _) in enumerate(expected) if _agrees(instance.amodal.decode(), mask, lossy=case.lossy)
        ]
        assert matches, "a mask that no object has"
        named = [n for n in matches if expected[n][1] == instance.name]
        assert named or any(finding.code == "class-unknown" for finding in findings), (instance.name, expected)
        del expected[(named or matches)[0]]
    assert not expected or findings, f"{len(expected)} objects are lost without a word"
    assert not case.lossy or findings
    return "findings" if findings else "read"


def _agrees(mask, expected, *, lossy):
    if mask.shape != expected.shape:
        return False
    return np.array_equal(mask, expected) if not lossy else (mask & expected).sum() >= 0.5 * (mask | expected).sum()
