"""Pages of the site that are made from what is there: the README, the programs' help, docstrings."""

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
    "amodal_data": ("amodal_data", "amodal_data.readers", "amodal_data.synthetic.composing", "amodal_data.export",
                    "amodal_data.readers.classes", "amodal_data.evaluation", "amodal_data.export.adapters", "amodal_data.layering.visible_order",
                    "amodal_data.publishing", "amodal_data.inspector.drawing"),
    "sln": ("sln", "sln.config", "sln.ordering", "sln.training.logs", "sln.weights"),
}  # fmt: skip
"""Pages of the reference, and whose ``__all__`` each shows"""


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages."""
    made = {
        "index.md": _readme(config["extra"]["repository"]),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(),
        "contributing.md": _local(ROOT / "CONTRIBUTING.md"),
        "commands.md": _commands(),
        **{f"api/{name}.md": _reference(name, modules) for name, modules in API.items()},
    }
    made |= _gallery()
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Roles of docstrings (``:class:`X```) as plain code."""
    return re.sub(r":(?:class|func|meth|mod|data|attr):<code>[~.]?", "<code>", html)


def _readme(repository: str) -> str:
    """README, and a badge that opens the notebook in Colab where a repository is known."""
    text = _local(ROOT / "README.md")
    if not repository:
        return text
    notebook = f"https://colab.research.google.com/github/{repository}/blob/main/examples/tour.ipynb"
    badge = f"[![Open the tour in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({notebook})"
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{badge}\n{rest}"


def _local(path: Path) -> str:
    """A page of the repository's root with links as they are in the site; files that are no pages lose theirs."""
    text = path.read_text()
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", text)
    text = text.replace("](CHANGELOG.md)", "](changes.md)").replace("](CONTRIBUTING.md)", "](contributing.md)")
    text = text.replace("](README.md)", "](index.md)")
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]+\.(?:py|toml|yml|cff|ipynb)\)", r"`\1`", text)


def _gallery() -> dict[str, str | bytes]:
    """The pictures of examples/gallery.py, drawn now, each with the lines that draw it."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "examples" / "gallery.py")
    gallery = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = gallery  # its dataclass looks itself up
    spec.loader.exec_module(gallery)
    page, pictures = [_GALLERY], {}
    with tempfile.TemporaryDirectory() as folder:
        for function, path in zip(gallery.PICTURES, gallery.draw_all(Path(folder)), strict=True):
            about = inspect.getdoc(function)
            title = function.__name__.replace("_", " ").capitalize()
            pictures[f"gallery/{path.name}"] = path.read_bytes()
            page += [f"## {title}", "", f"![{about}](gallery/{path.name})", "", about, ""]
            page += ["```python", inspect.getsource(function).strip(), "```", ""]
    return {"gallery.md": "\n".join(page), **pictures}


_GALLERY = """# Gallery

Of networks first; the others are drawn when this site is built, by `examples/gallery.py` on synthetic scenes: copy the
lines.

![Photo, truth and predictions, sem-dist maps, of held-out synthetic scenes](images/predictions.jpg)

Held-out scenes after 250 steps on a CPU, as `make demo` leaves them (`sln evaluate --png`): what stands for a true
object has its colour.

![Two real photos, what was found in them, sem-dist maps](images/real.jpg)

Real photos, trained on [composed scenes](composing.md#tried-on-real-photos) only (`sln predict`). Credits stand there.

![The inspector page](images/page.jpg)

The [inspector page](inspector.md), one file.
"""


def _commands() -> str:
    """Every command's help, as the programs print it."""
    from typer.main import get_command
    from typer.testing import CliRunner

    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    parts = ["# Commands", "", "What `--help` says of each, at the version of these pages.", ""]
    for program, module in (("amodal-data", "amodal_cli.data"), ("sln", "amodal_cli.model")):
        app = importlib.import_module(module).app
        parts += [f"## {program}", ""]
        for name in _names(get_command(app)):
            said = CliRunner().invoke(app, [*name.split(), "--help"], prog_name=program)
            parts += [f"### {program} {name}", "", "```text", said.stdout.strip(), "```", ""]
    return "\n".join(parts)


def _names(group: Any, before: str = "") -> list[str]:
    found = []
    for name, command in group.commands.items():
        if not command.hidden:
            found += _names(command, f"{name} ") if hasattr(command, "commands") else [before + name]
    return found


def _reference(title: str, modules: tuple[str, ...]) -> str:
    parts = [f"# `{title}`", ""]
    shown: set[str] = set()
    for module in modules:
        found = importlib.import_module(module)
        names = [name for name in found.__all__ if (path := _home(found, name)) not in shown and not shown.add(path)]
        if not names:
            continue
        if module != title:
            parts += [f"## Module `{module}`", ""]
        parts += [(inspect.getdoc(found) or "").partition("\n")[0], ""]
        for name in names:
            parts += [f"::: {_home(found, name)}", "    options:", "      heading_level: 3", ""]
    return "\n".join(parts)


def _home(module: Any, name: str) -> str:
    """Where a public name is defined."""
    value = getattr(module, name)
    own = getattr(value, "__module__", None)
    if own is not None and (inspect.isclass(value) or inspect.isfunction(value)) and value.__name__ == name:
        return f"{own}.{name}"
    return f"{_defining(module, name, value)}.{name}"


def _defining(module: Any, name: str, value: Any) -> str:
    """The module that a constant comes from: the deepest below this one that holds the very same value."""
    package = module.__name__.partition(".")[0]

    holders = [one for key, one in list(sys.modules.items())
               if key.startswith(package) and getattr(one, name, None) is value
               and re.search(rf"^{name}\b.*=", inspect.getsource(one), re.M)]  # fmt: skip
    return holders[0].__name__ if holders else module.__name__
