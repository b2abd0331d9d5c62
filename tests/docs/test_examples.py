"""Examples, the short forms of benchmarks, the notebooks, the site and the wheel."""

import importlib
import json
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from support import notebooks
from support.commands import ROOT

from amodal_data import CODES, TargetCache, build_targets, layer_scene, read_annotations, read_cocoa, write_cocoa


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_format_page_is_enough_to_read_a_cache(tmp_path, monkeypatch):
    build_targets(read_cocoa(write_cocoa(tmp_path, 2, size=(64, 80), photos=False)), tmp_path / "val.h5")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(blocks("docs/reference/file-formats.md", "python")[0], names)
    assert (names["codes"] == TargetCache("val.h5")[0].levels).all()


def test_make_targets_named_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for name in re.findall(r"`?make (\w+)", (ROOT / "README.md").read_text()):
        assert f"\n{name}:" in makefile


def test_links_of_files_that_are_no_pages_lead_somewhere():
    for page in ROOT.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_quickstart(tmp_path, run_process):
    process = run_process(ROOT / "examples" / "quickstart.py", tmp_path)
    assert process.returncode == 0, process.stderr
    right, pairs = re.search(r"right for (\d+) of (\d+)", process.stdout).groups()
    assert right == pairs and int(pairs) > 5
    assert (tmp_path / "quickstart.png").exists()


def differs(first, second):
    """Do two pictures differ in size, or in a square of 16 pixels by more than the loss of storing them?"""
    if first.size != second.size:
        return True
    small = [np.asarray(picture.convert("RGB").reduce(16), int) for picture in (first, second)]
    return bool((abs(small[0] - small[1]) > 12).any())


