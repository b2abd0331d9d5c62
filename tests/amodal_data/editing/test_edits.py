"""Edits, their journal, and the corrected file, against files that were written with the other order."""

import json
import os

import numpy as np
import pytest
from support.commands import run_command
from support.editing import DrawnImage, random_event, random_step
from support.tool_layouts import written

from amodal_data import layer_scene, read_annotations, read_cocoa, write_cocoa, write_flat
from amodal_data.editing.apply import apply_journal
from amodal_data.editing.edits import History, ImageEdits
from amodal_data.editing.journal import Origin, journal_path, open_journal, read_journal
from amodal_data.editing.session import EditingSession, StaleError
from amodal_data.editing.source import open_source
from amodal_data.errors import AmodalError, AnnotationError, InUseError, LayoutError, OutputExistsError, SelectionError
from amodal_data.layering.targets import layer_with_findings


def levels_by_mask(scene):
    """The level map of every instance, by its amodal mask: instances may be listed in another order."""
    targets = layer_scene(scene)
    return {mask: targets.levels[n] for n, mask in enumerate(targets.rles())}


def assert_same_levels(one, other):
    first, second = levels_by_mask(one), levels_by_mask(other)
    assert first.keys() == second.keys()
    assert all((first[mask] == second[mask]).all() for mask in first)


@pytest.fixture
def cocoa(tmp_path):
    return write_cocoa(tmp_path / "cocoa", 3, seed=5, size=(120, 160), instances=(5, 7), photos=False)


def edit_randomly(source, path, count, seed, kinds=("move",)):
    """Write a journal of random edits; returns the events."""
    rng, events = np.random.default_rng(seed), []
    with open_journal(path, source.origin) as journal:
        session = EditingSession(source, journal)
        revisions = [0] * len(session.rows)
        for _ in range(count):
            place = int(rng.integers(len(session.rows)))
            positions = session.document(place)["positions"]
            instance, before = rng.choice(positions, 2, replace=False).tolist()
            event = {
                "do": str(rng.choice(kinds)),
                "instance": instance,
                "before": before if rng.random() < 0.9 else None,
            }
            revisions[place] = session.edit(place, revisions[place], event)["revision"]
            events.append((place, event))
    return events


def written_by_hand(path, source, journal, output):
    """The file as somebody would write it who numbers the regions anew and stores nothing that follows from it."""
    content = json.loads(path.read_text())
    orders = {}
    for event in read_journal(journal, source.origin).events:
        rows = next(row for row in content["annotations"] if row["image_id"] == event["image"])["regions"]
        order = orders.setdefault(event["image"], sorted(range(len(rows)), key=lambda n: rows[n]["order"]))
        order.remove(event["instance"])
        order.insert(len(order) if event["before"] is None else order.index(event["before"]), event["instance"])
    for row in content["annotations"]:
        row["depth_constraint"] = ""
        for rank, n in enumerate(orders.get(row["image_id"], [])):
            row["regions"][n]["order"] = rank + 1
        for region in row["regions"]:
            for key in ("visible_mask", "invisible_mask", "occlude_rate"):
                region.pop(key, None)
    output.write_text(json.dumps(content))


def test_an_applied_journal_equals_a_file_written_with_that_order(cocoa, tmp_path):
    before, source = cocoa.read_bytes(), open_source(cocoa)
    edit_randomly(source, journal_path(cocoa), 40, seed=1)
    written_by_hand(cocoa, source, journal_path(cocoa), tmp_path / "hand.json")
    report = apply_journal(source, journal_path(cocoa), tmp_path / "applied.json")
    assert report.images == 3 and report.edits == 40 and not report.torn
    assert cocoa.read_bytes() == before
    applied, by_hand = read_cocoa(tmp_path / "applied.json"), read_cocoa(tmp_path / "hand.json")
    changed = 0
    for one, other, original in zip(applied, by_hand, read_cocoa(cocoa), strict=True):
        assert_same_levels(one, other)
        first, second = levels_by_mask(one), levels_by_mask(original)
        changed += sum((first[mask] != second[mask]).sum() for mask in first)
    assert changed > 1000
    assert not applied.findings  # stored masks, shares and constraints follow; regions are listed front to back


