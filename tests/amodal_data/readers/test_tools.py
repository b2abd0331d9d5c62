"""Files of annotation tools: the same scenes in every layout give the same levels."""

import json

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT, run_command
from support.oracle import are_twins
from support.scenes import make_scene, random_masks
from support.tool_layouts import LAYOUTS, by_image, in_base64, png, written

from amodal_data import (
    TargetCache,
    build_targets,
    iter_annotations,
    layer_scene,
    read_annotations,
    read_coco,
    read_records,
    verify_cache,
    write_cocoa,
)
from amodal_data.errors import AmodalError, AnnotationError, LayoutError, SelectionError
from amodal_data.layering.targets import layer_with_findings
from amodal_data.readers.order_rules import OrderRule
from amodal_data.scenes.occlusion_order import from_ranks

TOOLS = ROOT / "tests" / "golden" / "tools"
OSD = ROOT.parent / "shared" / "data" / "osd-amodal" / "OSD_amodal_train.json"


@pytest.fixture(scope="module")
def cocoa(tmp_path_factory):
    return write_cocoa(tmp_path_factory.mktemp("cocoa"), 8, seed=4, size=(60, 80), photos=False)


def sorted_levels(targets, pixels=True):
    """Level codes of the instances of an image, in an order that no layout can change."""
    return sorted((codes * pixels).tobytes() for codes in targets.levels)


@pytest.mark.parametrize("layout", [*LAYOUTS, "bop"])
def test_every_layout_gives_the_levels_of_cocoa(layout, cocoa, tmp_path):
    path, options = written(layout, cocoa, tmp_path)
    scenes, expected = read_annotations(path, **options), by_image(cocoa)
    assert len(scenes) == len(expected) and not [finding for finding in scenes.findings if finding.severity == "error"]
    for reread, scene in zip(scenes, expected.values(), strict=True):
        assert reread.image_id == scene.image_id and reread.size == scene.size
        targets, truth = layer_scene(reread), layer_scene(scene)
        if layout in ("masks-visible", "bop"):  # what is hidden behind a third object has no order by masks
            visible = [
                sorted(map(bytes, part.reshape(-1, 1, *scene.size))) for part in (targets.modal(), truth.modal())
            ]
            assert visible[0] == visible[1]
            clear = ~targets.map_values(targets.ambiguous)
            assert sorted_levels(targets, clear) == sorted_levels(truth, clear)
            continue
        assert sorted_levels(targets) == sorted_levels(truth)
        assert len(targets.pairs) == len(truth.pairs) and not targets.ambiguous.any()


@pytest.mark.parametrize("layout", sorted({*LAYOUTS, "bop"} - {"masks-visible", "coco-list", "labelme"}))
def test_build_targets_verify_and_inspect_read_every_layout(layout, cocoa, tmp_path):
    path, options = written(layout, cocoa, tmp_path)
    arguments = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)]
    built = run_command("amodal-data", "build-targets", path, *arguments, "-o", tmp_path / "c.h5", "--strict")
    assert built.returncode == 0, built.stderr
    assert run_command("amodal-data", "verify", tmp_path / "c.h5", "--annotations", path).returncode == 0
    assert run_command("amodal-data", "inspect", path, *arguments, "-q").returncode == 0
    with TargetCache(tmp_path / "c.h5") as cache:
        assert cache.info.masks == "amodal" and cache.info.settings["layout"]


@pytest.mark.parametrize("layout", ["coco-list", "records", "labelme", "cvat", "datumaro", "masks"])
def test_modal_masks_of_any_layout_are_at_level_0(layout, cocoa, tmp_path):
    path, options = written(layout, cocoa, tmp_path)
    scenes = read_annotations(path, masks="modal", pattern=options.get("pattern"))
    build_targets(scenes, tmp_path / "m.h5")
    with TargetCache(tmp_path / "m.h5") as cache:
        assert cache.info.masks == "modal" and verify_cache(cache.path, scenes).ok
        assert all(targets.table.max(initial=0) <= 1 and not len(targets.pairs) for targets in cache)
    pytest.importorskip("torch")
    refused = run_command("sln", "fit", tmp_path / "m.h5", "--images", tmp_path, "--run", tmp_path / "r")
    assert refused.returncode == 2 and "modal" in refused.stderr


