"""``amodal-data merge``: join the shards of one build."""

from pathlib import Path
from typing import Annotated

from amodal_cli.shared import options
from amodal_cli.shared.terminal import check_output, count_of, print_result


def merge(
    shards: Annotated[list[Path], options.ExistingFile(metavar="SHARD", help="Shards, in any order.")],
    output: Annotated[Path, options.OutputFile("--output", "-o", help="Cache to write.")],
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Join the shards of one build into the cache that a single run would have written, byte for byte.

    Examples: amodal-data merge val.shard-*.h5 -o val.h5
    """
    from amodal_data import merge_shards

    check_output(output, force=force, inputs=shards)
    report = merge_shards(shards, output, force=force)
    counts = f"{count_of(report.images, 'image')}, {count_of(report.instances, 'instance')}"
    text = f"{output}: {counts}, from {count_of(len(shards), 'shard')}"
    print_result(text, report.to_dict(), as_json=as_json)
