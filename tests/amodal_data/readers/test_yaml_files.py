"""YAML files that would build objects, repeat themselves without end, or are none."""

import pytest

from amodal_data.errors import AnnotationError
from amodal_data.readers.class_lists import read_yaml

REFUSED = {
    "aliases": ("a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n", "not read: the alias *a"),
    "code": ("names: !!python/object/apply:os.system ['true']\n", "not read: the tag"),
    "a tag of bool": ("names: !!bool foo\n", "not read: the tag"),
    "a tag of int": ("names: !!int ''\n", "not read: the tag"),
    "a tag of time": ("names: !!timestamp foo\n", "not read: the tag"),
    "base 60": ("names: 1" + ":59" * 5000, "not read: a number of 15001 characters"),
    "many digits": ("names: " + "9" * 5000, "not read: a number of 5000 characters"),
    "a month of 99": ("names: 2024-99-99", "not YAML: month"),
    "an empty number": ("names: 0x_", "not YAML: invalid literal"),
    "brackets": ("[" * 100_000, "not YAML: it is nested too deeply"),
    "not UTF-8": (b"names: [caf\xe9]", "not YAML: unacceptable character"),
    "no character": ('names: "\\U00110000"', "not YAML:"),
    "unclosed": ("names: [cat\n", "not YAML: while parsing a flow sequence"),
    "more than a document": ("a: 1\n---\nb: 2\n", "not YAML: expected a single document"),
    "large": ("#" * (2**20 + 1), "a YAML file of more than 1 MiB"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_yaml_that_is_more_than_plain_values_is_refused(content, message, tmp_path):
    path = tmp_path / "data.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AnnotationError) as caught:
        read_yaml(path)
    assert caught.value.message.startswith(message) and str(path) in caught.value.place


def test_plain_yaml(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("path: ../x  # comment\nnames:\n  0: cat\n  1: 'a dog'\nnc: 2\nscript: |\n  import os\n")
    assert read_yaml(path) == {"path": "../x", "names": {0: "cat", 1: "a dog"}, "nc": 2, "script": "import os\n"}
    with pytest.raises(AnnotationError, match="this is a folder"):
        read_yaml(tmp_path)
