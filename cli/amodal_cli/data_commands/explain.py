"""``amodal-data explain``: what a finding code means."""

from dataclasses import asdict
from typing import Annotated

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_result


def explain(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="Finding code [all].")] = None,
    as_json: options.Json = False,
) -> None:
    """Explain what a finding code means, how severe it is and what was done about it.

    Examples: amodal-data explain order-tied
    """
    from amodal_data import CODES
    from amodal_data.errors import SelectionError
    from amodal_data.io.text import suggest_name

    if code is not None and code not in CODES:
        raise SelectionError(f"no finding code is called {code!r}", fix=suggest_name(code, CODES))
    rows = {name: asdict(CODES[name]) for name in ([code] if code else CODES)}
    template = "{name} ({severity})\n  {meaning}\n  What is done: {action}.\n  What you can do: {remedy}"
    text = "\n".join(template.format(name=name, **row) for name, row in rows.items())
    print_result(text, {"schema": "amodal-data/explain/1", "codes": rows}, as_json=as_json)
