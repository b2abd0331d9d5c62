"""The same scenes as the tools that people annotate with write them, from COCOA's polygons and order."""

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
    for one in content["annotations"]:
        for region in sorted(one["regions"], key=lambda region: region["order"]):
            found = {"id": len(annotations) + 1, "image_id": one["image_id"], "category_id": 1}
            found["segmentation"] = [region["segmentation"]]
            if order == "z_order":
                found["z_order"] = -region["order"]
            elif order == "attributes.z_order":
                found["attributes"] = {"occluded": False, "z_order": -region["order"]}
            elif order:
                found[order] = region["order"]
            annotations.append(found)
    return {"images": content["images"], "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}


def records(content):
    """detectron2's dicts, COCO's list cut up by image."""
    flat = coco(content, "occl_depth")
    found = []
    for image in flat["images"]:
        own = [{key: value for key, value in one.items() if key not in ("id", "image_id")}
               for one in flat["annotations"] if one["image_id"] == image["id"]]  # fmt: skip
        about = {"file_name": f"photos/{image['file_name']}", "height": image["height"], "width": image["width"]}
        found.append({**about, "image_id": image["id"], "annotations": own})
    return found


def regions_of(content, image):
    """The regions of an image, in file order."""
    return [one for each in content["annotations"] if each["image_id"] == image["id"] for one in each["regions"]]


def labelme(content, folder):
    """A labelme file an image; shapes as one would draw them, the ones behind first."""
    folder.mkdir()
    for image in content["images"]:
        shapes = []
        for region in sorted(regions_of(content, image), key=lambda region: -region["order"]):
            own = {"label": region["name"] or "thing", "group_id": None, "shape_type": "polygon", "flags": {}}
            own |= {"points": np.array(region["segmentation"]).reshape(-1, 2).tolist()}
            shapes.append(own | {"description": str(region["order"])})
        about = {"imagePath": image["file_name"], "imageHeight": image["height"], "imageWidth": image["width"]}
        file = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": None, **about}
        (folder / f"{image['id']:04d}.json").write_text(json.dumps(file))
    return folder


def png(mask):
    """A mask as the bytes of a PNG."""
    held = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(held, "PNG")
    return held.getvalue()


def in_base64(mask):
    return base64.b64encode(png(mask)).decode()


def cvat(content):
    """CVAT for images 1.1."""
    lines = ["<?xml version='1.0' encoding='utf-8'?>", "<annotations><version>1.1</version><meta/>"]
    for image in content["images"]:
        about = f'id="{image["id"]}" name={quoteattr(image["file_name"])}'
        lines.append(f'<image {about} width="{image["width"]}" height="{image["height"]}">')
        for region in regions_of(content, image):
            points = np.array(region["segmentation"]).reshape(-1, 2).tolist()
            listed = ";".join(f"{x},{y}" for x, y in points)
            about = f'label={quoteattr(region["name"] or "thing")} source="manual" occluded="0"'
            lines.append(f'<polygon {about} points="{listed}" z_order="{-region["order"]}">')
            lines.append('<attribute name="seen">yes</attribute></polygon>')
        lines.append("</image>")
    return "\n".join([*lines, "</annotations>"])


def datumaro(content):
    """Datumaro's JSON with polygons, as it exports them."""
    items = []
    for image in content["images"]:
        annotations = [
            {"id": at, "type": "polygon", "attributes": {}, "group": 0, "label_id": 0,
             "points": region["segmentation"], "z_order": -region["order"]}
            for at, region in enumerate(regions_of(content, image))
        ]  # fmt: skip
        about = {"path": image["file_name"], "size": [image["height"], image["width"]]}
        items.append({"id": image["file_name"], "annotations": annotations, "image": about})
    labels = [{"name": "thing", "parent": "", "attributes": []}]
    return {"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": items}


def masks(content, folder, *, visible=False):
    """PNG masks, ``IMAGE/ORDER.png``; with the visible ones beside them if asked for."""
    for image in content["images"]:
        name = folder / f"{image['id']:04d}"
        name.mkdir(parents=True)
        regions = regions_of(content, image)
        polygons = [np.array(region["segmentation"], float) for region in regions]
        found = rasterize(polygons, (image["height"], image["width"]))
        whole = {region["order"]: mask.decode() for region, mask in zip(regions, found, strict=True)}
        for order, mask in whole.items():
            (name / f"{order}.png").write_bytes(png(mask))
            if visible:
                front = [other for place, other in whole.items() if place < order]
                (name / f"{order}_seen.png").write_bytes(png(mask & ~np.any([mask & False, *front], axis=0)))
    return folder


def written(layout, cocoa, folder):
    """A COCOA file in a layout: where it is, and how it is to be read."""
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
    """The scenes of a COCOA file by the number of the image."""
    return {scene.image_id: scene for scene in read_cocoa(path)}
