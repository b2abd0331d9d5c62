"""Is this machine fit? Versions, the torch pair, a GPU, disk space."""

import platform
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

_NEEDED = (
    "h5py",
    "numpy",
    "orjson",
    "pillow",
    "pycocotools",
    "rich",
    "scikit-image",
    "scipy",
    "shapely",
    "typer",
)


def examine(folder: Path) -> dict[str, Any]:
    """What is there and what is wrong: ``problems`` is empty on a fit machine.

    Nothing heavy is imported: versions come from the installed metadata.
    """
    packages = {name: _version(name) for name in _NEEDED}
    torch, vision = _version("torch"), _version("torchvision")
    problems = [f"{name} is not installed: pip install amodal-data" for name, v in packages.items() if v is None]
    if torch and vision and (problem := torch_problem()):
        problems.append(problem)
    free = shutil.disk_usage(folder).free
    if free < 2**30:
        problems.append(f"less than 1 GiB free at {folder}")
    return {
        "schema": "amodal-data/doctor/1",
        "ok": not problems,
        "python": platform.python_version(),
        "amodal-data": _version("amodal-data"),
        "packages": packages,
        "torch": torch,
        "torchvision": vision,
        "gpu": shutil.which("nvidia-smi") is not None,
        "disk_free_gib": round(free / 2**30, 1),
        "problems": problems,
    }


def torch_problem() -> str:
    """Why torch and torchvision cannot be used together, "" if they can; neither is imported."""
    torch, vision = _version("torch"), _version("torchvision")
    missing = [name for name, found in (("torch", torch), ("torchvision", vision)) if found is None]
    if torch is None or vision is None:
        return f"{' and '.join(missing)} not installed"
    wanted = _wanted_torch()
    if wanted.contains(torch.split("+")[0], prereleases=True):
        return ""
    return f"torchvision {vision} needs torch{wanted}, found {torch}: install both in one command"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _wanted_torch() -> SpecifierSet:
    """The torch versions that the installed torchvision was built for, from its own metadata."""
    try:
        needs = [Requirement(need) for need in requires("torchvision") or []]
    except PackageNotFoundError:
        needs = []
    return next((need.specifier for need in needs if need.name == "torch"), SpecifierSet())
