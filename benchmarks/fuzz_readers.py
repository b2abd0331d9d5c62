"""The long form of tests/amodal_data/readers/test_malformed.py: many malformed files through every reader.

    python benchmarks/fuzz_readers.py [--cases 100000] [--seed 0] [--tools | --foreign]

``--tools``: files of annotation tools instead (tests/support/malformed_tools.py). ``--foreign``: sound but odd input:
names, EXIF, number types, palettes, links and lists of classes (tests/support/foreign_input.py).

Prints how many files were refused, read with findings, and read without. Stops at the first that crashes, gives a
wrong mask, or raises another error than ours. Peak memory is printed at the end.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.foreign_input import check_foreign_case, foreign_case
from support.malformed import case, check_file
from support.malformed_tools import check_tool_file, tool_case


def read_case(seed: int, folder: Path) -> str:
    (folder / "f.json").write_bytes(case(seed))
    return check_file(folder / "f.json")


def read_tool_case(seed: int, folder: Path) -> str:
    with tempfile.TemporaryDirectory(dir=folder) as case_folder:
        return check_tool_file(*tool_case(seed, Path(case_folder)))


def read_foreign_case(seed: int, folder: Path) -> str:
    with tempfile.TemporaryDirectory(dir=folder) as case_folder:
        return check_foreign_case(foreign_case(seed, Path(case_folder)), Path(case_folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tools", action="store_true")
    parser.add_argument("--foreign", action="store_true")
    chosen = parser.parse_args()
    read = read_tool_case if chosen.tools else read_foreign_case if chosen.foreign else read_case
    outcomes: Counter[str] = Counter()
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(chosen.seed, chosen.seed + chosen.cases):
            try:
                outcomes[read(seed, Path(folder))] += 1
            except Exception:
                print(f"seed {seed} fails")
                raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{chosen.cases} cases from seed {chosen.seed} in {time.time() - start:.0f} s: {dict(outcomes)}")
    print(f"peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
