import json

import numpy as np
import pytest
from support.oracle import levels
from support.scenes import make_scene, partial_order, random_masks

from amodal_data import (
    RLE,
    build_targets,
    instance_order,
    layer_scene,
    read_annotations,
    read_cocoa,
    read_cocoa_cls,
    read_d2sa,
    read_kins,
    read_sln_release,
    regional_order,
    relative_depth,
    verify_cache,
    write_cocoa,
    write_flat,
)
from amodal_data.errors import AnnotationError, LayoutError, SceneError, SelectionError
from amodal_data.export.coco import export_coco
from amodal_data.inspector.target_dataset import TargetDataset
from amodal_data.layering.targets import layer_with_findings
from amodal_data.scenes.occlusion_order import resolve_order


def codes(findings):
    return [finding.code for finding in findings]


def evidence_of(amodal, visible):
    hidden = amodal & ~visible
    return np.array([[int((v & h).sum()) for h in hidden] for v in visible]).reshape(len(amodal), -1)


def overlap_of(amodal):
    return np.array([[bool((a & b).any()) for b in amodal] for a in amodal]).reshape(len(amodal), -1)


@pytest.mark.parametrize("n", [1, 2, 4, 7, 20])
def test_levels_equal_the_definition_of_the_derived_order(n):
    rng = np.random.default_rng(n)
    for _ in range(60 if n < 10 else 8):
        amodal = random_masks(rng, n, kinds=("box", "speckle", "edge", "empty"))
        visible = amodal & random_masks(rng, n)
        hint = partial_order(rng, n)
        same = [
            [
                i != j and np.array_equal(amodal[i], amodal[j]) and np.array_equal(visible[i], visible[j])
                for i in range(n)
            ]
            for j in range(n)
        ]
        if np.any(same):
            continue
        order = resolve_order(evidence_of(amodal, visible), overlap_of(amodal), hint).in_front
        targets = layer_scene(make_scene(amodal, visible=visible, in_front=hint, total_order=False))
        assert np.array_equal(targets.levels, levels(amodal, visible, order))
        hidden = amodal & ~visible
        evidence = evidence_of(amodal, visible)
        doubtful = np.zeros(amodal.shape[1:], bool)
        for i in range(n):
            for j in range(i):
                unknown = not (order[i, j] or order[j, i]) or (evidence[i, j] and evidence[j, i])
                doubtful |= hidden[i] & hidden[j] & bool(unknown)
        assert np.array_equal(targets.map_values(targets.ambiguous), doubtful)
        assert targets.ambiguous_pixels() == doubtful.sum()


def test_duplicate_instances_count_once():
    amodal = np.array([[[1, 1, 1]], [[1, 1, 0]], [[1, 1, 0]], [[1, 0, 0]]], bool)
    visible = np.array([[[0, 0, 1]], [[0, 1, 0]], [[0, 1, 0]], [[1, 0, 0]]], bool)
    hint = np.zeros((4, 4), bool)
    hint[1, 2] = True  # even if a file orders two duplicates, they count as one
    targets = layer_scene(make_scene(amodal, visible=visible, in_front=hint, total_order=False))
    assert targets.levels[:, 0].tolist() == [[3, 2, 1], [2, 1, 0], [2, 1, 0], [1, 0, 0]]
    assert targets.count_map().tolist() == [[3, 2, 1]]
    assert [1, 2] not in targets.pairs.tolist() and [2, 1] not in targets.pairs.tolist()


def test_a_rider_in_front_of_and_behind_the_horse():
    """The paper's Fig. 3: one leg hides the horse, the horse hides the other leg."""
    horse, rider = np.zeros((2, 6, 12), bool)
    horse[1:5, 1:11] = True
    rider[0:6, 2:5] = True  # the near leg, in front: 12 pixels of the horse
    rider[2:6, 8:9] = True  # the far leg, behind: 3 pixels hidden
    amodal = np.stack([horse, rider])
    near = np.zeros_like(rider)
    near[:, :7] = True
    visible = np.stack([horse & ~(rider & near), rider & ~(horse & ~near)])
    targets = layer_scene(make_scene(amodal, visible=visible, in_front=np.zeros((2, 2), bool), total_order=False))
    assert (targets.levels[0][rider & near & horse] == 2).all()
    assert (targets.levels[1][rider & ~near & horse] == 2).all()
    assert (targets.levels[1][rider & near] == 1).all()
    sure = targets.amodal() * 0.9
    code = targets.levels.astype(int)
    r = relative_depth((sure[1], code[1] - 1), (sure[0], code[0] - 1))
    assert set(np.unique(r)) == {-1, 0, 1}
    assert sorted(regional_order(r).signs.tolist()) == [-1, 1]
    assert instance_order(r) == 1  # the larger region: rider in front
    assert targets.pairs.tolist() == [[1, 0]]
    assert targets.ambiguous_pixels() == 0


