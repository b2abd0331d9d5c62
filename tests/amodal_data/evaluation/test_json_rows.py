import gzip
import json
import os
import random
import subprocess
import sys
import threading

import numpy as np
import pytest

from amodal_data import build_targets, evaluate, read_annotations, write_cocoa
from amodal_data.errors import AnnotationError, PredictionError
from amodal_data.evaluation import ground_truth as truth
from amodal_data.evaluation.results import json_rows as records
from amodal_data.evaluation.results.json_rows import Index, open_records
from amodal_data.export import export_results
from amodal_data.inspector.dataset import open_dataset


def random_row(rng, n):
    row = {"image_id": rng.randrange(5), "text": rng.choice(["a},{b", 'é"', "x\n", "]", "\\"]), "n": n}
    if rng.random() < 0.5:
        row["levels"] = [{"a": 1}] * rng.randrange(6)
    if rng.random() < 0.1:
        row["score"] = float("nan")
    return row


WRITERS = {
    "array": json.dumps,
    "compact": lambda rows: json.dumps(rows, separators=(",", ":")),
    "indented": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False),
    "lines": lambda rows: "\n".join(map(json.dumps, rows)),
    "lines, blank ones": lambda rows: "\n\n".join(map(json.dumps, rows)) + "\n\n",
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("block", [64, 100, 300, 4096])
def test_rows_are_those_of_the_whole_file(tmp_path, monkeypatch, kind, block):
    monkeypatch.setattr(records, "_BLOCK", block)
    monkeypatch.setattr(records, "_TAIL", block // 4)
    rng = random.Random(block)
    for trial in range(12):
        rows = [random_row(rng, n) for n in range(rng.randrange(1, 40))]
        text = WRITERS[kind](rows).encode()
        (tmp_path / "r.json").write_bytes(gzip.compress(text) if trial % 3 == 0 else text)
        opened = open_records(tmp_path / "r.json")
        blocks = list(opened.blocks())
        assert json.dumps([row for one in blocks for row in one.rows]) == json.dumps(rows)
        assert [one.first for one in blocks] == list(np.cumsum([0, *(len(one.rows) for one in blocks)])[:-1])
        index = Index(opened, lambda row, at: row["image_id"])
        assert [image_id for image_id, *_ in index] == sorted({row["image_id"] for row in rows})
        for image_id, numbers, own in index:
            assert numbers == [n for n, row in enumerate(rows) if row["image_id"] == image_id]
            assert json.dumps(own) == json.dumps([rows[n] for n in numbers])
        opened.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1},\n{"a":]', "line 2"),
        ('[{"a": 1}', "ends too early"),
        ("[{}{}]", "check the file at that line"),
        ("[{}]x", "Extra data"),
        ('{"a": 1}\n{"a": 2}\n{', "line 3"),
        ("", "an empty file"),
        ("a,b", "this is text"),
        ("[" * 100_000, "recursion"),
        (b"[\xff\xfe]", "not UTF-8"),
        (b"\x1f\x8b\x08\x00", "not a whole gzip file"),
    ],
)
def test_what_is_not_json_is_an_error_with_its_place(tmp_path, text, said):
    path = tmp_path / "r.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AnnotationError, match=r"r\.json") as caught:
        opened = open_records(path)
        try:
            list(opened.blocks())
        finally:
            opened.close()
    assert said in str(caught.value)


