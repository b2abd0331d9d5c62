"""``amodal-data``: from annotation files to checked targets. Heavy imports wait until a command runs."""

from amodal_cli.data_commands.build_targets import build, merge, verify
from amodal_cli.data_commands.card import card
from amodal_cli.data_commands.classes import classes
from amodal_cli.data_commands.compose import compose
from amodal_cli.data_commands.convert import convert, export
from amodal_cli.data_commands.evaluate import evaluate
from amodal_cli.data_commands.inspect import doctor, explain, get, inspect
from amodal_cli.data_commands.synth import demo, synth
from amodal_cli.shared.terminal import new_app, run

app = new_app("amodal-data", "Exact, compact, checked training targets for amodal instance segmentation.")
app.command("demo", short_help="The whole chain on synthetic scenes.")(demo)
app.command("synth", short_help="Synthetic scenes with exact truth.")(synth)
app.command("compose", short_help="Amodal scenes from modal annotations.")(compose)
app.command("get", short_help="What to download, and what is there.")(get)
app.command("build-targets", short_help="Annotations to exact targets in one file.")(build)
app.command("inspect", short_help="What is in it: figures and a picture.")(inspect)
app.command("verify", short_help="Check a cache, also against its source.")(verify)
app.command("evaluate", short_help="Score predictions by a stated protocol.")(evaluate)
app.command("merge", short_help="Join the shards of one build.")(merge)
app.command("convert", short_help="To COCOA, COCO, Datumaro, YOLO, a table.")(convert)
app.command("export", hidden=True)(export)
app.command("classes", short_help="Which classes names stand for.")(classes)
app.command("card", short_help="A card and metadata, to publish it.")(card)
app.command("explain", short_help="What a finding code means.")(explain)
app.command("doctor", short_help="Versions, torch pair, GPU, disk.")(doctor)


def main() -> None:
    """Entry point of ``amodal-data``."""
    run(app, "amodal-data")


if __name__ == "__main__":
    main()
