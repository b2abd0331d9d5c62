"""Pages of the site that are generated: help of the commands, settings, findings, the Python reference, the gallery.

Nothing here imports torch, so the site builds without it.
"""

import ast
import base64
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PROGRAMS = {"amodal-data": "amodal_cli.data", "sln": "amodal_cli.model"}
TOPICS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "data": (
        "Data",
        "Read, check, convert and compose annotations in Python. You need an annotation file, or nothing at all for "
        "synthetic scenes.",
        ("datasets", "readers", "scenes", "masks", "synthetic", "export", "publishing", "errors"),
    ),
    "targets": (
        "Targets",
        "Compute levels and sem-dist maps, and store them in a cache. You need scenes, which the readers of the page "
        "*Data* return.",
        ("layering", "cache"),
    ),
    "pictures": ("Pictures", "Show data and predictions. You need targets, from a cache or a scene.", ("inspector",)),
    "evaluation": (
        "Evaluation",
        "Score predictions with confidence intervals. You need ground truth, a cache or an annotation file, and "
        "results in COCO's format.",
        ("evaluation",),
    ),
    "training": (
        "Training",
        "Train a network or an OrderNet. You need a cache with amodal masks, its images, and the extra `sln`.",
        ("training", "evaluation", "config", "data", "ordering", "weights"),
    ),
    "prediction": (
        "Prediction and completion",
        "Predict instances in photos, or complete the masks of another detector. You need a run of `sln fit` for the "
        "first, and visible masks for the second.",
        ("inference", "completion"),
    ),
    "network": (
        "Network",
        "Build the network of the paper from its parts, and change one of them. You need PyTorch.",
        ("network",),
    ),
}
"""Pages of the Python reference: title, first sentences, and the subpackages whose public names they list"""

MODULES = (
    "amodal_data.readers.classes.names",
    "amodal_data.synthetic.composing.cutouts",
    "amodal_data.synthetic.composing.arrangement",
    "amodal_data.synthetic.composing.scene_writer",
    "amodal_data.export.convert",
    "amodal_data.export.adapters",
    "amodal_data.layering.joint_decoding",
    "amodal_data.evaluation.results.results_writer",
    "amodal_data.inspector.page",
    "amodal_data.inspector.page_data",
    "amodal_data.inspector.drawing.panels",
    "amodal_data.publishing.description",
    "amodal_data.publishing.card",
    "sln.config.sections",
    "sln.completion.complete_folder",
    "sln.completion.shape_prior",
    "sln.inference.folder",
    "sln.inference.exported",
    "sln.ordering.order_net",
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
)
"""Modules whose public names the reference lists besides those of the two packages"""


NOTEBOOKS = ("data", "completion", "evaluation")
"""Notebooks of examples/ that are pages, with their stored outputs"""


def on_config(config: Any) -> Any:
    """Add the generated pages to the navigation."""
    for section in config["nav"]:
        for name, entries in section.items():
            if name == "Tutorials":
                entries += [{f"Notebook: {notebook}": f"notebooks/{notebook}.md"} for notebook in NOTEBOOKS]
            if name == "Reference":
                entries[:0] = [
                    {"Commands": [{title: uri} for title, uri, _ in _command_pages()]},
                    {"Python": [{TOPICS[topic][0]: f"reference/python/{topic}.md"} for topic in TOPICS]},
                ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages: dict[str, str | bytes] = {
        "development/changes.md": _local(ROOT / "CHANGELOG.md"),
        "development/contributing.md": _local(ROOT / "CONTRIBUTING.md"),
        "gallery.md": _gallery(),
        "reference/settings.md": _settings(),
        "reference/findings.md": _findings(),
        **{uri: text for _, uri, text in _command_pages()},
        **{f"reference/python/{topic}.md": _python_page(topic) for topic in TOPICS},
    }
    for name in NOTEBOOKS:
        pages |= _notebook(name)
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Show roles in docstrings (``:class:`X```) as plain code."""
    return re.sub(r":(?:class|func|meth|mod|data|attr):<code>[~.]?", "<code>", html)


def _local(path: Path) -> str:
    """A page of the repository's root as a page of development/; links to files that are no pages become code."""
    text = path.read_text()
    text = re.sub(r"\]\(docs/development/([^)]+)\)", r"](\1)", text)
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](../\1)", text)
    text = text.replace("](CHANGELOG.md)", "](changes.md)").replace("](CONTRIBUTING.md)", "](contributing.md)")
    text = text.replace("](README.md)", "](../index.md)")
    text = re.sub(r"\[([^\]]+)\]\(LICENSE\)", r"\1", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]+\.(?:py|toml|yml|cff|ipynb)\)", r"`\1`", text)


