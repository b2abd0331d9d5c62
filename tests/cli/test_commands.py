"""The commands as a user runs them, on real files; in a process of their own where that is tested."""

import json
import re
import signal
import time

import pytest
from support.commands import run_command
from typer.main import get_command

from amodal_cli import data as data_program
from amodal_cli import model as sln_program
from amodal_data import write_cocoa


def run(*arguments, cwd=None, **environment):
    return run_command("amodal-data", *arguments, cwd=cwd, **environment)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_cocoa(folder, 6, seed=5, size=(96, 128))
    return folder


@pytest.fixture(scope="module")
def cache(data):
    assert run("build-targets", "cocoa", "-d", data, "-o", data / "val.h5").returncode == 0
    return data / "val.h5"


def test_the_main_job_on_real_images(real, tmp_path):
    built = run("build-targets", "cocoa", "-d", real.parent, "-o", tmp_path / "r.h5", "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["instances"] == 27
    assert "3 of 3 photos found" in built.stderr
    verified = run("verify", tmp_path / "r.h5", "--annotations", real, "--json")
    assert verified.returncode == 0
    report = json.loads(verified.stdout)
    assert report["masks"] == {"stored": 30, "reproduced": 30, "pixels_off": 0}
    assert report["figures"] == {"stored": 54, "reproduced": 54}
    inspected = json.loads(run("inspect", tmp_path / "r.h5", "--json").stdout)
    assert inspected["level_pixels"] == {"0": 463234, "1": 110582, "2": 4115}


def test_demo_runs_all_data_commands(tmp_path):
    result = run("demo", "-n", "3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "stored masks reproduced, 0 px off" in result.stdout
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "COCO_amodal_val2014.json", "page.html", "sheet.png", "val.h5", "val2014",
    ]  # fmt: skip
    repeated = run("demo", "-n", "3", cwd=tmp_path)
    assert repeated.returncode == 2
    assert run("demo", "-n", "3", "--force", cwd=tmp_path).returncode == 0


def test_results_go_to_stdout_and_notes_to_stderr(data, tmp_path):
    result = run("build-targets", "cocoa", "-d", data, "-o", "x.h5", cwd=tmp_path)
    assert result.stdout.startswith("x.h5: 6 images, ")
    assert "6 of 6 photos found" in result.stderr
    assert "next: amodal-data inspect x.h5" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    quiet = run("build-targets", data / "COCO_amodal_val2014.json", "-q", "-o", "y.h5", cwd=tmp_path)
    assert quiet.stderr == ""
    assert (tmp_path / "x.h5").read_bytes() == (tmp_path / "y.h5").read_bytes()


def test_existing_outputs_are_refused_before_any_work(data, cache):
    before = cache.read_bytes()
    result = run("build-targets", "cocoa", "-d", data, "-o", cache)
    assert result.returncode == 2
    assert "--force" in result.stderr
    assert result.stdout == ""
    assert cache.read_bytes() == before
    assert run("build-targets", "cocoa", "-d", data, "-o", cache, "--force").returncode == 0
    sheet = data / "s.png"
    assert run("inspect", cache, "--png", sheet).returncode == 0
    assert run("inspect", cache, "--png", sheet).returncode == 2


def test_limit_and_strict(data, tmp_path):
    limited = run("build-targets", "cocoa", "-d", data, "-o", tmp_path / "x.h5", "--limit", "2", "--json")
    assert json.loads(limited.stdout)["images"] == 2
    annotations = data / "COCO_amodal_val2014.json"
    assert run("verify", tmp_path / "x.h5", "--annotations", annotations).returncode == 0
    content = json.loads(annotations.read_text())
    content["annotations"][0]["regions"][0]["segmentation"] = [1, 2, 3]
    (tmp_path / "bad.json").write_text(json.dumps(content))
    lenient = run("build-targets", tmp_path / "bad.json", "-o", tmp_path / "b.h5")
    assert lenient.returncode == 0
    assert "1 polygon-too-short" in lenient.stderr
    strict = run("build-targets", tmp_path / "bad.json", "-o", tmp_path / "b.h5", "--force", "--strict", "--json")
    assert strict.returncode == 1
    assert json.loads(strict.stdout)["findings"]["polygon-too-short"] == 1
    listed = run("inspect", tmp_path / "b.h5", "--pick", "findings", "--png", tmp_path / "f.png")
    assert "sheet of 1 image" in listed.stderr


def test_inspect_reads_caches_and_annotation_files(data, cache):
    of_cache = json.loads(run("inspect", cache, "--json").stdout)
    of_file = json.loads(run("inspect", data / "COCO_amodal_val2014.json", "--json").stdout)
    assert of_cache == of_file
    assert of_cache["schema"] == "amodal-data/inspect/1"
    assert of_cache["images"] == 6
    text = run("inspect", cache)
    assert "pixels per level" in text.stdout
    assert "\x1b" not in text.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build-targets", "cocao"], 2, "did you mean 'cocoa'?"),
        (["build-targets", "cocoa"], 2, "-d DIR"),
        (["build-targets", "cocoa", "-d", "."], 1, "no cocoa annotation file here"),
        (["build-targets", "missing.json"], 1, "No such file"),
        (["build-targets", "broken.json"], 1, "ends too early"),
        (["build-targets", "list.json"], 2, "not of COCOA annotations"),
        (["build-targets", "results.json"], 2, "holds predictions"),
        (["build-targets", "coco.json"], 2, "keys seen: bbox, image_id"),
        (["explain", "order-tide"], 2, "did you mean 'order-tied'?"),
        (["get", "coca"], 2, "did you mean 'cocoa'?"),
        (["inspect", "missing.h5"], 2, "missing.h5"),
        (["inspect", "broken.json"], 1, "not JSON"),
        (["verify", "list.json"], 1, "not a target cache"),
        (["inspct"], 2, "inspect"),
        (["build-targets", "cocoa", "--jbos", "2"], 2, "--jbos"),
    ],
)
def test_errors_name_the_cause_and_the_fix(tmp_path, arguments, code, message):
    (tmp_path / "broken.json").write_text('{"images": [')
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "results.json").write_text('[{"image_id": 1, "score": 0.5}]')
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": [{"image_id": 1, "bbox": []}]}')
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def commands(group, *path):
    """(words of the command, its object) of all commands of a group."""
    for name, command in group.commands.items():
        yield from commands(command, *path, name) if hasattr(command, "commands") else [((*path, name), command)]


