"""Where the checkout is, and the commands as a user runs them."""

import io
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


def run_command(program, *arguments, cwd=None, **environment):
    """A command as its program runs it, in this process: exit code, stdout and stderr, as text.

    Most tests ask what a command says and does; those that need a process of their own start one.
    """
    from amodal_cli import data, model
    from amodal_cli.shared import terminal

    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [program, *map(str, arguments)])
        for name, value in environment.items():
            patch.setenv(name, value)
        if cwd is not None:
            patch.chdir(cwd)
        terminal.set_interrupt_note()
        try:
            (data if program == "amodal-data" else model).main()
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            signal.signal(signal.SIGTERM, before)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def hears_ctrl_c():
    """For subprocesses that are to be interrupted: a test run in the background inherits a deaf SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
