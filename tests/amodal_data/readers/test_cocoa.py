import json

import numpy as np
import pytest

from amodal_data import layer_scene, read_cocoa
from amodal_data.errors import AnnotationError, LayoutError, SelectionError
from amodal_data.layering.targets import layer_with_findings
from amodal_data.masks.rle import RLE
from amodal_data.scenes.occlusion_order import parse_depth_constraint, ranks_from_order

SIZE = (20, 30)


def polygon(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def region(order=1, box=(2, 2, 12, 12), **fields):
    return {"segmentation": polygon(*box), "order": order, "name": " cup ", "isStuff": 0, **fields}


def annotation(*regions, **fields):
    return {"id": 5, "image_id": 3, "author": "ann", "regions": list(regions), **fields}


def write(folder, *annotations, images=None):
    images = images or [{"id": 3, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}]
    path = folder / "f.json"
    path.write_text(json.dumps({"images": images, "annotations": list(annotations)}))
    return path


def codes(findings):
    return [finding.code for finding in findings]


def read_scene(folder, *regions, **fields):
    scenes = read_cocoa(write(folder, annotation(*regions, **fields)))
    return scenes[0], codes(scenes.findings)


def test_real_masks_areas_and_rates_are_reproduced_bit_for_bit(real):
    from amodal_data.layering.consistency import occlusion_rates
    from amodal_data.masks.rle import parse_rle

    pixels = {}
    masks = 0
    for scene in read_cocoa(real):
        targets, findings = layer_with_findings(scene)
        assert not findings
        areas, visible = targets.areas()
        rates = occlusion_rates(areas, visible)
        for n, instance in enumerate(scene.instances):
            stored = instance.declared
            assert stored.area == areas[n]
            assert stored.occlusion_rate == rates[n]
            for raw, mask_of in ((stored.visible, targets.modal_rle), (stored.hidden, targets.hidden_rle)):
                if raw is not None:
                    assert parse_rle(raw, scene.size) == mask_of(n)
                    masks += 1
        pixels[scene.image_id] = targets.level_pixels().tolist()
    assert masks == 30
    assert pixels == {188819: [162858, 30354], 6608: [115572, 27063, 3239], 200752: [184804, 53165, 876]}


def test_a_plain_file(tmp_path):
    scene, reported = read_scene(
        tmp_path, region(1), region(4, (5, 5, 20, 15), isStuff=1), depth_constraint="1-4", size=2
    )
    assert reported == []
    assert (scene.image_id, scene.file_name, scene.size, scene.annotator) == (3, "a.jpg", SIZE, "ann")
    assert [i.name for i in scene.instances] == ["cup", "cup"]
    assert [i.is_stuff for i in scene.instances] == [False, True]
    assert [i.order for i in scene.instances] == [1, 4]
    assert scene.in_front.tolist() == [[False, True], [False, False]]
    assert layer_scene(scene).level_pixels().tolist() == [100 + 150 - 49, 49]


@pytest.mark.parametrize(
    ("regions", "fields", "expected"),
    [
        ([region(None)], {}, ["order-missing"]),
        ([region("2")], {}, ["order-not-int"]),
        ([region(True)], {}, ["order-not-int"]),
        ([region(10**12)], {}, ["order-not-int"]),
        ([region(2), region(2, (4, 4, 9, 9))], {}, ["order-tied"]),
        ([region(2), region(1, (4, 4, 9, 9))], {}, ["order-unsorted"]),
        ([region(1)], {"size": 9}, ["size-differs"]),
        ([region(1)], {"depth_constraint": "1-2,"}, ["depth-constraint-malformed"]),
        ([region(1)], {"depth_constraint": 5}, ["depth-constraint-malformed"]),
        (
            [region(1), region(2, (4, 4, 9, 9))],
            {"depth_constraint": "2-1"},
            ["depth-constraint-against-order"],
        ),
        ([region(1)], {"depth_constraint": "1-9"}, ["depth-constraint-against-order"]),
        ([region(1)], {"depth_constraint": ""}, []),
        ([region(1), region(2)], {}, ["region-duplicate"]),
        ([region(1), "text"], {}, ["region-malformed"]),
        ([region(1), {"order": 2}], {}, ["segmentation-missing"]),
        ([region(1), region(2, segmentation=[])], {}, ["segmentation-missing"]),
        ([region(1), region(2, segmentation=[[1, 2, 3, 4, 5, 6], ["x"] * 6])], {}, ["segmentation-missing"]),
        ([region(1), region(2, segmentation=[1, 1, float("nan"), 5, 5, 5])], {}, ["polygon-not-finite"]),
        ([region(1), region(2, segmentation=[1, 1, 10**400, 5, 5, 5])], {}, ["segmentation-missing"]),
        ([region(1), region(2, segmentation=[1, 1, 5, 5])], {}, ["polygon-too-short"]),
        ([region(1), region(2, segmentation=[*polygon(1, 1, 4, 4), 9])], {}, ["polygon-odd-length"]),
        ([region(1), region(2, (1, 1, 40, 5))], {}, ["polygon-outside"]),
        ([region(1), region(2, (1, 1, 1e9, 5))], {}, ["polygon-far-outside", "polygon-outside"]),
        ([region(1), region(2, (5, 5, 5, 9))], {}, ["polygon-self-intersecting", "region-empty"]),
        ([region(1), region(2, segmentation=[1, 1, 9, 9, 9, 1, 1, 9])], {}, ["polygon-self-intersecting"]),
        ([region(1), region(2, segmentation={"size": [20, 30], "counts": [1]})], {}, ["rle-malformed"]),
        ([region(1), region(2, segmentation={"size": [30, 20], "counts": [600]})], {}, ["rle-wrong-size"]),
    ],
)
def test_problems_of_a_region_are_reported(tmp_path, regions, fields, expected):
    scene, reported = read_scene(tmp_path, *regions, **fields)
    assert reported == expected
    left_out = {"region-malformed", "segmentation-missing", "polygon-not-finite", "polygon-too-short"}
    left_out |= {"rle-malformed", "rle-wrong-size"}
    assert len(scene.instances) == len(regions) - bool(left_out & set(expected))
    finding = read_cocoa(tmp_path / "f.json").findings[0] if expected else None
    if finding:
        assert finding.place.file == "f.json"
        assert finding.place.image_id == 3
        assert finding.message and finding.action
    layer_scene(scene)


def test_skipped_regions_keep_the_indices_of_the_others(tmp_path):
    scene, _ = read_scene(tmp_path, region(1), "text", region(3, (4, 4, 9, 9)))
    assert [i.region_index for i in scene.instances] == [0, 2]


def test_all_forms_of_a_mask_give_the_same_instance(tmp_path):
    mask = RLE.from_mask(np.pad(np.ones((10, 10)), [(2, 8), (2, 18)]))
    plain = {"size": [20, 30], "counts": mask.runs.tolist()}
    halves = [polygon(2, 2, 7, 12), polygon(7, 2, 12, 12)]
    forms = [polygon(2, 2, 12, 12), [polygon(2, 2, 12, 12)], halves, mask.to_coco(), plain]
    scene, _ = read_scene(tmp_path, *[region(n, segmentation=form) for n, form in enumerate(forms)])
    assert all(instance.amodal == mask for instance in scene.instances)
    assert len(scene.instances) == 5


def test_order_is_a_rank_with_gaps_and_ties():
    assert ranks_from_order([3, 1, None, 3, -2]).tolist() == [2, 1, 4, 3, 0]
    assert parse_depth_constraint("1-2,10-3") == [(1, 2), (10, 3)]
    for bad in ("1", "1-", "1-2;3-4", " 1-2", "1-2,", "a-b", "1--2", "1-99999999999"):
        assert parse_depth_constraint(bad) is None


def stored(scene_masks, n, **changes):
    visible = scene_masks[n] & ~scene_masks[:n].any(axis=0)
    hidden = scene_masks[n] & ~visible
    area = int(scene_masks[n].sum())
    return {
        "visible_mask": RLE.from_mask(visible).to_coco(),
        "invisible_mask": RLE.from_mask(hidden).to_coco(),
        "area": area,
        "occlude_rate": hidden.sum() / (area + 1e-6),
        **changes,
    }


def overlapping_pair(tmp_path, **changes):
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 2:12, 2:12] = masks[1, 5:15, 5:20] = True
    path = write(tmp_path, annotation(region(1), region(2, (5, 5, 20, 15), **stored(masks, 1, **changes))))
    return layer_with_findings(read_cocoa(path)[0])


