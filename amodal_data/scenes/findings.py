"""Findings: problems in the input, each with a stable code; nothing is repaired or skipped silently.

A :class:`Finding` says where a problem is and what exactly was read. :data:`CODES` says how severe it is and what this
package does about it.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of problem.

    ``severity``: ``error`` = something was skipped or altered; ``warning`` = the file contradicts itself, and one side
    was chosen; ``info`` = worth knowing, nothing was changed. ``action``: what this package does about it.
    """

    severity: Severity
    meaning: str
    action: str


CODES: dict[str, Code] = {
    # the file
    "duplicate-id": Code("error", "An id occurs more than once.", "first image kept; annotations all kept"),
    "image-unknown": Code("warning", "An annotation names an image that is not listed.", "annotation skipped"),
    "image-unannotated": Code("info", "An image has no annotation.", "image skipped"),
    "image-size-unknown": Code("error", "Neither the file nor a mask gives the image size.", "image skipped"),
    "annotation-malformed": Code("error", "An entry is not an object with the expected fields.", "entry skipped"),
    "several-annotators": Code("info", "Several people annotated this image.", "first annotation used"),
    "size-differs": Code("info", "'size' is not the number of instances.", "instances counted"),
    # the amodal mask of an instance
    "region-malformed": Code("error", "An instance cannot be read.", "instance skipped"),
    "segmentation-missing": Code("error", "An instance has no usable mask.", "instance skipped"),
    "shape-left-out": Code("warning", "A shape has no area, or its kind is not supported.", "shape skipped"),
    "polygon-not-finite": Code("error", "A coordinate is NaN or infinite.", "instance skipped"),
    "polygon-too-short": Code("error", "A polygon has fewer than three points.", "instance skipped"),
    "polygon-odd-length": Code("error", "A polygon has an odd number of values.", "last value dropped"),
    "polygon-far-outside": Code(
        "warning", "A coordinate lies beyond 16 times the longer side.", "polygon clipped to that window"
    ),
    "polygon-outside": Code("info", "A polygon reaches more than 1 px outside the image.", "clipped to the image"),
    "polygon-self-intersecting": Code("info", "A polygon crosses or touches itself.", "filled by the even-odd rule"),
    "polygon-very-long": Code(
        "info", "A polygon has more than 20,000 points.", "filled, but not tested for self-intersection"
    ),
    "rle-malformed": Code("error", "An RLE cannot be decoded or does not fill its image.", "instance skipped"),
    "rle-wrong-size": Code("error", "The size of an RLE is not that of its image.", "instance skipped"),
    "region-empty": Code("warning", "A mask covers no pixel.", "instance kept, without a target"),
    "region-duplicate": Code("info", "Two instances have the same amodal mask.", "both kept, ordered by 'order'"),
    # order
    "order-missing": Code("warning", "An instance has no 'order'.", "placed behind all others, in list order"),
    "order-not-int": Code("warning", "'order' is not an integer.", "placed behind all others, in list order"),
    "order-unsaid": Code("warning", "The order field of an instance holds no number.", "its overlaps are ambiguous"),
    "order-open": Code("info", "Two instances overlap, and their order is unknown.", "overlap marked ambiguous"),
    "order-cycle": Code("warning", "The order of some instances is a cycle.", "broken at its weakest evidence"),
    "order-against-masks": Code("warning", "A depth field contradicts the visible masks.", "the masks decide"),
    "order-inconsistent": Code("warning", "Two depth fields contradict each other.", "weaker field ignored"),
    "order-tied": Code("warning", "Two instances have the same 'order'.", "list order breaks the tie"),
    "order-unsorted": Code("info", "Instances are not listed front to back.", "'order' decides"),
    "depth-constraint-malformed": Code("warning", "'depth_constraint' is not 'a-b,c-d,...'.", "'order' decides"),
    "depth-constraint-against-order": Code("warning", "A constraint contradicts 'order' or itself.", "'order' decides"),
    # visible masks of flat layouts
    "visible-missing": Code("warning", "An instance has no visible mask.", "amodal minus hidden mask, or all of it"),
    "visible-outside-amodal": Code("warning", "A visible mask reaches outside the amodal mask.", "clipped to it"),
    "crowd-unknown": Code("info", "An annotation covers a group of objects (iscrowd).", "pixels marked unknown"),
    "instance-duplicate": Code("info", "Two instances have the same amodal and visible mask.", "counted as one"),
    "ids-shifted": Code("info", "Image ids of two files collide.", "ids of the later file shifted"),
    # sources of composed scenes
    "photo-missing": Code("warning", "No folder holds the image file.", "image skipped"),
    "photo-unusable": Code("warning", "An image file is damaged, or not of the annotated size.", "image skipped"),
    "license-left-out": Code("info", "The license of an image is not among those you allow.", "image skipped"),
    "donor-small": Code("info", "An object has fewer pixels than --smallest.", "not pasted"),
    "donor-cut": Code("info", "The mask of an object ends at the image border.", "not pasted"),
    "donor-large": Code("info", "An object fills more than half of its image.", "not pasted"),
    "donor-touched": Code("info", "More of an object's outline than --contact touches other objects.", "not pasted"),
    "donor-in-parts": Code("info", "An object's mask has several parts, as if something hid some.", "not pasted"),
    # prompts of a network
    "prompts-overlap": Code("warning", "Two visible masks claim the same pixels.", "the higher score keeps them"),
    # stored masks and figures, used as checksums
    "stored-mask-malformed": Code("warning", "A stored mask cannot be decoded.", "treated as missing"),
    "stored-mask-differs": Code("warning", "A stored visible mask is not the one 'order' gives.", "stored mask used"),
    "stored-masks-inconsistent": Code(
        "warning", "Visible and hidden mask do not add up to the amodal mask.", "amodal and visible mask used"
    ),
    "area-differs": Code("warning", "'area' is more than 1 px off.", "recomputed"),
    "box-differs": Code("warning", "'bbox' is more than 1 px off.", "recomputed"),
    "occlusion-rate-differs": Code("warning", "'occlude_rate' is more than 1e-6 off.", "recomputed"),
    # the image as a whole
    "image-too-complex": Code("error", "An image has more regions or levels than a table holds.", "image skipped"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a problem is: file, image id, and ``region``, the position among the image's annotations; -1 = none."""

    file: str = ""
    image_id: int = -1
    region: int = -1

    def __str__(self) -> str:
        image = f"image {self.image_id}" if self.image_id >= 0 else ""
        instance = f"instance {self.region}" if self.region >= 0 else ""
        return ", ".join(part for part in (self.file, image, instance) if part)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: its code, its place, and a message with the values that were read."""

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

    def __str__(self) -> str:
        return f"{self.severity}: {self.code} at {self.place}: {self.message} ({self.action})"


def count_findings(findings: Iterable[Finding]) -> dict[str, int]:
    """Number of findings of each code that occurs, in the order of :data:`CODES`."""
    counts = Counter(finding.code for finding in findings)
    return {code: counts[code] for code in CODES if code in counts}


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