@pytest.mark.parametrize("layout", ["coco-list", "labelme", "cvat", "datumaro", "masks"])
def test_masks_and_order_are_never_guessed(layout, cocoa, tmp_path):
    path, options = written(layout, cocoa, tmp_path)
    pattern = options.get("pattern")
    with pytest.raises(LayoutError) as raised:
        read_annotations(path, pattern=pattern)
    assert "--masks amodal" in raised.value.fix and "--masks modal" in raised.value.fix
    if layout in ("coco-list", "labelme", "masks"):
        with pytest.raises(LayoutError, match="order is unknown") as raised:
            read_annotations(path, masks="amodal", pattern=pattern)
        assert "--order" in raised.value.fix
    with pytest.raises(SelectionError, match="modal"):
        read_annotations(path, masks="modal", order="front-first", pattern=pattern)


def test_order_rules_are_parsed_and_printed():
    annotations = [{"a": 3, "b": {"c": "2.5"}}, {"a": 1, "b": {"c": "7"}}, {"b": 1}]
    assert OrderRule.parse("front-first").ranks(annotations) == [0, 1, 2]
    assert OrderRule.parse("back-first").ranks(annotations) == [0, -1, -2]
    assert OrderRule.parse("none").ranks(annotations) == [None] * 3
    assert OrderRule.parse("field:a").ranks(annotations) == [3, 1, None]
    assert OrderRule.parse("field:-b.c").ranks(annotations) == [-2.5, -7, None]
    assert OrderRule.parse("field:z_order") == OrderRule.parse(
        "field:-z_order"
    )  # large values are known to be in front
    for text in ("front-first", "back-first", "none", "field:a", "field:-b.c"):
        assert str(OrderRule.parse(text)) == text
    for text in ("front", "field:", "field:-", ""):
        with pytest.raises(SelectionError, match="unknown order"):
            OrderRule.parse(text)


def test_overlaps_of_unordered_pairs_are_ambiguous():
    rng = np.random.default_rng(8)
    trials = 0
    for _ in range(300):
        masks = random_masks(rng, int(rng.integers(0, 6)))
        ranks = [None if rng.random() < 0.2 else float(rng.integers(3)) for _ in masks]
        front = from_ranks(ranks)
        targets = layer_scene(make_scene(masks, in_front=front)) if len(masks) else None
        if targets is None:
            continue
        once = [j for j in range(len(masks)) if not any(are_twins(j, k, masks, masks, front) for k in range(j))]
        behind = np.array([sum((masks[j] for j in once if front[j, i]), np.zeros(masks.shape[1:], int))
                           for i in range(len(masks))])  # fmt: skip
        assert np.array_equal(targets.levels, np.where(masks, 1 + behind, 0))
        pairs = [masks[i] & masks[j] for i in once for j in once if j < i and not front[i, j] | front[j, i]]
        unordered = np.any([np.zeros(masks.shape[1:], bool), *pairs], axis=0)
        assert np.array_equal(targets.map_values(targets.ambiguous), unordered)
        trials += unordered.any()
    assert trials > 80


def test_an_annotation_without_a_number_is_reported(cocoa, tmp_path):
    path, _ = written("coco-depth", cocoa, tmp_path)
    content = json.loads(path.read_text())
    for annotation in content["annotations"][::4]:
        del annotation["occl_depth"]
    path.write_text(json.dumps(content))
    findings = read_annotations(path, masks="amodal").findings
    assert sum(finding.code == "order-unsaid" for finding in findings) == len(content["annotations"][::4])
    with pytest.raises(LayoutError, match="no annotation has 'deep'"):
        read_coco(path, masks="amodal", order="field:deep")


