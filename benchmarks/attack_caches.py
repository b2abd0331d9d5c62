"""Attack a cache in many random ways, its checksums repaired each time: the long form of tests/test_hostile.py.

Each attack must end in a CacheError, or read as exactly the scene that the bytes state (a slow reader says which), in
five seconds; and `verify --annotations` must find whatever differs from the source.

    python benchmarks/attack_caches.py --attacks 5000 --seed 1000
"""

import argparse
import collections
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import test_hostile

from amodal_data import build_targets, read_cocoa, write_cocoa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1000)
    given = parser.parse_args()
    ends: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = write_cocoa(folder, 5, seed=2, size=(40, 50), instances=(3, 6), photos=False)
        build_targets(read_cocoa(scenes), folder / "c.h5")
        for seed in range(given.seed, given.seed + given.attacks):
            started = time.monotonic()
            attack, ended, verified = test_hostile.judge(folder, folder / "attacked.h5", seed)
            slowest = max(slowest, time.monotonic() - started)
            if verified and not test_hostile.unchanged(folder / "c.h5", folder / "attacked.h5"):
                raise SystemExit(f"seed {seed}, {attack}: {ended}, and verify found nothing")
            ends[ended] += 1
    print(f"{given.attacks} attacks: {ends['refused']} refused, {ends['read']} read as their bytes state; "
          f"the slowest took {slowest:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
