"""Write the scenes of a COCOA file in the layouts of annotation tools."""

import base64
import io
import json
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from amodal_data import read_cocoa
from amodal_data.masks.rle import rasterize


def coco(content, order="z_order"):
    """Plain COCO; the order under a field, in ``attributes``, or as the list has it (front first)."""
    annotations = []
    for annotation in content["annotations"]:
        for region in sorted(annotation["regions"], key=lambda region: region["order"]):
            entry = {"id": len(annotations) + 1, "image_id": annotation["image_id"], "category_id": 1}
            entry["segmentation"] = [region["segmentation"]]
            if order == "z_order":
                entry["z_order"] = -region["order"]
            elif order == "attributes.z_order":
                entry["attributes"] = {"occluded": False, "z_order": -region["order"]}
            elif order:
                entry[order] = region["order"]
            annotations.append(entry)
    return {"images": content["images"], "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}


def records(content):
    """detectron2's dicts, COCO's list cut up by image."""
    flat = coco(content, "occl_depth")
    rows = []
    for image in flat["images"]:
        annotations = [{key: value for key, value in annotation.items() if key not in ("id", "image_id")}
               for annotation in flat["annotations"] if annotation["image_id"] == image["id"]]  # fmt: skip
        fields = {"file_name": f"photos/{image['file_name']}", "height": image["height"], "width": image["width"]}
        rows.append({**fields, "image_id": image["id"], "annotations": annotations})
    return rows


def regions_of(content, image):
    """The regions of an image, in file order."""
    return [
        region
        for annotation in content["annotations"]
        if annotation["image_id"] == image["id"]
        for region in annotation["regions"]
    ]


def labelme(content, folder):
    """A labelme file an image; shapes as an annotator makes them, back to front."""
    folder.mkdir()
    for image in content["images"]:
        shapes = []
        for region in sorted(regions_of(content, image), key=lambda region: -region["order"]):
            shape = {"label": region["name"] or "thing", "group_id": None, "shape_type": "polygon", "flags": {}}
            shape |= {"points": np.array(region["segmentation"]).reshape(-1, 2).tolist()}
            shapes.append(shape | {"description": str(region["order"])})
        fields = {"imagePath": image["file_name"], "imageHeight": image["height"], "imageWidth": image["width"]}
        file = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": None, **fields}
        (folder / f"{image['id']:04d}.json").write_text(json.dumps(file))
    return folder


def png(mask):
    """A mask as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def in_base64(mask):
    return base64.b64encode(png(mask)).decode()


def cvat(content):
    """CVAT for images 1.1."""
    lines = ["<?xml version='1.0' encoding='utf-8'?>", "<annotations><version>1.1</version><meta/>"]
    for image in content["images"]:
        attributes = f'id="{image["id"]}" name={quoteattr(image["file_name"])}'
        lines.append(f'<image {attributes} width="{image["width"]}" height="{image["height"]}">')
        for region in regions_of(content, image):
            points = np.array(region["segmentation"]).reshape(-1, 2).tolist()
            listed = ";".join(f"{x},{y}" for x, y in points)
            attributes = f'label={quoteattr(region["name"] or "thing")} source="manual" occluded="0"'
            lines.append(f'<polygon {attributes} points="{listed}" z_order="{-region["order"]}">')
            lines.append('<attribute name="seen">yes</attribute></polygon>')
        lines.append("</image>")
    return "\n".join([*lines, "</annotations>"])


def datumaro(content):
    """Datumaro's JSON with polygons, as it exports them."""
    items = []
    for image in content["images"]:
        annotations = [
            {"id": n, "type": "polygon", "attributes": {}, "group": 0, "label_id": 0,
             "points": region["segmentation"], "z_order": -region["order"]}
            for n, region in enumerate(regions_of(content, image))
        ]  # fmt: skip
        fields = {"path": image["file_name"], "size": [image["height"], image["width"]]}
        items.append({"id": image["file_name"], "annotations": annotations, "image": fields})
    labels = [{"name": "thing", "parent": "", "attributes": []}]
    return {"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": items}


def masks(content, folder, *, visible=False):
    """PNG masks, ``IMAGE/ORDER.png``, and with ``visible`` the visible ones beside them."""
    for image in content["images"]:
        name = folder / f"{image['id']:04d}"
        name.mkdir(parents=True)
        regions = regions_of(content, image)
        polygons = [np.array(region["segmentation"], float) for region in regions]
        rles = rasterize(polygons, (image["height"], image["width"]))
        masks_by_order = {region["order"]: mask.decode() for region, mask in zip(regions, rles, strict=True)}
        for order, mask in masks_by_order.items():
            (name / f"{order}.png").write_bytes(png(mask))
            if visible:
                front = [other for place, other in masks_by_order.items() if place < order]
                (name / f"{order}_seen.png").write_bytes(png(mask & ~np.any([mask & False, *front], axis=0)))
    return folder


def bop(folder, masks, visible, image=0, obj_ids=None, photo=None):
    """Add an image to a BOP scene folder, as BlenderProc writes it; masks and visible: bool [N, H, W]."""
    path = folder / "scene_gt.json"
    obj_ids = [1 + n % 3 for n in range(len(masks))] if obj_ids is None else obj_ids
    rows = [{"cam_R_m2c": [1.0] * 9, "cam_t_m2c": [0.0, 0.0, 900.0], "obj_id": obj_id} for obj_id in obj_ids]
    for name, pictures in (("mask", masks), ("mask_visib", visible)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for n, mask in enumerate(pictures):
            (folder / name / f"{image:06d}_{n:06d}.png").write_bytes(png(mask))
    (folder / "rgb").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((*np.shape(masks)[1:], 3), np.uint8) if photo is None else photo).save(
        folder / "rgb" / f"{image:06d}.png"
    )
    scenes = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**scenes, str(image): rows}))
    return folder