def test_a_stream_reads_amodal_coco_as_the_reader_does(cocoa, tmp_path):
    for layout, order in (("coco-z", None), ("coco-attributes", None), ("coco-list", "front-first")):
        path, _ = written(layout, cocoa, tmp_path)
        scenes, stream = (
            read_annotations(path, masks="amodal", order=order),
            iter_annotations(path, masks="amodal", order=order),
        )
        assert scenes.settings == stream.settings
        by_id = {scene.image_id: layer_scene(scene).levels for scene in stream}
        assert all(np.array_equal(layer_scene(scene).levels, by_id[scene.image_id]) for scene in scenes)


def shapes(*shapes, size=(40, 50)):
    image = {"imagePath": "..\\photos\\a.jpg", "imageHeight": size[0], "imageWidth": size[1], "imageData": None}
    return {"version": "5.5.0", "flags": {}, "shapes": list(shapes), **image}


def shape(kind, points, **fields):
    return {"label": "a", "shape_type": kind, "points": points, "group_id": None, "flags": {}, **fields}


def test_shapes_of_labelme(tmp_path):
    mask = np.zeros((9, 12), bool)
    mask[2:7, 3:] = True
    content = shapes(
        shape("rectangle", [[5, 4], [15, 10]]),
        shape("circle", [[30, 20], [36, 20]]),
        shape("mask", [[45, 35], [56, 43]], mask=in_base64(mask)),
        shape("polygon", [[0, 0], [8, 0], [8, 8], [0, 8]], group_id=3),
        shape("polygon", [[20, 30], [28, 30], [28, 38], [20, 38]], group_id=3),
        shape("polygon", [[20, 30], [28, 30], [28, 38], [20, 38]], group_id=3, label="other"),
        shape("line", [[0, 0], [9, 9]]),
        shape("mask", [[1, 1], [3, 3]], mask="no base64!"),
        shape("polygon", [[0, 0], [None, 1], [2, 2]]),
        "no shape",
    )  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    scenes = read_annotations(tmp_path / "a.json", masks="amodal", order="back-first")
    (scene,) = scenes
    assert (
        scene.file_name == "photos/a.jpg"
        and [finding.code for finding in scenes.file_findings] == ["region-malformed"] * 4
    )
    whole = [instance.amodal.decode() for instance in scene.instances]
    assert whole[0].sum() == 60 and whole[0][4:10, 5:15].all()
    assert abs(whole[1].sum() - np.pi * 36) < 4
    assert np.array_equal(whole[2][35:40, 45:], mask[:5, :5]) and not whole[2][:35].any()
    assert whole[3].sum() == 128 and whole[3][:8, :8].all() and whole[3][30:38, 20:28].all()
    assert [instance.name for instance in scene.instances] == ["a", "a", "a", "a", "other"]
    assert layer_scene(scene).levels[3][32, 22] == 2  # what is drawn later is in front


def test_parts_of_one_object_may_be_polygons_and_masks(tmp_path):
    mask = np.ones((4, 4), bool)
    content = shapes(
        shape("polygon", [[0, 0], [8, 0], [8, 8], [0, 8]], group_id=1),
        shape("mask", [[20, 20], [23, 23]], mask=in_base64(mask), group_id=1),
        shape("polygon", [[0, 0]], group_id=1),
    )
    (tmp_path / "a.json").write_text(json.dumps(content))
    scenes = read_annotations(tmp_path / "a.json", masks="modal")
    assert scenes[0].instances[0].amodal.area == 64 + 16
    assert [finding.code for finding in scenes.file_findings] == ["polygon-too-short"]


def test_other_files_in_a_labelme_folder_are_reported(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(shapes(shape("rectangle", [[0, 0], [9, 9]]))))
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.json").write_text('{"some": "settings"}')
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "D.JSON").write_text(json.dumps(shapes(shape("rectangle", [[0, 0], [9, 9]]))))
    scenes = read_annotations(tmp_path, masks="modal")
    assert len(scenes) == 2 and [finding.code for finding in scenes.file_findings] == ["annotation-malformed"] * 2
    assert "b.json" in scenes.file_findings[0].message


CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><image id="0" name="a/b.jpg" width="50" height="40">
<box label="cup" xtl="5" ytl="4" xbr="15" ybr="10" z_order="0"/>
<mask label="cup" rle="2, 3, 4, 3" left="7" top="20" width="6" height="2" z_order="2"/>
<polygon label="cup" points="0,0;8,0;8,8;0,8" z_order="1" group_id="4"/>
<polygon label="cup" points="20,30;28,30;28,38;20,38" z_order="1" group_id="4"/>
<polyline label="cup" points="1,1;2,2"/><polygon label="cup" points="1;2"/>
<mask label="cup" rle="2" left="49" top="0" width="2" height="1"/>
<mask label="cup" rle="3" left="0" top="0" width="2" height="1"/></image>
<image id="0" name="again.jpg" width="50" height="40"><box label="b" xtl="5" ytl="4" xbr="15" ybr="10"/></image>
</annotations>"""


def test_shapes_of_cvat(tmp_path):
    (tmp_path / "a.xml").write_text(CVAT)
    scenes = read_annotations(tmp_path / "a.xml", masks="amodal")
    assert scenes.image_ids == [0, 1] and scenes.file_names == ["a/b.jpg", "again.jpg"]
    assert [finding.code for finding in scenes.file_findings] == ["shape-left-out"] + ["region-malformed"] * 3
    whole = [instance.amodal.decode() for instance in scenes[0].instances]
    assert whole[0].sum() == 60 and whole[2].sum() == 128
    assert np.argwhere(whole[1]).tolist() == [[20, 9], [20, 10], [20, 11], [21, 10], [21, 11], [21, 12]]
    assert [instance.order for instance in scenes[0].instances] == [3, 1, 2]


def test_rotated_boxes_ellipses_and_the_order_of_labels(tmp_path):
    shapes = ('<box label="cup" xtl="10" ytl="10" xbr="30" ybr="14" rotation="90"/>'
              '<ellipse label="can" cx="60" cy="20" rx="12" ry="6"/>'
              '<ellipse label="can" cx="60" cy="20" rx="12" ry="6" rotation="90"/>')  # fmt: skip
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("box", "cup", "can"))
    image = f'<image id="4" name="a" width="90" height="50">{shapes}</image>'
    meta = f"<meta><job><labels>{labels}</labels></job></meta>"
    (tmp_path / "a.xml").write_text(f"<annotations>{meta}{image}</annotations>")
    scenes = read_annotations(tmp_path / "a.xml", masks="modal")
    box, flat, tall = (instance.amodal.decode() for instance in scenes[0].instances)
    assert box.sum() == 80 and box[2:22, 18:22].all()  # about its middle, (20, 12)
    assert abs(flat.sum() - np.pi * 72) < 8 and flat[20, 49:71].all() and not flat[10].any()
    assert abs(tall.sum() - np.pi * 72) < 8 and tall[9:31, 60].all()
    assert [(instance.category_id, instance.name) for instance in scenes[0].instances] == [
        (2, "cup"),
        (3, "can"),
        (3, "can"),
    ]


def test_records_hold_numpy_values():
    mask = np.zeros((20, 30), bool)
    mask[2:12, 2:12] = True
    outline = np.array([2.0, 2, 13, 2, 13, 12, 2, 12])
    objects = [{"segmentation": mask, "z_order": np.int64(2), "category": "a"}]
    objects.append({"segmentation": [outline], "z_order": np.float32(1), "category": "b"})
    plain_size = {"height": np.int64(20), "width": np.float32(30)}
    for size in (plain_size, {"image": Image.new("RGB", (30, 20))}):
        (scene,) = read_records([{"file_name": "a.jpg", **size, "annotations": objects}], masks="amodal")
        assert not scene.findings and [instance.amodal.area for instance in scene.instances] == [100, 110]
        assert layer_scene(scene).levels[1].max() == 2 and layer_scene(scene).levels[0].max() == 1


def test_options_that_do_not_fit_the_file_are_refused(cocoa, tmp_path):
    with pytest.raises(LayoutError, match="already tells amodal from visible"):
        read_annotations(cocoa, order="back-first")
    path, _ = written("cvat", cocoa, tmp_path)
    with pytest.raises(LayoutError, match="no annotation has a number"):
        read_annotations(path, masks="amodal", order="field:attributes.seen")
    with pytest.raises(SelectionError, match="amodal or modal"):
        read_annotations(path, masks="Amodal")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0 0 1 0 1 1")
    built = run_command("amodal-data", "build-targets", tmp_path, "--masks", "modal", "-o", tmp_path / "c.h5")
    assert built.returncode == 1 and "no object is left" in built.stderr and "photo-missing" in built.stderr


def test_unordered_overlaps_are_reported(cocoa, tmp_path):
    path, _ = written("coco-list", cocoa, tmp_path)
    built = run_command(
        "amodal-data", "build-targets", path, "--masks", "amodal", "--order", "none", "-o", tmp_path / "c"
    )
    assert built.returncode == 0 and "order-open" in built.stderr


@pytest.mark.parametrize("head", ['<!DOCTYPE a [<!ENTITY x "boom">]>', '<!DOCTYPE a SYSTEM "file:///etc/passwd">'])
def test_xml_with_a_document_type_is_refused(head, tmp_path):
    (tmp_path / "a.xml").write_text(f"<?xml version='1.0'?>{head}<annotations><image name='&x;'/></annotations>")
    with pytest.raises(AnnotationError, match="document type"):
        read_annotations(tmp_path / "a.xml", masks="modal")


@pytest.mark.parametrize("content, message", [
    ("<annotations><track/></annotations>", "tracks"), ("<annotation/>", "root is <annotation>"),
    ("<annotations", "not XML"), ("", "not XML"),
])  # fmt: skip
def test_other_xml_is_described(content, message, tmp_path):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(AnnotationError, match=message):
        read_annotations(tmp_path / "a.xml", masks="modal")


def test_masks_are_named_by_a_pattern(tmp_path):
    for name, value in (("x_10_cup_2.png", 1), ("x_9_cup_1.png", 3), ("y_1_box_5.png", 255), ("readme.txt", 0)):
        mask = np.zeros((20, 30), bool)
        mask[:10, :value] = True
        (tmp_path / name).write_bytes(png(mask))
    (tmp_path / "y_2_box_6.PNG").write_bytes(b"no picture")
    (tmp_path / "y_3_box_6.png").write_bytes(png(np.ones((5, 5), bool)))
    scenes = read_annotations(tmp_path, masks="amodal", pattern="{image}_{object}_{name}_{order}.png")
    assert [[instance.name for instance in scene.instances] for scene in scenes] == [["cup", "cup"], ["box"]]
    assert [[instance.amodal.area for instance in scene.instances] for scene in scenes] == [[30, 10], [300]]
    assert [[instance.order for instance in scene.instances] for scene in scenes] == [[1, 2], [1]]
    assert {finding.code for finding in scenes.file_findings} == {"mask-unusable", "rle-wrong-size"}
    for pattern in ("{object}.png", "{object}/{image}{image}.png", "{image}{object}{colour}"):
        with pytest.raises(SelectionError, match="not a pattern"):
            read_annotations(tmp_path, masks="amodal", pattern=pattern)
    with pytest.raises(LayoutError, match="no mask is called"):
        read_annotations(tmp_path, masks="amodal", pattern="{image}/{object}.tif")


def test_rows_of_a_hugging_face_dataset(tmp_path):
    """Hugging Face's rows: objects as one list a field; image ids as text; classes by name."""
    square = [[2, 2, 12, 2, 12, 12, 2, 12]]
    rows = [
        {"image_id": "x1", "file_name": "a.jpg", "height": 20, "width": 30,
         "objects": {"segmentation": [square, square], "category": ["cup", "box"], "z_order": [1, 2]}},
        {"image_id": 1, "file_name": "b.jpg", "height": 20, "width": 30, "annotations": [
            {"segmentation": square, "category": "box", "bbox": [2, 2, 12, 12], "bbox_mode": 0, "z_order": 0}, 5]},
        7,
    ]  # fmt: skip
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    scenes = read_annotations(tmp_path / "rows.json", masks="amodal")
    assert scenes.image_ids == [2, 1] and [[i.name for i in s.instances] for s in scenes] == [["cup", "box"], ["box"]]
    assert layer_scene(scenes[0]).levels[0].max() == 2 and layer_scene(scenes[0]).levels[1].max() == 1
    assert [finding.code for finding in scenes.file_findings] == ["annotation-malformed"] * 2


