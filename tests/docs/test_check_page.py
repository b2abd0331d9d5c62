"""The page about checking: every command of it runs, and its outputs are those printed."""

import io
import json
import re
import shlex
from contextlib import redirect_stdout

from support.commands import ROOT, run_command

PAGE = (ROOT / "docs" / "how-to" / "check-and-fix.md").read_text()


def test_the_blocks_of_the_page_run_and_print_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(\w+)[^\n]*\n(.*?)```", PAGE, re.DOTALL)
    outputs, codes = [], []
    for language, block in blocks:
        if language == "json":
            (tmp_path / "mine.json").write_text(json.dumps(json.loads(block)))
        elif language == "python":
            with redirect_stdout(io.StringIO()) as out:
                exec(block, {})
            outputs.append(out.getvalue())
        elif language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                arguments = shlex.split(line)
                forced = ["--force"] if {"--csv", "--jsonl"} & set(arguments) else []
                result = run_command(*arguments, *forced)
                assert "Traceback" not in result.stderr and result.returncode in (0, 1), result.stderr
                outputs.append(result.stdout)
                codes.append(result.returncode)
        else:
            assert outputs[-1].strip() == block.strip()
    assert codes == [1] * 5 + [0] * 3
    assert (tmp_path / "findings.png").exists() and (tmp_path / "stats.png").exists()
    header = (tmp_path / "findings.csv").read_text().splitlines()[0]
    assert all(f"`{column}`" in PAGE for column in header.split(","))
