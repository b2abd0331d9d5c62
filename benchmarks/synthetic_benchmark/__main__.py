"""The paper's tables on data everyone can regenerate (Protocol A: every head on identical features).

    python benchmarks/synthetic_benchmark out            # goes on where it was stopped
    python benchmarks/synthetic_benchmark out --bf16     # about half the time on a CPU with AMX
    python benchmarks/synthetic_benchmark out --smoke    # two minutes; the figures mean nothing

Writes out/results.json, out/tables.txt and out/differences.svg. Parts that are done are kept in out/ and not
done again. `ablations.py` takes such a folder apart; `end_to_end.py` is Protocol B.
"""

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

import orders
import tables
from setup import FULL, SMOKE, Sizes, claim, make_data
from trunk import first_head


def main(out: Path, sizes: Sizes, flags: list[str], precision: str, rgb: bool) -> None:
    """Make the data, run the trunks (two at a time, a core each), then OrderNet, then the tables."""
    claim(out, "A", sizes, precision)
    make_data(out, sizes)
    here = Path(__file__).parent
    each = [[sys.executable, str(here / "trunk.py"), str(out), str(number), *flags] for number in range(sizes.trunks)]
    running = [subprocess.Popen(command) for command in each]
    ended = [process.wait() for process in running]
    if any(ended):
        raise SystemExit("a trunk failed; run again to go on")
    orders.run(out, sizes, partial(first_head, sizes=sizes, precision=precision), precision, rgb=rgb)
    tables.publish(out, tables.gather(out, sizes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for everything")
    parser.add_argument("--smoke", action="store_true", help="the short form")
    parser.add_argument("--bf16", action="store_true", help="train in bf16")
    parser.add_argument("--rgb", action="store_true", help="three more OrderNets, which see the photo too")
    given = parser.parse_args()
    chosen = [flag for flag, wanted in (("--smoke", given.smoke), ("--bf16", given.bf16)) if wanted]
    main(given.out, SMOKE if given.smoke else FULL, chosen, "bf16" if given.bf16 else "float32", given.rgb)