def both_ways(tmp_path, seed, keep):
    """Level tables of COCOA scenes from their order, and from a flat file with the given fields kept."""
    path = write_cocoa(tmp_path / "cocoa", 25, seed=seed, size=(120, 160), photos=False)
    scenes = read_cocoa(path)
    flat = export_coco(TargetDataset(scenes))
    for annotation in flat["annotations"]:
        for key in {"occl_depth", "amodal_region"} - keep:
            del annotation[key]
    (tmp_path / "flat.json").write_text(json.dumps(flat))
    for scene, other in zip(scenes, read_d2sa(tmp_path / "flat.json"), strict=True):
        yield layer_scene(scene), layer_with_findings(other)


def test_depth_gives_the_same_levels_as_order(tmp_path):
    for targets, (from_depth, findings) in both_ways(tmp_path, 1, {"occl_depth"}):
        assert np.array_equal(targets.levels, from_depth.levels)
        assert np.array_equal(targets.pairs, from_depth.pairs)
        assert findings == ()
        assert from_depth.ambiguous_pixels() == 0


def test_levels_from_masks_are_exact_except_where_ambiguous(tmp_path):
    pixels = 0
    for targets, (from_masks, findings) in both_ways(tmp_path, 2, set()):
        ambiguous = from_masks.map_values(from_masks.ambiguous)
        assert np.array_equal(targets.levels[:, ~ambiguous], from_masks.levels[:, ~ambiguous])
        assert (from_masks.levels <= targets.levels).all()
        assert findings == ()
        pixels += from_masks.ambiguous_pixels()
    assert pixels > 0


@pytest.mark.parametrize(
    ("layout", "reader"), [("d2sa", read_d2sa), ("cocoa-cls", read_cocoa_cls), ("kins", read_kins)]
)
def test_generated_files_of_each_layout_run_end_to_end(tmp_path, layout, reader):
    path = write_flat(tmp_path, 8, layout, seed=3, size=(120, 160), photos=False)
    scenes = reader(path)
    assert scenes.findings == ()
    assert scenes.dataset == layout
    assert [len(s.instances) for s in read_annotations(path)] == [len(s.instances) for s in scenes]
    for scene in scenes:
        amodal = np.array([i.amodal.decode() for i in scene.instances])
        visible = np.array([i.visible.decode() for i in scene.instances])
        order = resolve_order(evidence_of(amodal, visible), overlap_of(amodal), scene.in_front)
        targets, findings = layer_with_findings(scene)
        assert findings == ()
        assert np.array_equal(targets.levels, levels(amodal, visible, order.in_front))
    build_targets(scenes, tmp_path / "c.h5")
    report = verify_cache(tmp_path / "c.h5", scenes)
    assert report.ok, report.differences
    assert report.stored >= sum(len(s.instances) for s in scenes)


def test_padded_frames_hide_parts_behind_an_unknown_occluder(tmp_path):
    scenes = read_d2sa(write_flat(tmp_path, 6, "d2sa", seed=3, size=(160, 160), photos=False))
    beyond = 0
    for scene in scenes[1::2]:
        codes_ = layer_scene(scene).levels
        padding = np.ones(scene.size, bool)
        padding[10:150] = False
        assert (codes_[:, padding] != 1).all()
        beyond += int((codes_[:, padding] > 1).sum())
    assert beyond > 0


def test_cocoa_cls_takes_the_order_of_cocoa(tmp_path):
    cocoa = read_cocoa(write_cocoa(tmp_path, 25, seed=2, size=(120, 160), photos=False))
    flat = export_coco(TargetDataset(cocoa))
    for annotation in flat["annotations"]:
        del annotation["occl_depth"], annotation["amodal_region"]
    path = tmp_path / "COCO_amodal_val2014_with_classes.json"
    path.write_text(json.dumps(flat))
    unordered, ordered = read_cocoa_cls(path), read_cocoa_cls(path, cocoa=cocoa)
    assert sum(layer_scene(s).ambiguous_pixels() for s in unordered) > 0
    for scene, other in zip(cocoa, ordered, strict=True):
        assert np.array_equal(layer_scene(scene).levels, layer_scene(other).levels)
    assert len(ordered.sources) == 2
    assert read_annotations(path).dataset == "cocoa-cls"


