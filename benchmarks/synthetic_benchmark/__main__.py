"""The paper's tables on data everyone can regenerate (Protocol A: every head on identical features).

    python benchmarks/synthetic_benchmark out            # resumes if it was stopped
    python benchmarks/synthetic_benchmark out --bf16     # about half the time on a CPU with AMX
    python benchmarks/synthetic_benchmark out --smoke    # two minutes; its metrics mean nothing

Writes out/results.json, out/tables.txt and out/differences.svg. Finished parts are kept in out/ and not
repeated. `ablations.py` runs ablations in such a folder; `end_to_end.py` is Protocol B.
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
    script = Path(__file__).with_name("trunk.py")
    commands = [[sys.executable, str(script), str(out), str(number), *flags] for number in range(sizes.trunks)]
    running = [subprocess.Popen(command) for command in commands]
    ended = [process.wait() for process in running]
    if any(ended):
        raise SystemExit("a trunk failed; run again to resume")
    orders.run(out, sizes, partial(first_head, sizes=sizes, precision=precision), precision, rgb=rgb)
    tables.publish(out, tables.gather(out, sizes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for all results")
    parser.add_argument("--smoke", action="store_true", help="run the short form")
    parser.add_argument("--bf16", action="store_true", help="train in bf16")
    parser.add_argument("--rgb", action="store_true", help="train three more OrderNets that also see the image")
    arguments = parser.parse_args()
    chosen = [flag for flag, on in (("--smoke", arguments.smoke), ("--bf16", arguments.bf16)) if on]
    main(
        arguments.out,
        SMOKE if arguments.smoke else FULL,
        chosen,
        "bf16" if arguments.bf16 else "float32",
        arguments.rgb,
    )
