"""Check the environment: versions of packages, the torch pair, a GPU, disk space."""

import platform
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PACKAGES = ("h5py", "numpy", "orjson", "pillow", "pycocotools", "rich", "scikit-image", "scipy", "shapely", "typer")
"""Packages that amodal-data needs."""
MIN_FREE_BYTES = 2**30  # Less free disk space than this is a problem


def examine(folder: Path) -> dict[str, Any]:
    """Versions and problems of this environment, JSON-ready; ``problems`` is empty if everything is in order.

    Packages are not imported; versions come from the installed metadata.
    """
    packages = {name: _version(name) for name in PACKAGES}
    torch, vision = _version("torch"), _version("torchvision")
    problems = [f"{name} is not installed: pip install amodal-data" for name, v in packages.items() if v is None]
    if torch and vision and (problem := torch_problem()):
        problems.append(problem)
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
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
    """Why torch and torchvision do not work together, "" if they do; neither is imported."""
    torch, vision = _version("torch"), _version("torchvision")
    missing = [name for name, installed in (("torch", torch), ("torchvision", vision)) if installed is None]
    if torch is None or vision is None:
        return f"{' and '.join(missing)} not installed"
    requirements = map(Requirement, requires("torchvision") or [])
    required = next((r.specifier for r in requirements if r.name == "torch"), SpecifierSet())
    if required.contains(torch.split("+")[0], prereleases=True):
        return ""
    return f"torchvision {vision} needs torch{required}, found {torch}: install both in one command"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
