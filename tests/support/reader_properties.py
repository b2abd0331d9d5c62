"""What each reader does with names, ids, classes, holes, crowds, order and turned photos: tried out, and as a table."""

import json
import shutil

import numpy as np
from PIL import Image

from amodal_data import read_annotations
from amodal_data.errors import LayoutError
from amodal_data.layering.targets import layer_scene
from support.tool_layouts import bop, in_base64, png

NAME = "day/Cafe\u0301.jpg"  # decomposed, as macOS writes names
SIZE = (40, 60)
PROPERTIES = ("File name", "Image id", "Class that is not used", "Hole in a mask", "`iscrowd`", "Order", "Turned photo")


def ring():
    """A square with a hole, bool [H, W]."""
    mask = np.zeros(SIZE, bool)
    mask[5:25, 5:25] = True
    mask[10:20, 10:20] = False
    return mask


def other():
    """A square that overlaps the first one."""
    mask = np.zeros(SIZE, bool)
    mask[20:35, 20:50] = True
    return mask


def rle(mask):
    flat = mask.T.ravel()
    switches = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {"size": list(SIZE), "counts": np.diff([0, *switches, flat.size]).tolist()}


def objects():
    """Both objects as COCO's annotations, and a crowd."""
    rows = [{"segmentation": rle(mask), "category_id": n} for n, mask in ((3, ring()), (1, other()))]
    return [*rows, {"segmentation": rle(other()), "category_id": 1, "iscrowd": 1}]


CATEGORIES = [{"id": 3, "name": "pan"}, {"id": 2, "name": "unused"}, {"id": 1, "name": "cup"}]
IMAGE = {"id": 7, "file_name": NAME, "height": SIZE[0], "width": SIZE[1]}


def flat(fields):
    """COCO with more fields in each annotation: a list of them, by position."""
    rows = [
        {"id": n, "image_id": 7, **row, **more} for n, (row, more) in enumerate(zip(objects(), fields, strict=True), 1)
    ]
    return {"images": [IMAGE], "annotations": rows, "categories": CATEGORIES}


def cocoa(folder):
    regions = [{"segmentation": row["segmentation"], "name": name, "order": n, "isStuff": 0}
               for n, (row, name) in enumerate(zip(objects()[:2], ("pan", "cup"), strict=True), 1)]  # fmt: skip
    annotation = {"id": 1, "image_id": 7, "regions": regions, "size": 2, "depth_constraint": "1-2"}
    return written(folder, {"images": [IMAGE], "annotations": [annotation]})


def written(folder, content):
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def d2sa(folder):
    hidden = [{"visible_mask": row["segmentation"]} for row in objects()]
    return written(folder, flat(hidden))


def kins(folder):
    rows = [
        {"a_segm": row["segmentation"], "i_segm": row["segmentation"], "oco_id": n} for n, row in enumerate(objects())
    ]
    return written(folder, flat(rows))


def coco(folder):
    return written(folder, flat([{}, {}, {}]))


def records(folder):
    rows = [{**row, "category": name} for row, name in zip(objects(), ("pan", "cup", "cup"), strict=True)]
    record = {"image_id": 7, **{key: value for key, value in IMAGE.items() if key != "id"}, "annotations": rows}
    return written(folder, [record])


def labelme(folder):
    shapes = [{"label": name, "shape_type": "mask", "points": [[0, 0], [59, 39]], "mask": in_base64(mask)}
              for name, mask in (("pan", ring()), ("cup", other()))]  # fmt: skip
    (folder / "labels").mkdir()
    content = {"shapes": shapes, "imageHeight": SIZE[0], "imageWidth": SIZE[1], "imagePath": NAME}
    (folder / "labels" / "a.json").write_text(json.dumps(content))
    (folder / "labels" / "classes.txt").write_text("unused\npan\ncup\n")
    return folder / "labels"


def cvat(folder):
    shapes = []
    for name, mask in (("pan", ring()), ("cup", other())):
        runs = np.diff([0, *np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel()]))).tolist(), mask.size])
        box = f'left="0" top="0" width="{SIZE[1]}" height="{SIZE[0]}"'
        shapes.append(f'<mask label="{name}" rle="{", ".join(map(str, runs))}" {box} z_order="{len(shapes)}"/>')
    labels = "".join(f"<label><name>{entry['name']}</name></label>" for entry in CATEGORIES)
    image = f'<image id="7" name="{NAME}" width="{SIZE[1]}" height="{SIZE[0]}">{"".join(shapes)}</image>'
    content = f"<annotations><meta><task><labels>{labels}</labels></task></meta>{image}</annotations>"
    (folder / "a.xml").write_text(content, encoding="utf-8")
    return folder / "a.xml"


