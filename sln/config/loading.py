"""Merge settings from preset, file, environment and options; write them as TOML."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from amodal_data.io.files import open_regular
from sln.config.sections import Config
from sln.errors import ConfigError

Preset = Literal["paper", "modern", "tiny"]
PRESETS: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(
    Path(__file__).with_name("presets.toml").read_text("utf-8")
)
"""What each preset changes from the default, which is ``modern``"""


def load_config(
    preset: Preset | None = None,
    file: Path | None = None,
    settings: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
    base: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Merge a configuration; later sources override earlier ones.

    preset: default ``modern``. base: values instead of a preset's. file: TOML. environment: variables
    ``SLN_SECTION__NAME``. settings: ``section.name=value``, the value in TOML's notation or a bare word. options:
    ``{"train.steps": 500}``, None = not set. If all stages have steps, ``train.steps`` is their sum by default. Raises
    :class:`ConfigError` that names every invalid key.

    Examples:
        >>> import sln
        >>> config = sln.load_config("tiny", settings=["train.lr=0.001"], options={"train.steps": 50})
        >>> config.train.lr, config.train.steps
        (0.001, 50)
    """
    values: dict[str, Any] = {
        section: dict(fields) for section, fields in (base or PRESETS[preset or "modern"]).items()
    }
    given = dict(_settings(file, settings, options or {}, environment))
    for key, value in given.items():
        table = values
        *sections, name = key.split(".")
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{key}: {section} is not a section")
        table[name] = value
    if "train.steps" not in given and isinstance(values.get("train"), dict):
        _add_up_steps(values["train"])
    return validated(values)


def _add_up_steps(train: dict[str, Any]) -> None:
    """Set the steps of a run to those of its stages, if all have steps."""
    stages = train.get("stages")
    rows = stages if isinstance(stages, list) else []
    steps = [row.get("steps") if isinstance(row, dict) else None for row in rows]
    if steps and all(type(count) is int for count in steps):
        train["steps"] = sum(steps)


def validated(values: Mapping[str, Any]) -> Config:
    """The configuration of these values. Raises :class:`ConfigError` that names every invalid key."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_messages(error)), fix="`sln config` lists all settings") from error


def commented(config: Config) -> str:
    """The configuration as a TOML file, each setting under its description."""
    import tomlkit

    document = tomlkit.document()
    for section in Config.model_fields:
        model: BaseModel = getattr(config, section)
        table = tomlkit.table()
        table.comment((type(model).__doc__ or "").strip())
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            table.add(tomlkit.comment(f"{field.description} {_choices(field.annotation)}".strip()))
            if isinstance(value, tuple):
                value = [item.model_dump(exclude_none=True) if isinstance(item, BaseModel) else item for item in value]
            table.add(name, value)
        document.add(section, table)
    return tomlkit.dumps(document)


def _choices(annotation: Any) -> str:
    return f"({' | '.join(map(str, get_args(annotation)))})" if get_origin(annotation) is Literal else ""


def _settings(
    file: Path | None, settings: Iterable[str], options: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """All keys and values, those that are overridden first."""
    if file is not None:
        yield from _read(file)
    for name, text in environment.items():
        if name.startswith("SLN_") and "__" in name:
            yield name[4:].lower().replace("__", "."), _parse(text)
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set takes section.name=value, found {setting!r}")
        yield key.strip(), _parse(text.strip())
    yield from ((key, value) for key, value in options.items() if value is not None)


def _read(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        with open_regular(file) as opened:
            content = tomllib.load(opened)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise ConfigError(f"not TOML: {error}", place=str(file)) from error
    for section, table in content.items():
        if isinstance(table, dict):
            yield from ((f"{section}.{name}", value) for name, value in table.items())
        else:
            yield section, table


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _messages(error: ValidationError) -> Iterator[str]:
    for details in error.errors():
        key = ".".join(map(str, details["loc"]))
        if details["type"] == "extra_forbidden":
            yield f"{key}: no such setting{_suggestion(key)}"
        elif details["type"] == "value_error":
            yield str(details["ctx"]["error"])
        else:
            yield f"{key}: {details['msg']}, found {details['input']!r}"


def _suggestion(key: str) -> str:
    config = Config()
    keys = [
        f"{section}.{name}" for section in Config.model_fields for name in type(getattr(config, section)).model_fields
    ]
    matches = difflib.get_close_matches(key, keys, 1, 0.5)
    return f"; did you mean {matches[0]}?" if matches else ""
