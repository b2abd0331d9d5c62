"""Small files of generated scenes as the tools themselves write them, for tests/golden/tools; and back through them.

    pip install labelme datumaro datasets && python benchmarks/tool_files.py --write tests/golden/tools
    python benchmarks/tool_files.py --check      # what convert writes, read by Datumaro: the same masks and z_order

Needs Qt (labelme) and OpenCV (Datumaro), so tests only read what is committed.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.tool_layouts import regions_of

from amodal_data import layer_scene, read_annotations, read_cocoa, write_cocoa
from amodal_data.export import convert, export_records
from amodal_data.inspector.dataset import open_dataset
from amodal_data.masks.rle import rasterize

SIZE = (30, 40)


def drawn(folder: Path) -> tuple[Path, dict]:
    """Two scenes in COCOA's layout, of polygons with few corners."""
    path = write_cocoa(folder, 2, seed=12, size=SIZE)
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        for region in one["regions"]:
            points = np.array(region["segmentation"]).reshape(-1, 2)
            fifths = (points[:: max(1, len(points) // 8)] * 5).round() / 5  # where no rounding of a tool moves a pixel
            kept = fifths.round(1).ravel().tolist()
            for key in set(region) - {"name", "order", "isStuff"}:
                del region[key]
            region["segmentation"] = kept
    path.write_text(json.dumps(content))
    return path, content


def by_labelme(content: dict, folder: Path) -> None:
    from labelme._label_file import LabelFile

    folder.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        shapes = []
        for region in sorted(regions_of(content, image), key=lambda region: -region["order"]):
            points = np.array(region["segmentation"]).reshape(-1, 2).tolist()
            shapes.append({"label": region["name"] or "thing", "points": points, "group_id": None, "flags": {},
                           "shape_type": "polygon", "description": str(region["order"]), "mask": None})  # fmt: skip
        LabelFile().save(
            filename=str(folder / f"{image['id']}.json"), shapes=shapes, image_path=image["file_name"],
            image_height=image["height"], image_width=image["width"], image_data=None, flags={},
        )  # fmt: skip


def by_datumaro(content: dict, folder: Path) -> None:
    import datumaro as dm

    items = []
    for image in content["images"]:
        own = [dm.Polygon(region["segmentation"], label=0, z_order=-region["order"], id=at)
               for at, region in enumerate(regions_of(content, image))]  # fmt: skip
        photo = dm.Image.from_file(path=image["file_name"], size=SIZE)
        name = Path(image["file_name"]).stem
        items.append(dm.DatasetItem(id=name, subset="train", media=photo, annotations=own))
    dataset = dm.Dataset.from_iterable(items, categories=["thing"])
    for form, name in (("datumaro", "datumaro.json"), ("cvat", "cvat.xml"), ("coco_instances", "coco.json")):
        with tempfile.TemporaryDirectory() as out:
            dataset.export(out, form, save_media=False)
            (found,) = [one for one in Path(out).rglob("*") if one.suffix in (".json", ".xml")]
            shutil.copy(found, folder / name)


def by_datasets(path: Path, folder: Path) -> None:
    """Rows that went through a table of Hugging Face's: every field in every row, None where there is nothing."""
    import datasets

    rows = datasets.Dataset.from_list(export_records(open_dataset(path))).to_list()
    (folder / "datasets.json").write_text(json.dumps(rows))


def check(path: Path, content: dict, folder: Path) -> None:
    import datumaro as dm

    (folder / "annotations").mkdir()
    convert(open_dataset(path), folder / "annotations" / "default.json", "datumaro")
    found = list(dm.Dataset.import_from(str(folder), "datumaro"))
    masks = 0
    for image, item in zip(content["images"], found, strict=True):
        regions = regions_of(content, image)
        whole = rasterize([np.array(one["segmentation"], float) for one in regions], SIZE)
        for mask, one in zip(whole, item.annotations, strict=True):
            assert np.array_equal(mask.decode(), one.image.astype(bool))
            masks += 1
    scenes = read_annotations(folder, form="datumaro", masks="amodal")
    for scene, own in zip(scenes, read_cocoa(path), strict=True):
        assert np.array_equal(layer_scene(scene).levels(), layer_scene(own).levels())
    print(f"Datumaro {dm.__version__}: {masks} masks equal, levels equal after the way out and in again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        path, content = drawn(folder)
        if chosen.check:
            (folder / "out").mkdir()
            check(path, content, folder / "out")
        if chosen.write:
            chosen.write.mkdir(parents=True, exist_ok=True)
            by_labelme(content, chosen.write / "labelme")
            by_datumaro(content, chosen.write)
            by_datasets(path, chosen.write)
            shutil.copy(path, chosen.write / "cocoa.json")


if __name__ == "__main__":
    main()
