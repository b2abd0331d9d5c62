import numpy as np
import pytest
from PIL import Image
from support.scenes import make_scene, random_masks

from amodal_data import build_targets, contact_sheet, layer_scene, summarize
from amodal_data.cache import CachedImage
from amodal_data.errors import SelectionError
from amodal_data.inspector.dataset import open_dataset
from amodal_data.inspector.drawing.colors import IDENTITY, level_colors, sem_dist_colors
from amodal_data.inspector.drawing.panels import draw_instances, draw_sem_dist, label_places


def shown(masks, name="a.jpg", **more):
    scene = make_scene(masks, **more)
    return CachedImage(1, name, scene.size), layer_scene(scene)


def test_summary_counts_what_dense_maps_count():
    rng = np.random.default_rng(0)
    images = [shown(random_masks(rng, n, (20, 20))) for n in (1, 4, 6, 9)]
    summary = summarize(images)
    codes = [t.levels() for _, t in images]
    for level, pixels in enumerate(summary.level_pixels):
        assert pixels == sum(int((c == level + 1).sum()) for c in codes)
    assert summary.instances == sum(summary.deepest) + summary.empty == 20
    assert sum(summary.hidden_share) == summary.instances - summary.empty
    assert summary.pairs == sum(len(t.pairs) for _, t in images)
    total = sum(int((c > 0).sum()) for c in codes)
    assert summary.lost_at_cap()[1] == sum(int((c > 2).sum()) for c in codes) / total
    hidden = [int((c > 1).sum()) for c in codes]
    assert summary.hardest == sorted(range(4), key=lambda at: -hidden[at])
    assert summary.to_dict()["level_pixels"]["0"] == summary.level_pixels[0]
    assert "level 0 (visible)" in str(summary)


def test_summary_of_nothing():
    assert summarize([]).to_dict()["images"] == 0
    assert "0 images" in str(summarize([]))


def test_hidden_parts_are_striped_and_outside_is_never_coloured():
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 5:35, 5:20] = masks[1, 10:30, 10:38] = True
    _, targets = shown(masks)
    photo = np.full((40, 40, 3), 200.0)
    picture = draw_instances(photo, targets)
    outside = ~masks.any(axis=0)
    assert len(np.unique(picture[outside], axis=0)) == 1
    hidden = np.pad(np.ones((16, 6), bool), [(12, 12), (12, 22)])
    assert len(np.unique(picture[hidden], axis=0)) == 2  # a stripe and what shines through
    m = draw_sem_dist(photo, targets, 1)
    assert not np.array_equal(m[20, 15], m[20, 30])
    assert np.array_equal(m[0, 0], picture[0, 0])
    assert [n for n, _, _ in label_places(targets)] == [0, 1]
    for n, x, y in label_places(targets):
        assert targets.modal(n)[y, x]


def test_colours_run_the_right_way():
    levels = level_colors(np.arange(1, 7))
    assert (np.diff(levels.sum(axis=1)) < 0).all()  # deeper is darker
    sure = sem_dist_colors(np.array([1.0, 0, -1, -4, -9]))
    assert (sure == level_colors(np.array([1, 2, 3, 6, 9]))).all()  # one colour for one level, in every picture
    unsure = sem_dist_colors(np.array([0.6, -0.4]))
    assert (np.abs(unsure - 150) < np.abs(sure[:2] - 150)).all()
    assert len(np.unique(IDENTITY, axis=0)) == 7


@pytest.mark.parametrize("photo", ["good", "missing", "wrong size", "broken"])
def test_contact_sheet_with_and_without_photos(tmp_path, photo):
    path = tmp_path / "a.jpg"
    size = (30, 20) if photo == "wrong size" else (20, 30)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    if photo == "broken":
        path.write_bytes(path.read_bytes()[:200])
    rng = np.random.default_rng(1)
    images = [shown(random_masks(rng, n, (20, 30)), "odd\nname\u202e.jpg") for n in (3, 1)]
    empty = shown(np.zeros((1, 20, 30)))
    sheet = contact_sheet([(*one, None if photo == "missing" else path) for one in [*images, empty]])
    assert sheet.width > 1500
    assert np.asarray(sheet).std() > 10
    grey = np.asarray(sheet)[60, 30]
    assert (grey == (90 if photo == "good" else 205)).all()


def test_choosing_images(tmp_path):
    rng = np.random.default_rng(2)
    build_targets([make_scene(random_masks(rng, 4, (20, 20))) for _ in range(5)], tmp_path / "c.h5")
    source = open_dataset(tmp_path / "c.h5")
    summary = source.summary()
    assert source.choose("first", 3, summary) == [0, 1, 2]
    assert source.choose("hardest", 2, summary) == summary.hardest[:2]
    assert source.choose("random", 3, summary) == source.choose("random", 3, summary)
    assert source.choose("findings", 3, summary) == []
    assert source.choose("first", 3, summary, [1]) == [0, 1, 2, 3, 4]
    with pytest.raises(SelectionError, match="no image with id 8"):
        source.choose("first", 3, summary, [8])


def test_the_plane_shows_levels_up_to_it():
    codes = np.zeros((3, 24, 24), bool)
    codes[:, 4:20, 4:20] = True
    targets = layer_scene(make_scene(codes))
    photo = np.full((24, 24, 3), 120.0)
    pictures = [draw_instances(photo, targets, plane) for plane in (0, 1, 2, None)]
    assert (pictures[2] == pictures[3]).all()
    assert not (pictures[0] == pictures[1]).all() and not (pictures[1] == pictures[2]).all()
