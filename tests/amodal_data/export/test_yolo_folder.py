"""The folder of YOLO labels: whole or absent, and only with names that files can have."""

import numpy as np
import pytest
from support.scenes import make_scene, random_masks

from amodal_data import layer_scene
from amodal_data.cache import CachedImage
from amodal_data.errors import InUseError, SelectionError
from amodal_data.export import yolo
from amodal_data.export.yolo import export_yolo
from amodal_data.io.files import sole_writer


@pytest.fixture(scope="module")
def targets():
    return layer_scene(make_scene(random_masks(np.random.default_rng(0), 3, (20, 30))))


def images(targets, *names):
    return [(CachedImage(n, name, (20, 30)), targets) for n, name in enumerate(names, 1)]


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_labels_are_replaced_as_a_whole(targets, tmp_path):
    export_yolo(images(targets, "a.jpg", "b.jpg"), tmp_path)
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "images" / "train" / "a.jpg").write_bytes(b"mine")
    export_yolo(images(targets, "c.jpg"), tmp_path)
    assert files(tmp_path) == {"data.yaml", "labels/train/c.txt", "images/train/a.jpg"}
    with sole_writer(tmp_path / ".lock", "it"), pytest.raises(InUseError):
        export_yolo(images(targets, "d.jpg"), tmp_path)


def test_what_is_stopped_leaves_no_labels(targets, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    def broken():
        yield from images(targets, "a.jpg")
        stop()

    with pytest.raises(KeyboardInterrupt):
        export_yolo(broken(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(yolo.Path, "write_text", stop)
    with pytest.raises(KeyboardInterrupt):
        export_yolo(images(targets, "a.jpg"), tmp_path / "out")
    assert not (tmp_path / "out" / "labels" / "train").exists() and not (tmp_path / "out" / "data.yaml").exists()
    monkeypatch.undo()
    export_yolo(images(targets, "a.jpg"), tmp_path / "out")
    assert files(tmp_path / "out") == {"data.yaml", "labels/train/a.txt"}


@pytest.mark.parametrize("name", ["x" * 252 + ".jpg", "é" * 126 + ".jpg", "a\ud800.jpg", "a\0b.jpg"])
def test_names_that_no_file_can_have_are_refused(name, targets, tmp_path):
    with pytest.raises(SelectionError, match=r"no file can have the name of image (.|\n)*rename"):
        export_yolo(images(targets, "a.jpg", name), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_yolo(images(targets, "x" * 251 + ".jpg"), tmp_path / "out")
