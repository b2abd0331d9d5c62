"""The run directory: settings, environment, metrics, checkpoints and overlays of one training run."""

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
from amodal_data.io.files import folder_for, open_regular, remove_leftovers, replaced, sole_writer, write_text
from sln.config import Config, commented, load_config
from sln.errors import RunError

_SCHEMA = "sln-run/1"
_PACKAGES = ("amodal-data", "torch", "torchvision", "numpy")
_METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory, created once and never reused.

    ``config.toml`` (valid for ``--config``), ``env.json``, ``metrics.jsonl`` and ``metrics.csv``, ``last.pt``,
    ``best.pt``, ``overlays/``, ``curves.png``, and ``report.html`` when training is finished.
    """

    path: Path

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The best checkpoint: highest ``train.metric``, or lowest smoothed training loss without a validation set."""
        return self.path / "best.pt"

    @property
    def overlays(self) -> Path:
        """Folder of pictures made during training."""
        return self.path / "overlays"

    @property
    def curves(self) -> Path:
        """The learning curves, a picture."""
        return self.path / "curves.png"

    @property
    def report(self) -> Path:
        """The inspector page of the finished run."""
        return self.path / "report.html"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the directory. Raises :class:`amodal_data.errors.InUseError` if another process trains here."""
        self.path.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.path / ".lock", f"the run {self.path.name}"):
            for file in (
                self.last,
                self.best,
                self.report,
                self.curves,
                self.path / _METRICS,
                self.path / "metrics.csv",
            ):
                remove_leftovers(file)  # of a process that was killed while it saved
            yield

    @classmethod
    def create(cls, path: Path, config: Config, facts: Mapping[str, Any]) -> "Run":
        """Create a run directory; ``facts`` go into ``env.json``. Raises :class:`RunError` if ``path`` is in use."""
        run = cls(path)
        run.refuse_used()
        folder_for(run.overlays)
        write_text(path / "config.toml", commented(config))
        environment = {
            "schema": _SCHEMA,
            **facts,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in _PACKAGES},
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
            "command": sys.argv,
        }
        write_text(path / "env.json", json.dumps(environment, indent=2) + "\n")
        return run

    def refuse_used(self) -> None:
        """Raise :class:`RunError` if there is a file at its path already; a lock file and empty folders are fine."""
        files = (file for file in self.path.rglob("*") if file.is_file() and file.name != ".lock")
        if self.path.exists() and (not self.path.is_dir() or any(files)):
            raise RunError("a run directory is made once and never reused", place=str(self.path),
                           fix="choose another --run, or continue this run with --resume")  # fmt: skip

    @classmethod
    def resume(cls, path: Path) -> "Run":
        """An existing run with a checkpoint. Raises :class:`RunError` if it cannot be resumed."""
        if not (run := cls(path)).last.exists():
            raise RunError("nothing to resume: no last.pt here", place=str(path), fix="start it with --run")
        for target in (run.overlays, path / _METRICS):
            if target.is_symlink():
                raise RunError("refused to write through a symbolic link", place=str(target), fix="remove the link")
        return run

    def config(self) -> Config:
        """Its settings. Raises :class:`RunError` if this is not a run directory of this version."""
        if not (file := self.path / "config.toml").exists():
            raise RunError("not a run directory: no config.toml", place=str(self.path))
        self.environment()
        return load_config(file=file, environment={})

    def environment(self) -> dict[str, Any]:
        """The content of ``env.json``. Raises :class:`RunError` if it cannot be used."""
        file = self.path / "env.json"
        try:
            with open_regular(file) as opened:
                content = json.load(opened)
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"env.json cannot be read: {error}", place=str(file)) from error
        if not isinstance(content, dict):
            raise RunError("env.json is not a JSON object", place=str(file))
        if content.get("schema") != _SCHEMA:
            raise RunError("this run was made by an earlier development version", place=str(file), fix="train again")
        return content

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``, without a last row cut off by a crash. Raises :class:`RunError`."""
        path = self.path / _METRICS
        if not path.exists():
            return []
        try:
            with open_regular(path) as file:
                rows = [json.loads(line) for line in file.read().split(b"\n")[:-1]]
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"metrics.jsonl cannot be read: {error}", place=str(path)) from error
        if not all(isinstance(row, dict) and type(row.get("step")) is int for row in rows):
            raise RunError("metrics.jsonl has a row without a step", place=str(path))
        return rows

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        handle = os.open(self.path / _METRICS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with os.fdopen(handle, "a") as file:
            file.write(json.dumps(row) + "\n")

    def rewind(self, step: int) -> None:
        """Delete rows above ``step``, the step of the checkpoint that the run continues from."""
        rows = [row for row in self.metrics() if row["step"] <= step]
        write_text(self.path / _METRICS, "".join(json.dumps(row) + "\n" for row in rows))

    def write_table(self) -> None:
        """Write ``metrics.csv`` from ``metrics.jsonl``."""
        rows = [_flatten(row) for row in self.metrics()]
        with replaced(self.path / "metrics.csv", newline="") as file:
            writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
            writer.writeheader()
            writer.writerows(rows)


def _flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _summary(run: Run) -> dict[str, Any]:
    """One row of :func:`list_runs`; ``problem`` says why a run cannot be read."""
    summary: dict[str, Any] = {"run": str(run.path), "step": 0, "steps": 0, "loss": None, "ap": None, "targets": ""}
    try:
        rows = run.metrics()
        last = rows[-1] if rows else {}
        figures = {"loss": last.get("total"), "ap": next((row["ap"] for row in reversed(rows) if "ap" in row), None)}
        summary |= {"step": last.get("step", 0), "steps": run.config().train.steps}
        summary |= {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
        return summary | {"targets": str(run.environment().get("train", "")), "problem": ""}
    except (AmodalError, OSError, ValueError, KeyError, TypeError) as error:
        return summary | {"problem": str(error).split("\n")[0]}


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """A summary of each run directory in a folder (or of the folder, if it is one), newest first."""
    folders = [folder, *(sorted(folder.iterdir()) if folder.is_dir() else [])]
    paths = [path for path in folders if (path / "env.json").exists() and (path / "config.toml").exists()]
    return [_summary(Run(path)) for path in sorted(paths, key=lambda path: -path.stat().st_mtime)]
