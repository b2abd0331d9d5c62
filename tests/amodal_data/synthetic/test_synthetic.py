import json

import numpy as np
import pytest
from PIL import Image

from amodal_data import build_targets, layer_scene, read_cocoa, verify_cache, write_cocoa
from amodal_data.errors import OutputExistsError
from amodal_data.layering.targets import layer_with_findings
from amodal_data.synthetic.shapes import arrange
from amodal_data.synthetic.write_cocoa import cocoa_annotation


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, write_cocoa(folder, 30, seed=1, size=(120, 160))


def test_targets_agree_with_the_painted_truth(made):
    folder, path = made
    scenes = read_cocoa(path)
    assert scenes.findings == ()
    build_targets(scenes, folder / "c.h5", force=True)
    report = verify_cache(folder / "c.h5", scenes)
    assert report.ok, report.differences
    assert report.stored > 100


def test_scenes_are_deep_and_of_both_kinds(made):
    targets = [layer_scene(scene) for scene in read_cocoa(made[1])]
    assert max(int(t.table.max()) for t in targets) - 1 >= 4
    assert {bool(s) for t in targets for s in t.is_stuff} == {True, False}
    assert all((t.areas()[1] > 0).all() for t in targets)


def test_depth_constraint_lists_the_overlapping_pairs(made):
    for scene, annotation in zip(read_cocoa(made[1]), json.loads(made[1].read_text())["annotations"], strict=True):
        pairs = ",".join(f"{a + 1}-{b + 1}" for a, b in layer_scene(scene).pairs)
        assert annotation["depth_constraint"] == pairs
        assert layer_with_findings(scene)[1] == ()


def test_the_same_seed_gives_the_same_files(made, tmp_path):
    repeated = write_cocoa(tmp_path, 30, seed=1, size=(120, 160))
    assert repeated.read_bytes() == made[1].read_bytes()
    photo = "val2014/COCO_val2014_000000000007.jpg"
    assert (tmp_path / photo).read_bytes() == (made[0] / photo).read_bytes()
    other = write_cocoa(tmp_path / "other", 30, seed=2, size=(120, 160), photos=False)
    assert other.read_bytes() != repeated.read_bytes()
    with pytest.raises(OutputExistsError):
        write_cocoa(tmp_path, 1)


def test_photos_are_textured_and_of_the_right_size(made):
    for path in sorted((made[0] / "val2014").iterdir())[:5]:
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (120, 160, 3)
        assert pixels.std() > 15


def smaller_in_front(**options):
    """How often the smaller of two overlapping objects is the one in front."""
    smaller = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        record = cocoa_annotation(arrange(rng, (96, 96), 5, **options), (96, 96), image_id=1, annotation_id=1)
        areas = [region["area"] for region in record["regions"]]
        for pair in filter(None, record["depth_constraint"].split(",")):
            front, back = (int(order) - 1 for order in pair.split("-"))
            smaller.append(areas[front] < areas[back])
    return np.mean(smaller)


def test_growth_correlates_size_and_order():
    assert smaller_in_front() > 0.7
    assert 0.4 < smaller_in_front(stuff=0, growth=0) < 0.6
