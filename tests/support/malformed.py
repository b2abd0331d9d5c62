"""Generate malformed annotation files and check how the readers treat them.

The tests use few of them, ``benchmarks/fuzz_readers.py`` many.
"""

import copy
import json
import random
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from amodal_data import RLE, read_annotations
from amodal_data.errors import AmodalError
from amodal_data.layering.targets import layer_with_findings
from amodal_data.synthetic.shapes import arrange
from amodal_data.synthetic.write_cocoa import cocoa_annotation, flat_annotations
from support.oracle import decode_string

SIZE = (24, 32)
STRANGE = [
    None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**70, -(2**40), 0.5, 1e9, -1e9, 1e300, 1e308, float("nan"),
    float("inf"), -float("inf"), "", "1", "text", "\x1b[31m", "../../etc/passwd", "\ud800", "\0", "é", [], {}, [[]],
    [1], [1, 2, 3, 4, 5, 6], [float("nan")] * 6, [[1, 2], [3]], ["a"] * 8, {"a": 1}, {"size": [24, 32], "counts": "0"},
    {"size": [24, 32], "counts": [768]}, {"size": [32, 24], "counts": [768]}, {"size": [24, 32], "counts": [-1, 769]},
    {"size": [2**20, 2**20], "counts": [2**40]}, "1-2,2-1", "99-100", 10**400,
]  # fmt: skip


def base(rng):
    """The content of a valid file of a random layout."""
    seed = np.random.default_rng(rng.randrange(10**6))
    layout = rng.choice(["cocoa", "cocoa", "d2sa", "cocoa-cls", "kins"])
    images, annotations = [], []
    for n in (1, 2):
        objects = arrange(seed, SIZE, rng.randint(1, 5))
        images.append({"id": n, "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1]})
        if layout == "cocoa":
            annotations.append(cocoa_annotation(objects, SIZE, image_id=n, annotation_id=n))
        else:
            annotations += flat_annotations(objects, SIZE, layout, image_id=n, first_id=10 * n)
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}


def nodes(tree, path=()):
    """Every position in a JSON tree, as (container, key)."""
    for key, value in nodes_of(tree) if isinstance(tree, dict | list) else ():
        yield tree, key
        if not (isinstance(value, list) and len(value) > 8 and not isinstance(value[0], dict | list)):
            yield from nodes(value, (*path, key))


def nodes_of(holder):
    return holder.items() if isinstance(holder, dict) else enumerate(holder)


def mutate(rng, tree):
    """Break one to four positions of a tree, in place."""
    for _ in range(rng.randint(1, 4)):
        places = list(nodes(tree))
        if not places:
            return
        holder, key = rng.choice(places)
        value = holder[key]
        choice = rng.randrange(7)
        if choice == 0:
            del holder[key]
        elif choice == 1 and isinstance(value, str) and value:
            holder[key] = mutate_text(rng, value)
        elif choice == 2 and isinstance(value, list) and value:
            mutate_list(rng, value)
        elif choice == 3 and isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(value))
        elif choice == 4 and isinstance(value, int | float):
            holder[key] = rng.choice(
                [-value, value + 1, value * 1000, value * 1.0 if abs(value) < 1e300 else 0, str(value)[:99]]
            )
        elif choice == 5:
            other, name = rng.choice(places)
            holder[key] = (
                copy.deepcopy(other[name]) if name in other or (isinstance(other, list) and name < len(other)) else None
            )
        else:
            holder[key] = copy.deepcopy(rng.choice(STRANGE))


def mutate_text(rng, text):
    i = rng.randrange(len(text))
    return rng.choice([text[:i], text[:i] + chr(rng.randrange(33, 127)) + text[i + 1 :], text + text[i:], text[i:]])


def mutate_list(rng, values):
    i = rng.randrange(len(values))
    choice = rng.randrange(4)
    if choice == 0:
        del values[i]
    elif choice == 1:
        values.append(copy.deepcopy(rng.choice(STRANGE)))
    elif choice == 2:
        values[i] = copy.deepcopy(rng.choice(STRANGE))
    else:
        rng.shuffle(values)


def case(seed):
    """The bytes of one malformed file."""
    rng = random.Random(seed)
    tree = base(rng)
    if rng.random() < 0.9:
        mutate(rng, tree)
    raw = bytearray(json.dumps(tree).encode())
    if rng.random() < 0.1:
        for _ in range(rng.randint(1, 5)):
            i = rng.randrange(len(raw))
            raw[i : i + rng.randint(0, 2)] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 2)))
    return bytes(raw[: rng.randrange(len(raw))] if rng.random() < 0.05 else raw)


def reference_mask(value, size):
    """The mask of a raw value, computed slowly and plainly; None if this oracle does not cover the value."""
    if isinstance(value, dict):
        counts = value["counts"]
        runs = counts if isinstance(counts, list) else decode_string(counts.encode())
        assert sum(runs) == size[0] * size[1] and min(runs) >= 0
        flags = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return flags.reshape(size[1], size[0]).T
    parts = value if isinstance(value[0], list) else [value]
    flat = [number for part in parts for number in part]
    if any(len(part) % 2 for part in parts) or max(map(abs, flat)) > 16 * max(size):
        return None
    return coco_mask.decode(coco_mask.frPyObjects([list(map(float, part)) for part in parts], *size)).any(axis=2)


def check_file(path: Path) -> str:
    """Read all scenes: "refused" by one of our errors, or "read" with or without "findings"; anything else fails."""
    try:
        scenes = list(read_annotations(path))
    except AmodalError as error:
        assert str(error) and len(str(error).splitlines()) <= 4
        return "refused"
    try:
        tree = json.loads(path.read_bytes())
    except ValueError:
        tree = {}
    for scene in scenes:
        if scene.size[0] * scene.size[1] > 10**6:
            continue  # too large for the oracle
        targets, findings = layer_with_findings(scene)
        assert int(targets.run_lengths.sum()) == scene.size[0] * scene.size[1]
        assert all(str(finding) for finding in [*scene.findings, *findings])
        raw = _raw_regions(tree, scene)
        for n, instance in enumerate(scene.instances):
            assert isinstance(instance.amodal, RLE)
            area = int(targets.areas()[0][n])
            assert area == instance.amodal.area
            if raw is not None:
                mask = reference_mask(raw[instance.region_index], scene.size)
                assert mask is None or np.array_equal(instance.amodal.decode(), mask)
    return "findings" if any(scene.findings for scene in scenes) else "read"


def _raw_regions(tree, scene):
    """The raw amodal masks of a scene; None if its annotations are not unique in the file."""
    images = tree.get("images") if isinstance(tree, dict) else None
    if not isinstance(images, list) or len({str(i.get("id")) for i in images if isinstance(i, dict)}) < len(images):
        return None
    dicts = [a for a in tree.get("annotations", []) if isinstance(a, dict) and not isinstance(a.get("image_id"), bool)]
    if any(isinstance(i, dict) and isinstance(i.get("id"), str) and not i["id"].isdigit() for i in images):
        return None
    annotations = [a for a in dicts if str(a.get("image_id")).removesuffix(".0") == str(scene.image_id)]
    if scene.total_order:
        annotations = [a for a in annotations if isinstance(a.get("regions"), list)]
        regions = annotations[0]["regions"] if annotations else []
        return [r.get("segmentation") if isinstance(r, dict) else None for r in regions]
    if any("a_segm" in a or "amodal_segm" in a for a in annotations):
        return None
    return [a.get("segmentation") for a in annotations]
