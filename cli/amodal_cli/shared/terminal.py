"""What every command does the same way: exit codes, errors, progress, notes and JSON."""

import codecs
import json
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol

import typer
from typer.core import TyperGroup

from amodal_cli.shared.interruption import install_handlers, was_interrupted
from amodal_cli.shared.option_groups import GroupedApp
from amodal_data.errors import AmodalError
from amodal_data.io.text import count_of as count_of
from amodal_data.io.text import printable

if TYPE_CHECKING:
    from amodal_data.scenes.findings import Finding

_ORDER_CODES = ("order-equal",)  # Findings whose remedy is printed at once: an option was probably forgotten
DEBUG = {"on": False}  # Whether ``--debug`` was given: unexpected errors show their traceback
_INTERRUPT_NOTES: list[str] = []  # What the last line of an interrupted command adds
_PLAIN = {"█": "#", "━": "-", "…": "..."}  # ASCII for symbols of bars


def names_of(kind: str) -> dict[str, str]:
    """``synonyms``: names that other tools use, by command. ``extras``: the extra of each optional package."""
    table: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("names.toml").read_text("utf-8"))
    return table[kind]


class CommandGroup(TyperGroup):
    """Commands; a wrong name gets a suggestion."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the words name; the error of a wrong name has a suggestion."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            name = _nearest_command(args[0], str(ctx.find_root().info_name), self.list_commands(ctx))
            if name and hasattr(error, "message"):
                error.message += f" Did you mean {name!r}?"
            raise


def _nearest_command(word: str, program: str, names: list[str]) -> str:
    """The command that a wrong name means, one of ``names`` if possible, else of the other program; "" = none."""
    from difflib import get_close_matches

    rows = [(*row.split(), words.split()) for row, words in names_of("synonyms").items()]
    synonyms = [(owner, name) for owner, name, words in rows if word in [name, *words]]
    matches = [name for _, name in synonyms if name in names]
    matches += [name for name in names if name.startswith(word)]
    matches += [f"{owner} {name}" for owner, name in synonyms if owner != program]
    matches += get_close_matches(word, names)
    return next(iter(matches), "")


def new_app(name: str, summary: str) -> typer.Typer:
    """Return a program without commands, with the options ``--debug`` and ``--version``."""
    app = GroupedApp(
        cls=CommandGroup,
        suggest_commands=False,  # the group has its own suggestions
        help=summary,
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

    0 done, 1 the work failed or the data has errors, 2 usage or config, 3 environment, 130 interrupted.
    """
    AmodalError.in_command = True
    install_handlers()
    _accept_all_characters()
    try:
        app(prog_name=name)
    except SystemExit as stop:
        if stop.code == 130:
            _print_interrupted()
        raise
    except Exception as error:
        if was_interrupted():
            _print_interrupted()
            sys.exit(130)
        if DEBUG["on"]:
            raise
        sys.exit(_report_error(error))
    finally:
        AmodalError.in_command = False
    sys.exit(0)


def _accept_all_characters() -> None:
    """Let terminals without a character print another one instead of ending the command."""
    codecs.register_error("plain", _plain_character)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plain_character(error: UnicodeError) -> tuple[str | bytes, int]:
    """An ASCII symbol for a symbol of our own, an escape such as ``\\xe9`` for any other character."""
    if isinstance(error, UnicodeEncodeError) and (plain := _PLAIN.get(error.object[error.start])):
        return plain, error.start + 1
    return codecs.backslashreplace_errors(error)


def set_interrupt_note(*notes: str) -> None:
    """Set what an interruption from now on prints last: what is kept and how to continue. No notes clear it."""
    _INTERRUPT_NOTES[:] = notes


def _print_interrupted() -> None:
    print_note("; ".join(["interrupted", *_INTERRUPT_NOTES]))


