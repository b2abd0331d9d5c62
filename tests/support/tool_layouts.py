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
