"""Generate malformed files of annotation tools and check how the readers treat them."""

import itertools
import json
import random
import re

import numpy as np

from amodal_data import read_annotations
from amodal_data.errors import AmodalError
from amodal_data.layering.targets import layer_with_findings
from amodal_data.synthetic.shapes import arrange
from amodal_data.synthetic.write_cocoa import cocoa_annotation
from support.malformed import SIZE, mutate, reference_mask
from support.tool_layouts import coco as plain_coco
from support.tool_layouts import cvat, datumaro, in_base64, png, records

KINDS = ("coco", "records", "labelme", "cvat", "datumaro", "masks")
ORDERS = (None, "none", "front-first", "back-first", "field:z_order", "field:description")


def sound(rng):
    """COCOA's content with two images."""
    seed = np.random.default_rng(rng.randrange(10**6))
    images = [{"id": n, "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in (1, 2)]
    objects_by_image = [arrange(seed, SIZE, rng.randint(1, 4)) for _ in images]
    annotations = [
        cocoa_annotation(objects, SIZE, image_id=n, annotation_id=n) for n, objects in enumerate(objects_by_image, 1)
    ]
    return {"images": images, "annotations": annotations}


def labelme_file(rng, content):
    """One labelme file with shapes of all kinds."""
    shapes = []
    for region in content["annotations"][0]["regions"]:
        points = np.array(region["segmentation"]).reshape(-1, 2).tolist()
        kind = rng.choice(["polygon", "polygon", "rectangle", "circle", "mask"])
        shape = {"label": region["name"], "group_id": rng.choice([None, None, 1]), "shape_type": kind}
        shape |= {"points": points if kind == "polygon" else points[:2], "description": str(region["order"])}
        if kind == "mask":
            shape["mask"] = in_base64(np.ones((rng.randint(1, 9), rng.randint(1, 9)), bool))
        shapes.append(shape)
    return {"version": "5", "shapes": shapes, "imagePath": "a.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}


def broken(rng, raw):
    """The bytes with some changed, dropped or cut off."""
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 5) if rng.random() < 0.7 else 0):
        i = rng.randrange(max(1, len(raw)))
        raw[i : i + rng.randint(0, 2)] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 2)))
    return bytes(raw[: rng.randrange(len(raw) + 1)] if rng.random() < 0.1 else raw)


def broken_xml(rng, text):
    """CVAT's text with numbers, attributes and tags changed."""
    for _ in range(rng.randint(1, 4)):
        matches = list(re.finditer(r'"[^"]*"|-?\d+\.?\d*|<[a-z]+|z_order="\S+"', text))
        if not matches:
            return text
        match = rng.choice(matches)
        strange = ["", "7", "<mask", "<box", "<image", "&amp;", "<!--", '"-3"', '"40000"', '"' + "9" * 30 + '"']
        strange += ['""', '"nan"', '"1e400"', '"1,2;3"', '"1,1;1,1;1,1"', '"2, 700"', '"4"']
        text = text[: match.start()] + rng.choice(strange) + text[match.end() :]
    return text


def tool_case(seed, folder):
    """Write one malformed file or folder; returns its path and the options to read it with."""
    rng = random.Random(seed)
    kind, content = rng.choice(KINDS), sound(rng)
    options = {"masks": rng.choice(["amodal", "amodal", "modal"])}
    options["order"] = rng.choice(ORDERS) if options["masks"] == "amodal" else None
    if kind == "masks":
        for n in range(rng.randint(1, 4)):
            mask = np.random.default_rng(seed + n).random(rng.choice([SIZE, SIZE, (3, 3)])) < 0.5
            (folder / f"{rng.choice('ab')}_{n}.png").write_bytes(broken(rng, png(mask)))
        return folder, options | {"pattern": "{image}_{object}.png", "order": options["order"] or None}
    path = folder / ("a.xml" if kind == "cvat" else "a.json")
    if kind == "cvat":
        raw = broken_xml(rng, cvat(content)).encode()
    else:
        make = {"coco": plain_coco, "records": records, "datumaro": datumaro}.get(kind)
        tree = make(content) if make else labelme_file(rng, content)
        if rng.random() < 0.9:
            mutate(rng, tree)
        raw = json.dumps(tree).encode()
    path.write_bytes(broken(rng, raw) if rng.random() < 0.15 else raw)
    return path, options


def check_tool_file(path, options):
    """Read all scenes: "refused" by one of our errors, or "read" with or without "findings"; anything else fails."""
    try:
        scenes = read_annotations(path, **options)
        read = list(scenes)
    except AmodalError as error:
        assert str(error) and len(str(error).splitlines()) <= 4
        return "refused"
    for scene in read:
        if scene.size[0] * scene.size[1] > 10**6:
            continue  # too large for the oracle
        targets, findings = layer_with_findings(scene)
        assert int(targets.run_lengths.sum()) == scene.size[0] * scene.size[1]
        assert all(str(finding) for finding in [*scenes.file_findings, *scene.findings, *findings])
        assert targets.areas()[0].tolist() == [instance.amodal.area for instance in scene.instances]
        masks = pool(path, scene.size)
        for instance in scene.instances if masks is not None else ():
            assert instance.amodal.decode().tobytes() in masks
    return "findings" if scenes.file_findings or any(scene.findings for scene in read) else "read"


def pool(path, size):
    """All masks of the polygons in a file, computed slowly and plainly; None if this oracle does not cover the file."""
    if path.is_dir():
        return None
    raw = path.read_bytes()
    if path.suffix == ".xml":
        points = re.findall(rb'points="([^"]*)"', raw)
        if b"<mask" in raw or b"<box" in raw or b"group_id" in raw or b"&" in raw:
            return None
        polygons = [
            [[float(x) for pair in value.split(b";") for x in pair.split(b",")]] for value in points if _plain(value)
        ]
    else:
        try:
            tree = json.loads(raw)
        except ValueError:
            return None
        if re.search(rb'"group_id": [^n]|"rectangle|"circle|"mask|"counts"', raw):
            return None
        polygons = list(_lists(tree))
    masks = set()
    for value in polygons:
        flat = list(itertools.chain.from_iterable(value))
        if not all(isinstance(value, int | float) and abs(value) < 1e6 for value in flat):
            return None
        try:
            mask = reference_mask(value, size)
        except Exception:
            continue  # no polygon
        if mask is None:
            return None
        masks.add(mask.tobytes())
    return masks


def _plain(points):
    return re.fullmatch(rb"(-?[\d.]+,-?[\d.]+;?)+", points) is not None and not points.endswith(b";")


def _lists(tree):
    """Every list of numbers in a tree, and every list of such lists."""
    if isinstance(tree, list):
        numbers = [value for value in tree if isinstance(value, int | float) and not isinstance(value, bool)]
        if tree and len(numbers) == len(tree):
            yield [tree]
        elif tree and all(isinstance(value, list) for value in tree):
            yield tree
            flat = list(itertools.chain.from_iterable(tree))
            if all(isinstance(value, int | float) for value in flat):
                yield [flat]
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _lists(value)
