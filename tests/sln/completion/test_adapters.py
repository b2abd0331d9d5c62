"""Prompts of what other libraries return: by shape of the object, and of the libraries themselves where installed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from amodal_data import RLE
from amodal_data.errors import PredictionError
from sln.completion.adapters import from_detections
from sln.completion.visible_prompts import Prompts

SIZE = (30, 40)
MASKS = np.zeros((2, *SIZE), bool)
MASKS[0, 5:20, 5:20] = MASKS[1, 10:25, 20:35] = True
BOXES = np.array([[5, 5, 20, 20], [20, 10, 35, 25]], np.float32)
SCORES = np.array([0.9, 0.75], np.float32)
SQUARES = [np.array([[5, 5], [20, 5], [20, 20], [5, 20]]), np.array([[20, 10], [35, 10], [35, 25], [20, 25]])]


class Instances:
    """As detectron2's."""

    def __init__(self, **fields):
        self.image_size = SIZE
        self.__dict__.update(fields)

    def has(self, name):
        return name in self.__dict__

    def get_fields(self):
        return self.__dict__


def supervision(mask=MASKS, data=None):
    return SimpleNamespace(xyxy=BOXES, mask=mask, confidence=SCORES, class_id=np.array([3, 5]), data=data or {})


def ultralytics(data):
    boxes = SimpleNamespace(xyxy=torch.tensor(BOXES), conf=torch.tensor(SCORES), cls=torch.tensor([3.0, 5]))
    masks = None if data is None else SimpleNamespace(data=data, xy=SQUARES)
    return SimpleNamespace(boxes=boxes, masks=masks, names={3: "cup", 5: "bowl"}, orig_shape=SIZE)


TENSORS = {"scores": torch.tensor(SCORES), "pred_classes": torch.tensor([3, 5])}
LABELS = torch.from_numpy(MASKS[0] * 1 + MASKS[1] * 2)
KINDS = {
    "supervision": supervision(data={"class_name": np.array(["cup", "bowl"])}),
    "ultralytics": ultralytics(torch.from_numpy(MASKS).float()),
    "ultralytics at another size": ultralytics(torch.zeros(2, 16, 20)),
    "detectron2": {"instances": Instances(pred_masks=torch.from_numpy(MASKS), **TENSORS)},
    "transformers": {"segmentation": LABELS, "segments_info": [
        {"id": 1, "label_id": 3, "score": 0.9}, {"id": 2, "label_id": 5, "score": 0.75}]},
    "torchvision": {"masks": torch.from_numpy(MASKS)[:, None].float(), "boxes": torch.tensor(BOXES),
                    "scores": torch.tensor(SCORES), "labels": torch.tensor([3, 5])},
    "SAM": [{"segmentation": mask, "predicted_iou": score, "bbox": [0, 0, 1, 1], "category_id": number}
            for mask, score, number in zip(MASKS, SCORES, (3, 5), strict=True)],
    "rows of COCO": [{"segmentation": RLE.from_mask(mask).to_coco(), "score": score, "category_id": number}
                     for mask, score, number in zip(MASKS, SCORES, (3, 5), strict=True)],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_masks_scores_and_classes_are_kept(kind):
    prompts = from_detections(KINDS[kind])
    assert prompts.size == SIZE and [mask.decode().tolist() for mask in prompts.masks] == MASKS.tolist()
    assert np.allclose(prompts.boxes, BOXES) and np.allclose(prompts.scores, SCORES)
    assert [category.id for category in prompts.categories] == [3, 5]
    if kind.startswith(("supervision", "ultralytics")):
        assert [category.name for category in prompts.categories] == ["cup", "bowl"]


def test_arrays_and_prompts():
    prompts = Prompts.of_masks(MASKS)
    assert from_detections(prompts) is prompts
    for array in (MASKS, torch.from_numpy(MASKS), MASKS.astype(np.float32), LABELS.numpy()):
        assert from_detections(array, SIZE).masks == prompts.masks


def test_detections_without_masks_are_boxes():
    for detections in (supervision(mask=None), ultralytics(None), {"boxes": torch.tensor(BOXES)}):
        prompts = from_detections(detections, SIZE)
        assert prompts.masks == (None, None) and np.allclose(prompts.boxes, BOXES)
    with pytest.raises(PredictionError, match="size is not known"):
        from_detections(supervision(mask=None))


@pytest.mark.parametrize(
    ("detections", "message"),
    [("text", "cannot take prompts of str"), (supervision(mask=MASKS[:, :10]), "the image is"),
     ({"masks": None, "boxes": None}, "without masks"), ([{"segmentation": {"size": [3, 3], "counts": [99]}}], "read")],
)  # fmt: skip
def test_what_is_no_detection_is_refused(detections, message):
    with pytest.raises(PredictionError, match=message):
        from_detections(detections, SIZE)


def test_detections_of_supervision():
    library = pytest.importorskip("supervision")
    detections = library.Detections(xyxy=BOXES, mask=MASKS, confidence=SCORES, class_id=np.array([3, 5]))
    prompts = from_detections(detections)
    assert prompts.masks == Prompts.of_masks(MASKS).masks and np.allclose(prompts.scores, SCORES)
    assert from_detections(library.Detections(xyxy=BOXES), SIZE).masks == (None, None)
    assert len(from_detections(library.Detections.empty(), SIZE)) == 0


def test_results_of_ultralytics():
    results = pytest.importorskip("ultralytics.engine.results")
    rows = torch.cat([torch.tensor(BOXES), torch.tensor(SCORES)[:, None], torch.tensor([[3.0], [5]])], 1)
    result = results.Results(np.zeros((*SIZE, 3), np.uint8), "a.jpg", {3: "cup", 5: "bowl"}, boxes=rows,
                             masks=torch.from_numpy(MASKS).float())  # fmt: skip
    prompts = from_detections(result)
    assert prompts.masks == Prompts.of_masks(MASKS).masks
    assert [category.name for category in prompts.categories] == ["cup", "bowl"]


def test_segmentation_of_transformers():
    pytest.importorskip("transformers")
    from transformers.models.mask2former.image_processing_mask2former import Mask2FormerImageProcessor

    outputs = SimpleNamespace(class_queries_logits=torch.full((1, 2, 7), -9.0),
                              masks_queries_logits=torch.from_numpy(MASKS)[None].float() * 20 - 10)  # fmt: skip
    outputs.class_queries_logits[0, 0, 3] = outputs.class_queries_logits[0, 1, 5] = 9
    processor = Mask2FormerImageProcessor()
    (result,) = processor.post_process_instance_segmentation(outputs, target_sizes=[SIZE])
    prompts = from_detections(result)
    assert sorted(category.id for category in prompts.categories) == [3, 5] and prompts.size == SIZE