def test_a_file_that_is_no_list_is_told_what_one_is(tmp_path):
    path = write_cocoa(tmp_path, 1, size=(40, 50), photos=False)
    for text, said in ((path.read_text(), "annotation file"), ("{\n}", "a line for each"), ("{}", "a line for each")):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(PredictionError, match=said):
            evaluate(path, tmp_path / "r.json")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A truth, rows with levels sorted by image, and their figures."""
    folder = tmp_path_factory.mktemp("records")
    path = write_cocoa(folder, 9, seed=4, size=(60, 80), photos=False)
    rng = random.Random(1)
    rows = [
        {**row, "score": round(rng.random(), 2)} for row in export_results(open_dataset(path)) if rng.random() < 0.8
    ]
    (folder / "r.json").write_text(json.dumps(rows))
    return path, rows, [figures(path, folder / "r.json", protocol) for protocol in ("amodal", "order", "completion")]


def write_and_close(end, text):
    with os.fdopen(end, "wb") as pipe:
        pipe.write(text)


def figures(path, results, protocol, **rules):
    return evaluate(path, results, protocol, **rules).figures


@pytest.mark.parametrize("name", ["r.json.gz", "r.jsonl", "shuffled.json", "shuffled.jsonl", "halves.json", "fifo"])
def test_every_form_of_a_file_gives_the_same_figures(scored, tmp_path, name):
    path, rows, wanted = scored
    if name.startswith("shuffled"):  # ties are broken by file order: that of each image stays
        by_image = {}
        for row in rows:
            by_image.setdefault(row["image_id"], []).append(row)
        turns = random.Random(2).sample([row["image_id"] for row in rows], len(rows))
        rows = [by_image[image_id].pop(0) for image_id in turns]
    if name == "halves.json":  # the last row goes back to the first image
        rows = [*rows[1:], rows[0]]
        wanted = None
    text = (WRITERS["lines"] if name.endswith("l") else json.dumps)(rows).encode()
    file = tmp_path / name
    file.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    for n, protocol in enumerate(("amodal", "order", "completion")):
        if name != "fifo":
            found = figures(path, file, protocol)
        else:
            reading, writing = os.pipe()
            writer = threading.Thread(target=write_and_close, args=(writing, text))
            writer.start()
            found = figures(path, f"/dev/fd/{reading}", protocol)
            writer.join()
            os.close(reading)
        in_memory = {}
        if wanted is None:
            from amodal_data.evaluation import read_predictions, read_truth

            in_memory = read_predictions(file, read_truth(path)).images
            assert found == figures(path, in_memory, protocol)
        else:
            assert found == wanted[n]


@pytest.mark.parametrize("layout", ["file", "annotators"])
def test_a_truth_too_large_to_hold_gives_the_same_figures(scored, tmp_path, monkeypatch, layout):
    path, rows, _ = scored
    rules = {}
    if layout == "annotators":
        content = json.loads(path.read_text())
        content["annotations"] += [{**one, "id": one["id"] + 100} for one in content["annotations"][::2]]
        path, rules = tmp_path / path.name, {"annotator": "all"}
        path.write_text(json.dumps(content))
    (tmp_path / "r.json").write_text(json.dumps(rows[::-1]))
    wanted = [figures(path, tmp_path / "r.json", protocol, **rules) for protocol in ("amodal", "order", "completion")]
    monkeypatch.setattr(truth, "_LARGE", 10)
    monkeypatch.setattr(truth, "read_annotations", None)  # nothing is held
    for protocol, one in zip(("amodal", "order", "completion"), wanted, strict=True):
        assert figures(path, tmp_path / "r.json", protocol, **rules) == one
    assert evaluate(path, {1: []}, only=[1, 2], **rules).settings["images"] == (3 if rules else 2)
    with pytest.raises(PredictionError, match="image 99 is not"):
        evaluate(path, {99: []})


@pytest.mark.slow
def test_standard_input(scored):
    path, rows, wanted = scored
    command = [sys.executable, "-c", "from amodal_cli.data import main; main()", "evaluate", path, "-", "--json"]
    done = subprocess.run(command, input=json.dumps(rows), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["subsets"] == wanted[0]["subsets"]


def test_images_nobody_asked_for_are_passed_over_unread(scored, tmp_path, monkeypatch):
    path, rows, _ = scored
    some = [row for row in rows if row["image_id"] in (2, 5)]
    spoilt = [row if row in some else {**row, "segmentation": "no mask"} for row in rows]
    (tmp_path / "some.json").write_text(json.dumps(some))
    (tmp_path / "spoilt.json").write_text(json.dumps(spoilt))
    build_targets(read_annotations(path), tmp_path / "t.h5")
    for truth_ in (path, tmp_path / "t.h5", list(read_annotations(path))):
        wanted = figures(truth_, tmp_path / "some.json", "amodal", only=[2, 5])
        assert figures(truth_, tmp_path / "spoilt.json", "amodal", only=[2, 5]) == wanted
        assert figures(truth_, {2: [], 7: []}, "amodal", only=[2]) is not None
        with pytest.raises(PredictionError, match="image 99"):
            figures(truth_, {99: []}, "amodal", only=[2])
    monkeypatch.setattr(truth, "_LARGE", 10)
    assert figures(path, tmp_path / "spoilt.json", "amodal", only=[2, 5]) == wanted
