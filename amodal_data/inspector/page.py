"""The inspector page: one self-contained HTML file that needs no network."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from amodal_data.inspector.drawing.colors import BANDS, FADED_GRAY, FADED_SHARE, IDENTITY
from amodal_data.inspector.page_data import PageImage, image_document, index_row, thumbnail
from amodal_data.inspector.summary import RATES
from amodal_data.io.files import replaced
from amodal_data.scenes.findings import CODES

_COLORS = {  # of instances; of levels, counts and sem-dist maps
    "identity": IDENTITY.round().astype(int).tolist(),
    "bands": BANDS.round().astype(int).tolist(),
    "unsure": FADED_GRAY,
    "faded": FADED_SHARE,
}
_SCRIPTS = ("data.js", "draw.js", "panels.js", "filters.js", "overview.js", "page.js")


def write_page(
    path: str | Path,
    images: Iterable[PageImage],
    *,
    title: str,
    facts: dict[str, Any] | None = None,
    chart: tuple[str, bytes] | None = None,
) -> int:
    """Write ``images`` as one self-contained page; returns their number.

    facts: statistics for the head of the page, name -> value. chart: title and PNG of a picture to unfold there. Images
    are written one by one; the page parses an image when it is first shown, and begins with a thumbnail of each. Texts
    from the data are never read as markup.
    """
    head, tail, _ = page_frame(title)
    index: list[dict[str, Any]] = []
    head = head.replace("<!--chart-->", _unfolding(*chart) if chart else "")
    with replaced(Path(path)) as file:
        file.write(head)
        for image in images:
            file.write(_block(f"image-{len(index)}", image_document(image)))
            index.append(index_row(image, thumbnail(image)))
        file.write(about_block(title, index, facts or {}))
        file.write(tail)
    return len(index)


def _unfolding(title: str, picture: bytes) -> str:
    """A PNG under its title, hidden until the title is clicked."""
    name, data = html.escape(title), base64.b64encode(picture).decode()
    image = f'<img alt="{name}" src="data:image/png;base64,{data}">'
    return f'<details class="chart"><summary>{name}</summary>{image}</details>'


def page_frame(
    title: str, *, script: str = "", style: str = "", sources: str = "img-src data:"
) -> tuple[str, str, str]:
    """The page before and after its data blocks, and its content security policy.

    script, style: what another page adds to those of this one. sources: what the policy lets it load.
    """
    assets = files("amodal_data.inspector") / "assets"
    style = (assets / "page.css").read_text("utf-8") + style
    *parts, start = [(assets / name).read_text("utf-8") for name in _SCRIPTS]
    script = "".join([*parts, script, start])
    policy = (  # no request leaves the page; only this script and this style run
        f"default-src 'none'; form-action 'none'; base-uri 'none'; {sources}; "
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    )
    head, _, tail = (assets / "template.html").read_text("utf-8").partition("<!--images-->")
    head = head.replace("<!--policy-->", policy).replace("<!--title-->", html.escape(title))
    return head.replace("/*style*/", style), tail.replace("/*script*/", script), policy


def about_block(title: str, index: Sequence[dict[str, Any]], facts: dict[str, Any], **fields: Any) -> str:
    """The data block with the list of images (see :func:`index_row`), statistics, finding codes, colors, and others."""
    codes = code_texts(finding[0] for row in index for finding in row["findings"])
    document = {"title": title, "facts": facts, "rates": RATES, "codes": codes, "colours": _COLORS}
    return _block("about", document | {"images": index} | fields)


def code_texts(codes: Iterable[str]) -> dict[str, dict[str, str]]:
    """What some finding codes mean, in the order of :data:`CODES`."""
    wanted = set(codes)
    return {code: asdict(CODES[code]) for code in CODES if code in wanted}


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _block(name: str, document: dict[str, Any]) -> str:
    """JSON inside HTML: ``<`` is escaped, so that no text can end the element or begin another."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'
