"""The house rules that a machine can check."""

import ast
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections import Counter

import numpy as np
import pytest
from support.commands import ROOT, run_command
from support.imports import PACKAGES, graph, imports, modules, room

FORBIDDEN = {
    "amodal_data": {"torch", "torchvision", "sln", "amodal_cli", "typer"},
    "sln": {"amodal_cli", "typer", "h5py", "pycocotools"},
}
ONLY_IN = {
    "h5py": {f"amodal_data/cache/{name}.py" for name in ("read", "validation", "write")},
    "pycocotools": {"amodal_data/masks/rle.py", "amodal_data/evaluation/protocols/cocoeval.py"},
    "typer": {str(path.relative_to(ROOT)) for path in (ROOT / "cli").rglob("*.py")},
}
ROOMS = {
    "amodal_data": [
        "editing", "datasets", "publishing", "inspector", "synthetic", "export", "evaluation", "cache", "readers",
        "layering", "scenes", "masks", "io", "errors",
    ],
    "sln": [
        "training", "completion", "ordering", "evaluation", "inference", "data", "network", "weights", "runs",
        "config", "runtime", "errors",
    ],
    "amodal_cli": ["model", "data", "sln_commands", "data_commands", "shared"],
}  # fmt: skip
"""First-level rooms, top to bottom: imports go down only"""
NOTEBOOK_IMPORTS = {
    ("amodal_data.cache.read", "amodal_data.inspector.drawing.overlay"),
    ("amodal_data.layering.targets", "amodal_data.inspector.drawing.overlay"),
    ("amodal_data.layering.targets", "amodal_data.inspector.drawing.overlay"),
}
"""Imports inside a ``_repr_html_`` or ``plot``, the only ones that may go up"""


def test_packages_import_in_one_direction():
    for name, path in modules():
        package = name.partition(".")[0]
        libraries = {target.partition(".")[0] for target, _ in imports(path)}
        assert not libraries & FORBIDDEN.get(package, set()), path
        for library, places in ONLY_IN.items():
            assert library not in libraries or str(path.relative_to(ROOT)) in places, f"{path}: {library}"