@pytest.fixture
def gallery(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("gallery")


@pytest.mark.research
def test_the_stored_pictures_of_the_gallery_are_what_the_example_draws(gallery):
    for name, picture in gallery.draw_all():
        with Image.open(gallery.GALLERY / name) as stored:
            assert not differs(picture, stored), f"{name}: run examples/gallery.py, and look at the picture"
        assert min(picture.size) >= 300 and len(picture.getcolors(2**24)) > 100


def test_every_stored_picture_of_the_gallery_is_drawn_and_small(gallery):
    stored = {path.stem: path.stat().st_size for path in gallery.GALLERY.iterdir()}
    assert stored.keys() == {function.__name__ for function in gallery.PICTURES} and max(stored.values()) < 100_000
    with Image.open(gallery.GALLERY / "x_ray.webp") as picture:
        assert differs(picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        assert not differs(picture, picture.convert("RGB").point(lambda value: value + 4))
        changed = picture.convert("RGB")
        changed.paste("black", (100, 100, 116, 116))
        assert differs(picture, changed)


def test_the_level_plane_as_an_animation(tmp_path, run_process):
    build_targets(read_cocoa(write_cocoa(tmp_path, 1, seed=1, size=(120, 160))), tmp_path / "t.h5")
    example, cache, picture = ROOT / "examples" / "level_plane.py", tmp_path / "t.h5", tmp_path / "p.webp"
    process = run_process(example, cache, picture, "--images", tmp_path, "--id", "1")
    assert process.returncode == 0, process.stderr
    with Image.open(tmp_path / "p.webp") as picture:
        assert picture.n_frames == int(TargetCache(tmp_path / "t.h5")[0].table.max()) + 1


BENCHMARK = ROOT / "benchmarks" / "synthetic_benchmark"


@pytest.mark.research
def test_short_form_of_the_synthetic_benchmark(tmp_path, run_process):
    command = [BENCHMARK, tmp_path, "--smoke", "--rgb"]
    process = run_process(*command, timeout=1200)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["ways"]) == {"sln", "arcnn-visible", "arcnn"}
    forms = [f"{kind}, {form}" for kind in ("sln", "arcnn-visible") for form in ("alone", "decode", "pass", "both")]
    assert set(results["heads"]) == {*forms, "arcnn, alone", "arcnn, pass"}
    assert results["truth_order"]["R_hard"] == 1.0 and len(results["order_net"]) == 10
    for part, most in (("head", 1.05), ("pass", 1.15)):
        sizes = [counts[part] for counts in results["parameters"].values()]
        assert max(sizes) / min(sizes) < most
    for table in ("Table 1", "Table 2", "Table 3", "sln minus arcnn-visible, with decode and pass"):
        assert table in process.stdout
    assert "<svg" in (tmp_path / "differences.svg").read_text()
    repeated = run_process(*command)  # no work is repeated
    assert repeated.stdout == process.stdout.partition("Table 1")[1] + process.stdout.partition("Table 1")[2]
    for name in ("ablations", "pass_ablations"):
        process = run_process(BENCHMARK / f"{name}.py", tmp_path, "--smoke", timeout=1200)
        assert process.returncode == 0, process.stderr
        rows = json.loads((tmp_path / f"{name}.json").read_text())
        assert len(rows) > 10 and all(np.isfinite(row["amodal"]["mean"]) for row in rows.values())
    process = run_process(BENCHMARK / "confirm.py", tmp_path, "--smoke", timeout=1200)
    assert process.returncode == 0, process.stderr
    sizes = json.loads((tmp_path / "confirmed" / "results.json").read_text())["sizes"]
    assert (
        sizes["tested"] == 8 and "sln with both minus by itself" in (tmp_path / "confirmed" / "orders.txt").read_text()
    )


@pytest.mark.research
def test_short_form_of_the_end_to_end_benchmark(tmp_path, run_process):
    process = run_process(BENCHMARK / "end_to_end.py", tmp_path, "--smoke", timeout=1200)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["sizes"]["trunks"] == 1 and len(results["order_net"]) == 7 and "Table 3" in process.stdout
    assert len(list(tmp_path.glob("network_*_0.pt"))) == len(results["parameters"]) == 3
    other = run_process(BENCHMARK, tmp_path, "--smoke")
    assert other.returncode == 1 and "other settings" in other.stderr


@pytest.fixture
def benchmark_modules(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARK)
    return importlib.import_module("differences")


def test_intervals_widen_with_effects_shared_within_a_scene(benchmark_modules):
    interval, verdict = benchmark_modules.interval, benchmark_modules.verdict
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(200), 5)
    shared = rng.normal(0, 1, 200)[scene]
    wide, narrow = (
        interval(effect + rng.normal(0, 0.1, (4, 1000)), scene, 2) for effect in (shared, shared[rng.permutation(1000)])
    )
    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])
    assert wide["high"] - wide["low"] == pytest.approx(2 * 1.96 / 200**0.5, rel=0.2)
    assert wide["difference"] == pytest.approx(np.mean(wide["runs"])) and len(wide["runs"]) == 4
    assert wide["trunks"] == pytest.approx(np.reshape(wide["runs"], (2, 2)).mean(axis=1))
    lost = interval(np.array([[np.nan, 1.0, 3.0]]), np.array([0, 1, 2]))
    assert lost["difference"] == 2
    nothing = interval(np.array([[np.nan]]), np.array([0]))
    assert nothing["difference"] is None and verdict(nothing) == "open"
    better = shared[None] ** 2
    assert verdict(interval(better, scene)) == "ahead" and verdict(interval(-better, scene)) == "behind"
    assert verdict(interval(np.concatenate([3 * better, -better]), scene, 2)) == "open"  # the trunks disagree
    for runs, expected in (([0.1, 0.2], "ahead"), ([0.1, -0.2], "open"), ([-0.1, -0.2], "behind"), ([0.1], "open")):
        assert verdict({"low": None, "high": None, "runs": runs, "trunks": runs}) == expected


def test_rules_are_chosen_on_the_tune_split_and_kept_on_the_test_split(benchmark_modules):
    def run(better, worse):
        ways = {way: [0, 0] for group in benchmark_modules.WAYS.values() for way in group}
        detected = {"all": {"all": {"AP": 0.5, "AR10": None, "AR100": 0.5}}}
        ious = {"scene": [0, 1], "iou": {name: [0.5, 0.75] for name in ("amodal", "modal", "hidden", "own_hidden")}}
        order = {"right": ways | {worse: [1, 1], better: [0, 1]}, "pair_scene": [0, 1], "covered": [False, True]}
        tune = ways | {better: [1, 1]}
        return {"tune": tune, "test": order | ious, "detections": {"subsets": detected} | ious}

    scores = {"sln": [run("R_soft", "R_joint")] * 2, "arcnn": [run("area", "y_axis")] * 2}
    ways = benchmark_modules.choose_ways(scores)
    assert ways == {"sln": "R_soft", "arcnn": "area"}
    differences = benchmark_modules.differences(scores["sln"], scores["arcnn"], "arcnn", ("R_soft", "y_axis"), 2)
    assert (
        differences["order, all pairs"]["difference"] == -0.5 and differences["order, covered pairs"]["difference"] == 0
    )
    assert "modal IoU" not in differences and differences["amodal IoU"]["difference"] == 0
    assert differences["AP"]["runs"] == [0, 0] and differences["AR10"]["difference"] is None


