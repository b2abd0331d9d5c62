"""Modules and rooms of the packages whose functions a job enters.

    python benchmarks/rooms_entered.py

Runs `build-targets`, `evaluate`, `predict` and one step of `fit` on small generated data, each under a profile hook
that notes the file of every function entered. A room is a first-level folder of a package, or a loose module there.
"""

import sys
import tempfile
import threading
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"amodal_data": ROOT / "amodal_data", "sln": ROOT / "sln", "amodal_cli": ROOT / "cli" / "amodal_cli"}
TINY = ["--preset", "tiny", "--device", "cpu", "--steps", "1"]


def module_of(filename: str) -> str | None:
    """Dotted name of a file of the packages; None for others."""
    path = Path(filename)
    for package, folder in PACKAGES.items():
        if path.is_relative_to(folder):
            return ".".join([package, *path.relative_to(folder).with_suffix("").parts])
    return None


def entered(program: str, arguments: list[str]) -> set[str]:
    """Modules that a command enters after its imports."""
    from amodal_cli import data, model

    files: set[str] = set()

    def note(frame: object, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":  # type: ignore[attr-defined]
            files.add(frame.f_code.co_filename)  # type: ignore[attr-defined]

    sys.argv = [program, *arguments]
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            (data if program == "amodal-data" else model).main()
    except SystemExit as stop:
        assert not stop.code, (program, arguments)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {name for file in files if (name := module_of(file)) is not None}


def main() -> None:
    """Print one row for each job."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache, results, run = folder / "t.h5", folder / "results.json", folder / "run"
        jobs = [
            ("amodal-data", ["synth", str(folder), "-n", "4", "--height", "96", "--width", "96"]),
            ("amodal-data", ["build-targets", "cocoa", "-d", str(folder), "-o", str(cache)]),
            ("amodal-data", ["convert", str(cache), "--to", "results", "-o", str(results)]),
            ("amodal-data", ["evaluate", str(cache), str(results)]),
            ("sln", ["fit", str(cache), "--images", str(folder), "--run", str(run), *TINY]),
            ("sln", ["predict", str(run), str(folder / "val2014"), "-o", str(folder / "out"), "--save", "coco"]),
        ]
        for program, arguments in jobs:
            modules = entered(program, arguments)
            rooms = {".".join(module.split(".")[:2]) for module in modules if not module.endswith("__init__")}
            if arguments[0] in ("build-targets", "evaluate", "fit", "predict"):
                print(f"{program} {arguments[0]:<14}{len(modules):>4} modules {len(rooms):>3} rooms: {sorted(rooms)}")


if __name__ == "__main__":
    main()
