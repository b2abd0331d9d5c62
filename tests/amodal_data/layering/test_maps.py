import numpy as np
import pytest
from support.oracle import roi_levels
from support.scenes import make_scene, random_masks

from amodal_data import layer_scene


@pytest.fixture(params=range(8))
def targets(request):
    rng = np.random.default_rng(request.param)
    return layer_scene(make_scene(random_masks(rng, 5, (23, 31))))


def test_layering_maps_equal_their_definition(targets):
    codes = targets.levels
    for n_levels in (1, 2, 4, 9):
        layers = targets.global_layering(n_levels)
        for level in range(n_levels):
            last = level == n_levels - 1
            at_level = (codes > level) if last else (codes == level + 1)
            assert np.array_equal(layers[level], at_level.any(axis=0))
            assert np.array_equal(targets.instance_layering(2, n_levels)[level], at_level[2])
    with pytest.raises(ValueError, match="at least 1"):
        targets.global_layering(0)


def test_maps_of_an_instance_are_slices_of_those_of_all(targets):
    for maps, view in ((targets.masks, targets.amodal), (targets.visible_masks, targets.modal)):
        assert np.array_equal(maps[3], view(3)) and maps.dtype == view(3).dtype == bool
        assert np.array_equal(view(), maps)
    assert np.array_equal(targets.levels[3], targets.map_values(targets.table[:, 3]))
    assert targets.region_map().dtype == np.uint16


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", [None, (3, 2, 20, 19), (-4.5, -3, 40, 30), (25, 5, 60, 60), (100, 100, 110, 120)])
@pytest.mark.parametrize("size", [(23, 31), (46, 62), (7, 5), (1, 1)])
def test_resized_views_equal_resized_maps(targets, size, box, flip):
    x0, y0, x1, y1 = box or (0, 0, 31, 23)
    y = np.floor(y0 + (np.arange(size[0]) + 0.5) * (y1 - y0) / size[0]).astype(int)
    x = np.floor(x0 + (np.arange(size[1]) + 0.5) * (x1 - x0) / size[1]).astype(int)
    padded = np.pad(targets.levels, [(0, 0), (200, 200), (200, 200)])
    expected = padded[:, y[:, None] + 200, x[None, :] + 200]
    view = targets.resized(size, flip=flip, box=box)
    assert view.size == size
    assert np.array_equal(view.levels, expected[:, :, ::-1] if flip else expected)
    assert np.array_equal(view.count_map(), (view.levels > 0).sum(axis=0))
    assert np.array_equal(view.depth_map(), view.levels.max(axis=0))


def test_region_lookup_equals_dense_crops(targets):
    rng = np.random.default_rng(0)
    views = [targets, targets.resized((40, 50)), targets.resized((40, 50), flip=True, box=(-5, 3, 28, 40))]
    corner = rng.uniform(-8, 30, (40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 30, (40, 2))], axis=1)
    instances = rng.integers(0, 5, 40)
    for view in views:
        codes = roi_levels(view, boxes, instances, 7)
        assert codes.shape == (40, 7, 7)
        assert codes.dtype == np.uint8
        dense = np.pad(view.levels, [(0, 0), (99, 99), (99, 99)])
        for p, (x0, y0, x1, y1) in enumerate(boxes):
            for i in range(7):
                for j in range(7):
                    y = int(np.floor(y0 + (i + 0.5) / 7 * (y1 - y0)))
                    x = int(np.floor(x0 + (j + 0.5) / 7 * (x1 - x0)))
                    assert codes[p, i, j] == dense[instances[p], y + 99, x + 99]
    assert roi_levels(targets, np.zeros((0, 4)), np.zeros(0, int), 7).shape == (0, 7, 7)


def test_sem_dist_maps_of_ground_truth(targets):
    m = targets.sem_dist()
    assert m.dtype == np.float32
    levels = targets.levels.astype(int)
    assert np.array_equal(m, np.where(levels > 0, 1 - 2**-8 - (levels - 1), 0).astype(np.float32))


def test_views_do_not_change_the_targets(targets):
    before = targets.table.copy(), targets.run_lengths.copy(), targets.run_regions.copy()
    assert targets.resized((5, 5), box=(-3, -3, 40, 40)).levels.size
    targets.sem_dist()
    targets.global_layering(2)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(before, (targets.table, targets.run_lengths, targets.run_regions), strict=True)
    )


def test_wrong_arguments_are_errors(targets):
    with pytest.raises(TypeError):
        targets.amodal([0, 1])
    for size in ((0, 5), (-1, 5)):
        with pytest.raises(ValueError, match="at least 1"):
            targets.resized(size)
    with pytest.raises(TypeError):
        targets.resized((10.5, 10))
    assert targets.resized((4, 4), box=np.array([0, 0, 8, 8])).size == (4, 4)
    assert targets.sem_dist(1.0).max(initial=0) < 1
