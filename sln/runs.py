"""The run directory: settings, surroundings, metrics, checkpoints, overlays. Made once, never reused."""

import csv
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amodal_data.errors import AmodalError
from amodal_data.io.files import folder_for, open_regular, remove_leftovers, replaced, sole_writer
from sln.config import Config, commented, load_config, settings_of_schema
from sln.errors import RunError

_SCHEMA = "sln/run/3"
_SCHEMAS = {"sln/run/1": 1, "sln/run/2": 2, _SCHEMA: 3}
"""Numbers of what runs have settings for (:func:`sln.config.settings_of_schema`)"""
_PACKAGES = ("amodal-data", "torch", "torchvision", "numpy")


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory.

    ``config.toml`` (runnable), ``env.json``, ``metrics.jsonl`` and ``metrics.csv``, ``last.pt``, ``best.pt``,
    ``overlays/``, and when finished ``report.html``.
    """

    path: Path

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The best checkpoint: highest AP on the validation set, or lowest smoothed training loss without one; in a
        stage ``shape_prior`` the last.
        """
        return self.path / "best.pt"

    @property
    def overlays(self) -> Path:
        """Pictures made during training."""
        return self.path / "overlays"

    @property
    def report(self) -> Path:
        """The inspector page of the finished run."""
        return self.path / "report.html"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only process that trains here. Raises :class:`amodal_data.errors.InUseError` if another one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.path / ".lock", f"the run {self.path.name}"):
            for written in (self.last, self.best, self.report, self._metrics, self.path / "metrics.csv"):
                remove_leftovers(written)  # of a process that was killed while it saved
            yield

    @classmethod
    def create(cls, path: Path, config: Config, about: Mapping[str, Any]) -> "Run":
        """A new run directory. Raises :class:`RunError` if there is anything at ``path`` already."""
        run = cls(path)
        run.refuse_used()
        folder_for(run.overlays)
        with replaced(path / "config.toml") as file:
            file.write(commented(config))
        surroundings = {
            "schema": _SCHEMA,
            **about,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in _PACKAGES},
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
            "command": sys.argv,
        }
        with replaced(path / "env.json") as file:
            file.write(json.dumps(surroundings, indent=2) + "\n")
        return run

    def refuse_used(self) -> None:
        """Raise :class:`RunError` if there is anything at its path already."""
        path = self.path
        used = path.exists() and (
            not path.is_dir() or any(one.is_file() and one.name != ".lock" for one in path.rglob("*"))
        )
        if used:
            raise RunError("a run directory is made once and never reused", place=str(path),
                           fix="choose another --run, or go on with --resume")  # fmt: skip

    @classmethod
    def resume(cls, path: Path) -> "Run":
        """An existing run with a checkpoint. Raises :class:`RunError` if there is nothing to go on from."""
        run = cls(path)
        if not run.last.exists():
            raise RunError("nothing to resume: no last.pt here", place=str(path), fix="start it with --run")
        for written in (run.overlays, run._metrics):
            if written.is_symlink():
                raise RunError("a symbolic link is not written through", place=str(written), fix="remove the link")
        return run

    def config(self) -> Config:
        """Its settings. Raises :class:`RunError` if this is no run directory."""
        file = self.path / "config.toml"
        if not file.exists():
            raise RunError("not a run directory: no config.toml", place=str(self.path))
        known = _SCHEMAS.get(str(self.about().get("schema")), 3)
        return load_config(file=file, environment={}, options=settings_of_schema(known))

    def about(self) -> dict[str, Any]:
        """``env.json``. Raises :class:`RunError` if it cannot be used."""
        file = self.path / "env.json"
        try:
            with open_regular(file) as opened:
                found = json.load(opened)
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"env.json cannot be read: {error}", place=str(file)) from error
        if not isinstance(found, dict):
            raise RunError("env.json is no object", place=str(file))
        return found

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``; a last row cut off by a crash is left out. Raises :class:`RunError`."""
        if not self._metrics.exists():
            return []
        try:
            with open_regular(self._metrics) as file:
                rows = [json.loads(line) for line in file.read().split(b"\n")[:-1]]
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"metrics.jsonl cannot be read: {error}", place=str(self._metrics)) from error
        if not all(isinstance(row, dict) and type(row.get("step")) is int for row in rows):
            raise RunError("metrics.jsonl has a row without a step", place=str(self._metrics))
        return rows

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        handle = os.open(self._metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with os.fdopen(handle, "a") as file:
            file.write(json.dumps(row) + "\n")

    def rewind(self, step: int) -> None:
        """Forget rows above a step: those that came after the checkpoint a run is taken up from."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        with replaced(self._metrics) as file:
            file.write("".join(json.dumps(row) + "\n" for row in kept))

    def write_table(self) -> None:
        """``metrics.csv`` from ``metrics.jsonl``."""
        rows = [_flat(row) for row in self.metrics()]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with replaced(self.path / "metrics.csv", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def _about(run: Run) -> dict[str, Any]:
    """One row of :func:`list_runs`; ``problem`` says why a run cannot be read."""
    row: dict[str, Any] = {"run": str(run.path), "step": 0, "steps": 0, "loss": None, "ap": None, "targets": ""}
    try:
        rows = run.metrics()
        last = rows[-1] if rows else {}
        ap = _figure(next((one["ap"] for one in reversed(rows) if "ap" in one), None))
        loss = _figure(last.get("total"))
        row |= {"step": last.get("step", 0), "steps": run.config().train.steps, "loss": loss, "ap": ap}
        return row | {"targets": str(run.about().get("train", "")), "problem": ""}
    except (AmodalError, OSError, ValueError, KeyError, TypeError) as error:
        return row | {"problem": str(error).split("\n")[0]}


def _figure(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """What is known of each run directory in a folder (or of that one, if it is one), newest first."""
    places = [folder, *(sorted(folder.iterdir()) if folder.is_dir() else [])]
    runs = [path for path in places if (path / "env.json").exists() and (path / "config.toml").exists()]
    found = [(path.stat().st_mtime, _about(Run(path))) for path in runs]
    return [row for _, row in sorted(found, key=lambda one: -one[0])]
