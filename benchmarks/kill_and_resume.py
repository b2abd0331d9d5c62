"""Kill a build with -9 at random moments and resume it: are the bytes the same every time?

    python benchmarks/kill_and_resume.py [--kills 200] [--images 2300] [--seed 0]

The long form of a test in tests/amodal_data/cache/test_build.py. Prints the stage of each kill, and whether every
resumed build gave the bytes of an uninterrupted one and left no other file.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from amodal_data import write_cocoa

COMMAND = Path(sys.executable).parent / "amodal-data"


def repeated(path: Path, n: int) -> Path:
    """A COCOA file of n images: a few small generated ones under many ids."""
    small = write_cocoa(path.parent / "small", 8, seed=3, size=(96, 128), photos=False, force=True)
    content = json.loads(small.read_text())
    images, annotations = content["images"], content["annotations"]
    listed = [{**images[k % 8], "id": k, "file_name": f"{k:012d}.jpg"} for k in range(n)]
    path.write_text(
        json.dumps(
            {"images": listed, "annotations": [{**annotations[k % 8], "id": k, "image_id": k} for k in range(n)]}
        )
    )
    return path


def stage(out: Path) -> str:
    """The stage of a build after a kill."""
    shards = len(list(out.parent.glob(f"{out.name}.parts/*.h5")))
    if out.exists():
        return "finished"
    writing = ", merging" if out.with_name(out.name + ".part").exists() else ""
    return f"{shards} shards{writing}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=2300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = repeated(folder / "COCO_amodal_train2014.json", arguments.images)
        inputs = {source.name, "small"}
        out = folder / "c.h5"
        command = [COMMAND, "build-targets", source, "-o", out, "-q", "--resume"]
        start = time.time()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        duration, expected = time.time() - start, out.read_bytes()
        out.unlink()
        stages: Counter[str] = Counter()
        for _ in range(arguments.kills):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.2, 1.05) * duration)
            process.send_signal(signal.SIGKILL)
            process.wait()
            stages[stage(out)] += 1
            assert not out.exists() or out.read_bytes() == expected, "an incomplete file under the final name"
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            assert out.read_bytes() == expected, "different bytes after --resume"
            left = {path.name for path in folder.iterdir()} - inputs
            assert left == {"c.h5"}, f"left behind: {left}"
            out.unlink()
    print(f"{arguments.kills} kills of a build of {arguments.images} images ({duration:.1f} s), seed {arguments.seed}")
    print("found after the kill: " + ", ".join(f"{text}: {n}" for text, n in sorted(stages.items())))
    print("every resumed build: the same bytes, no other file")


if __name__ == "__main__":
    main()
