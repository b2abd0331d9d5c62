"""From file to report beside the engines people use, each in a process of its own on one core.

    python benchmarks/engines.py            # the table: CPU seconds and peak memory, lowest of --repeats runs
    python benchmarks/engines.py --ten      # ten times the images, sorted and not: memory
    python benchmarks/engines.py --draws    # 200 bootstrap samples of the images

The set has the size of COCOA's validation set: 1,323 images of 640 x 480 with about 8 instances, 100 detections an
image around true ones and elsewhere. The other engines read the same masks from COCO files, in a new environment with
pycocotools, faster-coco-eval, hotcoco and ultrafast-pycocotools from the package index, or in the one of --python.
They score one subset without classes; "x 12" are twelve evaluations on one load, as twelve subsets need (fast engines
only).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from amodal_data import write_cocoa

ENGINES = ("pycocotools", "faster-coco-eval", "hotcoco", "ultrafast-pycocotools")
TWELVE = ENGINES[2:]
"""Those fast enough for twelve evaluations"""
COMMAND = "from amodal_cli.data import main; main()"
PEAK = """
import atexit, re, sys
from pathlib import Path
def peak():
    print("PEAK", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
atexit.register(peak)
"""
OTHER = """
import importlib, sys
truth, results, engine, times = sys.argv[1:]
home = {"pycocotools": ("pycocotools.coco", "pycocotools.cocoeval"), "faster-coco-eval": ("faster_coco_eval",) * 2,
        "hotcoco": ("hotcoco",) * 2, "ultrafast-pycocotools": ("ultrafast_pycocotools",) * 2}[engine]
COCO = importlib.import_module(home[0]).COCO
evaluator = getattr(importlib.import_module(home[1]), "COCOeval_faster" if "faster" in home[1] else "COCOeval")
coco = COCO(truth)
found = coco.loadRes(results)
for _ in range(int(times)):
    score = evaluator(coco, found, "segm")
    score.params.useCats = 0
    score.evaluate()
    score.accumulate()
    score.summarize()
"""


def generate(folder: Path, images: int, detections: int) -> None:
    """``truth.json`` (COCOA), ``coco.json`` (the same masks), ``results.json``."""
    path = write_cocoa(folder, images, seed=3, photos=False, instances=(5, 11), force=True)
    path.rename(folder / "truth.json")
    content = json.loads((folder / "truth.json").read_text())
    rng = np.random.default_rng(0)
    flat: list[dict[str, Any]] = []
    with (folder / "results.json").open("w") as out:
        for k, (image, annotation) in enumerate(zip(content["images"], content["annotations"], strict=True)):
            size = image["height"], image["width"]
            outlines = [np.array(region["segmentation"]).reshape(-1, 2) for region in annotation["regions"]]
            rows = [{"image_id": image["id"], "category_id": 1, "segmentation": mask, "score": round(rng.random(), 6)}
                    for mask in masks([changed(outlines, size, rng) for _ in range(detections)], size)]  # fmt: skip
            out.write(("," if k else "[") + ",\n".join(map(json.dumps, rows)))
            for mask in masks([outline.ravel() for outline in outlines], size):
                area = int(coco_mask.area({**mask, "counts": mask["counts"].encode()}))
                flat.append({"id": len(flat) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": 0, "area": area,
                             "segmentation": mask})  # fmt: skip
        out.write("]")
    categories = [{"id": 1, "name": "object"}]
    whole = {"images": content["images"], "annotations": flat, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(whole))


def changed(outlines: list[Any], size: tuple[int, int], rng: np.random.Generator) -> Any:
    """The outline of a random instance, stretched, shifted and roughened; every third is moved far away."""
    outline = outlines[rng.integers(len(outlines))]
    center, span = outline.mean(0), np.ptp(outline, axis=0)
    points = (outline - center) * rng.normal(1, 0.12, 2) + rng.normal(0, 0.08, 2) * span
    points += rng.normal(0, 0.015, outline.shape) * span + center
    if rng.random() < 0.35:
        points += rng.uniform(-0.4, 0.4, 2) * size[::-1]
    return points.clip(0, size[::-1]).ravel()


def masks(polygons: list[Any], size: tuple[int, int]) -> list[dict[str, Any]]:
    encoded = coco_mask.frPyObjects([polygon.tolist() for polygon in polygons], *size)
    return [{"size": list(size), "counts": mask["counts"].decode()} for mask in encoded]


def repeated(folder: Path, times: int) -> Iterator[Path]:
    """Copies of the set with other ids: ground truth, results sorted by image, results shuffled."""
    truth = json.loads((folder / "truth.json").read_text())
    n = len(truth["images"])
    content = {name: [] for name in ("images", "annotations")}
    for k in range(times):
        content["images"] += [{**entry, "id": entry["id"] + k * n} for entry in truth["images"]]
        content["annotations"] += [{**entry, "image_id": entry["image_id"] + k * n} for entry in truth["annotations"]]
    paths = [folder / f"{name}.json" for name in ("truth_many", "sorted", "shuffled")]
    paths[0].write_text(json.dumps(content))
    rows = json.loads((folder / "results.json").read_text())
    texts = [json.dumps({**row, "image_id": row["image_id"] + k * n}) for k in range(times) for row in rows]
    paths[1].write_text("[" + ",\n".join(texts) + "]")
    order = np.random.default_rng(0).permutation(len(texts))
    paths[2].write_text("[" + ",\n".join(texts[i] for i in order) + "]")
    yield from paths


def measured(python: str | Path, code: str, *arguments: object) -> tuple[float, float]:
    """CPU seconds and peak MB of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "RAYON", "OPENBLAS")}
    threads["PYTHONDONTWRITEBYTECODE"] = ""  # installed packages are compiled
    process = subprocess.run(
        [str(python), "-c", PEAK + code, *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, **threads}, preexec_fn=lambda: os.sched_setaffinity(0, {0}),
    )  # fmt: skip
    if process.returncode:
        sys.exit(process.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, int(process.stderr.rsplit("PEAK ", 1)[1]) / 1024


def environment(folder: Path) -> Path:
    """A Python with the other engines."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/pip", "install", "--quiet", *ENGINES], check=True)
    return folder / "bin/python"


def table(folder: Path, python: Path, repeats: int) -> None:
    truth, results, coco = folder / "truth.json", folder / "results.json", folder / "coco.json"
    ours = [sys.executable, COMMAND, "evaluate", truth, results]
    cache = folder / "truth.h5"
    measured(sys.executable, COMMAND, "build-targets", truth, "-o", cache, "-q", "--force")
    runs: dict[str, list[Any]] = {
        "amodal-data evaluate (12 subsets)": ours,
        "the same, ground truth from a cache": [*ours[:3], cache, results],
        "amodal-data evaluate --errors": [*ours, "--errors"],
        "-p amodal,order,completion": [*ours, "-p", "amodal,order,completion"],
    }
    for engine in ENGINES:
        runs[engine] = [python, OTHER, coco, results, engine, 1]
        if engine in TWELVE:
            runs[f"{engine} x 12"] = [python, OTHER, coco, results, engine, 12]
    measurements: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            measurements[name].append(measured(*run))
            print(f"{name}: {measurements[name][-1][0]:.1f} s", file=sys.stderr, flush=True)
    print(f"{'':<38}{'CPU s, lowest':>14}{'highest':>9}{'MB':>7}")
    for name, runs_of_engine in measurements.items():
        spent = [pair[0] for pair in runs_of_engine]
        print(f"{name:<38}{min(spent):>14.1f}{max(spent):>9.1f}{max(pair[1] for pair in runs_of_engine):>7.0f}")


def ten_times(folder: Path) -> None:
    truth, in_order, shuffled = repeated(folder, 10)
    for kind in ("annotation file", "cache"):
        small, large = folder / "truth.json", truth
        if kind == "cache":
            for source in (small, large):
                measured(
                    sys.executable, COMMAND, "build-targets", source, "-o", source.with_suffix(".h5"), "-q", "--force"
                )
            small, large = small.with_suffix(".h5"), large.with_suffix(".h5")
        spent, single = measured(sys.executable, COMMAND, "evaluate", small, folder / "results.json")
        print(f"{kind + ', once:':<34}{spent:6.1f} s {single:6.0f} MB", flush=True)
        for name, results in (("sorted", in_order), ("shuffled", shuffled)):
            spent, peak = measured(sys.executable, COMMAND, "evaluate", large, results)
            print(
                f"{f'{kind}, ten times, {name}:':<34}{spent:6.1f} s {peak:6.0f} MB, {peak / single:.2f} x", flush=True
            )


def resampling(folder: Path) -> None:
    files = [folder / "truth.json", folder / "results.json"]
    for protocols in ("amodal", "amodal,order,completion"):
        plain = measured(sys.executable, COMMAND, "evaluate", *files, "-p", protocols)[0]
        spent = measured(sys.executable, COMMAND, "evaluate", *files, "-p", protocols, "--intervals", "200")[0]
        print(f"{protocols}: 200 draws cost {spent - plain:.1f} s, the command {spent:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1323)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--python", type=Path, help="a Python that has the other engines")
    parser.add_argument("--ten", action="store_true")
    parser.add_argument("--draws", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder, options.images, options.each)
        if options.ten:
            ten_times(folder)
        elif options.draws:
            resampling(folder)
        else:
            table(folder, options.python or environment(folder / "engines"), options.repeats)


if __name__ == "__main__":
    main()
