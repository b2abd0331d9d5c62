"""Pairs of InstaOrder: read as written, scored as a plain count scores them, and nothing left out in silence."""

import json

import numpy as np
import pytest
from support.commands import run_command
from support.scenes import random_masks
from support.tool_layouts import instaorder

import amodal_data as ad
from amodal_data.errors import AnnotationError, LayoutError, SelectionError
from amodal_data.readers.instaorder import read_instaorder

SIZE = (20, 30)


def test_orders_are_read_as_ids(tmp_path):
    rows = [(9, [70, 60, 50], ["0<1", " 2 < 1 ", "0<2 & 2<0"]), (8, [5, 6], []), (7, [5, 6], ["0<1", "1<0", "0<1"])]
    pairs = read_instaorder(instaorder(tmp_path / "a.json", rows))
    assert pairs.by_image == {9: [(70, 60), (50, 60)], 7: []} and (pairs.mutual, pairs.malformed) == (2, 0)


@pytest.mark.parametrize("order", ["", "0=1", "0<0", "0<3", "a<b", "0<1<2", "9999999999<0", None, 5])
def test_what_is_no_pair_is_counted(order, tmp_path):
    pairs = read_instaorder(instaorder(tmp_path / "a.json", [(9, [70, "x", 50], [order, "0<2"])]))
    assert pairs.by_image == {9: [(70, 50)]} and pairs.malformed == 1


def test_entries_of_other_kinds_are_counted_and_other_files_refused(tmp_path):
    path = instaorder(tmp_path / "a.json", [("9", [1, 2], ["0<1"]), (9, None, ["0<1"]), (9, [1, 2], ["0<1"])])
    content = json.loads(path.read_text())
    content["annotations"] += [None, {"image_id": 9, "instance_ids": [1], "occlusion": [None]}]
    path.write_text(json.dumps(content))
    assert (read_instaorder(path).by_image, read_instaorder(path).malformed) == ({9: [(1, 2)]}, 4)
    for text in ("[]", "{}", '{"annotations": [{"id": 1}]}', "{"):
        path.write_text(text)
        with pytest.raises(AnnotationError, match=r"InstaOrder|JSON"):
            read_instaorder(path)
    assert issubclass(LayoutError, AnnotationError)


@pytest.fixture
def scored(tmp_path):
    """COCO's visible masks, predictions for each of them by ``gt_id``, and a file of InstaOrder, of random scenes."""
    rng = np.random.default_rng(3)
    images, annotations, rows, results, right, total = [], [], [], [], 0, 0
    for image in range(1, 13):
        amodal = random_masks(rng, 4, SIZE, kinds=("box", "edge"))
        visible = np.array([mask & ~amodal[:n].any(axis=0) for n, mask in enumerate(amodal)])
        images.append({"id": image, "file_name": f"{image}.jpg", "height": SIZE[0], "width": SIZE[1]})
        ids = [100 * image + n for n in range(4)]
        for n, mask in zip(ids, visible, strict=True):
            rle = ad.RLE.from_mask(mask).to_coco()
            annotations.append({"id": n, "image_id": image, "category_id": 1, "segmentation": rle, "iscrowd": 0})
        shown = [n for n in range(4) if visible[n].any()]
        for n in shown:
            masks = {"segmentation": amodal[n], "visible_mask": visible[n]}
            coded = {key: ad.RLE.from_mask(mask).to_coco() for key, mask in masks.items()}
            results.append({"image_id": image, "category_id": 1, "score": 1.0, "gt_id": ids[n], **coded})
        pairs = [(i, j) for i in shown for j in shown if i < j and (amodal[i] & amodal[j]).any()]
        told = [pair if rng.random() < 0.7 else pair[::-1] for pair in pairs]
        rows.append((image, ids, [f"{i}<{j}" for i, j in told]))
        total += len(told)
        right += sum(int((visible[i] & amodal[j]).sum()) > int((visible[j] & amodal[i]).sum()) for i, j in told)
    categories = [{"id": 1, "name": "thing"}]
    (tmp_path / "coco.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path / "coco.json", tmp_path / "results.json", rows, right, total


def test_scores_are_those_of_a_plain_count(scored, tmp_path):
    coco, results, rows, right, total = scored
    path = instaorder(tmp_path / "insta.json", rows)
    report = ad.evaluate(coco, results, "order", masks="modal", pairs=path)
    vote = report.figures["methods"]["modal_vote"]
    assert 10 < total == vote["pairs"] and 0.3 < right / total < 1
    assert vote["accuracy"] == pytest.approx(right / total)
    assert report.settings["pairs"].startswith("insta.json (sha256 ") and not report.warnings
    cache = ad.build_targets(ad.read_annotations(coco, masks="modal"), tmp_path / "c.h5").path
    again = ad.evaluate_all(cache, results, ["order"], pairs=read_instaorder(path), intervals=5)
    assert again.reports["order"].figures == report.figures


def test_pairs_that_are_left_out_are_in_a_warning(scored, tmp_path):
    coco, results, rows, _, total = scored
    more = [(1, [100, 101], ["0<1 & 1<0"]), (1, [100, 999], ["0<1", "1<0<"]), (77, [1, 2], ["0<1"])]
    path = instaorder(tmp_path / "insta.json", [*rows[1:], *more])
    left = len(rows[0][2])
    ran = run_command("amodal-data", "evaluate", coco, results, "--masks", "modal", "-p", "order", "--pairs", path)
    assert ran.returncode == 0, ran.stderr
    expected = (
        "insta.json that are left out: 1 where each object hides a part of the other, 1 that cannot be read, 2 of "
    )
    assert expected + "objects that the ground truth lacks" in ran.stdout
    assert str(total - left) in ran.stdout


def test_errors_say_what_to_do(scored, tmp_path):
    coco, results, *_ = scored
    with pytest.raises(SelectionError, match="no pair of a"):
        ad.evaluate(
            coco, results, "order", masks="modal", pairs=instaorder(tmp_path / "a.json", [(1, [7, 8], ["0<1"])])
        )
    with pytest.raises(SelectionError, match="need protocol 'order'"):
        ad.evaluate(coco, results, masks="modal", pairs=str(tmp_path / "a.json"))
    ran = run_command("amodal-data", "evaluate", coco, results, "-p", "order", "--pairs", "overlaps")
    assert ran.returncode == 2 and "overlap, bordering, constraint" in ran.stderr
