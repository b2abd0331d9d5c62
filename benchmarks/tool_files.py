"""Generated scenes written by the annotation tools themselves, for tests/golden/tools, and read back by them.

    pip install labelme datumaro datasets && python benchmarks/tool_files.py --write tests/golden/tools
    python benchmarks/tool_files.py --check      # Datumaro reads what convert writes: the same masks and z_order

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
from amodal_data.export.coco import export_records
from amodal_data.export.convert import convert
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.masks.rle import rasterize

SIZE = (30, 40)


def write_scenes(folder: Path) -> tuple[Path, dict]:
    """Write two scenes in COCOA's layout, of polygons with few corners; returns path and content."""
    path = write_cocoa(folder, 2, seed=12, size=SIZE)
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        for region in annotation["regions"]:
            points = np.array(region["segmentation"]).reshape(-1, 2)
            fifths = (points[:: max(1, len(points) // 8)] * 5).round() / 5  # where no rounding of a tool moves a pixel
            rounded = fifths.round(1).ravel().tolist()
            for key in set(region) - {"name", "order", "isStuff"}:
                del region[key]
            region["segmentation"] = rounded
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
        polygons = [dm.Polygon(region["segmentation"], label=0, z_order=-region["order"], id=n)
               for n, region in enumerate(regions_of(content, image))]  # fmt: skip
        photo = dm.Image.from_file(path=image["file_name"], size=SIZE)
        name = Path(image["file_name"]).stem
        items.append(dm.DatasetItem(id=name, subset="train", media=photo, annotations=polygons))
    dataset = dm.Dataset.from_iterable(items, categories=["thing"])
    for form, name in (("datumaro", "datumaro.json"), ("cvat", "cvat.xml"), ("coco_instances", "coco.json")):
        with tempfile.TemporaryDirectory() as out:
            dataset.export(out, form, save_media=False)
            (exported,) = [file for file in Path(out).rglob("*") if file.suffix in (".json", ".xml")]
            shutil.copy(exported, folder / name)


def by_datasets(path: Path, folder: Path) -> None:
    """Rows exported from a table of Hugging Face: every field in every row, None where it is empty."""
    import datasets

    rows = datasets.Dataset.from_list(export_records(open_dataset(path))).to_list()
    (folder / "datasets.json").write_text(json.dumps(rows))


def check(path: Path, content: dict, folder: Path) -> None:
    import datumaro as dm

    (folder / "annotations").mkdir()
    convert(open_dataset(path), folder / "annotations" / "default.json", "datumaro")
    items = list(dm.Dataset.import_from(str(folder), "datumaro"))
    masks = 0
    for image, item in zip(content["images"], items, strict=True):
        regions = regions_of(content, image)
        whole = rasterize([np.array(region["segmentation"], float) for region in regions], SIZE)
        for mask, region in zip(whole, item.annotations, strict=True):
            assert np.array_equal(mask.decode(), region.image.astype(bool))
            masks += 1
    scenes = read_annotations(folder, form="datumaro", masks="amodal")
    for reread, scene in zip(scenes, read_cocoa(path), strict=True):
        assert np.array_equal(layer_scene(reread).levels, layer_scene(scene).levels)
    print(f"Datumaro {dm.__version__}: {masks} masks equal, levels equal after export and import")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, content = write_scenes(folder)
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
