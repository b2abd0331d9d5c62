"""Folders of masks, as the authors of SLN released their results."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support.coco_oracle import perturbed
from support.commands import run_command

from amodal_data import RLE, evaluate, read_cocoa, write_cocoa
from amodal_data.errors import PredictionError

SIZE = (48, 64)


def write_masks(folder, masks, prefix="", suffix="jpg"):
    """masks: bool [H, W] by image name, best first. Also the photo and a ground-truth mask, as in the release."""
    for image, ranked in masks.items():
        (folder / image).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(folder / image / f"{image}.jpg")
        Image.new("L", SIZE[::-1]).save(folder / image / f"gt_00_{image}.jpg")
        for rank, mask in enumerate(ranked):
            if mask is not None:
                picture = Image.fromarray(mask.astype(np.uint8) * 255)
                picture.save(folder / image / f"{prefix}{rank:02}_{image}.{suffix}", quality=75)


@pytest.fixture
def truth(tmp_path):
    rng = np.random.default_rng(3)
    path = write_cocoa(tmp_path / "data", 6, seed=4, size=SIZE, photos=False)
    masks = {
        Path(scene.file_name).stem: [
            None if rng.random() < 0.2 else perturbed(rng, instance.amodal.decode(), 2)
            for instance in scene.instances
            for _ in range(2)
        ]
        for scene in read_cocoa(path)
    }
    return path, masks


def pycocotools_figures(truth, folder):
    """AP, and AR at 10 and 100, of the masks cut at the middle."""
    images, annotations, rows = [], [], []
    for scene in read_cocoa(truth):
        name = Path(scene.file_name).stem
        images.append({"id": scene.image_id, "height": SIZE[0], "width": SIZE[1]})
        for instance in scene.instances:
            entry = {"image_id": scene.image_id, "category_id": 1, "iscrowd": 0, "area": 1}
            annotations.append(entry | {"id": len(annotations) + 1, "segmentation": instance.amodal.to_coco()})
        for path in sorted((folder / name).glob("[0-9]*")):
            values = np.asarray(Image.open(path))
            rank = int(path.name.split("_")[0])
            mask = RLE.from_mask(values > 127).to_coco()
            rows.append({"image_id": scene.image_id, "category_id": 1, "segmentation": mask, "score": -rank})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": ""}]}
        coco.createIndex()
        score = COCOeval(coco, coco.loadRes(rows), "segm")
        score.params.useCats, score.params.areaRng, score.params.areaRngLbl = 0, [[0, 1e10]], ["all"]
        score.params.maxDets = [1, 10, 100]
        score.evaluate()
        score.accumulate()
    recall = score.eval["recall"][:, 0, 0, :].mean(axis=0)
    return [score.eval["precision"][:, :, 0, 0, -1].mean(), recall[1], recall[2]]


def test_figures_equal_those_of_pycocotools(truth, tmp_path):
    path, masks = truth
    write_masks(tmp_path / "SLN", masks)
    report = evaluate(path, tmp_path / "SLN")
    figures = report.to_dict()["subsets"]["all"]["all"]
    expected = pycocotools_figures(path, tmp_path / "SLN")
    assert 0 < expected[0] < 1
    np.testing.assert_allclose([figures[name] for name in ("AP", "AR10", "AR100")], expected, atol=1e-9)


def test_masks_and_photos_may_differ_in_format(truth, tmp_path):
    path, masks = truth
    write_masks(tmp_path / "PNG", masks, suffix="png")
    exact = [[mask for mask in ranked if mask is not None] for ranked in masks.values()]
    report = evaluate(path, tmp_path / "PNG")
    assert report.settings["images"] == len(exact) and report.figures["subsets"]["all"]["all"]["AR100"] > 0.1
    ids = [scene.image_id for scene in read_cocoa(path)][:2]  # masks of the other images are skipped
    assert evaluate(path, tmp_path / "PNG", only=ids).settings["images"] == 2


def test_prefixes_are_methods(truth, tmp_path):
    path, masks = truth
    write_masks(tmp_path / "both", masks)
    write_masks(tmp_path / "both", {name: ranked[:2] for name, ranked in masks.items()}, "our_")
    with pytest.raises(PredictionError, match="masks of 2 methods") as error:
        evaluate(path, tmp_path / "both")
    assert "our_*" in error.value.fix and "[0-9]*" in error.value.fix
    result = run_command("amodal-data", "evaluate", path, tmp_path / "both/[0-9]*", tmp_path / "both/our_*", "--json")
    assert result.returncode == 0, result.stderr
    figures = [
        method["amodal"]["subsets"]["all"]["all"]["AR100"] for method in json.loads(result.stdout)["methods"].values()
    ]
    write_masks(tmp_path / "plain", masks)
    assert figures[0] == evaluate(path, tmp_path / "plain").to_dict()["subsets"]["all"]["all"]["AR100"] > figures[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [("best_{}.jpg", "states no rank"), ("0_{}.png", "two masks of rank 0"), ("{}.jpg", "no masks of predictions")],
)
def test_other_pictures_are_refused(truth, tmp_path, name, message):
    path, masks = truth
    image = next(iter(masks))
    if "no masks" not in message:
        write_masks(tmp_path / "SLN", {image: [masks[image][1]]})
    (tmp_path / "SLN" / image).mkdir(parents=True, exist_ok=True)
    Image.new("L", SIZE[::-1]).save(tmp_path / "SLN" / image / name.format(image))
    with pytest.raises(PredictionError, match=message):
        evaluate(path, tmp_path / "SLN")