@pytest.mark.parametrize("module, program", [(data_program, "amodal-data"), (sln_program, "sln")])
def test_every_help_has_examples_of_existing_commands_and_options(module, program):
    named_commands = {" ".join([program, *words]): command for words, command in commands(get_command(module.app))}
    for name, command in named_commands.items():
        examples = re.findall(r"^(?:Examples:)? *((?:amodal-data|sln) .+)$", command.help, re.MULTILINE)
        assert "Examples:" in command.help and examples, name
        for example in examples:
            assert example.startswith(f"{name} ") or example == name, example
            options = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r" (--?[a-z][\w-]*)", example)) <= options, example


def test_ambiguous_splits_are_listed(tmp_path):
    write_cocoa(tmp_path, 1, size=(32, 32), photos=False)
    write_cocoa(tmp_path, 1, size=(32, 32), split="train", photos=False)
    result = run("build-targets", "cocoa", "-d", tmp_path, cwd=tmp_path)
    assert result.returncode == 2
    assert "COCO_amodal_train2014.json, COCO_amodal_val2014.json" in result.stderr
    assert run("build-targets", "cocoa", "-d", tmp_path, "--split", "train", cwd=tmp_path).returncode == 0


def test_missing_images_are_counted_and_named(data, tmp_path):
    result = run("build-targets", data / "COCO_amodal_val2014.json", "--images", tmp_path, "-o", "x.h5", cwd=tmp_path)
    assert "0 of 6 photos found; missing: COCO_val2014_000000000001.jpg" in result.stderr


def test_control_characters_of_file_names_are_escaped(tmp_path):
    path = write_cocoa(tmp_path, 1, size=(32, 32), photos=False)
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "evil\x1b[31m\r.jpg"
    path.write_text(json.dumps(content))
    result = run("build-targets", path, "--images", tmp_path, "-o", "x.h5", cwd=tmp_path)
    assert "\x1b" not in result.stderr
    assert "\\x1b[31m\\r.jpg" in result.stderr


def test_ctrl_c_exits_with_130_and_leaves_no_file(tmp_path, run_process):
    path = write_cocoa(tmp_path, 2, size=(64, 64), photos=False)
    content = json.loads(path.read_text())
    content["images"] = [{**content["images"][0], "id": n} for n in range(8_000)]
    content["annotations"] = [{**content["annotations"][0], "image_id": n, "id": n} for n in range(8_000)]
    path.write_text(json.dumps(content))
    with run_process.start("amodal-data", "build-targets", path, "-o", tmp_path / "x.h5") as process:
        process.stderr.readline()  # "...: 8000 annotated images": reading has ended, building has begun
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert [path.name for path in tmp_path.iterdir() if "h5" in path.name] == []