@pytest.mark.skipif(not OSD.exists(), reason="no OSD-Amodal beside this checkout")
def test_osd_amodal(tmp_path):
    scenes = read_annotations(OSD)
    assert len(scenes) == 76 and scenes.dataset == "uoais"
    instances = 0
    for scene in scenes:
        targets, findings = layer_with_findings(scene)
        for n, instance in enumerate(scene.instances):
            hidden = instance.declared.hidden
            assert (
                targets.modal(n) | targets.hidden_rle(n).decode() == instance.amodal.decode()
            ).all() and hidden is not None
        assert not [finding for finding in findings if finding.code.startswith("stored-")]
        instances += len(scene.instances)
    assert instances == 290
    build_targets(scenes, tmp_path / "osd.h5")
    report = verify_cache(tmp_path / "osd.h5", scenes)
    assert report.ok and "580 of 580" in str(report)


def test_missing_datumaro_and_unknown_formats_are_reported(tmp_path):
    try:
        import datumaro  # noqa: F401
    except ImportError:
        built = run_command("amodal-data", "build-targets", tmp_path, "--format", "yolo", "--masks", "modal")
        assert built.returncode == 3 and 'pip install "amodal-data[formats]"' in built.stderr
        return
    with pytest.raises(AmodalError, match="cannot read this as 'nonesuch'"):
        read_annotations(tmp_path, form="nonesuch", masks="modal")