def test_equal_stored_masks_are_not_reported(tmp_path):
    assert overlapping_pair(tmp_path)[1] == ()


def test_stored_masks_are_not_decoded_while_the_figures_agree(tmp_path):
    assert overlapping_pair(tmp_path, visible_mask={"size": "broken"})[1] == ()


def test_a_differing_stored_mask_is_used(tmp_path):
    visible = np.zeros(SIZE, bool)
    visible[5:15, 5:10] = True
    hidden = np.zeros(SIZE, bool)
    hidden[5:15, 10:20] = True
    targets, findings = overlapping_pair(
        tmp_path,
        visible_mask=RLE.from_mask(visible).to_coco(),
        invisible_mask=RLE.from_mask(hidden).to_coco(),
        occlude_rate=100 / 150,
    )
    assert codes(findings) == ["stored-mask-differs"]  # the rate is right for the mask that won
    assert f"{(visible ^ (targets.amodal(1) & ~targets.amodal(0))).sum()} px" in findings[0].message
    assert np.array_equal(targets.modal(1), visible)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"area": 152}, ["area-differs"]),
        ({"area": 151}, []),
        ({"occlude_rate": 0.4}, ["occlusion-rate-differs"]),
        ({"occlude_rate": None}, []),
        ({"occlude_rate": 0.4, "visible_mask": 7}, ["occlusion-rate-differs", "stored-mask-malformed"]),
        ({"occlude_rate": None, "visible_mask": {"size": [2], "counts": "Q"}}, ["stored-mask-malformed"]),
        ({"occlude_rate": 0.4, "invisible_mask": RLE.from_mask(np.zeros(SIZE)).to_coco()},
         ["occlusion-rate-differs", "stored-masks-inconsistent"]),
    ],
)  # fmt: skip
def test_contradicting_figures_and_masks_are_reported(tmp_path, changes, expected):
    targets, findings = overlapping_pair(tmp_path, **changes)
    assert codes(findings) == expected
    assert all(finding.place.region == 1 for finding in findings)
    assert targets.areas()[0].tolist() == [100, 150]


