"""The house rules that a machine can check."""

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from support.commands import ROOT, run_command

PACKAGES = {
    "amodal_data": ROOT / "amodal_data",
    "sln": ROOT / "sln",
    "amodal_cli": ROOT / "cli" / "amodal_cli",
}
FORBIDDEN = {
    "amodal_data": {"torch", "torchvision", "sln", "amodal_cli", "typer"},
    "sln": {"amodal_cli", "typer", "h5py", "pycocotools"},
}
ONLY_IN = {
    "h5py": {f"amodal_data/cache/{name}.py" for name in ("read", "structure", "write")},
    "pycocotools": {"amodal_data/masks/rle.py", "amodal_data/evaluation/protocols/cocoeval.py"},
    "typer": {str(path.relative_to(ROOT)) for path in (ROOT / "cli").rglob("*.py")},
}
README = (ROOT / "README.md").read_text()


def modules():
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(p for p in parts if p != "__init__")]), path


def imports(path, *, lazy=True):
    """Full names of the modules a file imports; at its top level only unless lazy."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if lazy else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_go_one_way():
    for name, path in modules():
        package = name.partition(".")[0]
        found = {one.partition(".")[0] for one in imports(path)}
        assert not found & FORBIDDEN.get(package, set()), path
        for library, places in ONLY_IN.items():
            assert library not in found or str(path.relative_to(ROOT)) in places, f"{path}: {library}"


def test_what_is_imported_is_declared():
    """Base dependencies serve `amodal_data` and the commands, the extra `sln` the network; others are an extra each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(several):
        found = {re.match(r"[\w-]+", one)[0].lower().replace("-", "_") for one in several}
        return {{"scikit_image": "skimage", "pillow": "PIL", "pyyaml": "yaml"}.get(name, name) for name in found}

    base, extras = names(project["dependencies"]), project["optional-dependencies"]
    optional = {name for extra in extras.values() for name in names(extra)}
    used = {"amodal_data": set(), "sln": set(), "amodal_cli": set()}
    for name, path in modules():
        found = {one.partition(".")[0] for one in imports(path)}
        used[name.partition(".")[0]] |= found - set(sys.stdlib_module_names) - PACKAGES.keys()
    assert (
        used["sln"] - base - names(extras["sln"])
        == {"timm", "onnxruntime", "onnxscript", "huggingface_hub", "supervision", "tensorboard"}
        <= optional
    )
    ours = {"datumaro", "distributed", "faster_coco_eval", "fiftyone", "pyarrow", "supervision", "yaml"}
    assert used["amodal_data"] - base == ours <= optional
    assert used["amodal_cli"] - base <= optional
    assert names(extras["sln"]) | base <= set().union(*used.values()) | {"packaging"}


def test_the_rooms_of_sln():
    """A handful of rooms on the first level, and nobody reaches up."""
    rooms = {path.name for path in (ROOT / "sln").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert len(rooms - {"__init__.py"}) <= 14
    floors = ["network", "data", "predicting", "training"]
    for name, path in modules():
        parts = name.split(".")
        if parts[0] == "sln" and len(parts) > 2 and parts[1] in floors:
            above = floors[floors.index(parts[1]) + 1 :]
            assert not any(one.startswith(f"sln.{room}") for one in imports(path) for room in above), path
    assert ".distributed" not in "".join(
        path.read_text() for _, path in modules() if path.name != "processes.py" and path.is_relative_to(ROOT / "sln")
    )


def test_no_import_cycles():
    known = dict(modules())
    graph = {name: {one for one in imports(path) if one in known} - {name} for name, path in known.items()}
    done: set[str] = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_files_and_functions_stay_small():
    for _, path in modules():
        text = path.read_text()
        assert len(text.splitlines()) <= 360, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.end_lineno - node.body[0].lineno + 1  # a command's options are its signature
                assert body <= 60, f"{path}: {node.name}"


@pytest.mark.parametrize("name", [name for name, _ in modules()])
def test_exports_are_sorted_and_exist(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert all(hasattr(module, one) for one in exported)
    assert name.startswith("amodal_cli") or exported, f"{name} has no __all__"


def test_public_names_are_documented():
    import amodal_data
    import sln

    for package in (amodal_data, sln):
        for name in package.__all__:
            thing = getattr(package, name)
            assert not callable(thing) or thing.__doc__, name


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


@pytest.mark.parametrize("module, program, name", list(commands()))
def test_every_command_has_help_and_stands_in_the_readme(module, program, name):
    done = run_command(program, name, "--help")
    assert done.returncode == 0
    assert "Options:" in done.stdout
    for option in re.split(r"\n  (?=-)", done.stdout.split("Options:")[1])[1:]:
        assert re.search(r"\s{2,}[A-Z'].*\w", option), f"no help: {option}"
    (row,) = (line for line in README.splitlines() if line.startswith(f"| `{program}` |"))
    assert f"`{name}`" in row


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


def test_importing_the_package_brings_no_torch():
    code = "import sys, amodal_data; print('torch' in sys.modules, 'skimage.measure' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"


def test_every_public_value_shows_itself_in_a_line(tmp_path):
    """`repr` is one line of at most 200 characters, never an array."""
    import amodal_data as ad
    import sln
    from amodal_data.export import convert, export_results
    from amodal_data.inspector.dataset import open_dataset

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
