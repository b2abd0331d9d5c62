"""How time and memory grow: every command at N, 2 N and 4 N of whatever it may grow in.

Each command runs in a process of its own; time is CPU time, memory the largest resident set. A doubling should cost no
more than twice the time and memory, and a little: 2.3 x and 2.2 x are the bounds, of what a user waits for, the start
of the interpreter included.

    python benchmarks/growth.py [instances points pixels categories detections images]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

TIME, MEMORY = 2.3, 2.2
COMMAND = [sys.executable, "-m", "amodal_cli.data"]


def cost(*arguments: object) -> tuple[float, float]:
    """CPU seconds and MiB of one command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=environment)  # fmt: skip
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments}: {said.decode()}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def box(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def cocoa(path: Path, images: list[dict], size: tuple[int, int]) -> Path:
    """A COCOA file of images given as lists of polygons, front to back."""
    listed = [
        {"id": n, "file_name": f"{n}.jpg", "height": size[0], "width": size[1]} for n in range(1, len(images) + 1)
    ]
    annotations = [
        {"id": n, "image_id": n, "regions": [{"segmentation": p, "order": k} for k, p in enumerate(polygons, 1)]}
        for n, polygons in enumerate(images, 1)
    ]
    path.write_text(json.dumps({"images": listed, "annotations": annotations}))
    return path


def scattered(rng: np.random.Generator, n: int, size: int, side: int) -> list[list[float]]:
    """n boxes of about ``side``, anywhere."""
    corners = rng.uniform(0, size - side, (n, 2)).tolist()
    return [box(x, y, side * rng.uniform(0.5, 1), side * rng.uniform(0.5, 1)) for x, y in corners]


def flat(path: Path, cache: Path) -> Path:
    """The same instances in MVTec's layout, without an order."""
    subprocess.run([*COMMAND, "export", "coco", cache, "-o", path, "--force", "-q"], check=True)
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        del one["occl_depth"]
    path.write_text(json.dumps(content))
    return path


def chain(
    folder: Path, annotations: Path, *, order: bool = True, page: bool = True
) -> Iterator[tuple[str, tuple[float, float]]]:
    """The commands that a data set goes through, and what each costs."""
    cache, results = folder / "c.h5", folder / "results.json"
    yield "build-targets", cost("build-targets", annotations, "-o", cache, "--force")
    yield "verify", cost("verify", cache, "--annotations", annotations)
    yield "export coco", cost("export", "coco", cache, "-o", folder / "coco.json", "--force")
    yield "export table", cost("export", "table", cache, "-o", folder / "t.csv", "--force")
    yield "export results", cost("export", "results", cache, "-o", results, "--force")
    if page:
        yield "inspect --html", cost("inspect", cache, "--html", folder / "page.html", "--force")
        yield "inspect --png", cost("inspect", cache, "--png", folder / "page.png", "--force")
    for protocol in ("amodal", "coco", "order", "completion"):
        yield f"evaluate {protocol}", cost("evaluate", cache, results, "-p", protocol)


def instances(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Instances of one image: as many overlaps for each, however many there are."""
    side = 2000 / np.sqrt(n)
    annotations = cocoa(folder / "a.json", [scattered(np.random.default_rng(0), n, 2000, side)], (2000, 2000))
    yield from chain(folder, annotations)
    layout = flat(folder / "flat.json", folder / "c.h5")
    yield "build-targets, no order", cost("build-targets", layout, "-o", folder / "f.h5", "--force")


def points(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Points of one polygon, each anywhere."""
    polygon = (np.random.default_rng(0).random((n, 2)) * [640, 480]).round(1).ravel().tolist()
    annotations = cocoa(folder / "a.json", [[polygon]], (480, 640))
    yield "build-targets", cost("build-targets", annotations, "-o", folder / "c.h5", "--force")


def pixels(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Pixels of one image with eight instances that grow with it."""
    side = int(np.sqrt(n))
    annotations = cocoa(folder / "a.json", [scattered(np.random.default_rng(0), 8, side, side / 2)], (side, side))
    yield from chain(folder, annotations)


def categories(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Categories, one instance of each, eight an image."""
    rng = np.random.default_rng(0)
    images = [scattered(rng, 8, 200, 60) for _ in range(n // 8)]
    annotations = cocoa(folder / "a.json", images, (200, 200))
    subprocess.run([*COMMAND, "build-targets", annotations, "-o", folder / "c.h5", "--force", "-q"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    layout = flat(folder / "flat.json", folder / "c.h5")
    content = json.loads(layout.read_text())
    for at, one in enumerate(content["annotations"]):
        one["category_id"] = at + 1
    content["categories"] = [{"id": at + 1, "name": str(at)} for at in range(len(content["annotations"]))]
    layout.write_text(json.dumps(content))
    yield from chain(folder, layout, page=False)


def detections(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Detections, a hundred an image of eight instances."""
    rng = np.random.default_rng(0)
    images = [scattered(rng, 8, 200, 60) for _ in range(n // 100)]
    annotations = cocoa(folder / "a.json", images, (200, 200))
    cache, results = folder / "c.h5", folder / "results.json"
    subprocess.run([*COMMAND, "build-targets", annotations, "-o", cache, "--force", "-q"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    subprocess.run([*COMMAND, "export", "results", cache, "-o", results, "--force", "-q"], check=True)
    rows = json.loads(results.read_text())
    rows = [{**row, "score": float(score)} for row in rows for score in rng.random(12)]
    results.write_text(json.dumps(rows))
    for protocol in ("amodal", "coco", "order", "completion"):
        yield f"evaluate {protocol}", cost("evaluate", cache, results, "-p", protocol)


def images(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Images of eight instances."""
    rng = np.random.default_rng(0)
    annotations = cocoa(folder / "a.json", [scattered(rng, 8, 400, 120) for _ in range(n)], (400, 400))
    yield from chain(folder, annotations)


KINDS = {
    "instances": (instances, 625), "points": (points, 62_500), "pixels": (pixels, 10_000_000),
    "categories": (categories, 2_000), "detections": (detections, 20_000), "images": (images, 1_000),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every N")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        heads = ["grows", "command", "N", "CPU s at N, 2 N, 4 N", "MiB", "time a doubling", "memory a doubling", ""]
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for kind in given.kinds:
            measure, start = KINDS[kind]
            start = int(start * given.scale)
            steps = [dict(measure(folder, start * times)) for times in (1, 2, 4)]
            for command in steps[0]:
                print(row(kind, command, start, [step[command] for step in steps]), flush=True)


def row(kind: str, command: str, n: int, costs: list[tuple[float, float]]) -> str:
    times, mibs = ([b / a for a, b in pairwise(values)] for values in zip(*costs, strict=True))
    fine = max(times) <= TIME and max(mibs) <= MEMORY
    cells = [
        kind, command, f"{n:,}", " ".join(f"{cpu:.2f}" for cpu, _ in costs), " ".join(f"{mib:.0f}" for _, mib in costs),
        " ".join(f"{one:.2f}" for one in times), " ".join(f"{one:.2f}" for one in mibs), "" if fine else "**above**",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
