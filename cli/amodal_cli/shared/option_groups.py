"""The groups of options in the help of a command: Input, Output, Parallel, Reporting, and what it is about."""

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand
from typer.models import CommandFunctionType

_GROUPS = {  # Groups of options by name; options.py names those of files and folders, by their kinds
    "Input": "annotations annotator cocoa compare crowds format id input limit masks model order pattern pick "
    "preset rgb set skip-repeated split stream visible-pattern",
    "Output": "as force license link resume save to url",
    "Parallel": "device jobs scheduler shard workers",
    "Reporting": "help json log max-bad quiet strict",
}
_SUBJECTS = {  # What the options of a command are about that stand in no such group
    "build-targets": "Reading", "complete": "Prediction", "compose": "Scenes", "demo": "Scenes",
    "evaluate": "Scoring", "fit": "Training", "filter": "Conditions", "fit-prior": "Training", "predict": "Prediction",
    "split": "Parts", "synth": "Scenes",
}  # fmt: skip
_EXCEPTIONS = {  # Options that mean something else in one command than in the others
    "compose": {"Input": "part held-out licenses"},
    "evaluate": {"Scoring": "input", "Output": "format"},
    "fit": {"Training": "config preset set", "Input": "resume", "Output": "run"},
    "synth": {"Output": "split"},
}


class GroupedCommand(TyperCommand):
    """A command whose help lists arguments first, then its options by group."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line; required arguments without braces: ``SOURCE``, ``FILE...``."""
        pieces = [re.sub(r"^\{(.*)\}(\.{3})?$", r"\1\2", piece) for piece in super().collect_usage_pieces(ctx)]
        return [piece.replace("......", "...") for piece in pieces]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of the help in the order Arguments, Input, subject, Output, Parallel, Reporting."""
        subject = _SUBJECTS.get(str(self.name), "Options")
        sections: dict[str, list[tuple[str, str]]] = {
            name: [] for name in ("Arguments", "Input", subject, "Output", "Parallel", "Reporting")
        }
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                section = _section(parameter, str(self.name), subject)
                name = record[0].split(" <")[0] if section == "Arguments" else record[0]  # without a type of Python
                sections[section].append((name, record[1]))
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


class GroupedApp(typer.Typer):
    """A program whose commands show their options in groups."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = GroupedCommand, **settings: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Register a command."""
        return super().command(name, cls=cls, **settings)


def _section(parameter: Any, command: str, subject: str) -> str:
    """The section of the help that shows an argument or option."""
    if parameter.param_type_name == "argument":
        return "Arguments"
    name = max(parameter.opts, key=len).lstrip("-")
    for groups in (_EXCEPTIONS.get(command, {}), _GROUPS):
        for group, names in groups.items():
            if name in names.split():
                return group
    return parameter.rich_help_panel or subject
