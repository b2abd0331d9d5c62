"""``amodal-data``: from annotation files to checked targets. Heavy imports wait until a command runs."""

from amodal_cli.data_commands.build_targets import build_targets
from amodal_cli.data_commands.card import card
from amodal_cli.data_commands.classes import classes
from amodal_cli.data_commands.compose import compose
from amodal_cli.data_commands.convert import convert
from amodal_cli.data_commands.demo import demo
from amodal_cli.data_commands.doctor import doctor
from amodal_cli.data_commands.evaluate import evaluate
from amodal_cli.data_commands.explain import explain
from amodal_cli.data_commands.get import get
from amodal_cli.data_commands.inspect import inspect
from amodal_cli.data_commands.merge import merge
from amodal_cli.data_commands.synth import synth
from amodal_cli.data_commands.verify import verify
from amodal_cli.shared.terminal import new_app, run

app = new_app("amodal-data", "Read, check, show, convert and score amodal annotations.")
app.command("demo", short_help="Try the data commands on synthetic scenes.")(demo)
app.command("synth", short_help="Write synthetic scenes with ground truth.")(synth)
app.command("compose", short_help="Compose amodal scenes from modal masks.")(compose)
app.command("get", short_help="Show what to download and what is here.")(get)
app.command("build-targets", short_help="Build a cache of exact targets.")(build_targets)
app.command("inspect", short_help="Show statistics and pictures.")(inspect)
app.command("verify", short_help="Check a cache, also against its source.")(verify)
app.command("evaluate", short_help="Score predictions.")(evaluate)
app.command("merge", short_help="Join the shards of one build.")(merge)
app.command("convert", short_help="Write another layout: COCO, YOLO, CSV, ...")(convert)
app.command("classes", short_help="Show the classes of instance names.")(classes)
app.command("card", short_help="Write the card of a dataset to publish.")(card)
app.command("explain", short_help="Explain a finding code.")(explain)
app.command("doctor", short_help="Check packages, torch pair, GPU, disk.")(doctor)


def main() -> None:
    """Entry point of ``amodal-data``."""
    run(app, "amodal-data")


if __name__ == "__main__":
    main()
