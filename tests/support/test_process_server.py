"""The process server: its processes are like ordinary ones, by whichever way they were started."""

import os
import signal
import subprocess
import sys

import pytest

from support.process_server import ForkedProcess, ProcessServer

SCRIPT = """
import os, sys, signal, time
print(os.getpid(), os.getcwd(), os.environ.get("COLOR"), sys.argv[1:], __name__, sys.stdin.read())
print("problem", file=sys.stderr)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, "ready", flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
if sys.argv[1] == "write":
    with open("long", "wb") as file:
        file.write(bytes(100))
sys.exit(sys.argv[1] if sys.argv[1] == "words" else 7)
"""


@pytest.fixture(params=["forked", "subprocess"])
def server(request, run_process):
    return run_process if request.param == "forked" else ProcessServer(None)


@pytest.fixture
def script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path / "script.py"


def test_streams_environment_folder_and_exit_code(server, script, tmp_path):
    process = server.start(script, "a b", cwd=tmp_path, stdin=b"input", COLOR="red")
    out, err = process.communicate(timeout=60)
    assert out.split("\n")[0] == f"{process.pid} {tmp_path} red ['a b'] __main__ input" and out.endswith("True ready\n")
    assert err == "problem\n" and process.returncode == 7 and process.pid != os.getpid()
    result = server(script, "words", cwd=tmp_path)
    assert result.returncode == 1 and result.stderr == "problem\nwords\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_process(server, script, tmp_path, number):
    with server.start(script, "wait", cwd=tmp_path, group=True) as process:
        while "ready" not in process.stdout.readline():
            pass
        assert process.poll() is None and os.getpgid(process.pid) == process.pid
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        err = process.communicate()[1]
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)


def test_a_limit_of_file_sizes(server, script, tmp_path):
    result = server(script, "write", cwd=tmp_path, file_size=10)
    assert result.returncode == 1 and "File too large" in result.stderr and (tmp_path / "long").stat().st_size == 10


@pytest.mark.parametrize("program", ["amodal-data", "sln"])
def test_programs_run_side_by_side(server, program):
    processes = [server.start(program, "--help") for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and out.lstrip().startswith("Usage") and not err


@pytest.mark.skipif(sys.platform != "linux", reason="no forks of such a process")
def test_the_server_is_used(run_process, script, tmp_path):
    with run_process.start(script, "", cwd=tmp_path) as process:
        assert isinstance(process, ForkedProcess)
