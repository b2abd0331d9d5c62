"""Arrays of prompts that are damaged, of odd types, or announce more than they hold."""

import io
import zipfile

import numpy as np
import pytest

from amodal_data.errors import PredictionError
from sln.completion import prompt_files
from sln.completion.prompt_files import open_prompts

SIZE = (20, 30)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def announced(shape, dtype="|b1"):
    """A ``.npy`` file whose header tells more than it holds."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + b"\1"


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


BOXES = np.array([[1.0, 2, 9, 12]])
HOSTILE = {
    "cut archive": (archive(boxes=npy(BOXES))[:-30], "cannot be read"),
    "no archive": (b"PK\3\4 and more", "cannot be read"),
    "other names": (archive(other=npy(BOXES)), "no array 'masks' or 'boxes'"),
    "no array inside": (archive(masks=b"text"), "cannot be read"),
    "terabytes": (announced((1 << 23, 1000, 1000)), "it declares 8388608000000 bytes and has 1"),
    "terabytes inside": (archive(masks=announced((1 << 23, 1000, 1000))), "declares 8388608000000 bytes"),
    "negative": (announced((-1, 4), "<f8"), "cannot be read"),
    "void": (npy(np.zeros((3, *SIZE), "V8")), r"found \|V8 \[3, 20, 30\]"),
    "complex boxes": (npy(BOXES + 0j), "found complex128"),
    "boxes of text": (npy(BOXES.astype("U5")), "found <U5"),
    "boxes of times": (npy(BOXES.astype("M8[s]")), "found datetime64"),
    "not finite": (npy(BOXES * np.nan), "boxes must be"),
    "empty file": (b"", "cannot be read"),
    "text": (b"0 1 2 3\n", "cannot be read"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_hostile_arrays_are_refused(suffix, content, message, tmp_path):
    path = tmp_path / f"prompts.{suffix}"
    path.write_bytes(content)
    with pytest.raises(PredictionError, match=message) as caught:
        open_prompts(path).read(1, SIZE)
    assert caught.value.place == str(path)


def test_a_depth_map_is_no_label_map(tmp_path, monkeypatch):
    monkeypatch.setattr(prompt_files, "_MAX_BYTES", 100_000)
    path = tmp_path / "map.npy"
    np.save(path, np.arange(600, dtype=np.uint16).reshape(SIZE))
    with pytest.raises(PredictionError, match=r"a label map of 599 objects needs 0\.0 GiB(.|\n)*depth map"):
        open_prompts(path).read(1, SIZE)
    np.save(path, np.arange(600, dtype=np.uint16).reshape(SIZE) // 200)
    assert len(open_prompts(path).read(1, SIZE)) == 2


def test_sound_arrays_are_read(tmp_path):
    for name, content in (("a.npz", archive(boxes=npy(BOXES))), ("b.npy", npy(np.zeros((0, 4))))):
        (tmp_path / name).write_bytes(content)
        assert len(open_prompts(tmp_path / name).read(1, SIZE)) == (name == "a.npz")