@pytest.mark.research
@pytest.mark.parametrize("tool", ["build", "hatchling"])
def test_the_wheel_holds_four_things_and_runs_elsewhere(tmp_path, tool):
    """Built with each tool, and installed beside the dependencies of this environment."""
    if tool == "build":
        command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", tmp_path, ROOT]
    else:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True)
    assert sorted(path.name.split("-")[0] for path in site.iterdir()) == [
        "amodal_cli",
        "amodal_data",
        "amodal_data",
        "sln",
    ]
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import amodal_data, amodal_cli.data; print(amodal_data.__file__); amodal_cli.data.main()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "synth", "out", "-n", "1", "--no-photos"],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(str(site))
    assert (tmp_path / "out" / "COCO_amodal_val2014.json").exists()


def test_the_page_of_findings_explains_every_code(site_hooks):
    page = site_hooks._findings()
    for name, code in CODES.items():
        assert f"## {name}\n\n*{code.severity}.* {code.meaning}" in page and code.remedy in page


@pytest.fixture
def site_hooks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    return importlib.import_module("hooks")


def test_examples_of_the_page_about_your_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(blocks("docs/how-to/import.md", "python")[0], {})
    smallest = json.loads(blocks("docs/how-to/import.md", "json")[0])
    (tmp_path / "small.json").write_text(json.dumps(smallest))
    (scene,) = read_annotations(tmp_path / "small.json", masks="amodal")
    assert layer_scene(scene).level_pixels().tolist() == [190 * 290 + 300 * 150 - 100 * 150, 100 * 150]


@pytest.mark.research
def test_the_site_builds_without_a_warning_and_knows_every_public_name(tmp_path):
    """`make docs`, without torch: strict, links checked; the reference has every name of ``__all__``."""
    program = "import sys; sys.modules['torch'] = None; from mkdocs.__main__ import cli; cli()"
    command = [sys.executable, "-c", program, "build", "--strict", "--site-dir", tmp_path / "site"]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert built.returncode == 0 and "WARNING" not in built.stderr, built.stderr
    inventory = (tmp_path / "site" / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(inventory).decode().splitlines()
    paths = {line.split(" ")[0] for line in lines}
    for package in ("amodal_data", "sln"):
        module = importlib.import_module(package)
        for name in module.__all__:
            assert f"{package}.{name}" in paths or any(
                path.startswith(f"{package}.") and path.endswith(f".{name}") for path in paths
            ), name
    folder = tmp_path / "site" / "reference" / "commands"
    assert "--split" in (folder / "amodal-data-build-targets" / "index.html").read_text()
    assert (folder / "sln-order-fit" / "index.html").exists()
    gallery = (tmp_path / "site" / "gallery" / "index.html").read_text()
    pictures = re.findall(r'src="\.\./images/gallery/(\w+\.webp)"', gallery)
    assert len(pictures) == 5
    assert all((tmp_path / "site" / "images" / "gallery" / name).exists() for name in pictures)
    assert ":class:" not in (tmp_path / "site" / "reference" / "python" / "targets" / "index.html").read_text()


NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


def stored_texts(output):
    """Text of an output without versions, and its numbers."""
    text = "".join(output.get("text") or output["data"]["text/plain"])
    text = re.sub(r"(amodal-data|pycocotools) [\w.]+|sha256 \w+", "", text)
    return re.sub(r"[-+ \d.,:|█*]+", " ", text), numbers(text.replace(",", ""))


@pytest.mark.research
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_give_the_outputs_that_they_store(path):
    """Runs the cells in order; figures of networks may differ a little between versions of torch."""
    remedy = f"run tests/support/notebooks.py on {path.name}, and look at it"
    for stored, fresh in zip(json.loads(path.read_text())["cells"], notebooks.run(path)["cells"], strict=True):
        for old, new in zip(stored.get("outputs", []), fresh.get("outputs", []), strict=True):
            (words, figures), (new_words, new_figures) = stored_texts(old), stored_texts(new)
            assert words == new_words and len(figures) == len(new_figures), remedy
            assert np.allclose(figures, new_figures, rtol=0.05, atol=0.03), remedy
            if picture := notebooks.picture(old.get("data", {})):
                assert not differs(notebooks.picture(new["data"]), picture), remedy


def test_notebooks_are_small_whole_and_use_no_private_module():
    assert {path.stem for path in NOTEBOOKS} == {"completion", "data", "evaluation"}
    for path in NOTEBOOKS:
        assert path.stat().st_size < 400_000
        code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert sum(bool(cell["outputs"]) for cell in code) >= len(code) - 1
        for cell in code:
            source = "".join(cell["source"])
            assert not re.search(r"(amodal_data|sln)\.\w+ import|import (amodal_data|sln)\.", source)
            assert max(map(len, source.splitlines())) <= 96
