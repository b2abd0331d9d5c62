"""Findings: problems in the input, each with a stable code; nothing is repaired or skipped silently.

A :class:`Finding` says where a problem is and what exactly was read. :data:`CODES` says how severe it is and what this
package does about it.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
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


_TABLE = Path(__file__).with_name("finding_codes.toml").read_text(encoding="utf-8")
CODES: dict[str, Code] = {name: Code(**values) for name, values in tomllib.loads(_TABLE).items()}
ROW = ("code", "severity", "file", "image", "instance", "what", "remedy", "image_file")
"""Columns of a list of findings"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a problem is: file, image id, and ``region``, the position among the image's annotations; -1 = none.

    Examples:
        >>> import amodal_data as ad
        >>> print(ad.Place("val.json", 7))
        val.json, image 7
    """

    file: str = ""
    image_id: int = -1
    region: int = -1

    def __str__(self) -> str:
        image = f"image {self.image_id}" if self.image_id >= 0 else ""
        instance = f"instance {self.region}" if self.region >= 0 else ""
        return ", ".join(part for part in (self.file, image, instance) if part)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: its code, its place, and a message with the values that were read.

    Examples:
        >>> import amodal_data as ad
        >>> finding = ad.Finding("order-tied", ad.Place("val.json", 7), "12 px")
        >>> finding.severity, finding.code in ad.CODES
        ('warning', True)
        >>> print(finding)
        warning: order-tied at val.json, image 7: 12 px (list order breaks the tie)
    """

    code: str
    place: Place
    message: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"unknown finding code {self.code!r}")

    @property
    def severity(self) -> Severity:
        """``"error"``, ``"warning"`` or ``"info"``, from :data:`CODES`."""
        return CODES[self.code].severity

    @property
    def action(self) -> str:
        """What this package does about it, from :data:`CODES`."""
        return CODES[self.code].action

    def to_row(self, image_file: str = "") -> dict[str, str | int | None]:
        """The finding as a row of :data:`ROW`; ``image`` (an id) and ``instance`` (a position) are None if unknown.

        image_file: file name of the image.
        """
        kind, place = CODES[self.code], self.place
        image, instance = (None if number < 0 else number for number in (place.image_id, place.region))
        problem = f"{kind.meaning.rstrip('.')}: {self.message}"
        values = (self.code, kind.severity, place.file, image, instance, problem, kind.remedy, image_file)
        return dict(zip(ROW, values, strict=True))

    def __str__(self) -> str:
        return f"{self.severity}: {self.code} at {self.place}: {self.message} ({self.action})"


def count_findings(findings: Iterable[Finding]) -> dict[str, int]:
    """Number of findings of each code that occurs, in the order of :data:`CODES`."""
    counts = Counter(finding.code for finding in findings)
    return {code: counts[code] for code in CODES if code in counts}


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts of finding codes for a message: ``"2 region-empty, 1 rle-malformed"``."""
    return ", ".join(f"{n} {code}" for code, n in counts.items())


def findings_text(findings: Iterable[Finding]) -> bytes:
    """Serialize findings as JSON lines, as a cache stores them."""
    lines = (
        {**asdict(f.place), "code": f.code, "severity": f.severity, "message": f.message, "action": f.action}
        for f in findings
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def read_findings(text: bytes) -> tuple[Finding, ...]:
    """Parse JSON lines of :func:`findings_text`. Raises ValueError if they are not findings."""
    lines = [json.loads(line) for line in text.splitlines()]
    kinds = {"code": str, "file": str, "image_id": int, "region": int, "message": str}
    if not all(type(line) is dict and type(line.get(name)) is kind for line in lines for name, kind in kinds.items()):
        raise ValueError("a finding has a field that is missing or of another type")
    places = [Place(line["file"], line["image_id"], line["region"]) for line in lines]
    return tuple(Finding(line["code"], place, line["message"]) for line, place in zip(lines, places, strict=True))
