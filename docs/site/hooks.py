"""Pages of the site that are generated: from the README, the help of the programs, docstrings."""

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
API = {
    "amodal_data": (
        "amodal_data.readers.dispatch",
        "amodal_data.readers.classes.names",
        "amodal_data.readers.classes.instance_classes",
        "amodal_data.synthetic.composing.cutouts",
        "amodal_data.synthetic.composing.arrangement",
        "amodal_data.synthetic.composing.scene_writer",
        "amodal_data.export.convert",
        "amodal_data.export.adapters",
        "amodal_data.layering.joint_decoding",
        "amodal_data.evaluation.report",
        "amodal_data.evaluation.methods",
        "amodal_data.evaluation.results.results_writer",
        "amodal_data.inspector.page",
        "amodal_data.inspector.page_data",
        "amodal_data.inspector.drawing.panels",
        "amodal_data.publishing.description",
        "amodal_data.publishing.card",
        "amodal_data.publishing.croissant",
    ),
    "sln": (
        "sln.config.sections",
        "sln.completion.completer",
        "sln.completion.complete_folder",
        "sln.completion.shape_prior",
        "sln.inference.folder",
        "sln.inference.exported",
        "sln.ordering.order_net",
        "sln.ordering.inference",
        "sln.training.logs",
        "sln.training.stages",
        "sln.weights.files",
        "sln.weights.hub",
        "sln.network.encoder",
        "sln.network.glm",
        "sln.network.rpn",
        "sln.network.ilm",
        "sln.network.losses",
        "sln.network.build",
    ),
}
"""Pages of the reference: a package, whose ``__all__`` comes first, and modules, whose own public names follow."""


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {
        "index.md": _readme(config["extra"]["repository"]),
        "changes.md": _local(ROOT / "CHANGELOG.md"),
        "contributing.md": _local(ROOT / "CONTRIBUTING.md"),
        "commands.md": _commands(),
        **{f"api/{name}.md": _reference(name, modules) for name, modules in API.items()},
    }
    pages |= _gallery()
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Show roles in docstrings (``:class:`X```) as plain code."""
    return re.sub(r":(?:class|func|meth|mod|data|attr):<code>[~.]?", "<code>", html)


def _readme(repository: str) -> str:
    """The README, with a badge that opens the notebook in Colab if the repository is known."""
    text = _local(ROOT / "README.md")
    if not repository:
        return text
    notebook = f"https://colab.research.google.com/github/{repository}/blob/main/examples/tour.ipynb"
    badge = f"[![Open the tour in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({notebook})"
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{badge}\n{rest}"


def _local(path: Path) -> str:
    """A page of the repository's root with its links changed to those of the site; links to other files become code."""
    text = path.read_text()
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", text)
    text = text.replace("](CHANGELOG.md)", "](changes.md)").replace("](CONTRIBUTING.md)", "](contributing.md)")
    text = text.replace("](README.md)", "](index.md)")
    text = re.sub(r"\[([^\]]+)\]\(LICENSE\)", r"\1", text)  # not a page of the site
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]+\.(?:py|toml|yml|cff|ipynb)\)", r"`\1`", text)


def _gallery() -> dict[str, str | bytes]:
    """The pictures of examples/gallery.py, each with the code that draws it."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "examples" / "gallery.py")
    gallery = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = gallery  # its dataclass needs the module there
    spec.loader.exec_module(gallery)
    page, pictures = [_GALLERY], {}
    with tempfile.TemporaryDirectory() as folder:
        for function, path in zip(gallery.PICTURES, gallery.draw_all(Path(folder)), strict=True):
            caption = inspect.getdoc(function)
            title = function.__name__.replace("_", " ").capitalize()
            pictures[f"gallery/{path.name}"] = path.read_bytes()
            page += [f"## {title}", "", f"![{caption}](gallery/{path.name})", "", caption, ""]
            page += ["```python", inspect.getsource(function).strip(), "```", ""]
    return {"gallery.md": "\n".join(page), **pictures}


_GALLERY = """# Gallery

The first pictures show predictions of networks. The others are drawn when this site is built, by `examples/gallery.py`
on synthetic scenes; copy their code.

![Image, ground truth, predictions and sem-dist maps of held-out synthetic scenes](images/predictions.jpg)

Held-out scenes after 250 training steps on a CPU, as `make demo` writes them (`sln evaluate --png`). A prediction has
the color of the ground-truth object that it matches.

![Two real photos, the objects detected in them, and sem-dist maps](images/real.jpg)

Real photos. The network was trained on [composed scenes](composing.md#tried-on-real-photos) only (`sln predict`); that
page has the credits.

![The inspector page](images/page.jpg)

The [inspector page](inspector.md), one HTML file.
"""


def _commands() -> str:
    """The help of every command, as the programs print it."""
    from typer.main import get_command
    from typer.testing import CliRunner

    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    parts = ["# Commands", "", "The output of `--help` for every command, in the version of these pages.", ""]
    for program, module in (("amodal-data", "amodal_cli.data"), ("sln", "amodal_cli.model")):
        app = importlib.import_module(module).app
        parts += [f"## {program}", ""]
        for name in _names(get_command(app)):
            result = CliRunner().invoke(app, [*name.split(), "--help"], prog_name=program)
            parts += [f"### {program} {name}", "", "```text", result.stdout.strip(), "```", ""]
    return "\n".join(parts)


def _names(group: Any, prefix: str = "") -> list[str]:
    """Names of the commands of a program, those of its groups included."""
    names = []
    for name, command in group.commands.items():
        if not command.hidden:
            names += _names(command, f"{name} ") if hasattr(command, "commands") else [prefix + name]
    return names


def _reference(package: str, modules: tuple[str, ...]) -> str:
    parts = [f"# `{package}`", ""]
    listed: set[str] = set()
    for name in (package, *modules):
        module = importlib.import_module(name)
        paths = [_home(module, item) for item in module.__all__] if name == package else _defined_names(module)
        paths = [path for path in paths if path not in listed]
        if not paths:
            continue
        listed.update(paths)
        if name != package:
            parts += [f"## Module `{name}`", ""]
        parts += [(inspect.getdoc(module) or "").partition("\n")[0], ""]
        for path in paths:
            parts += [f"::: {path}", "    options:", "      heading_level: 3", ""]
    return "\n".join(parts)


def _defined_names(module: Any) -> list[str]:
    """Paths of the public classes and functions that a module defines, in its order."""
    nodes = ast.parse(inspect.getsource(module)).body
    names = [node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return [f"{module.__name__}.{name}" for name in names if not name.startswith("_")]


def _home(package: Any, name: str) -> str:
    """Path of a public name in the module that defines it."""
    value = getattr(package, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__name__}"
    modules = [module for key, module in sorted(sys.modules.items()) if key.startswith(f"{package.__name__}.")]
    (home,) = (module for module in modules if name in vars(module) and _assigns(module, name))
    return f"{home.__name__}.{name}"


def _assigns(module: Any, name: str) -> bool:
    return re.search(rf"^{name}\b.*=", inspect.getsource(module), re.M) is not None