@pytest.mark.parametrize("layout", ["d2sa", "kins", "cocoa-cls"])
def test_flat_layouts_get_the_visible_masks_of_the_new_order(tmp_path, layout):
    path = write_flat(tmp_path / layout, 3, layout, seed=2, size=(120, 160), photos=False)
    source = open_source(path)
    edit_randomly(source, journal_path(path), 30, seed=2)
    apply_journal(source, journal_path(path), tmp_path / "applied.json")
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal)
        for index, (scene, original) in enumerate(
            zip(read_annotations(tmp_path / "applied.json"), read_annotations(path), strict=True)
        ):
            stack, start = session.document(index)["stack"], source.start(index)
            amodal = [instance.amodal.decode() for instance in scene.instances]
            covered, elsewise = np.zeros(scene.size, bool), {}  # hidden, but by no instance: stays hidden
            for n in start.edits.order:
                elsewise[n] = amodal[n] & ~original.instances[n].visible.decode() & ~covered
                covered |= amodal[n]
            covered = np.zeros(scene.size, bool)
            for n in stack:
                assert (scene.instances[n].visible.decode() == amodal[n] & ~covered & ~elsewise[n]).all()
                covered |= amodal[n]
            if not any(mask.any() for mask in elsewise.values()):
                targets, nearer = layer_scene(scene), np.zeros(scene.size, int)
                for n in stack:
                    assert (targets.levels[n] == np.where(amodal[n], 1 + nearer, 0)).all()
                    nearer += amodal[n]


@pytest.mark.parametrize("rule", ["front-first", "back-first", "field:depth", "field:-z_order", "field:attributes.z"])
def test_plain_coco_keeps_the_field_or_the_list_that_says_the_order(cocoa, tmp_path, rule):
    path = tmp_path / "plain.json"
    assert run_command("amodal-data", "convert", cocoa, "--to", "coco", "-o", path).returncode == 0
    content, rng = json.loads(path.read_text()), np.random.default_rng(3)
    for row in content["annotations"]:
        for key in ("order", "visible_mask", "invisible_mask", "occl_depth", "occlude_rate"):
            row.pop(key, None)
        number = int(rng.integers(1000))
        row |= {"depth": number, "z_order": number, "attributes": {"z": str(number), "color": "red"}}
    rng.shuffle(content["annotations"])
    path.write_text(json.dumps(content))
    source = open_source(path, masks="amodal", order=rule)
    edit_randomly(source, journal_path(path), 30, seed=4)
    apply_journal(source, journal_path(path), tmp_path / "applied.json")
    applied = read_annotations(tmp_path / "applied.json", masks="amodal", order=rule)
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal)
        for index, scene in enumerate(applied):
            shown = session._image(index, session.source.start(index)).truth
            assert_same_levels(
                scene,
                session.source.read(session.source.start(index), session._edits(index, session.source.start(index)))[0],
            )
            stack, masks = session.document(index)["stack"], shown.rles()
            by_mask = {instance.amodal: n for n, instance in enumerate(scene.instances)}
            order = [by_mask[masks[n]] for n in stack]
            assert all(scene.in_front[a, b] for k, a in enumerate(order) for b in order[k + 1 :])
    changed = {
        json.dumps(row, sort_keys=True) for row in json.loads((tmp_path / "applied.json").read_text())["annotations"]
    }
    original = {json.dumps(row, sort_keys=True) for row in content["annotations"]}
    assert (changed == original) == (rule in ("front-first", "back-first"))


def test_a_thousand_edits_undone_give_the_start():
    rng, history = np.random.default_rng(0), History(ImageEdits(tuple(range(9))))
    states = []
    for _ in range(1000):
        states.append(history.current)
        instance, before = rng.choice(9, 2, replace=False).tolist()
        history.apply({"do": "move", "instance": instance, "before": before})
    last = history.current
    for state in reversed(states):
        history.apply({"do": "undo"})
        assert history.current == state
    assert not history.changed and history.counts == (0, 1000)
    for _ in range(1000):
        history.apply({"do": "redo"})
    assert history.current == last and history.revision == 3000


