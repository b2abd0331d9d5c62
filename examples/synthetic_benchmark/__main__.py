"""The paper's tables on data everyone can regenerate (Protocol A: one trunk, every head on identical features).

    python examples/synthetic_benchmark out            # about an hour on two cores; goes on where it was stopped
    python examples/synthetic_benchmark out --smoke    # two minutes; the figures mean nothing

Writes out/results.json and out/tables.txt. Parts that are done are kept in out/ and not done again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import orders
import tables
from setup import FULL, SMOKE, make_data


def main(out: Path, smoke: bool) -> None:
    """Make the data, run the trunks (two at a time, a core each), then OrderNet, then the tables."""
    sizes = SMOKE if smoke else FULL
    out.mkdir(parents=True, exist_ok=True)
    make_data(out, sizes)
    here = Path(__file__).parent
    each = [[sys.executable, str(here / "trunk.py"), str(out), str(seed)] for seed in range(sizes.trunks)]
    running = [subprocess.Popen([*command, *(["--smoke"] if smoke else [])]) for command in each]
    if any(process.wait() for process in running):
        raise SystemExit("a trunk failed; run again to go on")
    orders.run(out, sizes)
    results = tables.gather(out, sizes)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = tables.written(results)
    (out / "tables.txt").write_text(text)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    main(given.out, given.smoke)
