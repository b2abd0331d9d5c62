"""What every command does the same way: exit codes, errors, progress, JSON."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

DEBUG = {"on": False}


def new_app(name: str, about: str) -> typer.Typer:
    """An empty program with ``--debug`` and ``--version``."""
    app = typer.Typer(
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


def run(app: typer.Typer, name: str, resumable: str) -> NoReturn:
    """Run a command and end the process with its exit code.

    0 done, 1 the work failed or the data has errors, 2 usage, 3 environment, 130 interrupted; ``resumable``
    says what an interruption leaves.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(prog_name=name)
    except SystemExit as stop:
        if stop.code == 130:
            print(f"interrupted; {resumable}", file=sys.stderr)
        raise
    except Exception as error:
        if DEBUG["on"]:
            raise
        sys.exit(_explain(error))
    sys.exit(0)


def _interrupt(number: int, frame: object) -> NoReturn:
    """SIGTERM ends a command as Ctrl-C does: cleaned up, resumable, exit code 130."""
    raise KeyboardInterrupt


def _explain(error: Exception) -> int:
    from amodal_data.errors import AmodalError, LayoutError, OutputExistsError, SelectionError
    from sln.errors import ConfigError, MachineError, RunError

    if isinstance(error, OSError) and not isinstance(error, AmodalError):
        where = f"\n  at:  {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{printable(where)}", file=sys.stderr)
        return 1
    if not isinstance(error, AmodalError):
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  fix: this should not happen; --debug before the command shows where", file=sys.stderr)
        return 1
    print(f"error: {printable(str(error))}", file=sys.stderr)
    if isinstance(error, MachineError):
        return 3
    return 2 if isinstance(error, LayoutError | OutputExistsError | SelectionError | ConfigError | RunError) else 1


def printable(text: str) -> str:
    """Control characters from data (file names, labels) shown escaped; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def say(text: str, *, quiet: bool = False) -> None:
    """Talk: to stderr, unless quiet."""
    if not quiet:
        print(printable(text), file=sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document of a command, to stdout."""
    print(json.dumps(document, indent=2))


@contextmanager
def progress(title: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with rate and time left; nothing where stderr is no terminal, or when quiet."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance(done: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=done, rate=f"{speed:.0f}/s" if speed else "")

        yield advance


def check_output(path: Path, *, force: bool, inputs: Sequence[Path] = ()) -> None:
    """Stop before any work if an output cannot or must not be written: it is already there and --force was
    not given, its folder is missing, or it is one of the inputs.
    """
    from amodal_data.cache import refuse_existing
    from amodal_data.errors import SelectionError

    if any(one.exists() and path.exists() and path.samefile(one) for one in inputs):
        raise SelectionError("the output is also an input", place=str(path), fix="name another file")
    if not path.absolute().parent.is_dir():
        raise SelectionError("there is no such folder to write to", place=str(path.absolute().parent))
    refuse_existing(path, force=force)
