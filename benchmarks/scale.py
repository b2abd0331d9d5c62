"""Large datasets: processes, clusters, streaming and reading, each metric with its limit.

    python benchmarks/scale.py parallel   # 20,000 images with 1 and 2 processes, and a Dask cluster
    python benchmarks/scale.py stream     # 10,000 and 100,000 images through the streaming reader
    python benchmarks/scale.py read       # opening, random reads, DataLoader throughput

Images are small generated ones, repeated under many ids, so the overhead is measured.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_and_resume import repeated

from amodal_data import TargetCache, build_targets, iter_annotations, read_annotations, write_cocoa


def cpu() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    usages = [resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measured(code: str, *arguments: object) -> dict[str, float]:
    """Run code in a process of its own: CPU seconds with all its children, wall seconds, peak memory."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    out = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
    ).stdout  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": spent, "wall": time.time() - start, **json.loads(out or "{}")}


PARALLEL = """
import sys
from amodal_data import build_targets, read_annotations
build_targets(read_annotations(sys.argv[1]), sys.argv[2], jobs=int(sys.argv[3]))
"""
CLUSTER = """
import sys
if __name__ == "__main__":
    from distributed import LocalCluster
    from amodal_data import build_targets, read_annotations
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        build_targets(read_annotations(sys.argv[1]), sys.argv[2], scheduler=cluster.scheduler_address)
"""
START = """
from joblib import Parallel, delayed
from amodal_data.cache.parallel import encode_batch
list(Parallel(n_jobs=2)(delayed(encode_batch)([]) for _ in range(4)))
"""
IMPORT = "import amodal_data"
STREAM = """
import json, re, sys
from pathlib import Path
from amodal_data import build_targets, iter_annotations
report = build_targets(iter_annotations(sys.argv[1]), sys.argv[2])
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({"rss": peak, "images": report.images}))
"""


def parallel(folder: Path) -> None:
    source = write_cocoa(folder, 40, seed=1, photos=False, instances=(8, 8))
    content = json.loads(source.read_text())
    images, annotations = content["images"], content["annotations"]
    n = 20_000
    listed = [{**images[k % 40], "id": k, "file_name": f"{k:012d}.jpg"} for k in range(n)]
    rows = [{**annotations[k % 40], "id": k, "image_id": k} for k in range(n)]
    source.write_text(json.dumps({"images": listed, "annotations": rows}))
    outs = [folder / f"{name}.h5" for name in ("one", "two", "dask")]
    bare, start = measured(IMPORT), measured(START)
    single, double = measured(PARALLEL, source, outs[0], 1), measured(PARALLEL, source, outs[1], 2)
    dask = measured(CLUSTER, source, outs[2])
    begin = start["cpu"] - bare["cpu"]
    print(f"{n} images of 640 x 480, 8 instances; worker start-up of 2 processes: {begin:.1f} s CPU")
    print(f"  1 process:      {single['cpu']:6.1f} s CPU  {single['wall']:6.1f} s wall")
    print(f"  2 processes:    {double['cpu']:6.1f} s CPU  {double['wall']:6.1f} s wall", end="")
    print(f"   CPU {(double['cpu'] - begin) / single['cpu']:.2f} x without start-up (at most 1.15)")
    print(f"  Dask, 2 workers:{dask['cpu']:6.1f} s CPU  {dask['wall']:6.1f} s wall", end="")
    print(f"   CPU {dask['cpu'] / single['cpu']:.2f} x, cluster start-up included")
    print(f"  identical bytes: {len({out.read_bytes() for out in outs}) == 1}")


def stream(folder: Path) -> None:
    costs = {}
    for n in (10_000, 100_000):
        source, out = repeated(folder / f"COCO_amodal_train{n}.json", n), folder / f"{n}.h5"
        costs[n] = measured(STREAM, source, out)
        size = source.stat().st_size / 1e6
        print(f"{n} images, {size:.0f} MB of JSON: {costs[n]['cpu']:.1f} s CPU, peak {costs[n]['rss']:.0f} MB")
        source.unlink()
    small, large = costs[10_000], costs[100_000]
    time_ratio, memory_ratio = large["cpu"] / small["cpu"], large["rss"] / small["rss"]
    print(f"  10 x the images: {time_ratio:.1f} x the time, {memory_ratio:.2f} x the peak")
    path = folder / "100000.h5"
    best = min(_open_and_read(path, index) for index in random.Random(0).sample(range(100_000), 5))
    print(f"  open and read one random image: {best * 1e3:.2f} ms CPU (at most 5)")


def _open_and_read(path: Path, index: int) -> float:
    start = time.process_time()
    with TargetCache(path) as cache:
        cache[index]
    return time.process_time() - start


def read(folder: Path) -> None:
    small = repeated(folder / "COCO_amodal_val2014.json", 20_000)
    build_targets(iter_annotations(small), folder / "lazy.h5")
    cocoa = write_cocoa(folder / "val", 300, seed=1, photos=False)
    build_targets(read_annotations(cocoa), folder / "held.h5")
    for name in ("held", "lazy"):
        start = time.process_time()
        cache = TargetCache(folder / f"{name}.h5")
        opened = time.process_time() - start
        order = random.Random(0).sample(range(len(cache)), 300)
        start = time.process_time()
        for index in order:
            cache[index]
        seconds = (time.process_time() - start) / len(order)
        print(f"{name}: {len(cache)} images, open {opened * 1e3:.1f} ms, random read {seconds * 1e3:.3f} ms")
    _loader(TargetCache(folder / "held.h5"))


def _loader(cache: TargetCache) -> None:
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Counts(Dataset):
        def __len__(self) -> int:
            return len(cache)

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.from_numpy(cache[index].resized((512, 512)).count_map())

    for number in (0, 1, 2):
        start = time.time()
        images = sum(len(batch) for batch in DataLoader(Counts(), batch_size=8, num_workers=number))
        print(f"DataLoader, {number} workers: {images / (time.time() - start):.0f} count maps of 512 x 512 a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["parallel", "stream", "read"])
    with tempfile.TemporaryDirectory() as name:
        globals()[parser.parse_args().what](Path(name))


if __name__ == "__main__":
    main()
