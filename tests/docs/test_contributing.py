"""The worked examples of CONTRIBUTING.md, applied to a copy of the code as a contributor would."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from support.commands import ROOT

EXAMPLE = re.compile(r'```(python|diff) title="([^"]+)"\n(.*?)```', re.DOTALL)


def examples():
    """Blocks with a file name (language, path, text) of each section that has some."""
    sections = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    return {section.splitlines()[0]: found for section in sections if (found := EXAMPLE.findall(section))}


def patched(text, diff):
    """The text with each part of a diff replaced; parts are divided by lines that begin with @@."""
    for part in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        old, new = ("".join(f"{line[1:]}\n" for line in part.splitlines() if line[:1] not in skip) for skip in "+-")
        assert text.count(old) == 1, f"{text.count(old)} places in the file for\n{old}"
        text = text.replace(old, new)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("title", examples())
def test_the_worked_examples_of_the_page_work(title, tmp_path):
    for folder in ("amodal_data", "sln", "cli", "tests/support"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    for language, name, text in examples()[title]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert path.exists() == (language == "diff")
        path.write_text(patched(path.read_text(), text) if language == "diff" else text)
    files = [name for _, name, _ in examples()[title]]
    for check in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *check, "--no-cache", *files]
        tidy = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
        assert tidy.returncode == 0, tidy.stdout + tidy.stderr
    (tests,) = [name for name in files if name.startswith("tests/")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tests]
    path = os.pathsep.join(map(str, (tmp_path, tmp_path / "cli")))
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout + run.stderr


def test_every_file_and_target_that_the_page_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    added = {name for found in examples().values() for language, name, _ in found if language == "python"}
    for name in re.findall(r"`((?:amodal_data|sln|cli|tests|docs|examples|benchmarks)/[\w/.]*)`", text):
        assert name in added or (ROOT / name).exists(), name
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"make (\w[\w-]*)", text) if target != "makes")
