"""How time and memory grow: every command at N, 2 N and 4 N instances, points, pixels, ...

Each command runs in its own process. Time is CPU time, memory the largest resident set, both with the start of the
interpreter. When N doubles, time may grow by a factor of 2.3 and memory by 2.2.

    python benchmarks/growth.py [instances points pixels categories detections images masks names cut]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

TIME = 2.3
"""Largest growth of CPU time when N doubles."""
MEMORY = 2.2
"""Largest growth of peak memory when N doubles."""
COMMAND = [sys.executable, "-m", "amodal_cli.data"]


def cost(*arguments: object) -> tuple[float, float]:
    """CPU seconds and MiB of one command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=environment)  # fmt: skip
    message = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments}: {message.decode()}")
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
    subprocess.run([*COMMAND, "convert", cache, "--to", "d2sa", "-o", path, "--force", "-q"], check=True)
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        del annotation["occl_depth"]
    path.write_text(json.dumps(content))
    return path


def chain(
    folder: Path, annotations: Path, *, order: bool = True, page: bool = True
) -> Iterator[tuple[str, tuple[float, float]]]:
    """The commands that a dataset goes through, and the cost of each."""
    cache, results = folder / "c.h5", folder / "results.json"
    yield "build-targets", cost("build-targets", annotations, "-o", cache, "--force")
    yield "verify", cost("verify", cache, "--annotations", annotations)
    yield "convert --to coco", cost("convert", cache, "--to", "coco", "-o", folder / "coco.json", "--force")
    yield "convert --to table", cost("convert", cache, "--to", "table", "-o", folder / "t.csv", "--force")
    yield "convert --to results", cost("convert", cache, "--to", "results", "-o", results, "--force")
    if page:
        yield "inspect --html", cost("inspect", cache, "--html", folder / "page.html", "--force")
        yield "inspect --png", cost("inspect", cache, "--png", folder / "page.png", "--force")
    for protocol in ("amodal", "coco", "order", "completion"):
        yield f"evaluate {protocol}", cost("evaluate", cache, results, "-p", protocol)


def instances(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Instances of one image, with the same number of overlaps for each whatever N."""
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
    for n, annotation in enumerate(content["annotations"], 1):
        annotation["category_id"] = n
    content["categories"] = [{"id": n, "name": str(n)} for n in range(1, len(content["annotations"]) + 1)]
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
    subprocess.run([*COMMAND, "convert", cache, "--to", "results", "-o", results, "--force", "-q"], check=True)
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


def masks(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """PNG masks, ten an image, each with its visible mask."""
    root, rng = folder / f"masks{n}", np.random.default_rng(0)
    for i in range(n):
        pixels = np.zeros((48, 64), np.uint8)
        y, x = rng.integers(0, (24, 40))
        pixels[y : y + 20, x : x + 20] = 255
        for name in ("whole", "seen"):
            path = root / f"{i // 10}" / f"{i % 10}.{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    patterns = ("--pattern", "{image}/{object}.whole.png", "--visible-pattern", "{image}/{object}.seen.png")
    yield "build-targets, PNG masks", cost("build-targets", root, "-o", folder / "m.h5", "--force", *patterns)


def names(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Annotations of records, one class name for each sixteen, eight an image."""
    rng = np.random.default_rng(0)
    rows = [
        {"image_id": i + 1, "height": 200, "width": 200, "annotations": [
            {"label": f"name {rng.integers(n // 16)}", "segmentation": [polygon]}
            for polygon in scattered(rng, 8, 200, 60)
        ]} for i in range(n // 8)
    ]  # fmt: skip
    path = folder / "records.json"
    path.write_text(json.dumps(rows))
    options = ("--masks", "amodal", "--order", "none")
    yield "build-targets, records", cost("build-targets", path, "-o", folder / "r.h5", "--force", *options)


def cut(folder: Path, n: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Photos to compose from, one in ten cut off, ten scenes for each hundred."""
    root = folder / f"cut{n}"
    root.mkdir(exist_ok=True)
    photo = BytesIO()
    Image.effect_noise((160, 120), 50).convert("RGB").save(photo, "PNG")
    content = photo.getvalue()
    images = [{"id": i, "file_name": f"{i}.png", "height": 120, "width": 160} for i in range(1, n + 1)]
    for image in images:
        (root / image["file_name"]).write_bytes(content if image["id"] % 10 else content[:500])
    rows = [{"id": i, "image_id": i, "category_id": 1, "segmentation": [box(30, 30, 60, 50)]} for i in range(1, n + 1)]
    path = folder / "modal.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "a"}]}))
    options = ("-n", n // 10, "--size", 96, 128, "--force")
    yield "compose, cut photos", cost("compose", path, "--images", root, "-o", folder / "set", *options)


KINDS = {
    "instances": (instances, 625), "points": (points, 62_500), "pixels": (pixels, 10_000_000),
    "categories": (categories, 2_000), "detections": (detections, 20_000), "images": (images, 1_000),
    "masks": (masks, 2_000), "names": (names, 20_000), "cut": (cut, 1_000),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every N")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        heads = ["grows", "command", "N", "CPU s at N, 2 N, 4 N", "MiB", "time a doubling", "memory a doubling", ""]
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for kind in arguments.kinds:
            measure, start = KINDS[kind]
            start = int(start * arguments.scale)
            steps = [dict(measure(folder, start * times)) for times in (1, 2, 4)]
            for command in steps[0]:
                print(row(kind, command, start, [step[command] for step in steps]), flush=True)


def row(kind: str, command: str, n: int, costs: list[tuple[float, float]]) -> str:
    times, mibs = ([b / a for a, b in pairwise(values)] for values in zip(*costs, strict=True))
    within_limits = max(times) <= TIME and max(mibs) <= MEMORY
    cells = [
        kind, command, f"{n:,}", " ".join(f"{cpu:.2f}" for cpu, _ in costs), " ".join(f"{mib:.0f}" for _, mib in costs),
        " ".join(f"{ratio:.2f}" for ratio in times), " ".join(f"{ratio:.2f}" for ratio in mibs),
        "" if within_limits else "**above**",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