def test_impossible_edits_are_refused_and_not_saved(cocoa, tmp_path):
    source = open_source(cocoa)
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        size = journal.path.stat().st_size
        for event in (
            {}, {"do": "undo"}, {"do": "redo"}, {"do": "explode", "instance": 0}, {"do": "move"},
            {"do": "move", "instance": 99, "before": 0}, {"do": "move", "instance": 0, "before": 0},
            {"do": "move", "instance": True, "before": 1}, {"do": "move", "instance": [1], "before": 1},
            {"do": "move", "instance": 0, "before": "1"}, {"do": ["move"], "instance": 0},
            {"do": "swap", "instance": 0}, {"do": "swap", "instance": 0, "other": 0},
            {"do": "swap", "instance": 0, "other": 99}, {"do": "swap", "instance": 0, "other": True},
        ):  # fmt: skip
            with pytest.raises(SelectionError):
                session.edit(0, 0, event)
        with pytest.raises(StaleError):
            session.edit(0, 1, {"do": "move", "instance": 0, "before": None})
        with pytest.raises(IndexError):
            session.edit(3, 0, {"do": "move", "instance": 0, "before": None})
        assert journal.path.stat().st_size == size
        session.edit(0, 0, {"do": "move", "instance": 0, "before": None, "image": 9, "x": "y" * 1000})
    events = read_journal(journal.path, source.origin).events
    assert events == ({"image": 1, "do": "move", "instance": 0, "before": None},)


def test_an_edit_that_cannot_be_saved_changes_nothing(cocoa, tmp_path, monkeypatch):
    source = open_source(cocoa)
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        whole = os.write
        monkeypatch.setattr(os, "write", lambda handle, line: whole(handle, line[:9]))
        with pytest.raises(OSError, match="full"):
            session.edit(0, 0, {"do": "move", "instance": 0, "before": None})
        monkeypatch.setattr(os, "write", whole)
        assert session.document(0)["revision"] == 0
        session.edit(0, 0, {"do": "move", "instance": 0, "before": None})
    assert len(read_journal(journal.path, source.origin).events) == 1


@pytest.mark.parametrize("cut", [1, 2, 20, 40])
def test_a_torn_last_line_is_ignored_counted_and_cut_off(cocoa, tmp_path, cut):
    source, path = open_source(cocoa), journal_path(cocoa)
    edit_randomly(source, path, 5, seed=1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    lines = read_journal(path, source.origin)
    assert lines.torn and len(lines.events) == 4
    assert apply_journal(source, path, tmp_path / "o.json").torn
    assert path.read_bytes() == whole[:-cut]  # applying changes no journal
    with open_journal(path, source.origin) as journal:
        assert journal.lines.torn
        journal.append({"image": 1, "do": "undo"})
    assert [event["do"] for event in read_journal(path, source.origin).events] == [*["move"] * 4, "undo"]


def test_a_block_of_zeros_at_the_end_is_torn_and_damage_before_it_is_an_error(cocoa):
    source, path = open_source(cocoa), journal_path(cocoa)
    edit_randomly(source, path, 3, seed=1)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 20 + b"\n")
    assert read_journal(path, source.origin).torn and len(read_journal(path, source.origin).events) == 3
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{broken\n", *lines[2:]]))
    with pytest.raises(AnnotationError, match="line 3"):
        read_journal(path, source.origin)


def test_a_journal_of_another_source_is_refused(cocoa, tmp_path):
    source, path = open_source(cocoa), journal_path(cocoa)
    edit_randomly(source, path, 3, seed=1)
    before = path.read_bytes()
    cocoa.write_text(cocoa.read_text().replace(" ", "", 1) + " ")
    with pytest.raises(LayoutError, match="another version") as caught, open_journal(path, open_source(cocoa).origin):
        pass
    assert "--journal" in caught.value.fix
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "y.jsonl").write_text("no journal")
    header = {**source.origin.header(), "version": 2}
    (tmp_path / "z.jsonl").write_text(json.dumps(header) + "\n")
    for name in "xyz":
        with pytest.raises(LayoutError):
            read_journal(tmp_path / f"{name}.jsonl", source.origin)
    other = Origin(source.origin.source, source.origin.sha256, {"masks": "amodal"})
    with pytest.raises(LayoutError, match="other options"):
        read_journal(path, other)
    assert path.read_bytes() == before