def test_annotators_are_chosen_by_name(tmp_path):
    people = [annotation(region(1), author=name, id=n) for n, name in enumerate(["ann", "bob", "ann"])]
    path = write(tmp_path, *people)
    first = read_cocoa(path)
    assert [s.annotator for s in first] == ["ann"]
    assert codes(first.findings) == ["several-annotators"]
    assert [s.instances[0].annotation_id for s in read_cocoa(path, annotator="all")] == [0, 1, 2]
    assert [s.annotator for s in read_cocoa(path, annotator="bob")] == ["bob"]
    with pytest.raises(SelectionError, match="no annotations by 'eve'"):
        read_cocoa(path, annotator="eve")


def test_problems_of_the_lists_are_reported(tmp_path):
    images = [
        {"id": 3, "file_name": "a.jpg", "height": 20, "width": 30},
        {"id": 3, "file_name": "b.jpg", "height": 20, "width": 30},
        {"id": 4, "file_name": "c.jpg", "height": 20, "width": 30},
        {"id": 5, "file_name": "d.jpg"},
        {"id": "x"},
        7,
    ]
    annotations = [
        annotation(region(1)),
        {**annotation(region(1)), "image_id": 99},
        {**annotation(region(1)), "image_id": 5, "id": 6},
        {"image_id": 4},
        "text",
    ]
    scenes = read_cocoa(write(tmp_path, *annotations, images=images))
    assert [(s.image_id, len(s.instances)) for s in scenes] == [(3, 1), (4, 0)]
    expected = ["annotation-malformed"] * 4 + [
        "duplicate-id",
        "image-size-unknown",
        "image-unannotated",
        "image-unknown",
    ]
    assert sorted(codes(scenes.findings)) == expected


