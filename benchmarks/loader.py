"""CPU time of a training sample of `modern`, for two sizes of photos: OMP_NUM_THREADS=1 python benchmarks/loader.py"""

import tempfile
import time
from pathlib import Path

from amodal_data import build_targets, read_cocoa, write_cocoa
from sln import CachedTargets, load_config

PHOTOS, EPOCHS = 12, 3

for width, height in ((640, 480), (1920, 1440)):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_targets(read_cocoa(write_cocoa(folder, PHOTOS, seed=1, size=(height, width))), folder / "t.h5")
        data = CachedTargets(folder / "t.h5", [folder], load_config("modern", environment={}).data)
        data.sample(0, 1)
        started = time.process_time()
        for epoch in range(1, EPOCHS + 1):
            for image in range(PHOTOS):
                data.sample(image, epoch)
        seconds = (time.process_time() - started) / (PHOTOS * EPOCHS)
    print(f"{width} x {height}: {1000 * seconds:.1f} ms a sample, {1 / seconds:.0f} photos a second per core")
