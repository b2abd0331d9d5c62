"""Every command and every block of Python in README and docs/ runs, on small files with the names that they use.

``SKIPPED`` lists what cannot run here, with the reason.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT, run_command
from support.networks import FEW_STEPS
from support.scenes import modal_photos
from support.tool_layouts import bop_of, instaorder, written
from typer.main import get_command

import amodal_data as ad
import sln
from amodal_cli import data, model
from amodal_data.export.convert import convert
from amodal_data.inspector.target_dataset import open_dataset
from amodal_data.io.images import read_photo
from amodal_data.synthetic.composing.arrangement import SceneSpec
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.scene_writer import compose
from amodal_data.synthetic.write_cocoa import write_flat

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
PAGES.remove(ROOT / "docs" / "how-to" / "check-and-fix.md")  # test_check_page.py runs it

SKIPPED = {
    r"pip install ": "installs; test_examples.py builds and installs the wheel",
    r"weights=(coco|imagenet|pretrained)": "downloads weights",
    r"weights=mask_rcnn\.pth": "tests/sln/network loads torchvision's weights",
    r"python examples/real_photos": "half an hour; its parts run in other tests",
    r"--resume runs/first": "tests/sln/training resumes runs",
    r"--config stages\.toml": "tests/sln/training trains in stages",
    r"--log wandb": "tests/sln/training logs to a stand-in of wandb",
    r"amodal-data edit ": "serves until Ctrl+C; tests/amodal_data/editing runs it",
    r"torchrun": "tests/sln/training starts several processes",
    r"-d (COCOA|D2SA|DIR)|--images COCOA|runs/paper|big\.": "needs datasets that are not here",
    r"synth data --split": "the test of the README's quick start runs it in an empty folder",
    r"build-targets yolo": "tests/amodal_data/export reads YOLO folders",
    r"python examples/paper": "minutes; test_paper.py runs a shorter form",
    r"python benchmarks/synthetic_benchmark": "hours; test_examples.py runs its short form",
}
"""Commands that do not run in this test, as patterns, and why"""

SHORTER = {
    "-n 200": "-n 4",
    "-n 20": "-n 4",
    "--steps 50": "--steps 2",
    "train.steps=500": "train.steps=2",
    "--steps 500": "--steps 2",
    "-n 20000": "-n 4",
    "--intervals 200": "--intervals 10",
    "intervals=200": "intervals=10",
    "sln fit ": f"sln fit --preset tiny {' '.join(f'--set {setting}' for setting in FEW_STEPS)} ",
    "sln order fit ": "sln order fit --epochs 1 ",
    "prior_steps=1000": "prior_steps=2",
    "--minutes 10": "--minutes 0.02",
    "amodal-data demo": "amodal-data demo -n 2",
    "sln demo": "sln demo -n 4 --steps 1",
}
"""Replacements that shorten commands; of an option given twice the last one counts"""


def blocks(language):
    """(page, number of the block, its text) of all blocks of a language."""
    for page in PAGES:
        found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.DOTALL | re.MULTILINE)
        yield from ((page.relative_to(ROOT), n, dedent(text)) for n, (_, text) in enumerate(found))


def parameters(blocks):
    return [pytest.param(text, id=f"{page}-{n}") for page, n, text in blocks]


def shell_blocks():
    """The blocks of commands, without those of which nothing runs here, or all of it in an earlier block."""
    done = []
    for page, n, text in blocks("sh"):
        runs = set(runnable(text))
        if page.name != "README.md" and not any(runs <= other for other in [set(), *done]):
            done.append(runs)
            yield page, n, text


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with all files that the pages name: data, caches, a run, photos, results."""
    folder = tmp_path_factory.mktemp("home")
    small = {"size": (60, 80), "instances": (2, 4)}
    for split in ("val", "train"):
        scenes = ad.write_cocoa(folder / "data", 6, seed=len(split), split=split, **small)
        ad.build_targets(ad.read_cocoa(scenes), folder / f"{split}.h5")
        shutil.copy(scenes, folder)
        results = folder / f"amodalmask_{split}.json"
        convert(open_dataset(scenes), results, "results")
    for name in (
        "amodalmask_1",
        "amodalmask_2",
        "mine",
        "theirs",
        "a",
        "b",
        "visible_part",
        "convex_hull",
        "box",
        "completed",
    ):
        shutil.copy(folder / "amodalmask_val.json", folder / f"{name}.json")
    shutil.copy(folder / "COCO_amodal_val2014.json", folder / "truth.json")
    shutil.copy(write_flat(folder / "d2sa", 6, "d2sa", size=(60, 80)), folder / "D2S_amodal_validation.json")
    convert(open_dataset(scenes), folder / "FILE_OR_FOLDER", "coco")
    coco = convert(open_dataset(folder / "COCO_amodal_val2014.json"), folder / "instances_val2017.json", "coco").path
    first = [row for row in json.loads(Path(coco).read_text())["annotations"] if row["image_id"] == 1]
    instaorder(folder / "InstaOrder_val2017.json", [(1, [row["id"] for row in first], ["0<1"])])
    for layout, name in (("labelme", "FOLDER"), ("cvat", "annotations.xml"), ("datumaro", "datumaro.json"),
                         ("coco-z", "FILE"), ("masks", "masks")):  # fmt: skip
        path, _ = written(layout, scenes, folder)
        path.rename(folder / name)
    bop_of(json.loads(scenes.read_text()), folder / "train_pbr" / "000000")
    shutil.copytree(folder / "FOLDER", folder / "my-photos")
    for photo in (folder / "data").rglob("*.jpg"):
        shutil.copy(photo, folder / "my-photos")
    shutil.copy(folder / "train.h5", folder / "my-photos.h5")
    convert(open_dataset(scenes), folder / "yolo", "yolo")
    (folder / "train2017").mkdir()
    modal = modal_photos(folder / "train2017").rename(folder / "instances_train2017.json")
    bank = build_object_bank(modal, [folder / "train2017"])
    compose(bank, folder / "composed", 2, spec=SceneSpec(size=(96, 128), objects=(2, 3)))
    photos = sorted((folder / "data").rglob("*.jpg"))
    for name in ("photos", "rooms", "objects"):
        (folder / name).mkdir()
    shutil.copy(photos[0], folder / "rooms")
    (folder / "test.txt").write_text("1\n2.png\n")
    cutout = Image.new("RGBA", (60, 60))
    cutout.paste((200, 30, 30, 255), (10, 10, 50, 50))
    cutout.save(folder / "objects" / "red.png")
    for name in ("photos/1.jpg", "photos/2.jpg", "photo.jpg", "a.jpg", "b.jpg"):
        shutil.copy(photos[0], folder / name)
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 5:40, 5:40] = masks[1, 20:50, 45:70] = True
    np.save(folder / "masks.npy", masks)
    rows = [{"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": ad.RLE.from_mask(masks[0]).to_coco()}]
    (folder / "results.json").write_text(json.dumps(rows))
    (folder / "masks.json").write_text(json.dumps(rows))
    (folder / "boxes.json").write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [5, 5, 35, 35]}]))
    shutil.copy(modal, folder / "instances.json")
    fit = shortened("sln fit train.h5 --images data --run runs/first")
    process = run_command(*shlex.split(fit), cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture
def workspace(home, tmp_path):
    """A copy of the folder for one block; files are links, because writers replace whole files."""
    copy = tmp_path / "workspace"
    shutil.copytree(home, copy, copy_function=os.link)
    return copy


def commands(text):
    """The commands of a block, without comments."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines()]
    return [command.strip() for line in lines if line for command in line.split("&&")]


def runnable(text):
    """The shortened commands of a block that are not skipped."""
    each = (" ".join(command.split()) for command in commands(text))
    return [shortened(command) for command in each if not any(re.search(pattern, command) for pattern in SKIPPED)]


def shortened(text):
    for long, short in SHORTER.items():
        text = re.sub(re.escape(long) + r"(?!\d)", short, text)  # not the beginning of a longer number
    return text


@pytest.mark.slow
@pytest.mark.parametrize("text", parameters(shell_blocks()))
def test_every_documented_command_runs(text, workspace):
    for command in runnable(text):
        program, *arguments = shlex.split(command)
        assert program in ("amodal-data", "sln"), f"neither a command of this project nor in SKIPPED: {command}"
        for option in ("-o", "--html", "--png", "--run"):  # lines of a block may write the same output
            if option in arguments and (out := workspace / arguments[arguments.index(option) + 1]).exists():
                shutil.rmtree(out) if out.is_dir() else out.unlink()
        process = run_command(program, *arguments, cwd=workspace)
        assert process.returncode == 0, f"{command}\n{process.stdout}{process.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("text", parameters(blocks("python")))
def test_every_documented_block_of_python_runs(text, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    pushed = []
    monkeypatch.setattr(sln.SLN, "push_to_hub", lambda model, name: pushed.append(name), raising=False)
    photo = read_photo(workspace / "photo.jpg") if "photo)" in text else None
    names = {
        "sln": sln, "photo": photo, "masks": np.load("masks.npy"), "wandb": wandb(), "sources": sources(),
        "detections": np.load("masks.npy"),
        "config": sln.load_config("tiny", settings=[*FEW_STEPS, "train.log_every=1"]),
    }  # fmt: skip
    exec(compile(shortened(text).replace('"runs/first", logs', '"runs/logged", logs'), "block", "exec"), names)
    assert ("push_to_hub" in text) == bool(pushed)


def wandb():
    """A stand-in for the package of that name."""
    run = types.SimpleNamespace(log=lambda row, step: None, save=lambda path: None, finish=lambda: None)
    return types.SimpleNamespace(init=lambda **_: run, Image=lambda path: path)


def sources():
    return sln.Sources(Path("train.h5"), (Path("data"),))


def test_every_command_has_a_page_that_shows_it():
    shown = "\n".join(text for _, _, text in blocks("sh")) + (ROOT / "docs" / "how-to" / "check-and-fix.md").read_text()
    for program, app in (("amodal-data", data.app), ("sln", model.app)):
        for name in command_names(get_command(app)):
            assert re.search(rf"\b{program} {name}\b(?!-)", shown), f"{program} {name}"


def command_names(group):
    """Names of the commands of a program, those of its groups with their group."""
    for name, command in group.commands.items():
        if not command.hidden:
            inner = command_names(command) if hasattr(command, "commands") else [""]
            yield from (f"{name} {part}".strip() for part in inner)


def test_every_skip_pattern_matches_a_command():
    text = "\n".join(text for _, _, text in blocks("sh"))
    assert all(re.search(pattern, text) for pattern in SKIPPED)


def quick_start():
    """The commands of the README's quick start."""
    return next(
        commands(shortened(text)) for page, _, text in blocks("sh") if page.name == "README.md" and "synth" in text
    )


def test_the_readme_leads_to_a_prediction_in_six_commands():
    steps = [command.split()[1] for command in quick_start()]
    assert steps == ["synth", "synth", "build-targets", "build-targets", "fit", "predict"]


def test_text_blocks_hold_no_commands():
    command = re.compile(r"^(amodal-data [a-z]|sln (fit|predict|evaluate|complete|order)|python |pip )", re.M)
    for page, n, text in blocks("text"):
        assert not command.search(text), f"{page}, block {n}"


def test_the_readme_is_short_and_begins_with_a_picture():
    text = (ROOT / "README.md").read_text()
    assert len(re.sub(r"```.*?```", "", text, flags=re.DOTALL).split()) <= 400 and text.count("![") == 2
    assert text.index("![") < text.index("```sh")


@pytest.mark.research
def test_a_fresh_process_walks_the_readmes_path(tmp_path):
    """The same commands in a shell, on less data."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    shell = subprocess.run(["bash", "-euc", "\n".join(quick_start())], cwd=tmp_path, capture_output=True, text=True,
                           env={"PATH": path, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert shell.returncode == 0, shell.stderr
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) is not None
    assert list((tmp_path / "out" / "overlays").glob("*.png"))