def test_repeated_annotation_ids_are_kept_and_reported(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 30} for n in (3, 4)]
    path = write(tmp_path, annotation(region(1)), {**annotation(region(1)), "image_id": 4}, images=images)
    assert len(read_cocoa(path)) == 2
    assert codes(read_cocoa(path).findings) == ["duplicate-id"]


def test_a_bare_annotation(tmp_path):
    hidden = RLE.from_mask(np.zeros(SIZE)).to_coco()
    bare = {"url": "http://x/y/COCO_val2014_000000000009.jpg", "regions": [region(1, invisible_mask=hidden)]}
    for content in (bare, [bare], {"annotations": [bare]}):
        (tmp_path / "bare.json").write_text(json.dumps(content))
        (scene,) = read_cocoa(tmp_path / "bare.json")
        assert (scene.file_name, scene.size) == ("COCO_val2014_000000000009.jpg", SIZE)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", AnnotationError, "not JSON"),
        (b'{"images": [', AnnotationError, "ends too early"),
        (b'{"images" 5}', AnnotationError, "line 1 column"),
        (b"[] and more", AnnotationError, "check the file at that position"),
        (b"\x89HDF\r\n", AnnotationError, "this is an HDF5 file"),
        (b'{"a": "\xff"}', AnnotationError, "UTF-8"),
        (b"[" * 100_000, AnnotationError, "not usable JSON|not JSON"),
        (b"5", LayoutError, "top level is a int"),
        (b"[]", LayoutError, "top level is a list"),
        (b'{"a": 1, "b": 2}', LayoutError, "keys: a, b"),
        (b'{"images": {}, "annotations": []}', LayoutError, "no lists"),
        (b'{"images": [], "annotations": [{"bbox": 1}]}', LayoutError, "keys seen: bbox"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, content, kind, message):
    path = tmp_path / "f.json"
    path.write_bytes(content)
    with pytest.raises(kind, match=message) as caught:
        read_cocoa(path)
    assert "f.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 4


def test_a_missing_file():
    with pytest.raises(AnnotationError, match="No such file"):
        read_cocoa("/nowhere/f.json")


def test_scenes_are_a_sequence(tmp_path):
    import pickle

    images = [{"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 30} for n in range(40)]
    path = write(tmp_path, *[{**annotation(region(1)), "image_id": n, "id": n} for n in range(40)], images=images)
    scenes = read_cocoa(path)
    assert [s.image_id for s in scenes] == list(range(40))
    assert [s.image_id for s in scenes[30:]] == list(range(30, 40))
    assert scenes[-1].image_id == 39
    assert scenes.first(3).settings == {"annotator": "first", "limit": "3"}
    assert scenes.file_names[2] == "2.jpg"
    copy = pickle.loads(pickle.dumps(scenes[5:7]))
    assert [s.image_id for s in copy] == [5, 6]
    assert "40 images from f.json" in repr(scenes)


def test_very_long_polygons_are_filled_and_reported(tmp_path):
    """They are not tested for self-intersection, which may take quadratic time."""
    polygon = (np.random.default_rng(0).random((21_000, 2)) * [30, 20]).round(1).ravel().tolist()
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}],
        "annotations": [{"id": 1, "image_id": 1, "regions": [{"segmentation": polygon, "order": 1}]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    (scene,) = read_cocoa(tmp_path / "a.json")
    assert [finding.code for finding in scene.findings] == ["polygon-very-long"] and scene.instances[
        0
    ].amodal.area > 100
