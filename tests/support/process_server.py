"""Commands in processes of their own, forked from a server that has imported everything once.

A process that imports torch needs 3 to 5 s of CPU before it works; a fork of the server needs 0.1 s. The forked process
has its own pid, signals, exit code, environment, working directory and streams. Where forking is not safe (macOS,
Windows, a server with a second thread) and where the environment changes what imports do, `start` takes a subprocess.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = {"amodal-data": "amodal_cli.data", "sln": "amodal_cli.model"}
READ_BY_IMPORTS = ("PYTHON", "OMP_", "OPENBLAS_", "MKL_", "HDF5_", "LD_")
"""Environment variables that take effect when Python or a package is loaded."""
START_PATIENCE = 120  # seconds that a server may take to import everything


# the side of the tests


class ProcessServer:
    """Start processes; the server behind it is started with the first one and ends with its last connection."""

    def __init__(self, path):
        self.path = path

    @classmethod
    def launch(cls):
        """A server of its own for this process and, by ``path``, for others; it imports nothing until it is used."""
        if sys.platform != "linux":
            return cls(None)
        server = cls(str(Path(tempfile.mkdtemp(prefix="sln-tests-")) / "socket"))
        server.life = subprocess.Popen(
            [sys.executable, __file__, server.path], stdin=subprocess.PIPE, cwd=ROOT, start_new_session=True
        )
        return server

    def close(self):
        """End a server that `launch` began."""
        if self.path is not None:
            self.life.communicate()
            Path(self.path).unlink(missing_ok=True)
            Path(self.path).parent.rmdir()

    def start(self, program, *arguments, cwd=None, stdin=None, file_size=None, group=False, **environment):
        """A running process of ``amodal-data``, ``sln`` or a script, with pipes at stdout and stderr.

        ``stdin``: bytes; ``file_size``: the longest file in bytes that it may write (RLIMIT_FSIZE);
        ``group``: it leads a process group; more keywords are environment variables.
        """
        task = {
            "program": str(program),
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd or Path.cwd()),
            "file_size": file_size,
            "group": group,
            "environment": os.environ | environment,
        }
        with tempfile.TemporaryFile() as file:
            file.write(stdin or b"")
            file.seek(0)
            changes_imports = any(name.startswith(READ_BY_IMPORTS) for name in environment)
            forked = None if self.path is None or changes_imports else ForkedProcess.request(self.path, task, file)
            return forked or _subprocess(task, file)

    def __call__(self, program, *arguments, timeout=300, **options):
        """Run a process to its end: exit code, stdout and stderr as text."""
        with self.start(program, *arguments, **options) as process:
            out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess([program, *arguments], process.returncode, out, err)


def _subprocess(task, stdin):
    """The same process without a server."""
    start = ["-m", PROGRAMS[task["program"]]] if task["program"] in PROGRAMS else [task["program"]]
    return subprocess.Popen(
        [sys.executable, *start, *task["arguments"]], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=task["cwd"], env=task["environment"], start_new_session=task["group"],
        preexec_fn=lambda: _limit(task),
    )  # fmt: skip


class ForkedProcess:
    """A child of the server with the methods of ``subprocess.Popen``; its pipes are text."""

    def __init__(self, connection, pid, stdout, stderr):
        self.connection, self.pid, self.stdout, self.stderr = connection, pid, stdout, stderr
        self.returncode = None

    @classmethod
    def request(cls, path, task, stdin):
        """Have the server fork; None where it cannot."""
        connection = _connect(path)
        out, err = os.pipe(), os.pipe()
        content = json.dumps(task).encode()
        socket.send_fds(connection, [len(content).to_bytes(4, "big")], [stdin.fileno(), out[1], err[1]])
        connection.sendall(content)
        os.close(out[1])
        os.close(err[1])
        if not (pid := int(connection.makefile("rb", buffering=0).readline())):  # not a byte of what follows
            os.close(out[0])
            os.close(err[0])
            return None
        return cls(connection, pid, os.fdopen(out[0]), os.fdopen(err[0]))

    def poll(self):
        """The exit code, negative for a signal, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        """The exit code."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self.connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
            with self.connection:
                self.returncode = os.waitstatus_to_exitcode(int(self.connection.recv(32)))
        return self.returncode

    def send_signal(self, number):
        """A signal to the process, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=None):
        """All that is left of stdout and stderr, after the end of the process."""
        texts, end = {self.stdout: b"", self.stderr: b""}, None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for pipe in texts:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                if not (ready := selector.select(_left(end))):
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
                for key, _ in ready:
                    part = os.read(key.fd, 65536)
                    texts[key.fileobj] += part
                    if not part:
                        selector.unregister(key.fileobj)
        self.wait(_left(end))
        self._close()
        return tuple(text.decode() for text in texts.values())

    def _close(self):
        self.stdout.close()
        self.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            self.kill()
        self.wait()
        self._close()


