"""Attack a cache in many random ways and repair its checksums each time.

The long form of tests/amodal_data/cache/test_hostile_files.py.

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

sys.path.extend([str(Path(__file__).parents[1] / folder) for folder in ("tests", "tests/amodal_data/cache")])
from test_hostile_files import attack_once, equal_content

from amodal_data import build_targets, read_cocoa, write_cocoa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1000)
    arguments = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = write_cocoa(folder, 5, seed=2, size=(40, 50), instances=(3, 6), photos=False)
        build_targets(read_cocoa(scenes), folder / "c.h5")
        for seed in range(arguments.seed, arguments.seed + arguments.attacks):
            started = time.monotonic()
            attack, outcome, verified = attack_once(folder, folder / "attacked.h5", seed)
            slowest = max(slowest, time.monotonic() - started)
            if verified and not equal_content(folder / "c.h5", folder / "attacked.h5"):
                raise SystemExit(f"seed {seed}, {attack}: {outcome}, and verify found nothing")
            outcomes[outcome] += 1
    print(f"{arguments.attacks} attacks: {outcomes['refused']} refused, {outcomes['read']} read as their bytes state; "
          f"the slowest took {slowest:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