MASKS = {
    "whole": RLE.from_mask(np.pad(np.ones((4, 6)), 2)).to_coco(),
    "left": RLE.from_mask(np.pad(np.ones((4, 3)), [(2, 2), (2, 5)])).to_coco(),
    "right": RLE.from_mask(np.pad(np.ones((4, 3)), [(2, 2), (5, 2)])).to_coco(),
    "beside": RLE.from_mask(np.pad(np.ones((4, 3)), [(2, 2), (0, 7)])).to_coco(),
}


def flat_file(folder, *annotations, **top):
    images = [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 10}]
    listed = [{"id": n, "image_id": 1, "category_id": 2, **a} for n, a in enumerate(annotations)]
    path = folder / "D2S_amodal_validation.json"
    path.write_text(json.dumps({"images": images, "annotations": listed, **top}))
    return path


def good(**fields):
    return {"segmentation": MASKS["whole"], "visible_mask": MASKS["left"], "invisible_mask": MASKS["right"],
            "area": 24, "occlude_rate": 12 / (24 + 1e-6), **fields}  # fmt: skip


@pytest.mark.parametrize(
    ("annotations", "expected", "kept"),
    [
        ([good()], [], 1),
        ([good(), good()], ["instance-duplicate"], 2),
        ([good(visible_mask={"size": [10, 8], "counts": [80]})], ["rle-wrong-size"], 0),
        ([good(visible_mask={"size": [8, 10], "counts": "QQ"})], ["rle-malformed"], 0),
        ([good(segmentation={"size": [8, 10], "counts": [1]})], ["rle-malformed"], 0),
        ([good(visible_mask=None)], ["visible-missing"], 1),
        ([{"segmentation": MASKS["whole"]}, good()], ["visible-missing"], 2),
        ([good(visible_mask=5)], ["segmentation-missing"], 0),
        ([good(visible_mask=[], invisible_mask=MASKS["whole"], occlude_rate=24 / (24 + 1e-6))], [], 1),
        ([good(visible_mask=MASKS["beside"])], ["visible-outside-amodal", "occlusion-rate-differs",
                                               "stored-masks-inconsistent"], 1),
        ([good(area=30)], ["area-differs"], 1),
        ([good(bbox=[2, 2, 6, 4])], [], 1),
        ([good(bbox=[2.5, 2, 6, 3.5])], [], 1),
        ([good(bbox=[2, 2, 6, 6])], ["box-differs"], 1),
        ([good(bbox=[2, 2, 6, None])], [], 1),
        ([good(occlude_rate=0.1)], ["occlusion-rate-differs"], 1),
        ([good(occlude_rate=None)], [], 1),
        ([good(occlude_rate=None, invisible_mask=MASKS["whole"])], ["stored-masks-inconsistent"], 1),
        ([good(occlude_rate=None, invisible_mask=7)], ["stored-mask-malformed"], 1),
        ([good(), {**good(visible_mask=MASKS["right"]), "invisible_mask": MASKS["left"]}], [], 2),
    ],
)  # fmt: skip
def test_problems_of_a_flat_annotation_are_reported(tmp_path, annotations, expected, kept):
    (scene,) = read_d2sa(flat_file(tmp_path, *annotations))
    targets, findings = layer_with_findings(scene)
    assert codes([*scene.findings, *findings]) == expected
    assert len(scene.instances) == kept == len(targets.names)
    for finding in [*scene.findings, *findings]:
        assert finding.place.file == "D2S_amodal_validation.json" and finding.place.image_id == 1


def test_contradicting_fields_are_reported(tmp_path):
    mutual = [
        good(visible_mask=MASKS["left"]),
        {"segmentation": MASKS["right"], "visible_mask": MASKS["right"]},
    ]
    deep = [
        {**a, "occl_depth": d, "amodal_region": {"order": o}} for a, d, o in zip(mutual, (0, 1), (1, 2), strict=True)
    ]
    (scene,) = read_d2sa(flat_file(tmp_path, *deep))
    assert codes(layer_with_findings(scene)[1]) == ["order-against-masks"]
    deep[0]["amodal_region"]["order"] = 3
    (scene,) = read_d2sa(flat_file(tmp_path, *deep))
    assert codes(scene.findings) == ["order-inconsistent"]


def test_a_cycle_of_occlusion_is_reported():
    """0 hides 5 px of 1, 1 hides 4 px of 2, 2 hides 3 px of 0."""
    amodal, visible = np.zeros((3, 1, 40), bool), np.zeros((3, 1, 40), bool)
    for n, (pixels, front, back) in enumerate([(5, 0, 1), (4, 1, 2), (3, 2, 0)]):
        amodal[[front, back], 0, 10 * n : 10 * n + pixels] = True
        visible[front, 0, 10 * n : 10 * n + pixels] = True
    scene = make_scene(amodal, visible=visible, in_front=np.zeros((3, 3), bool), total_order=False)
    targets, findings = layer_with_findings(scene)
    assert codes(findings) == ["order-cycle"]
    assert "2 in front of 0" in findings[0].message
    assert targets.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_without_a_total_order_visible_masks_are_needed():
    with pytest.raises(SceneError, match="every instance needs a visible mask"):
        make_scene(np.ones((1, 2, 2), bool), total_order=False)