def test_imported_libraries_are_declared():
    """Base dependencies serve `amodal_data` and the commands, the extra `sln` the network; others are an extra each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        packages = {re.match(r"[\w-]+", line)[0].lower().replace("-", "_") for line in requirements}
        return {{"scikit_image": "skimage", "pillow": "PIL", "pyyaml": "yaml"}.get(name, name) for name in packages}

    base, extras = names(project["dependencies"]), project["optional-dependencies"]
    optional = {name for extra in extras.values() for name in names(extra)}
    used = {"amodal_data": set(), "sln": set(), "amodal_cli": set()}
    for name, path in modules():
        libraries = {target.partition(".")[0] for target, _ in imports(path)}
        used[name.partition(".")[0]] |= libraries - set(sys.stdlib_module_names) - PACKAGES.keys() - {"__future__"}
    assert (
        used["sln"] - base - names(extras["sln"])
        == {
            "timm",
            "onnxruntime",
            "onnxscript",
            "huggingface_hub",
            "supervision",
            "tensorboard",
            "av",
            "pandas",
            "wandb",
        }
        <= optional
    )
    ours = {"datumaro", "distributed", "faster_coco_eval", "fiftyone", "pandas", "pyarrow", "supervision"}
    assert used["amodal_data"] - base == ours <= optional
    assert used["amodal_cli"] - base <= optional
    assert names(extras["sln"]) | base <= set().union(*used.values()) | {"packaging"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_listed_and_imports_go_down(package):
    """Lazy imports and the public names of the packages count; only notebook drawing is imported from below."""
    rooms = ROOMS[package]
    folder = PACKAGES[package]
    entries = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert entries - {"__init__"} == set(rooms) and len(rooms) <= 14
    floor = {f"{package}.{name}": n for n, name in enumerate(rooms)}
    for module, targets in graph().items():
        for target, functions in targets.items():
            if room(module) in floor and room(target) in floor and floor[room(target)] < floor[room(module)]:
                assert (module, target) in NOTEBOOK_IMPORTS and functions <= {"_repr_html_", "plot"}, (
                    f"{module} -> {target}"
                )


def test_no_import_cycles():
    edges = {
        name: [target for target in targets if (name, target) not in NOTEBOOK_IMPORTS]
        for name, targets in graph().items()
    }
    finished = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in finished:
            for target in edges[name]:
                visit(target, [*trail, name])
            finished.add(name)

    for name in edges:
        visit(name, [])


def test_nothing_is_imported_by_string():
    """But the public names of the two lazy packages, whose stubs the graph reads."""
    lazy = {PACKAGES[name] / "__init__.py" for name in ("amodal_data", "sln")}
    for _, path in modules():
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"import_module", "__import__", "attach", "attach_stub"} or path in lazy, path


def test_no_file_name_stands_twice_in_a_package():
    """Readers and writers of one format share theirs, and so do commands of the two programs."""
    shared = {"amodal_data": {"cocoa", "records", "datumaro", "cvat", "labelme", "yolo"},
              "amodal_cli": {"evaluate", "demo", "doctor"}, "sln": set()}  # fmt: skip
    for package, folder in PACKAGES.items():
        counts = Counter(path.stem for path in folder.rglob("*.py") if path.stem != "__init__")
        assert {name for name, count in counts.items() if count > 1} <= shared[package], package


def test_files_and_functions_stay_small():
    for _, path in modules():
        text = path.read_text()
        assert len(text.splitlines()) <= 360, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.end_lineno - node.body[0].lineno + 1  # a command's options are its signature
                assert body <= 60, f"{path}: {node.name}"


def test_public_names_are_documented():
    import amodal_data
    import sln

    for package in (amodal_data, sln):
        for name in package.__all__:
            value = getattr(package, name)
            assert not callable(value) or value.__doc__, name


def test_packages_are_typed():
    for folder in PACKAGES.values():
        assert (folder / "py.typed").exists()


def test_every_module_has_a_docstring_and_no_utils():
    for name, path in modules():
        assert ast.get_docstring(ast.parse(path.read_text())), path
        assert not {"utils", "common", "helpers"} & set(name.split("."))
    assert list(pkgutil.iter_modules([str(ROOT / "amodal_data")]))


def commands():
    from amodal_cli import data, model

    for module, program in ((data, "amodal-data"), (model, "sln")):
        for command in module.app.registered_commands:
            yield module.__name__, program, command.name


def test_no_command_is_lost():
    by_program: dict = {}
    for _, program, name in commands():
        by_program.setdefault(program, set()).add(name)
    assert by_program == {
        "amodal-data": {
            "build-targets", "card", "check", "classes", "compose", "convert", "demo", "doctor", "edit", "evaluate",
            "explain", "filter", "get", "inspect", "join", "merge", "split", "stats", "synth", "verify",
        },
        "sln": {"complete", "config", "demo", "doctor", "evaluate", "export", "fit", "fit-prior", "models", "predict",
                "runs"},
    }  # fmt: skip


@pytest.mark.parametrize("module, program, name", list(commands()))
def test_every_command_and_option_has_help(module, program, name):
    done = run_command(program, name, "--help")
    assert done.returncode == 0
    sections = re.split(r"^([A-Z]\w+):\n", done.stdout, flags=re.MULTILINE)[1:]
    groups = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(groups)[-1] == "Reporting" and ("Options" not in groups or groups["Options"].count("\n  -") < 3)
    for option in re.split(
        r"\n  (?=-)", "\n" + "\n".join(text for name, text in groups.items() if name != "Arguments")
    )[1:]:
        assert re.search(r"\s{2,}[A-Z'].*\w", option), f"no help: {option}"


@pytest.mark.parametrize("module, command", [("data", "build-targets"), ("model", "predict")])
def test_help_is_quick_and_light(module, command):
    code = (
        "import sys, time; sys.argv = ['command', '--help']\n"
        "import atexit\n"
        "heavy = {'torch', 'shapely', 'skimage', 'numpy', 'h5py'}\n"
        "quick = lambda: time.process_time() < 0.5\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), quick(), file=sys.stderr))\n"
        f"from amodal_cli.{module} import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert command in done.stdout
    assert done.stderr.strip() == "[] True"


@pytest.mark.parametrize("package", ["amodal_data", "amodal_data.readers", "amodal_data.evaluation"])
def test_importing_a_package_brings_no_library_that_is_slow_to_import(package):
    code = f"import sys, {package}; print(sorted({{'torch', 'scipy', 'skimage'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_public_value_shows_itself_in_a_line(tmp_path):
    """`repr` is one line of at most 200 characters, never an array."""
    import amodal_data as ad
    import sln
    from amodal_data.export.coco import export_results
    from amodal_data.export.convert import convert
    from amodal_data.inspector.target_dataset import open_dataset

    path = ad.write_cocoa(tmp_path, 3, size=(60, 80))
    scenes = ad.read_cocoa(path)
    report = ad.build_targets(scenes, tmp_path / "c.h5")
    cache = ad.TargetCache(tmp_path / "c.h5")
    (tmp_path / "r.json").write_text(json.dumps(export_results(open_dataset(path))))
    config = sln.load_config("tiny", environment={})
    model = sln.build(config)
    predictor = sln.Predictor(model, "cpu")
    data = sln.CachedTargets(tmp_path / "c.h5", [tmp_path], config.data)
    targets, scene = cache[0], scenes[0]
    values = [
        scenes, scene, scene.instances[0], scene.instances[0].amodal, targets, targets.resized((20, 20)), cache,
        cache.info, cache.image(0), report, ad.verify_cache(tmp_path / "c.h5", scenes),
        ad.evaluate(scenes, tmp_path / "r.json"), ad.order_of(targets.amodal(), targets.modal()),
        open_dataset(path), open_dataset(path).summary(),
        convert(open_dataset(path), tmp_path / "o.json", "cocoa"), ad.iter_annotations(path),
        config, model, predictor, data, predictor.predict(np.zeros((60, 80, 3), np.uint8)),
        sln.Sources(path, (path,)),
    ]  # fmt: skip
    for value in values:
        shown = repr(value)
        assert len(shown) <= 200 and "\n" not in shown and "array(" not in shown, shown
        assert shown.startswith(type(value).__name__), shown