@pytest.fixture
def run_line(run_process, tmp_path):
    """Run a program whose one command sets an interrupt note, runs a line, and takes a second more."""
    program = """
import signal, time, weakref
from amodal_cli.shared.terminal import new_app, run, set_interrupt_note

def wrapped(number):
    try:
        signal.raise_signal(number)
    except BaseException as error:
        raise RuntimeError("damaged") from error

app = new_app("tool", "about")

@app.command("go")
def go():
    set_interrupt_note("all is well")
    LINE
    time.sleep(1)

run(app, "tool")
"""

    def run(line):
        (tmp_path / "tool.py").write_text(program.replace("LINE", line))
        return run_process(tmp_path / "tool.py", "go", timeout=60)

    return run


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("line", ["weakref.finalize(set(), signal.raise_signal, signal.{})", "wrapped(signal.{})"])
def test_interruptions_in_callbacks_and_libraries_are_handled(run_line, number, line):
    result = run_line(line.format(number))
    assert result.returncode == 130
    assert result.stderr.splitlines()[-1] == "interrupted; all is well"
    assert "Traceback" not in result.stderr and "ignored" not in result.stderr


def test_errors_in_callbacks_are_reported(run_line):
    result = run_line("weakref.finalize(set(), lambda: 1 / 0)")
    assert result.returncode == 0
    assert "ZeroDivisionError" in result.stderr


def test_an_input_as_output_is_refused(data, cache):
    annotations = data / "COCO_amodal_val2014.json"
    before = annotations.read_bytes(), cache.read_bytes()
    for arguments in (
        ["build-targets", annotations, "-o", annotations],
        ["convert", cache, "--to", "d2sa", "-o", cache],
        ["inspect", cache, "--png", cache],
        ["evaluate", cache, annotations, "--csv", cache],
    ):
        result = run(*arguments, "--force")
        assert result.returncode == 2, arguments
        assert "is also an input" in result.stderr or "PNG" in result.stderr
    assert (annotations.read_bytes(), cache.read_bytes()) == before


def test_a_dataset_name_wins_over_a_folder_of_that_name(data, tmp_path):
    (tmp_path / "cocoa").mkdir()
    for path in data.glob("COCO*.json"):
        (tmp_path / "cocoa" / path.name).write_bytes(path.read_bytes())
    assert run("build-targets", "cocoa", "-d", "cocoa", "-o", "x.h5", cwd=tmp_path).returncode == 0
    result = run(
        "build-targets", "kins", "--annotations", data / "COCO_amodal_val2014.json", "-o", "y.h5", cwd=tmp_path
    )
    assert result.returncode == 2
    assert "a file of cocoa, not of kins" in result.stderr


def test_outputs_are_checked_before_any_work(data, cache, tmp_path):
    for arguments in (
        ["inspect", cache, "--png", tmp_path / "no" / "a.png"],
        ["build-targets", "cocoa", "-d", data, "-o", tmp_path / "no" / "x.h5"],
    ):
        result = run(*arguments)
        assert result.returncode == 2
        assert "folder of the output does not exist" in result.stderr
        assert result.stdout == ""
    result = run("evaluate", cache, data / "COCO_amodal_val2014.json", "-p", "order", "--csv", tmp_path / "o.csv")
    assert result.returncode == 2 and not (tmp_path / "o.csv").exists()
    result = run("inspect", cache, "--png", tmp_path / "e.png", "--id", "999")
    assert result.returncode == 2 and result.stdout == ""
    assert run("inspect", cache, "--id", "1").returncode == 2
    empty = run("inspect", cache, "--png", tmp_path / "e.png", "--pick", "findings")
    assert "no image to show" in empty.stderr and not (tmp_path / "e.png").exists()


def test_verify_accepts_a_cache_of_contradictory_annotations(data, tmp_path):
    content = json.loads((data / "COCO_amodal_val2014.json").read_text())
    regions = content["annotations"][0]["regions"]
    regions[0]["order"], regions[0]["occlude_rate"] = "x", 0.75
    (tmp_path / "odd.json").write_text(json.dumps(content))
    built = run("build-targets", tmp_path / "odd.json", "-o", tmp_path / "odd.h5", "--json")
    assert json.loads(built.stdout)["findings"]["order-not-int"] == 1
    verified = run("verify", tmp_path / "odd.h5", "--annotations", tmp_path / "odd.json")
    assert verified.returncode == 0, verified.stdout