def datumaro(folder):
    rows = [{"id": n, "type": "mask", "label_id": label, "rle": row["segmentation"], "z_order": n}
            for n, (row, label) in enumerate(zip(objects()[:2], (0, 2), strict=True))]  # fmt: skip
    item = {"id": "a", "attr": {"id": 7}, "annotations": rows, "image": {"path": NAME, "size": list(SIZE)}}
    labels = [{"name": entry["name"]} for entry in CATEGORIES]
    return written(folder, {"categories": {"label": {"labels": labels}}, "items": [item]})


def yolo(folder):
    for part in ("images", "labels"):
        (folder / "yolo" / part / "day").mkdir(parents=True)
    turned_photo(folder / "yolo" / "images" / NAME)
    outline = np.array([[5, 5], [25, 5], [25, 25], [5, 25]]) / SIZE[::-1]
    square = np.array([[20, 20], [50, 20], [50, 35], [20, 35]]) / SIZE[::-1]
    lines = [f"{n} " + " ".join(map(str, points.ravel())) for n, points in ((0, outline), (2, square))]
    (folder / "yolo" / "labels" / NAME).with_suffix(".txt").write_text("\n".join(lines))
    (folder / "yolo" / "data.yaml").write_text("names: [pan, unused, cup]")
    return folder / "yolo"


def masks(folder):
    (folder / "masks" / "a").mkdir(parents=True)
    for n, (name, mask) in enumerate((("pan", ring()), ("cup", other()))):
        (folder / "masks" / "a" / f"{n}_{name}.png").write_bytes(png(mask))
    (folder / "masks" / "classes.txt").write_text("pan\nunused\ncup\n")
    return folder / "masks"


def bop_scene(folder):
    scene = bop(folder / "000000", [ring(), other()], [ring(), other() & ~ring()], image=7, obj_ids=[3, 1])
    (folder / "classes.txt").write_text("cup\nunused\npan\n")
    turned_photo(scene / "rgb" / "000007.png")
    return scene


def turned_photo(path):
    """A photo that is stored turned and upright has :data:`SIZE`."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(path, exif=exif)


READERS = {
    "COCOA": cocoa, "D2SA, COCOA-cls": d2sa, "KINS": kins, "COCO": coco, "records": records, "labelme": labelme,
    "CVAT": cvat, "Datumaro": datumaro, "YOLO": yolo, "BOP": bop_scene,
    "masks as pictures": masks,
}  # fmt: skip
_AMODAL = ("COCOA", "D2SA, COCOA-cls", "KINS", "BOP")  # layouts that say what their masks are of


def properties(reader, folder):
    """What a reader does with each of :data:`PROPERTIES`, found out by reading a file that has them all."""
    source = READERS[reader](folder)
    options = {} if reader in _AMODAL else {"masks": "amodal"}
    options |= {"pattern": "{image}/{object}_{name}.png"} if source.name == "masks" else {}
    order = "from the file"
    try:
        read_annotations(source, **options)
    except LayoutError as error:
        assert "order" in str(error)
        options, order = {**options, "order": "front-first"}, "you say it: `--order`"
    scenes = read_annotations(source, **options)
    (scene,) = scenes
    targets = layer_scene(scene)
    first = scene.instances[0]
    crowd = {2: "pixels unknown", 3: "an object"}[len(scene.instances)] if has_crowd(reader) else "not in the format"
    if scene.unknown is None and crowd == "pixels unknown":
        crowd = "lost"
    turned = [finding.code for finding in scenes.findings if finding.code == "photo-turned"]
    assert targets.size == SIZE and {"cup", "pan"} <= {instance.name for instance in scene.instances}
    names = {NAME: "kept", NAME.split("/")[-1]: "kept without folders", "000000/rgb/000007.png": "path of the photo"}
    return (
        names.get(scene.file_name, "made from the folder's name"),
        "kept" if scene.image_id == 7 else "counted from 1",
        "listed" if "unused" in scenes.categories.values() else "not in the format",
        "kept" if first.amodal.area == ring().sum() else "filled",
        crowd,
        order,
        "upright size, with a finding" if turned else "size of the file",
    )


def has_crowd(reader):
    return reader in ("D2SA, COCOA-cls", "KINS", "COCO", "records")


def table(folder):
    """The table of all readers in Markdown."""
    lines = [f"| Reader | {' | '.join(PROPERTIES)} |", "|---" * (len(PROPERTIES) + 1) + "|"]
    for reader in READERS:
        (folder / "case").mkdir(parents=True)
        lines.append(f"| {reader} | {' | '.join(properties(reader, folder / 'case'))} |")
        shutil.rmtree(folder / "case")
    return "\n".join(lines) + "\n"
