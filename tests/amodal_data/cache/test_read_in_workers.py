"""A cache in the worker processes of a DataLoader, however they are started."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from amodal_data import TargetCache, build_targets, read_cocoa, write_cocoa

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # fork, on purpose
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # three workers on two cores
]


class Counts(Dataset):
    def __init__(self, cache):
        self.cache = cache

    def __len__(self):
        return len(self.cache)

    def __getitem__(self, at):
        targets = self.cache[at]
        boxes, _ = targets.boxes()
        rois = targets.roi_levels(boxes[:1], np.zeros(1, int), 8)
        return torch.from_numpy(targets.resized((32, 40)).count_map().astype(np.int64)), torch.from_numpy(rois)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    build_targets(read_cocoa(write_cocoa(folder, 12, size=(64, 80), photos=False)), folder / "c.h5")
    return folder / "c.h5"


METHODS = ("fork", "spawn", "forkserver")


@pytest.mark.parametrize(
    ("workers", "method", "held"), [(3, "fork", True), *((w, m, False) for w in (1, 3) for m in METHODS)]
)
def test_workers_see_what_the_main_process_sees(path, monkeypatch, workers, method, held):
    if not held:
        monkeypatch.setattr("amodal_data.cache.read._PRELOAD_BYTES", 0)  # read from the file, not from memory
    cache = TargetCache(path)
    data = Counts(cache)
    wanted = [data[at] for at in range(len(data))]  # the file is open before the workers start
    assert all(map(_same, DataLoader(data, batch_size=None), wanted))
    loader = DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context=method)
    for _ in range(2):
        found = list(loader)
        assert len(found) == 12
        assert all(map(_same, found, wanted))
    assert all(map(_same, (data[at] for at in range(len(data))), wanted))


def _same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
