"""``sln models``: the weights that come with the package."""

from typing import Any

from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_json


def models(as_json: options.Json = False) -> None:
    """List the weights that come with the package, their size and license.

    Examples: sln models
    """
    from sln.completion.pretrained import LICENSE, SHIPPED, shipped_file

    rows: list[dict[str, Any]] = [
        {"model": name, "about": summary, "bytes": shipped_file(name).stat().st_size, "license": LICENSE}
        for name, summary in SHIPPED.items()
    ]
    if as_json:
        print_json({"schema": "sln/models/1", "models": rows})
        return
    for row in rows:
        print(f"{row['model']}  {row['bytes'] / 1e6:.1f} MB  {row['about']}\n  {row['license']}")
