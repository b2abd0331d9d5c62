"""The inspector page: one HTML file that holds everything, asks for nothing, and shows what is hidden."""

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from amodal_data.inspector.drawing.colors import BANDS, FADED, IDENTITY, UNSURE
from amodal_data.inspector.page_data import PageImage, image_document, index_row
from amodal_data.io.files import replaced

_SCRIPTS = ("data.js", "draw.js", "panels.js", "list.js", "page.js")


def write_page(
    path: str | Path, images: Iterable[PageImage], *, title: str, facts: dict[str, Any] | None = None
) -> int:
    """Write ``images`` as one self-contained page; returns how many there are.

    facts: figures shown at the top, name -> value. Images are written one by one and parsed by the page when
    first looked at. Texts from the data are never read as markup.
    """
    assets = files("amodal_data.inspector") / "assets"
    style = (assets / "page.css").read_text("utf-8")
    script = "".join((assets / name).read_text("utf-8") for name in _SCRIPTS)
    head, _, tail = (assets / "template.html").read_text("utf-8").partition("<!--images-->")
    index: list[dict[str, Any]] = []
    fields = {
        "<!--policy-->": _policy(script, style),
        "<!--title-->": html.escape(title),
        "/*style*/": style,
    }
    with replaced(Path(path)) as file:
        file.write(_filled(head, fields))
        for one in images:
            file.write(_block(f"image-{len(index)}", image_document(one)))
            index.append(index_row(one))
        about = {"title": title, "facts": facts or {}, "images": index, "colours": _colours()}
        file.write(_block("about", about))
        file.write(_filled(tail, {"/*script*/": script}))
    return len(index)


def _policy(script: str, style: str) -> str:
    """Nothing is fetched, sent or redirected; only this script and this style run."""
    return (
        f"default-src 'none'; form-action 'none'; base-uri 'none'; img-src data:; "
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _block(name: str, document: dict[str, Any]) -> str:
    """JSON inside HTML: ``<`` is escaped, so that nothing in it can end the element or begin one."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _filled(text: str, fields: dict[str, str]) -> str:
    for mark, value in fields.items():
        text = text.replace(mark, value)
    return text


def _colours() -> dict[str, Any]:
    """The colours of the figures elsewhere: of instances; of levels, counts and sem-dist maps."""
    return {
        "identity": IDENTITY.round().astype(int).tolist(),
        "bands": BANDS.round().astype(int).tolist(),
        "unsure": UNSURE,
        "faded": FADED,
    }
