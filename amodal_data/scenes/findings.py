"""What was odd in the input, and what was done about it: counted, never silent.

Every oddity has a stable code in :data:`CODES`. A :class:`Finding` says where it was met and what it
was; the table says how grave that is and what this package does about it.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of oddity.

    ``error``: something was left out or altered. ``warning``: the file contradicts itself and one side
    was believed. ``info``: worth knowing, nothing was changed.
    """

    severity: Severity
    meaning: str
    action: str


CODES: dict[str, Code] = {
    # the file
    "duplicate-id": Code("error", "An id occurs more than once.", "the first image or both annotations are kept"),
    "image-unknown": Code("warning", "An annotation names an image that is not listed.", "annotation skipped"),
    "image-unannotated": Code("info", "An image has no annotation.", "image skipped"),
    "image-size-unknown": Code("error", "Neither the file nor a mask gives the image size.", "image left out"),
    "annotation-malformed": Code("error", "A record is not an object of the expected shape.", "record left out"),
    "several-annotators": Code("info", "Several people annotated this image.", "the first one is used"),
    "size-differs": Code("info", "'size' is not the number of regions.", "the regions are counted"),
    # the amodal mask of a region
    "region-malformed": Code("error", "A region is not an object.", "region left out"),
    "segmentation-missing": Code("error", "A region has no usable 'segmentation'.", "region left out"),
    "shape-left-out": Code("warning", "A shape is of a kind that has no area, or that is not read.", "left out"),
    "polygon-not-finite": Code("error", "A coordinate is NaN or infinite.", "region left out"),
    "polygon-too-short": Code("error", "A polygon has fewer than three points.", "region left out"),
    "polygon-odd-length": Code("error", "A polygon has an odd number of values.", "last value dropped"),
    "polygon-far-outside": Code(
        "warning", "A coordinate lies beyond 16 times the longer side.", "polygon clipped to that window"
    ),
    "polygon-outside": Code("info", "A polygon reaches more than 1 px outside the image.", "clipped at the frame"),
    "polygon-self-intersecting": Code("info", "A polygon crosses or touches itself.", "filled by the even-odd rule"),
    "polygon-very-long": Code(
        "info", "A polygon has more than 20,000 points.", "not asked whether it crosses itself; filled as any other"
    ),
    "rle-malformed": Code("error", "An RLE cannot be decoded or does not fill its image.", "region left out"),
    "rle-wrong-size": Code("error", "An RLE has another size than its image.", "region left out"),
    "region-empty": Code("warning", "A region covers no pixel.", "kept, without a target"),
    "region-duplicate": Code("info", "Two regions have the same amodal mask.", "both kept, ordered by 'order'"),
    # order
    "order-missing": Code("warning", "A region has no 'order'.", "placed behind all ordered regions, list order"),
    "order-not-int": Code("warning", "'order' is not an integer.", "placed behind all ordered regions, list order"),
    "order-unsaid": Code(
        "warning", "The field that says the order has no number here.", "pixels ambiguous where it overlaps"
    ),
    "order-open": Code("info", "Two instances overlap, and nothing says who is in front.", "pixels ambiguous"),
    "order-cycle": Code(
        "warning", "Instances are in front of each other in a circle.", "broken at its weakest evidence"
    ),
    "order-against-masks": Code(
        "warning", "The depth a file gives contradicts its own visible masks.", "the masks decide"
    ),
    "order-inconsistent": Code("warning", "Two depth fields contradict each other.", "the weaker field is ignored"),
    "order-tied": Code("warning", "Two regions share one 'order'.", "list order breaks the tie"),
    "order-unsorted": Code("info", "Regions are not listed front to back.", "'order' decides"),
    "depth-constraint-malformed": Code("warning", "'depth_constraint' is not 'a-b,c-d,...'.", "'order' decides"),
    "depth-constraint-against-order": Code(
        "warning", "'depth_constraint' contradicts 'order' or itself.", "'order' decides"
    ),
    # visible masks of flat layouts
    "visible-missing": Code("warning", "An instance has no visible mask.", "amodal less hidden mask, else all visible"),
    "visible-outside-amodal": Code("warning", "A visible mask reaches outside the amodal mask.", "amodal stands"),
    "crowd-unknown": Code("info", "A group of objects that are not told apart (iscrowd).", "its pixels are unknown"),
    "instance-duplicate": Code("info", "Two instances have the same amodal and visible mask.", "count once in levels"),
    "ids-shifted": Code("info", "Image ids of two files collide.", "the later file's ids are shifted"),
    # what scenes are composed of
    "photo-missing": Code("warning", "The photo of an image is in none of the folders.", "image left out"),
    "photo-unusable": Code("warning", "A photo is damaged, or of another size than its annotations.", "image left out"),
    "license-left-out": Code("info", "The photo's licence is not among those asked for.", "image left out"),
    "donor-small": Code("info", "An object has fewer pixels than --smallest.", "not pasted"),
    "donor-cut": Code("info", "An object's mask ends at the frame.", "not pasted"),
    "donor-large": Code("info", "An object fills more than half of its photo.", "not pasted"),
    "donor-touched": Code("info", "More of an object's outline than --contact lies at other objects.", "not pasted"),
    "donor-in-parts": Code("info", "An object's mask is in several parts, as if something hid some.", "not pasted"),
    # what a network is told
    "prompts-overlap": Code("warning", "Two visible masks claim the same pixels.", "the higher score keeps them"),
    # stored masks and figures, used as checksums
    "stored-mask-malformed": Code("warning", "A stored mask cannot be decoded.", "treated as missing"),
    "stored-mask-differs": Code(
        "warning", "A stored visible mask is not the one 'order' gives.", "the stored mask is used"
    ),
    "stored-masks-inconsistent": Code(
        "warning", "Visible and hidden mask do not add up to the amodal mask.", "amodal stands, visible wins"
    ),
    "area-differs": Code("warning", "'area' is more than 1 px off.", "recomputed"),
    "box-differs": Code("warning", "'bbox' is more than 1 px off.", "recomputed"),
    "occlusion-rate-differs": Code("warning", "'occlude_rate' is more than 1e-6 off.", "recomputed"),
    # the image as a whole
    "image-too-complex": Code("error", "More regions or levels than a level table holds.", "image left out"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was met. ``image_id`` -1 and ``region`` -1 mean: none in particular."""

    file: str = ""
    image_id: int = -1
    region: int = -1

    def __str__(self) -> str:
        parts = [
            self.file,
            f"image {self.image_id}" if self.image_id >= 0 else "",
            f"region {self.region}" if self.region >= 0 else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Finding:
    """One oddity: its code, where it is, what exactly was seen, and what was done about it."""

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
        """What this package did about it, from :data:`CODES`."""
        return CODES[self.code].action

    def __str__(self) -> str:
        return f"{self.severity}: {self.code} at {self.place}: {self.message} ({self.action})"


def count_findings(findings: Iterable[Finding]) -> dict[str, int]:
    """How often each code occurs, in the order of :data:`CODES`; codes that do not occur are absent."""
    counts = Counter(finding.code for finding in findings)
    return {code: counts[code] for code in CODES if code in counts}


def findings_text(findings: Iterable[Finding]) -> bytes:
    """Findings as JSON lines, as a cache stores them."""
    lines = (
        {**asdict(f.place), "code": f.code, "severity": f.severity, "message": f.message, "action": f.action}
        for f in findings
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def read_findings(text: bytes) -> tuple[Finding, ...]:
    """The findings of some JSON lines: the inverse of :func:`findings_text`. Raises ValueError if they are not."""
    lines = [json.loads(line) for line in text.splitlines()]
    kinds = {"code": str, "file": str, "image_id": int, "region": int, "message": str}
    if not all(type(line) is dict and type(line.get(name)) is kind for line in lines for name, kind in kinds.items()):
        raise ValueError("a finding whose fields are of other kinds")
    return tuple(
        Finding(line["code"], Place(line["file"], line["image_id"], line["region"]), line["message"]) for line in lines
    )
