"""Is this machine fit? Versions, the torch pair, a GPU, disk space."""

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["examine"]

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
    if torch and vision and not _pair(torch, vision):
        problems.append(f"torch {torch} and torchvision {vision} do not fit: install both in one command")
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


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _pair(torch: str, vision: str) -> bool:
    """torchvision 0.(15 + n) belongs to torch 2.n; other generations are not judged."""
    major, minor = torch.split(".")[:2]
    return major != "2" or vision.split(".")[:2] == ["0", str(15 + int(minor))]