def test_a_journal_has_one_writer_and_is_no_link(cocoa, tmp_path):
    source = open_source(cocoa)
    with (
        open_journal(tmp_path / "j.jsonl", source.origin),
        pytest.raises(InUseError),
        open_journal(tmp_path / "j.jsonl", source.origin),
    ):
        pass
    with open_journal(tmp_path / "j.jsonl", source.origin):
        pass
    (tmp_path / "k.jsonl").symlink_to(tmp_path / "j.jsonl")
    with pytest.raises(OSError), open_journal(tmp_path / "k.jsonl", source.origin):
        pass


def test_what_cannot_be_written_back_is_refused_with_the_way_in(tmp_path, cocoa):
    run_command("amodal-data", "build-targets", "cocoa", "--annotations", cocoa, "-o", tmp_path / "c.h5")
    run_command("amodal-data", "convert", cocoa, "--to", "records", "-o", tmp_path / "r.json")
    run_command("amodal-data", "convert", cocoa, "--to", "coco", "-o", tmp_path / "m.json")
    for path, options in (
        (tmp_path / "c.h5", {}), (tmp_path / "m.json", {"masks": "modal"}), (cocoa, {"form": "coco"}),
        (tmp_path / "r.json", {"masks": "amodal", "order": "front-first"}),
    ):  # fmt: skip
        with pytest.raises(AmodalError) as caught:
            open_source(path, **options)
        assert caught.value.fix, path


def test_the_output_is_never_the_source_nor_replaced(cocoa, tmp_path):
    source, path = open_source(cocoa), journal_path(cocoa)
    with pytest.raises(AnnotationError, match="no journal"):
        apply_journal(source, path, tmp_path / "o.json")
    edit_randomly(source, path, 3, seed=1)
    with pytest.raises(SelectionError):
        apply_journal(source, path, cocoa, force=True)
    apply_journal(source, path, tmp_path / "o.json")
    with pytest.raises(OutputExistsError):
        apply_journal(source, path, tmp_path / "o.json")
    apply_journal(source, path, tmp_path / "o.json", force=True)