@pytest.mark.parametrize(
    "name, order",
    [("labelme", "back-first"), ("labelme", "field:description"), ("cvat.xml", None), ("datumaro.json", None)],
)
def test_files_written_by_the_tools(name, order):
    """labelme 6.3.1 and Datumaro 1.13.12, by benchmarks/tool_files.py."""
    scenes = read_annotations(TOOLS / name, masks="amodal", order=order)
    expected = by_image(TOOLS / "cocoa.json").values()
    assert not scenes.file_findings and len(scenes) == len(expected) == 2
    for reread, scene in zip(scenes, expected, strict=True):
        assert (
            reread.file_name.startswith("COCO_val2014_") and reread.instances[0].name == "thing"
        ) or name == "labelme"
        assert sorted_levels(layer_scene(reread)) == sorted_levels(layer_scene(scene))


def test_rows_exported_from_a_hugging_face_table():
    """datasets 5.2.0; a cell for every field of every row, None where it is empty."""
    raw = json.loads((TOOLS / "datasets.json").read_text())
    assert any(annotation["invisible_mask"] is None for row in raw for annotation in row["annotations"])
    scenes = read_annotations(TOOLS / "datasets.json")
    for reread, scene in zip(scenes, by_image(TOOLS / "cocoa.json").values(), strict=True):
        assert sorted_levels(layer_scene(reread)) == sorted_levels(layer_scene(scene)) and not reread.findings


def test_coco_exported_by_datumaro_is_plain_coco():
    scenes = read_annotations(TOOLS / "coco.json", masks="modal")
    for reread, scene in zip(scenes, by_image(TOOLS / "cocoa.json").values(), strict=True):
        assert {instance.amodal for instance in reread.instances} == {instance.amodal for instance in scene.instances}
    with pytest.raises(LayoutError, match="order is unknown"):
        read_annotations(TOOLS / "coco.json", masks="amodal")