def _left(end):
    """Seconds until a time, at least 0; None without one."""
    return None if end is None else max(0, end - time.monotonic())


def _connect(path):
    end = time.monotonic() + START_PATIENCE
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


# the side of the server


def serve(path):
    """Fork a child per connection until stdin ends; a child returns its task and streams, the server None."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    children = {}
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen(64)
        for source in (listener, sys.stdin, woken):
            selector.register(source, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake.fileno())
        while True:
            for source in {key.fileobj for key, _ in selector.select()}:
                if source is sys.stdin:
                    return _end(children)
                if source is woken:
                    woken.recv(4096)
                    _reap(children)
                elif source is listener:
                    connection, _ = listener.accept()
                    if work := _fork(connection, children):
                        return work


def _fork(connection, children):
    """Read a task from a connection and fork; in the child the task and its streams, in the server None."""
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    content = connection.makefile("rb").read(int.from_bytes(size, "big"))
    can_fork = _import_everything()
    pid = os.fork() if can_fork else -1
    if pid == 0:
        signal.set_wakeup_fd(-1)
        return json.loads(content), streams
    for stream in streams:
        os.close(stream)
    connection.sendall(b"%d\n" % max(pid, 0))
    if can_fork:
        children[pid] = connection
    return None


def _reap(children):
    for pid, connection in list(children.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):  # the test has gone
                connection.sendall(b"%d" % status)
            children.pop(pid).close()


def _end(children):
    signal.set_wakeup_fd(-1)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _import_everything(done=[]):  # noqa: B006
    """Import the packages with all their modules, once; whether this process may be forked then."""
    if not done:
        for package in ("amodal_data", "sln", "amodal_cli"):
            for module in pkgutil.walk_packages([str(Path(_find(package)))], f"{package}."):
                with contextlib.suppress(ImportError):  # an extra that is not installed
                    importlib.import_module(module.name)
        import gc

        gc.collect()
        gc.freeze()  # children share these pages: no collection writes to them
        done.append(len([*Path("/proc/self/task").iterdir()]) == 1)  # a forked child has none of the other threads
    return done[0]


def _find(package):
    return Path(importlib.import_module(package).__file__).parent


def _limit(task):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a test run in the background inherits a deaf SIGINT
    if task["file_size"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task["file_size"],) * 2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _prepare(task, streams):
    """Make this forked process what a new one would be; the function that does its work."""
    if task["group"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 256)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, closefd=False, errors="backslashreplace")
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _limit(task)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(task["environment"])
    os.chdir(task["cwd"])
    sys.argv = [task["program"], *task["arguments"]]
    sys.modules["__main__"] = types.ModuleType("__main__")
    if task["program"] in PROGRAMS:
        return importlib.import_module(PROGRAMS[task["program"]]).main
    sys.path.insert(0, str(Path(task["program"]).parent))
    return lambda: runpy.run_path(task["program"], run_name="__main__")


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    if work := serve(sys.argv[1]):
        _prepare(*work)()
