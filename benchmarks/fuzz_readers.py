"""The long form of tests/test_malformed.py: many malformed files through every reader.

    python benchmarks/fuzz_readers.py [--cases 100000] [--seed 0]

Prints how many were refused, read with findings, and read without; stops at the first that crashes, gives a
wrong mask, or is answered with anything but an error of ours. Peak memory is printed at the end.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from malformed import case, must_hold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    outcomes: Counter[str] = Counter()
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.json"
        for seed in range(chosen.seed, chosen.seed + chosen.cases):
            path.write_bytes(case(seed))
            try:
                outcomes[must_hold(path)] += 1
            except Exception:
                print(f"seed {seed} fails")
                raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{chosen.cases} cases from seed {chosen.seed} in {time.time() - start:.0f} s: {dict(outcomes)}")
    print(f"peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
