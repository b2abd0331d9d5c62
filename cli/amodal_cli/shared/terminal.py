"""What every command does the same way: exit codes, errors, progress, JSON."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

import typer
from typer.core import TyperGroup

from amodal_cli.shared.interruption import interrupted, listen

DEBUG = {"on": False}
_LEFT: list[str] = []
_EXTRAS = {
    "pydantic": "sln", "tomlkit": "sln", "torch": "sln", "torchvision": "sln", "safetensors": "sln",
    "distributed": "distributed", "faster_coco_eval": "boundary", "datumaro": "formats", "yaml": "formats",
    "fiftyone": "fiftyone", "supervision": "supervision", "pyarrow": "parquet", "tensorboard": "tensorboard",
}  # fmt: skip
"""The extra that brings each package which the base does not need"""


_MEANT = {
    "train": "fit", "infer": "predict", "test": "evaluate", "eval": "evaluate", "build": "build-targets",
    "check": "verify", "view": "inspect", "show": "inspect", "download": "get",
}  # fmt: skip
"""Commands as other tools call them"""


class _Commands(TyperGroup):
    """Commands that know what was meant by a wrong name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            known = self.list_commands(ctx)
            meant = [name for name in known if name == _MEANT.get(args[0]) or name.startswith(args[0])]
            if meant and "mean" not in getattr(error, "message", "mean"):
                error.message += f" Did you mean {meant[0]!r}?"  # type: ignore[attr-defined]
            raise


def new_app(name: str, about: str) -> typer.Typer:
    """An empty program with ``--debug`` and ``--version``."""
    app = typer.Typer(
        cls=_Commands,
        help=about,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(show: bool) -> None:
        if show:
            from importlib.metadata import version

            print(f"{name} {version('amodal-data')}")
            raise typer.Exit

    @app.callback()
    def _main(
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        DEBUG["on"] = debug

    return app


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command and end the process with its exit code.

    0 done, 1 the work failed or the data has errors, 2 usage, 3 environment, 130 interrupted.
    """
    listen()
    try:
        app(prog_name=name)
    except SystemExit as stop:
        if stop.code == 130:
            _say_interrupted()
        raise
    except Exception as error:
        if interrupted():
            _say_interrupted()
            sys.exit(130)
        if DEBUG["on"]:
            raise
        sys.exit(_explain(error))
    sys.exit(0)


def left_behind(*said: str) -> None:
    """Remember what an interruption from now on leaves, for the last line; nothing = nothing."""
    _LEFT[:] = said


def _say_interrupted() -> None:
    print(printable("; ".join(["interrupted", *_LEFT])), file=sys.stderr)


def _explain(error: Exception) -> int:
    from amodal_data.errors import AmodalError, InUseError, LayoutError, OutputExistsError, SelectionError
    from sln.errors import ConfigError, MachineError, RunError

    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get(str(error.name).partition(".")[0])):
        print(f'error: the package {error.name!r} is not installed\n  fix: pip install "amodal-data[{extra}]"',
              file=sys.stderr)  # fmt: skip
        return 3
    if isinstance(error, MemoryError):
        print("error: not enough memory for this\n  fix: a smaller input, or a machine with more", file=sys.stderr)
        return 1
    if isinstance(error, OSError) and not isinstance(error, AmodalError):
        where = f"\n  at:  {error.filename}" if error.filename else ""
        print(printable(f"error: {error.strerror or error}{where}"), file=sys.stderr)
        return 1
    if not isinstance(error, AmodalError):
        print(printable(f"error: {type(error).__name__}: {error}"), file=sys.stderr)
        print("  fix: this should not happen; --debug before the command shows where", file=sys.stderr)
        return 1
    print(f"error: {printable(str(error))}", file=sys.stderr)
    if isinstance(error, MachineError):
        return 3
    usage = LayoutError | OutputExistsError | SelectionError | InUseError | ConfigError | RunError
    return 2 if isinstance(error, usage) else 1


def printable(text: str) -> str:
    """Control characters from data (file names, labels) shown escaped; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def counted(n: int, what: str) -> str:
    """``"1 photo"``, ``"2 photos"``."""
    return f"{n} {what}{'s' * (n != 1)}"


def say(text: str, *, quiet: bool = False) -> None:
    """Talk: to stderr, unless quiet."""
    if not quiet:
        print(printable(text), file=sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document of a command, to stdout."""
    print(json.dumps(document, indent=2))


class Advance(Protocol):
    """Moves a bar on by some steps; ``said`` stands behind it until something else is said."""

    def __call__(self, done: int, said: str = "") -> None:
        """Some steps are done, perhaps none; say something new, if there is anything."""


@contextmanager
def progress(title: str, total: int | None, *, quiet: bool = False) -> Iterator[Advance]:
    """A bar on stderr with rate and, of a known total, time left; nothing without a terminal, or when quiet."""
    if quiet or not sys.stderr.isatty():
        yield lambda _, said="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate, words = TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[said]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
        words,
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, rate="", said="")

        def advance(done: int, said: str = "") -> None:
            speed = bar.tasks[0].speed or 0
            rate = f"{speed:.{0 if speed >= 10 else 1}f}/s" if speed else ""
            bar.update(task, advance=done, rate=rate, said=said or bar.tasks[0].fields["said"])

        yield advance


def check_output(path: Path, *, force: bool, inputs: Sequence[Path] = ()) -> None:
    """Stop before any work if an output cannot or must not be written: it is already there and --force was
    not given, its folder is missing, or it is one of the inputs.
    """
    from amodal_data.errors import SelectionError
    from amodal_data.io.files import refuse_existing

    if any(one.exists() and path.exists() and path.samefile(one) for one in inputs):
        raise SelectionError("the output is also an input", place=str(path), fix="name another file")
    if not path.absolute().parent.is_dir():
        raise SelectionError("there is no such folder to write to", place=str(path.absolute().parent))
    refuse_existing(path, force=force)