def test_categories_and_kind(tmp_path):
    region = {"isStuff": 1, "order": 4}
    path = flat_file(tmp_path, good(amodal_region=region), categories=[{"id": 2, "name": "bottle"}, 7])
    instance = read_d2sa(path)[0].instances[0]
    assert (instance.name, instance.category_id, instance.is_stuff, instance.order) == ("bottle", 2, True, 4)


@pytest.mark.parametrize(
    ("keys", "dataset"),
    [
        (("segmentation", "visible_mask"), "d2sa"),
        (("segmentation", "inmodal_seg"), "kins"),
        (("a_segm", "i_segm"), "kins"),
        (("amodal_segm", "visible_segm"), "aistron"),
    ],
)
def test_every_flat_layout_is_recognized(tmp_path, keys, dataset):
    path = flat_file(tmp_path, {"id": 9}, {keys[0]: MASKS["whole"], keys[1]: MASKS["left"]})
    scenes = read_annotations(path)
    assert scenes.dataset == dataset
    assert layer_scene(scenes[0]).areas()[1].tolist() == [12]


def test_unknown_layouts_are_refused_with_their_keys(tmp_path):
    with pytest.raises(LayoutError, match="keys seen: bbox, category_id, id, image_id"):
        read_annotations(flat_file(tmp_path, {"bbox": 1}))
    with pytest.raises(LayoutError, match="this is the layout of kins"):
        read_d2sa(flat_file(tmp_path, {"inmodal_seg": 1}))
    with pytest.raises(LayoutError, match="not kins"):
        read_kins(flat_file(tmp_path, good()))
    with pytest.raises(LayoutError, match="not COCOA"):
        read_cocoa(flat_file(tmp_path, good()))
    with pytest.raises(SelectionError, match="no annotation file"):
        read_annotations([])
    info = tmp_path / "D2S_amodal_test_info.json"
    info.write_text('{"images": [{"id": 1, "file_name": "a", "height": 8, "width": 10}]}')
    assert [len(scene.instances) for scene in read_annotations(info)] == [0]
    assert codes(read_annotations(info).findings) == ["image-unannotated"]


def test_colliding_image_ids_are_shifted(tmp_path):
    first = write_flat(tmp_path / "a", 3, "d2sa", seed=1, size=(64, 64), photos=False)
    second = write_flat(tmp_path / "b", 3, "d2sa", seed=2, size=(64, 64), photos=False)
    scenes = read_annotations([first, second])
    assert [s.image_id for s in scenes] == [1, 2, 3, 4, 5, 6]
    assert codes(scenes.findings) == ["ids-shifted"]
    assert [len(s.instances) for s in scenes[3:]] == [len(s.instances) for s in read_d2sa(second)]
    assert len(scenes.sources) == 2
    with pytest.raises(SelectionError, match="different layouts"):
        read_annotations([first, write_cocoa(tmp_path / "c", 1, size=(64, 64), photos=False)])


def test_target_files_of_the_sln_release(tmp_path):
    rng = np.random.default_rng(0)
    amodal = random_masks(rng, 5, (20, 30), ("box",))
    visible = amodal & random_masks(rng, 5, (20, 30), ("speckle",))
    layer = np.zeros((20, 30), np.uint64)
    for n in range(5):
        layer |= visible[n].astype(np.uint64) << np.uint64(n)
        layer |= (amodal[n] & ~visible[n]).astype(np.uint64) << np.uint64(32 + n)
    np.savez(tmp_path / "COCO_train2014_000000000009.npz", layer=layer)
    (scene,) = read_annotations(tmp_path)
    assert scene.file_name == "COCO_train2014_000000000009"
    targets = layer_scene(scene)
    assert np.array_equal(targets.amodal(), amodal)
    assert np.array_equal(targets.modal(), visible)
    (tmp_path / "broken.npz").write_bytes(b"text")
    with pytest.raises(LayoutError, match="SLN release"):
        read_sln_release(tmp_path / "broken.npz")[0]
    np.savez(tmp_path / "other.npz", layer=np.zeros(3))
    with pytest.raises(LayoutError, match="not uint64"):
        read_sln_release(tmp_path / "other.npz")[0]
    with pytest.raises(AnnotationError, match=r"no \.npz"):
        read_sln_release(tmp_path / "nothing.npz")
