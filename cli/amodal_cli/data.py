"""``amodal-data``: from annotation files to checked targets. Heavy imports wait until a command runs."""

from functools import partial

from amodal_cli.data_commands import (
    build_targets,
    card,
    check,
    classes,
    compose,
    convert,
    demo,
    doctor,
    edit,
    evaluate,
    explain,
    filter,
    get,
    inspect,
    join,
    merge,
    split,
    stats,
    synth,
    verify,
)
from amodal_cli.shared.terminal import new_app, run

app = new_app("amodal-data", "Read, check, show, convert and score amodal annotations.")
app.command("demo", short_help="Try the data commands on synthetic scenes.")(demo.demo)
app.command("synth", short_help="Write synthetic scenes with ground truth.")(synth.synth)
app.command("compose", short_help="Compose amodal scenes from modal masks.")(compose.compose)
app.command("get", short_help="Show what to download and what is here.")(get.get)
app.command("check", short_help="List the problems of annotations.")(check.check)
app.command("stats", short_help="Count objects, sizes and hidden parts.")(stats.stats)
app.command("build-targets", short_help="Build a cache of exact targets.")(build_targets.build_targets)
app.command("inspect", short_help="Show statistics and pictures.")(inspect.inspect)
app.command("edit", short_help="Correct annotations in the browser.")(edit.edit)
app.command("verify", short_help="Check a cache, also against its source.")(verify.verify)
app.command("evaluate", short_help="Score predictions.")(evaluate.evaluate)
app.command("merge", short_help="Join the shards of one build.")(merge.merge)
app.command("split", short_help="Split into train, val and test.")(split.split)
app.command("join", short_help="Join annotation files of one layout.")(join.join)
app.command("filter", short_help="Keep images by class, size, hidden share.")(filter.filter)
app.command("convert", short_help="Write another layout: COCO, YOLO, CSV, ...")(convert.convert)
app.command("classes", short_help="Show the classes of instance names.")(classes.classes)
app.command("card", short_help="Write the card of a dataset to publish.")(card.card)
app.command("explain", short_help="Explain a finding code.")(explain.explain)
app.command("doctor", short_help="Check packages, torch pair, GPU, disk.")(doctor.doctor)
main = partial(run, app, "amodal-data")  # Entry point of ``amodal-data``

if __name__ == "__main__":
    main()
