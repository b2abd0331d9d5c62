import gzip
import json
import os
import random
import threading

import numpy as np
import pytest

from amodal_data import build_targets, evaluate, read_annotations, write_cocoa
from amodal_data.errors import AnnotationError, PredictionError
from amodal_data.evaluation import ground_truth
from amodal_data.evaluation.results import json_rows
from amodal_data.evaluation.results.json_rows import Index, open_records
from amodal_data.export.coco import export_results
from amodal_data.inspector.target_dataset import open_dataset


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
    "lines with blank lines": lambda rows: "\n\n".join(map(json.dumps, rows)) + "\n\n",
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("block", [64, 100, 300, 4096])
def test_rows_of_blocks_equal_the_whole_file(tmp_path, monkeypatch, kind, block):
    monkeypatch.setattr(json_rows, "_BLOCK", block)
    monkeypatch.setattr(json_rows, "_TAIL", block // 4)
    rng = random.Random(block)
    for trial in range(12):
        rows = [random_row(rng, n) for n in range(rng.randrange(1, 40))]
        text = WRITERS[kind](rows).encode()
        (tmp_path / "r.json").write_bytes(gzip.compress(text) if trial % 3 == 0 else text)
        records = open_records(tmp_path / "r.json")
        blocks = list(records.blocks())
        assert json.dumps([row for block_ in blocks for row in block_.rows]) == json.dumps(rows)
        assert [block_.first for block_ in blocks] == list(
            np.cumsum([0, *(len(block_.rows) for block_ in blocks)])[:-1]
        )
        index = Index(records, lambda row, i: row["image_id"])
        assert [image_id for image_id, *_ in index] == sorted({row["image_id"] for row in rows})
        for image_id, numbers, image_rows in index:
            assert numbers == [n for n, row in enumerate(rows) if row["image_id"] == image_id]
            assert json.dumps(image_rows) == json.dumps([rows[n] for n in numbers])
        records.close()


@pytest.mark.parametrize(
    ("text", "message"),
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
        (b"\x1f\x8b\x08\x00", "not a complete gzip file"),
    ],
)
def test_malformed_json_is_an_error_with_a_line_number(tmp_path, text, message):
    path = tmp_path / "r.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AnnotationError, match=r"r\.json") as caught:
        records = open_records(path)
        try:
            list(records.blocks())
        finally:
            records.close()
    assert message in str(caught.value)


def test_other_documents_are_refused(tmp_path):
    path = write_cocoa(tmp_path, 1, size=(40, 50), photos=False)
    for text, message in (
        (path.read_text(), "annotation file"),
        ("{\n}", "a line for each"),
        ("{}", "a line for each"),
    ):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(PredictionError, match=message):
            evaluate(path, tmp_path / "r.json")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Ground truth, rows with levels sorted by image, and their figures."""
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
def test_all_forms_of_a_file_give_equal_figures(scored, tmp_path, name):
    path, rows, expected = scored
    if name.startswith("shuffled"):  # file order breaks ties, so keep it within an image
        by_image = {}
        for row in rows:
            by_image.setdefault(row["image_id"], []).append(row)
        image_ids = random.Random(2).sample([row["image_id"] for row in rows], len(rows))
        rows = [by_image[image_id].pop(0) for image_id in image_ids]
    if name == "halves.json":  # the last row belongs to the first image
        rows = [*rows[1:], rows[0]]
        expected = None
    text = (WRITERS["lines"] if name.endswith("l") else json.dumps)(rows).encode()
    file = tmp_path / name
    file.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    for n, protocol in enumerate(("amodal", "order", "completion")):
        if name != "fifo":
            values = figures(path, file, protocol)
        else:
            reading, writing = os.pipe()
            writer = threading.Thread(target=write_and_close, args=(writing, text))
            writer.start()
            values = figures(path, f"/dev/fd/{reading}", protocol)
            writer.join()
            os.close(reading)
        in_memory = {}
        if expected is None:
            from amodal_data.evaluation.comparison import read_predictions
            from amodal_data.evaluation.ground_truth import read_truth

            in_memory = read_predictions(file, read_truth(path)).images
            assert values == figures(path, in_memory, protocol)
        else:
            assert values == expected[n]


@pytest.mark.parametrize("layout", ["file", "annotators"])
def test_streamed_ground_truth_gives_equal_figures(scored, tmp_path, monkeypatch, layout):
    path, rows, _ = scored
    rules = {}
    if layout == "annotators":
        content = json.loads(path.read_text())
        content["annotations"] += [{**values, "id": values["id"] + 100} for values in content["annotations"][::2]]
        path, rules = tmp_path / path.name, {"annotator": "all"}
        path.write_text(json.dumps(content))
    (tmp_path / "r.json").write_text(json.dumps(rows[::-1]))
    expected = [figures(path, tmp_path / "r.json", protocol, **rules) for protocol in ("amodal", "order", "completion")]
    monkeypatch.setattr(ground_truth, "_STREAMED", 10)
    monkeypatch.setattr(ground_truth, "read_annotations", None)  # must not be called
    for protocol, values in zip(("amodal", "order", "completion"), expected, strict=True):
        assert figures(path, tmp_path / "r.json", protocol, **rules) == values
    assert evaluate(path, {1: []}, only=[1, 2], **rules).settings["images"] == (3 if rules else 2)
    with pytest.raises(PredictionError, match="image 99 is not"):
        evaluate(path, {99: []})


@pytest.mark.slow
def test_results_from_standard_input(scored, run_process):
    path, rows, expected = scored
    process = run_process("amodal-data", "evaluate", path, "-", "--json", stdin=json.dumps(rows).encode())
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["subsets"] == expected[0]["subsets"]


def test_masks_of_excluded_images_are_not_parsed(scored, tmp_path, monkeypatch):
    path, rows, _ = scored
    selected = [row for row in rows if row["image_id"] in (2, 5)]
    malformed = [row if row in selected else {**row, "segmentation": "no mask"} for row in rows]
    (tmp_path / "some.json").write_text(json.dumps(selected))
    (tmp_path / "spoilt.json").write_text(json.dumps(malformed))
    build_targets(read_annotations(path), tmp_path / "t.h5")
    for source in (path, tmp_path / "t.h5", list(read_annotations(path))):
        expected = figures(source, tmp_path / "some.json", "amodal", only=[2, 5])
        assert figures(source, tmp_path / "spoilt.json", "amodal", only=[2, 5]) == expected
        assert figures(source, {2: [], 7: []}, "amodal", only=[2]) is not None
        with pytest.raises(PredictionError, match="image 99"):
            figures(source, {99: []}, "amodal", only=[2])
    monkeypatch.setattr(ground_truth, "_STREAMED", 10)
    assert figures(path, tmp_path / "spoilt.json", "amodal", only=[2, 5]) == expected


def test_a_gzip_file_that_unpacks_to_far_more_than_results_do_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "_FREE_BYTES", 1000)
    path = tmp_path / "r.json.gz"
    for length in (10**5, 10**7):
        path.write_bytes(gzip.compress(b"[" + b" " * length + b"]"))
        with pytest.raises(AnnotationError, match="unpacks to far more than its size tells"):
            open_records(path)
    path.write_bytes(gzip.compress(b"[" + b" " * 900 + b"]"))
    open_records(path).close()