def test_the_command_applies_and_says_what_it_did(cocoa, tmp_path):
    edit_randomly(open_source(cocoa), journal_path(cocoa), 7, seed=1)
    done = run_command("amodal-data", "edit", cocoa, "--apply", "-o", tmp_path / "o.json", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0 and document["schema"] == "amodal-data/edit/1" and document["edits"] == 7
    assert run_command("amodal-data", "edit", cocoa, "--apply").returncode == 2
    assert run_command("amodal-data", "edit", cocoa, "--apply", "-o", tmp_path / "o.json").returncode == 2
    assert run_command("amodal-data", "edit", cocoa, "--apply", "-o", cocoa, "--force").returncode == 2


def test_a_move_forth_and_back_states_the_order_that_the_stack_shows(cocoa, tmp_path):
    content = json.loads(cocoa.read_text())
    last = max(content["annotations"][0]["regions"], key=lambda region: region["order"])
    del last["order"]
    cocoa.write_text(json.dumps(content))
    source = open_source(cocoa)
    with open_journal(journal_path(cocoa), source.origin) as journal:
        session = EditingSession(source, journal)
        shown = session.document(0)
        assert "order-missing" in {code for code, *_ in shown["row"]["findings"]}
        order = [shown["positions"][n] for n in shown["stack"]]
        for _ in range(2):
            shown = session.edit(0, shown["revision"], {"do": "swap", "instance": order[0], "other": order[1]})
        assert [shown["positions"][n] for n in shown["stack"]] == order
        assert "order-missing" not in {code for code, *_ in shown["row"]["findings"]}
    apply_journal(source, journal_path(cocoa), tmp_path / "o.json")
    assert [i.order for i in read_cocoa(tmp_path / "o.json")[0].instances] == [*range(1, len(order) + 1)]


def test_history_forgets_what_a_new_edit_replaces():
    history = History(ImageEdits((2, 0, 1)))
    for event in (
        {"do": "move", "instance": 1, "before": 2},
        {"do": "undo"},
        {"do": "move", "instance": 0, "before": 2},
    ):
        history.apply(event)
    assert history.current.order == (0, 2, 1) and history.counts == (1, 0) and history.revision == 3


def test_a_real_file_keeps_everything_but_the_order(real, tmp_path):
    source, journal = open_source(real), tmp_path / "j.jsonl"
    edit_randomly(source, journal, 20, seed=1)
    written_by_hand(real, source, journal, tmp_path / "hand.json")
    apply_journal(source, journal, tmp_path / "o.json")
    for one, other in zip(read_cocoa(tmp_path / "o.json"), read_cocoa(tmp_path / "hand.json"), strict=True):
        assert_same_levels(one, other)
    codes = {finding.code for finding in read_cocoa(tmp_path / "o.json").findings}
    assert codes <= {finding.code for finding in read_cocoa(real).findings}


def test_every_kind_of_edit_equals_a_file_written_that_way(cocoa, tmp_path):
    """Names, outlines and deletions too, mixed with undo: against regions that are changed by hand."""
    source, rng, drawn = open_source(cocoa), np.random.default_rng(11), DrawnImage(cocoa, 1)
    with open_journal(journal_path(cocoa), source.origin) as journal:
        session = EditingSession(source, journal)
        shown = session.document(0)
        for _ in range(60):
            event = random_step(rng, shown, ["cup", "box"])
            shown = session.edit(0, shown["revision"], event)
            drawn.apply(event)
    content = json.loads(cocoa.read_text())
    (tmp_path / "hand.json").write_text(json.dumps({**content, "annotations": [drawn.annotation()]}))
    apply_journal(source, journal_path(cocoa), tmp_path / "applied.json")
    applied, by_hand = read_cocoa(tmp_path / "applied.json"), read_cocoa(tmp_path / "hand.json")
    assert_same_levels(applied[0], by_hand[0])
    findings = (*applied[0].findings, *layer_with_findings(applied[0])[1])
    assert {finding.code for finding in findings} <= {finding.code for finding in by_hand[0].findings}
    assert [i.name for i in sorted(applied[0].instances, key=lambda i: i.order)] == [
        i.name for i in sorted(by_hand[0].instances, key=lambda i: i.order)
    ]
    for one, other in zip(applied[1:], read_cocoa(cocoa)[1:], strict=True):
        assert_same_levels(one, other)


@pytest.mark.parametrize("layout", ["d2sa", "kins"])
def test_flat_layouts_take_every_kind_of_edit(tmp_path, layout):
    """What the page shows is what the written file gives, and a class must be one of the file's."""
    path = write_flat(tmp_path / layout, 2, layout, seed=4, size=(96, 128), photos=False)
    source, rng = open_source(path), np.random.default_rng(5)
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal)
        shown = session.document(0)
        with pytest.raises(SelectionError, match="no class"):
            session.edit(0, 0, {"do": "rename", "instance": shown["positions"][0], "name": "no such class"})
        for _ in range(25):
            event = random_event(rng, shown, list(source.scenes.categories.values()))
            shown = session.edit(0, shown["revision"], event)
        image = session._image(0, session._start(0))
    apply_journal(source, journal_path(path), tmp_path / "applied.json")
    written = read_annotations(tmp_path / "applied.json")[0]
    targets, findings = layer_with_findings(written)
    assert (targets.levels == image.truth.levels).all() and targets.names == image.truth.names
    assert not {f.code for f in (*written.findings, *findings)} & {
        "area-differs",
        "box-differs",
        "occlusion-rate-differs",
    }


