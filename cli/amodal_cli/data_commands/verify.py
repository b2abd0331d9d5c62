"""``amodal-data verify``: check a cache, also against its annotations."""

from pathlib import Path
from typing import Annotated, cast

import typer

from amodal_cli.shared import options
from amodal_cli.shared.annotations import ClassTable, CocoaFile, InstancesFile, add_classes, read_scenes
from amodal_cli.shared.terminal import print_result, progress


def verify(
    cache: options.CacheFile,
    annotations: Annotated[list[Path] | None, options.InputFile(help="File it was built from; repeatable.")] = None,
    cocoa: CocoaFile = None,
    classes: ClassTable = None,
    instances: InstancesFile = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Check the checksums of a cache; with --annotations also every level and every stored mask.

    Pass the same --cocoa, --classes and --instances that built the cache. Exits 1 if anything differs.

    \b
    Examples:
      amodal-data verify val.h5
      amodal-data verify val.h5 --annotations COCO_amodal_val2014.json
    """
    from amodal_data import TargetCache, verify_cache
    from amodal_data.readers import ReadOptions

    scenes = None
    with TargetCache(cache) as opened:
        total = len(opened)
        if annotations:
            settings = opened.info.settings
            limit = int(settings["limit"]) if "limit" in settings else None
            reading = cast("ReadOptions", {key: settings.get(key) for key in ReadOptions.__annotations__})
            annotator = settings.get("annotator", "first")
            scenes = read_scenes(annotations, annotator, cocoa, limit, reading, None, quiet=quiet)
            scenes = add_classes(scenes, classes, instances)
    with progress("verifying", total * (1 if scenes is None else 2), quiet=quiet) as advance:
        report = verify_cache(cache, scenes, on_image=advance)
    print_result(report, report.to_dict(), as_json=as_json)
    if not report.ok:
        raise typer.Exit(1)