def bop_of(content, folder):
    """A BOP scene with the masks of a COCOA file."""
    for image in content["images"]:
        regions = sorted(regions_of(content, image), key=lambda region: region["order"])
        polygons = [np.array(region["segmentation"], float) for region in regions]
        amodal = np.array([mask.decode() for mask in rasterize(polygons, (image["height"], image["width"]))])
        bop(folder, amodal, visible_front_first(amodal), image["id"])
    return folder


def visible_front_first(amodal):
    """The visible masks of bool [N, H, W], nearest first."""
    return np.array([mask & ~amodal[:n].any(axis=0) for n, mask in enumerate(amodal)], bool)


def instaorder(path, rows):
    """Write a file of InstaOrder; rows: (image id, instance ids, orders)."""
    annotations = [
        {"image_id": image, "instance_ids": ids, "depth": [{"order": "0<1", "overlap": False, "count": 1}],
         "occlusion": [{"order": order, "count": 1} for order in orders]}
        for image, ids, orders in rows
    ]  # fmt: skip
    path.write_text(json.dumps({"info": {}, "annotations": annotations}))
    return path


def written(layout, cocoa, folder):
    """Write a COCOA file in a layout; returns its path and the options to read it with."""
    content = json.loads(cocoa.read_text())
    amodal = {"masks": "amodal"}
    if layout == "labelme":
        return labelme(content, folder / "labelme"), {**amodal, "order": "back-first"}
    if layout == "labelme-described":
        return labelme(content, folder / "described"), {**amodal, "order": "field:description"}
    if layout == "masks":
        pattern = {"pattern": "{image}/{object}.png"}
        return masks(content, folder / "masks"), {**amodal, **pattern, "order": "front-first"}
    if layout == "masks-visible":
        return masks(content, folder / "seen", visible=True), {"visible_pattern": "{image}/{object}_seen.png"}
    if layout == "bop":
        return bop_of(content, folder / "000000"), {}
    if layout == "cvat":
        (folder / "a.xml").write_text(cvat(content))
        return folder / "a.xml", amodal
    made = {
        "coco-z": lambda: coco(content), "coco-attributes": lambda: coco(content, "attributes.z_order"),
        "coco-depth": lambda: coco(content, "occl_depth"), "coco-list": lambda: coco(content, ""),
        "records": lambda: records(content), "datumaro": lambda: datumaro(content),
    }[layout]()  # fmt: skip
    path = folder / f"{layout}.json"
    path.write_text(json.dumps(made))
    return path, amodal | ({"order": "front-first"} if layout == "coco-list" else {})


LAYOUTS = ("coco-z", "coco-attributes", "coco-depth", "coco-list", "records", "labelme", "labelme-described", "cvat",
           "datumaro", "masks", "masks-visible")  # fmt: skip


def by_image(path):
    """The scenes of a COCOA file by image id."""
    return {scene.image_id: scene for scene in read_cocoa(path)}