@pytest.mark.parametrize("layout", ["labelme", "labelme-described", "cvat"])
def test_files_of_annotation_tools_equal_files_drawn_that_way(cocoa, tmp_path, layout):
    path, options = written(layout, cocoa, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    source = open_source(path, **options)
    edit_randomly(source, journal_path(path), 30, seed=8)
    content, drawn = json.loads(cocoa.read_text()), tmp_path / "drawn"
    drawn.mkdir()
    original = {scene.image_id: scene for scene in read_cocoa(cocoa)}
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal)
        for place, row in enumerate(content["annotations"]):
            image = session._image(place, session._start(place))
            masks, (scene,) = image.truth.rles(), [s for s in original.values() if s.file_name == image.image.file_name]
            ranks = {masks[n]: rank for rank, n in enumerate(session.document(place)["stack"], 1)}
            assert row["image_id"] == scene.image_id
            for instance in scene.instances:
                row["regions"][instance.region_index]["order"] = ranks[instance.amodal]
    (drawn / "cocoa.json").write_text(json.dumps(content))
    by_hand = read_annotations(written(layout, drawn / "cocoa.json", drawn)[0], **options)
    output = tmp_path / ("out" if path.is_dir() else "out.xml")
    assert apply_journal(source, journal_path(path), output).images == 3
    changed = 0
    for one, other, start in zip(read_annotations(output, **options), by_hand, source.scenes, strict=True):
        assert_same_levels(one, other)
        first, second = levels_by_mask(one), levels_by_mask(start)
        changed += sum((first[mask] != second[mask]).sum() for mask in first)
    assert changed > 1000 and {file: file.read_bytes() for file in before} == before


def test_parts_of_an_object_move_together_and_other_shapes_stay(tmp_path):
    """Shapes with one group are one object; lines are no objects; class and deletion are written too."""
    square = [[10, 10], [40, 10], [40, 40], [10, 40]]
    shapes = [
        {"label": "cup", "group_id": 1, "shape_type": "polygon", "points": square, "description": "", "x": 1},
        {"label": "line", "group_id": None, "shape_type": "line", "points": square[:2]},
        {"label": "box", "group_id": None, "shape_type": "rectangle", "points": [[20, 20], [60, 60]]},
        {"label": "cup", "group_id": 1, "shape_type": "circle", "points": [[70, 50], [80, 50]]},
        {"label": "box", "group_id": None, "shape_type": "rectangle", "points": [[50, 50], [75, 55]]},
    ]
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps({"version": "5", "imagePath": "a.jpg", "imageHeight": 80, "imageWidth": 100, "shapes": shapes})
    )
    source = open_source(path, masks="amodal", order="front-first")
    with open_journal(journal_path(path), source.origin) as journal:
        session, revision = EditingSession(source, journal), 0
        outlines = session.document(0)["outlines"]
        assert [[len(polygon) for polygon in outline] for outline in outlines] == [[8, 128], [8], [8]]
        for event in ({"do": "move", "instance": 0, "before": None}, {"do": "rename", "instance": 1, "name": "cup"},
                      {"do": "delete", "instance": 2}):  # fmt: skip
            revision = session.edit(0, revision, event)["revision"]
    apply_journal(source, journal_path(path), tmp_path / "o.json")
    written_shapes = json.loads((tmp_path / "o.json").read_text())["shapes"]
    box = {**shapes[2], "label": "cup"}
    assert written_shapes == [box, shapes[1], shapes[0], shapes[3]]


@pytest.mark.parametrize("polygons", [None, [], [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, "6"]], "abc",
                                      [[0, 0, 1e9, 0, 0, 5]], [[float("nan"), 0, 1, 0, 0, 1]], [[True, 0, 9, 0, 9, 9]],
                                      [[5, 5, 5, 5, 5, 5]], [[-50, -50, -40, -50, -40, -40]], [{"x": 1}]])  # fmt: skip
def test_outlines_that_are_none_are_refused(cocoa, tmp_path, polygons):
    source = open_source(cocoa)
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        with pytest.raises(SelectionError):
            session.edit(0, 0, {"do": "outline", "instance": 0, "polygons": polygons})
        assert session.document(0)["revision"] == 0


def test_an_image_is_done_until_it_is_not(cocoa, tmp_path):
    source = open_source(cocoa)
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        assert session.edit(1, 0, {"do": "done"})["row"]["done"] and session.rows[1]["done"]
    with open_journal(tmp_path / "j.jsonl", source.origin) as journal:
        session = EditingSession(source, journal)
        assert [row["done"] for row in session.rows] == [False, True, False]
        assert not session.edit(1, 1, {"do": "done", "done": False})["row"]["done"]
    assert apply_journal(source, tmp_path / "j.jsonl", tmp_path / "o.json").images == 0
