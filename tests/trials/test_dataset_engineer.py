"""What a user of FiftyOne, Datumaro or supervision types first does the job, or is answered with the right name."""

import json

import pytest
from support.commands import run_command

import amodal_data as ad


@pytest.fixture
def path(tmp_path):
    """Annotations with photos, one polygon too short."""
    path = ad.write_cocoa(tmp_path, 4, seed=1, size=(48, 64))
    content = json.loads(path.read_text())
    content["annotations"][0]["regions"][0]["segmentation"] = [1, 2, 3]
    path.write_text(json.dumps(content))
    return path


def typed(line, path, cwd):
    program, *words = line.format(path=path).split()
    return run_command(program, *words, cwd=cwd)


@pytest.mark.parametrize(
    ("line", "code", "answer"),
    [
        ("amodal-data check {path}", 1, "error polygon-too-short (1)"),
        ("amodal-data check {path} --json", 1, '"schema": "amodal-data/check/1"'),
        ("amodal-data stats {path}", 0, "instances by hidden part"),
        ("amodal-data inspect {path}", 0, "pixels per level"),
        ("amodal-data convert {path} --to coco -o out.json", 0, "4 images"),
        ("amodal-data explain polygon-too-short", 0, "Draw at least three corners."),
    ],
)
def test_the_first_guess_does_the_job(path, tmp_path, line, code, answer):
    result = typed(line, path, tmp_path)
    assert result.returncode == code and answer in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("amodal-data validate {path}", "check"),  # datum validate
        ("amodal-data info {path}", "stats"),  # fiftyone datasets info
        ("amodal-data count {path}", "stats"),
        ("amodal-data visualize {path}", "inspect"),  # datum visualize
        ("amodal-data show {path}", "inspect"),
        ("amodal-data export {path}", "convert"),  # datum export
        ("amodal-data transform {path}", "convert"),
        ("amodal-data download cocoa", "get"),  # datum download
        ("amodal-data eval {path}", "evaluate"),
        ("amodal-data train {path}", "sln fit"),
        ("amodal-data predict {path}", "sln predict"),
        ("amodal-data chek {path}", "check"),
        ("sln train {path}", "fit"),  # yolo train
        ("sln val {path}", "evaluate"),
        ("sln validate {path}", "evaluate"),
        ("sln detect {path}", "predict"),
        ("sln check {path}", "amodal-data check"),
        ("sln stats {path}", "amodal-data stats"),
        ("sln order train {path}", "fit"),
    ],
)
def test_other_names_are_answered_with_the_right_one(path, tmp_path, line, answer):
    result = typed(line, path, tmp_path)
    assert result.returncode == 2 and f"Did you mean {answer!r}?" in result.stderr, result.stderr


@pytest.mark.parametrize("module, program", [("data", "amodal-data"), ("model", "sln")])
def test_synonyms_name_existing_commands(module, program):
    from importlib import import_module

    from typer.main import get_command

    from amodal_cli.shared.terminal import names_of

    commands = get_command(import_module(f"amodal_cli.{module}").app).commands
    for command, words in names_of("synonyms").items():
        owner, name = command.split()
        assert owner != program or name in commands, command
        assert owner != program or not set(words.split()) & set(commands), command


def test_a_dataset_in_python_behaves_like_those_of_other_tools(path, tmp_path):
    """FiftyOne: ``len``, iteration, slices; supervision: indexing, ``classes``; Datumaro: ``export``, here ``to``."""
    dataset = ad.open(path)
    assert len(dataset) == 4 and len(dataset[:2]) == 2 and len(list(dataset)) == 4
    item = dataset[0]
    assert item.photo.shape == (48, 64, 3) and len(item.targets.levels) == len(item.targets.names)
    assert isinstance(dataset.classes, dict) and dataset.stats().images == 4
    assert "polygon-too-short" in {finding.code for finding in dataset.findings}
    assert dataset.to("coco", tmp_path / "out.json").images == 4
    assert dataset.show(2).width > 1000 and "4 images" in repr(dataset)
    assert not ad.check(path).ok
