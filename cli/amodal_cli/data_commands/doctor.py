"""``amodal-data doctor``: the environment of this machine."""

from pathlib import Path

import typer

from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_result


def doctor(as_json: options.Json = False) -> None:
    """Check packages, the torch pair, GPU and disk. Exits 3 if something is missing or does not fit together.

    Examples: amodal-data doctor
    """
    from amodal_data.io.environment import examine

    facts = examine(Path())
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    torch, vision = (facts[name] or "not installed" for name in ("torch", "torchvision"))
    text = (
        f"amodal-data {facts['amodal-data']}, python {facts['python']}\n{versions}\n"
        f"torch {torch}, torchvision {vision}\n"
        f"GPU driver: {'yes' if facts['gpu'] else 'no'}; {facts['disk_free_gib']} GiB free here\n"
    )
    text += "\n".join(f"problem: {problem}" for problem in facts["problems"]) or "ok"
    print_result(text, facts, as_json=as_json)
    if facts["problems"]:
        raise typer.Exit(3)