def _report_error(error: Exception) -> int:
    """Print an error with its place and remedy; return the exit code."""
    from amodal_data.errors import InUseError, LayoutError, OutputExistsError, SelectionError
    from sln.errors import ConfigError, MachineError, RunError

    if isinstance(error, ModuleNotFoundError) and (extra := names_of("extras").get(str(error.name).partition(".")[0])):
        print_note(f'error: the package {error.name!r} is not installed\n  fix: pip install "amodal-data[{extra}]"')
        return 3
    if isinstance(error, AmodalError):
        print_note(f"error: {error}")
    elif isinstance(error, MemoryError):
        print_note("error: not enough memory\n  fix: use a smaller input or a machine with more memory")
    elif isinstance(error, OSError):
        print_note(f"error: {error.strerror or error}" + (f"\n  at:  {error.filename}" if error.filename else ""))
    else:
        print_note(f"error: {type(error).__name__}: {error}")
        print_note("  fix: this is a bug; pass --debug before the command to see where it happened")
    usage = LayoutError | OutputExistsError | SelectionError | InUseError | ConfigError | RunError
    return 3 if isinstance(error, MachineError) else 2 if isinstance(error, usage) else 1


def print_note(text: str, *, quiet: bool = False) -> None:
    """Print a note, warning or error to stderr, unless quiet."""
    if not quiet:
        print(printable(text, keep_lines=True), file=sys.stderr)


def print_findings(findings: "Sequence[Finding]", *, quiet: bool) -> dict[str, int]:
    """Print how often each finding code occurs, unless quiet; return these counts."""
    from amodal_data.scenes.findings import CODES, count_findings, counts_text

    counts = count_findings(findings)
    if counts:
        print_note(f"findings: {counts_text(counts)}", quiet=quiet)
    for code in (code for code in counts if code in _ORDER_CODES):
        meaning = f"{code}: {CODES[code].meaning.rstrip('.')} ({CODES[code].action})"
        print_note(f"{CODES[code].severity}: {meaning}\n  fix: {CODES[code].remedy}", quiet=quiet)
    return counts


def refuse_nothing_left(findings: "Sequence[Finding]", output: Path | None) -> NoReturn:
    """Remove an output without any object, say why it has none, and exit with 1."""
    from amodal_data.scenes.findings import count_findings

    reasons = [finding for finding in findings if finding.severity != "info"] or findings
    counts = count_findings(reasons)
    if output is not None and output.is_file():
        output.unlink()
    print_note("error: no object is left" + (", because of these findings:" if counts else ": the input has none"))
    for code, n in list(counts.items())[:5]:
        first = next(finding for finding in reasons if finding.code == code)
        print_note(f"  {n} {code}, such as {first.place}: {first.message}")
    if counts:
        print_note(f"  fix: amodal-data explain {max(counts, key=lambda code: counts[code])}")
    raise typer.Exit(1)


def print_json(document: dict[str, Any]) -> None:
    """Print the one JSON document of a command to stdout."""
    print(json.dumps(document, indent=2))


def print_result(text: object, document: dict[str, Any], *, as_json: bool) -> None:
    """Print the result of a command to stdout, as text or as its JSON document."""
    if as_json:
        print_json(document)
    else:
        print(printable(str(text), keep_lines=True))


class Advance(Protocol):
    """Advances a progress bar by some steps; ``status`` stands behind the bar until it is replaced."""

    def __call__(self, steps: int, status: str = "") -> None:
        """Advance by ``steps`` (0 or more) and replace the status unless it is empty."""


@contextmanager
def progress(title: str, total: int | None, *, quiet: bool = False, interrupt_note: str = "") -> Iterator[Advance]:
    """Show a bar on stderr with rate and, for a known total, time left; nothing if quiet or not a terminal."""
    if interrupt_note:
        set_interrupt_note(interrupt_note)
    if quiet or not sys.stderr.isatty():
        yield lambda steps, status="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate, text = TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[status]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(), text)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, rate="", status="")

        def advance(steps: int, status: str = "") -> None:
            speed = bar.tasks[0].speed or 0
            rate = f"{speed:.{0 if speed >= 10 else 1}f}/s" if speed else ""
            bar.update(task, advance=steps, rate=rate, status=status or bar.tasks[0].fields["status"])

        yield advance


def check_output(path: Path, *, force: bool, inputs: Sequence[Path] = (), makes_folder: bool = False) -> None:
    """Refuse an output before any work: an input, in a missing folder, or existing without ``--force``.

    makes_folder: the command makes missing folders.
    """
    from amodal_data.errors import SelectionError
    from amodal_data.io.files import refuse_existing

    if not makes_folder and not path.absolute().parent.is_dir():
        raise SelectionError("the folder of the output does not exist", place=str(path.absolute().parent))
    refuse_existing(path, force=force, inputs=inputs)
