"""A cache in the worker processes of a DataLoader, however they are started."""

import numpy as np
import pytest
from support.oracle import roi_levels

from amodal_data import TargetCache, build_targets, read_cocoa, write_cocoa

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # fork, on purpose
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # three workers on two cores
]


class Counts(torch.utils.data.Dataset):
    def __init__(self, cache):
        self.cache = cache

    def __len__(self):
        return len(self.cache)

    def __getitem__(self, index):
        targets = self.cache[index]
        boxes, _ = targets.boxes()
        rois = roi_levels(targets, boxes[:1], np.zeros(1, int), 8)
        return torch.from_numpy(targets.resized((32, 40)).count_map().astype(np.int64)), torch.from_numpy(rois)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    build_targets(read_cocoa(write_cocoa(folder, 12, size=(64, 80), photos=False)), folder / "c.h5")
    return folder / "c.h5"


@pytest.mark.parametrize(
    ("workers", "method", "preload"),
    [(3, "fork", True), (1, "fork", False), (3, "fork", False), (2, "spawn", False), (2, "forkserver", False)],
)
def test_workers_read_the_same_as_the_main_process(path, monkeypatch, workers, method, preload):
    if not preload:
        monkeypatch.setattr("amodal_data.cache.read.PRELOAD_BYTES", 0)  # read from the file, not from memory
    cache = TargetCache(path)
    data = Counts(cache)
    expected = [data[k] for k in range(len(data))]  # the file is open before the workers start
    assert all(map(_equal, torch.utils.data.DataLoader(data, batch_size=None), expected))
    persistent = method != "fork"  # other new processes import torch once more, 3 s each
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=workers, multiprocessing_context=method, persistent_workers=persistent
    )
    for _ in range(2):
        samples = list(loader)
        assert len(samples) == 12
        assert all(map(_equal, samples, expected))
    assert all(map(_equal, (data[k] for k in range(len(data))), expected))


def _equal(sample, expected):
    return all(torch.equal(*pair) for pair in zip(sample, expected, strict=True))
