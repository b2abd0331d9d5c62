"""The inspector page: one self-contained HTML file that needs no network."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from amodal_data.inspector.drawing.colors import BANDS, FADED_GRAY, FADED_SHARE, IDENTITY
from amodal_data.inspector.page_data import PageImage, image_document, index_row
from amodal_data.inspector.summary import RATES
from amodal_data.io.files import replaced
from amodal_data.scenes.finding_codes import CODES

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
    assets = files("amodal_data.inspector") / "assets"
    style = (assets / "page.css").read_text("utf-8")
    script = "".join((assets / name).read_text("utf-8") for name in _SCRIPTS)
    head, _, tail = (assets / "template.html").read_text("utf-8").partition("<!--images-->")
    index: list[dict[str, Any]] = []
    policy = (  # no request leaves the page; only this script and this style run
        f"default-src 'none'; form-action 'none'; base-uri 'none'; img-src data:; "
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    )
    head = head.replace("<!--policy-->", policy).replace("<!--title-->", html.escape(title))
    head = head.replace("<!--chart-->", _unfolding(*chart) if chart else "")
    with replaced(Path(path)) as file:
        file.write(head.replace("/*style*/", style))
        for image in images:
            file.write(_block(f"image-{len(index)}", image_document(image)))
            index.append(index_row(image))
        codes = {code: asdict(CODES[code]) for code in CODES if any(code == f[0] for i in index for f in i["findings"])}
        facts_document = {"title": title, "facts": facts or {}, "rates": RATES, "codes": codes, "colours": _COLORS}
        file.write(_block("about", facts_document | {"images": index}))
        file.write(tail.replace("/*script*/", script))
    return len(index)


def _unfolding(title: str, picture: bytes) -> str:
    """A PNG under its title, hidden until the title is clicked."""
    name, data = html.escape(title), base64.b64encode(picture).decode()
    image = f'<img alt="{name}" src="data:image/png;base64,{data}">'
    return f'<details class="chart"><summary>{name}</summary>{image}</details>'


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _block(name: str, document: dict[str, Any]) -> str:
    """JSON inside HTML: ``<`` is escaped, so that no text can end the element or begin another."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'
