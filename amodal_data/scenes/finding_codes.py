"""The codes of findings, read from ``finding_codes.toml``: severity, meaning, action and remedy of each."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of problem.

    ``severity``: ``error`` = something was skipped or altered; ``warning`` = the file contradicts itself, and one side
    was chosen; ``info`` = worth knowing, nothing was changed. ``action``: what this package does about it. ``remedy``:
    what you can do.
    """

    severity: Severity
    meaning: str
    action: str
    remedy: str


_TABLE = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
CODES: dict[str, Code] = {name: Code(**values) for name, values in tomllib.loads(_TABLE).items()}
