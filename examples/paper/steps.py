"""Steps that keep their results: a run that is stopped at any point goes on where it was."""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_data.io.files import write_text

GOALS = ("table1", "table2", "table3", "figures")
"""What can be asked for."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A piece of work with a JSON result, and the goals that need it."""

    name: str
    goals: tuple[str, ...]
    work: Callable[[], Mapping[str, Any]]


class Workspace:
    """The folder that holds the result of every finished step, ``steps/NAME.json``, written last and atomically."""

    def __init__(self, out: Path) -> None:
        self.out = out
        (out / "steps").mkdir(parents=True, exist_ok=True)

    def path(self, *parts: str) -> Path:
        """Return a path inside the folder; its parent is made."""
        path = self.out.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def result(self, name: str) -> Result | None:
        """Return the result of a step; None if it is not finished."""
        path = self.path("steps", f"{name}.json")
        return json.loads(path.read_text()) if path.exists() else None

    def run(self, steps: Iterable[Step], goals: Collection[str]) -> None:
        """Run the steps that the goals need and that are not finished."""
        needed = [step for step in steps if not goals.isdisjoint(step.goals)]
        for number, step in enumerate(needed, 1):
            if self.result(step.name) is not None:
                continue
            print(f"[{number}/{len(needed)}] {step.name}", flush=True)
            started, cpu = time.perf_counter(), time.process_time()
            result = dict(step.work())
            result["seconds"] = round(time.perf_counter() - started, 1)
            result["cpu_seconds"] = round(time.process_time() - cpu, 1)
            write_text(self.path("steps", f"{step.name}.json"), json.dumps(result, indent=1) + "\n")

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Keep the settings of this folder, or refuse others; remove temporary files of killed writers."""
        for folder in (".", "steps", "configurations", "predictions", "order", "figures"):
            for leftover in self.out.glob(f"{folder}/.*.part"):
                leftover.unlink()
        path, text = self.path("settings.json"), json.dumps(settings, indent=1) + "\n"
        if not path.exists():
            write_text(path, text)
        kept = json.loads(path.read_text())
        if kept != json.loads(text):
            changed = [f"{name} was {kept.get(name)}" for name in settings if kept.get(name) != settings[name]]
            raise SystemExit(
                f"{self.out} was started with other settings: {', '.join(changed)}. Choose another folder."
            )
