"""Settings put together from preset, file, environment and options; and written out again."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from amodal_data.io.files import open_regular
from sln.config.presets import PRESETS, Preset
from sln.config.sections import Config
from sln.errors import ConfigError


def load_config(
    preset: Preset | None = None,
    file: Path | None = None,
    settings: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """Put a configuration together.

    preset: ``modern`` unless given. file: TOML. settings: ``section.name=value``, value in TOML's notation
    or a bare word. options: ``{"train.steps": 500}``, None = not given.
    Raises :class:`ConfigError` naming every key that is wrong.
    """
    values: dict[str, Any] = {section: dict(own) for section, own in PRESETS[preset or "modern"].items()}
    for key, value in _given(file, settings, options or {}, environment):
        place = values
        *sections, name = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: {section} is no section")
        place[name] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error)), fix="`sln config` lists all settings") from error


def commented(config: Config) -> str:
    """The configuration as TOML, each setting under its sentence; runnable as a file."""
    import tomlkit

    document = tomlkit.document()
    for section in Config.model_fields:
        own: BaseModel = getattr(config, section)
        table = tomlkit.table()
        table.comment((type(own).__doc__ or "").strip())
        for name, about in type(own).model_fields.items():
            value = getattr(own, name)
            table.add(tomlkit.comment(f"{about.description} {_choices(about.annotation)}".strip()))
            if isinstance(value, tuple):
                value = [one.model_dump() if isinstance(one, BaseModel) else one for one in value]
            table.add(name, value)
        document.add(section, table)
    return tomlkit.dumps(document)


def _choices(annotation: Any) -> str:
    chosen = getattr(annotation, "__args__", ()) if getattr(annotation, "__origin__", None) is Literal else ()
    return f"({' | '.join(map(str, chosen))})" if chosen else ""


def _given(
    file: Path | None, settings: Iterable[str], options: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """All settings given, weakest first."""
    if file is not None:
        yield from _read(file)
    for name, text in environment.items():
        if name.startswith("SLN_") and "__" in name:
            yield name[4:].lower().replace("__", "."), _parse(text)
    for setting in settings:
        key, found, text = setting.partition("=")
        if not found:
            raise ConfigError(f"--set takes section.name=value, found {setting!r}")
        yield key.strip(), _parse(text.strip())
    yield from ((key, value) for key, value in options.items() if value is not None)


def _read(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        with open_regular(file) as opened:
            content = tomllib.load(opened)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise ConfigError(f"not TOML: {error}", place=str(file)) from error
    for section, own in content.items():
        if isinstance(own, dict):
            yield from ((f"{section}.{name}", value) for name, value in own.items())
        else:
            yield section, own


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        place = ".".join(map(str, one["loc"]))
        if one["type"] == "extra_forbidden":
            yield f"{place}: no such setting{_nearest(place)}"
        elif one["type"] == "value_error":
            yield str(one["ctx"]["error"])
        else:
            yield f"{place}: {one['msg']}, found {one['input']!r}"


def _nearest(place: str) -> str:
    known = [f"{section}.{name}" for section in Config.model_fields for name in _fields(section)]
    found = difflib.get_close_matches(place, known, 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _fields(section: str) -> Iterable[str]:
    return type(getattr(Config(), section)).model_fields