def _gallery() -> str:
    """The stored pictures of examples/gallery.py, each with the code that draws it, below the page's own text."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "examples" / "gallery.py")
    gallery = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = gallery  # its dataclass needs the module there
    spec.loader.exec_module(gallery)
    page = [(ROOT / "docs" / "site" / "gallery.md").read_text()]
    for function in gallery.PICTURES:
        caption, name = inspect.getdoc(function), function.__name__
        page += [f"### {name.replace('_', ' ').capitalize()}", ""]
        page += [f"![{caption}](images/gallery/{name}.webp)", "", caption, ""]
        page += ["```{ .python .wide }", inspect.getsource(function).strip(), "```", ""]
    return "\n".join(page)


def _notebook(name: str) -> dict[str, str | bytes]:
    """The page of a notebook, from its stored outputs, and its pictures."""
    cells = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text())["cells"]
    parts, files = [], {}
    for n, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = source.replace("](../docs/", "](../")
            parts.append(re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", source))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/jpeg" in data:
                files[f"notebooks/{name}-{n}.jpg"] = base64.b64decode(data["image/jpeg"])
                parts.append(f"![What the code above draws]({name}-{n}.jpg)")
            else:
                text = "".join(output.get("text") or data["text/plain"]).rstrip()
                parts.append(f"```text\n{text}\n```")
    notice = f"This page is the notebook `examples/{name}.ipynb` of the repository."
    return {f"notebooks/{name}.md": "\n\n".join([*parts, notice]) + "\n", **files}


def _command_pages() -> list[tuple[str, str, str]]:
    """Title, address and text of the page of each command: its help, as the programs print it."""
    from typer.main import get_command
    from typer.testing import CliRunner

    os.environ |= {"COLUMNS": "88", "NO_COLOR": "1", "TERM": "dumb"}
    pages = []
    for program, module in PROGRAMS.items():
        app = importlib.import_module(module).app
        for name in _command_names(get_command(app)):
            result = CliRunner().invoke(app, [*name.split(), "--help"], prog_name=program)
            title = f"{program} {name}"
            text = f"# {title}\n\nLook up every option of `{title}`.\n\n```text\n{result.stdout.strip()}\n```\n"
            pages.append((title, f"reference/commands/{title.replace(' ', '-')}.md", text))
    return pages


def _command_names(group: Any, prefix: str = "") -> list[str]:
    """Names of the commands of a program, those of its groups included."""
    names = []
    for name, command in group.commands.items():
        if not command.hidden:
            is_group = hasattr(command, "commands")
            names += _command_names(command, f"{name} ") if is_group else [prefix + name]
    return names


def _settings() -> str:
    """Every setting of the network with its default and its sentence, a table for each section."""
    from sln.config import load_config

    defaults = load_config("modern")
    parts = [
        "# Settings",
        "",
        "Look up any setting of `sln fit`: its name, its value in the preset `modern`, and what it does. "
        "[Train a network](../how-to/train.md#change-settings) shows how to set one. "
        "`sln config --preset tiny` prints the values of another preset.",
        "",
    ]
    for section, values in defaults:
        parts += [f"## {section}", "", "| setting | value | meaning |", "|---|---|---|"]
        for key, field in type(values).model_fields.items():
            value = getattr(values, key)
            sentence = " ".join((field.description or "").split()).replace("|", "\\|")
            parts.append(f"| `{section}.{key}` | `{value!r}` | {sentence} |")
        parts.append("")
    return "\n".join(parts)


def _findings() -> str:
    """Every finding code: what it means, what is done about it, and what you can do."""
    from amodal_data.scenes.findings import CODES

    text = (
        "# Findings\n\nLook up a finding code to see what it means and how to correct the file. "
        "[Check and fix annotations](../how-to/check-and-fix.md) shows how to list the findings of a file. "
        "`amodal-data explain CODE` prints the same text.\n\n"
        "- **error**: something was skipped or changed.\n"
        "- **warning**: the file contradicts itself, and one side was chosen.\n"
        "- **info**: nothing was changed.\n\n"
    )
    for name, code in CODES.items():
        text += f"## {name}\n\n*{code.severity}.* {code.meaning} What is done: {code.action}.\n\n"
        text += f"**What you can do:** {code.remedy}\n\n"
    return text


def _python_page(topic: str) -> str:
    title, intro, rooms = TOPICS[topic]
    parts, listed = [f"# {title}", "", intro, ""], set()
    for module, names in _public_modules():
        package, room = module.split(".")[:2]
        is_here = room in rooms and (package == "sln") == (topic in ("training", "prediction", "network"))
        names = [name for name in names if is_here and f"{module}.{name}" not in listed]
        if names:
            listed |= {f"{module}.{name}" for name in names}
            parts += [f"## `{module}`", ""]
            for name in names:
                parts += [f"::: {module}.{name}", "    options:", "      heading_level: 3", ""]
    return "\n".join(parts)


def _public_modules() -> Iterator[tuple[str, list[str]]]:
    """Modules with the names that the packages export from them, then ``MODULES`` with all their public names."""
    for package in ("amodal_data", "sln"):
        for node in ast.parse((ROOT / package / "__init__.pyi").read_text()).body:
            if isinstance(node, ast.ImportFrom):
                yield f"{package}.{node.module}", [alias.name for alias in node.names]
    for module in MODULES:
        nodes = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text()).body
        names = [node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        yield module, [name for name in names if not name.startswith("_")]
