"""Files are written completely or not at all, by one writer at a time."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.commands import run_command

from amodal_data import TargetCache, build_targets, merge_shards, read_cocoa, verify_cache, write_cocoa
from amodal_data.errors import InUseError, OutputExistsError
from amodal_data.io.files import open_regular, remove_leftovers, replaced, replaced_path, sole_writer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    build_targets(read_cocoa(write_cocoa(folder, 6, seed=3, size=(40, 50), photos=False)), folder / "c.h5")
    return folder


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with replaced(path) as file:
        file.write("after")
        file.flush()
        assert path.read_text() == "before"
    assert path.read_text() == "after" and listing(tmp_path) == ["a.txt"]
    with pytest.raises(ZeroDivisionError), replaced(path) as file:
        file.write("never")
        1 / 0  # noqa: B018
    assert path.read_text() == "after" and listing(tmp_path) == ["a.txt"]


def test_links_are_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out.json").symlink_to(tmp_path / "precious")
    with replaced_path(tmp_path / "out.json") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "precious").read_text() == "mine" and (tmp_path / "out.json").read_text() == "new"


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "a FIFO"), (tmp_path, "a folder"), ("/dev/null", "a device")):
        with pytest.raises(OSError, match=kind):
            open_regular(path)


def test_only_leftovers_of_the_file_are_removed(tmp_path):
    for name in (".c.h5.0123abcd.part", ".d.h5.0123abcd.part", "c.h5", "c.h5.part"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path / "c.h5")
    assert listing(tmp_path) == [".d.h5.0123abcd.part", "c.h5", "c.h5.part"]


def test_a_second_writer_is_refused(tmp_path):
    lock = tmp_path / ".c.lock"
    with sole_writer(lock, "the cache c"):
        owner = json.loads(lock.read_text())
        assert owner["pid"] == os.getpid()
        with pytest.raises(InUseError, match=f"the cache c is being written by process {os.getpid()}"):
            sole_writer(lock, "the cache c").__enter__()
    assert listing(tmp_path) == []
    with sole_writer(lock, "the cache c"):
        pass


def test_the_lock_of_a_killed_writer_is_void(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom amodal_data.io.files import sole_writer\n"
        "with sole_writer(Path(sys.argv[1]), 'x'):\n    print('in', flush=True)\n    time.sleep(60)\n"
    )
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(InUseError):
            sole_writer(lock, "x").__enter__()
        process.kill()
    with sole_writer(lock, "x"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    with sole_writer(tmp_path / "lock", "x"):
        if not (child := os.fork()):
            time.sleep(30)
            os._exit(0)
    try:
        with sole_writer(tmp_path / "lock", "x"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """The file itself is the lock there, and the error says how to remove one that was left."""
    import errno

    def no_locks(handle, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    lock = tmp_path / "lock"
    with sole_writer(lock, "x"), pytest.raises(InUseError, match=r"or remove .*lock if no such process runs"):
        sole_writer(lock, "x").__enter__()
    assert listing(tmp_path) == []


@pytest.mark.parametrize("locking", ["TRUE", "FALSE"])
@pytest.mark.parametrize("kind", ["builds", "resumes", "merges"])
def test_two_processes_that_write_one_cache(folder, tmp_path, kind, locking):
    """One writes, the other is refused or finds a finished cache; no file is damaged or left behind."""
    source, out = folder / "COCO_amodal_val2014.json", tmp_path / "c.h5"
    command = ["build-targets", source, "-o", out, *(["--resume"] if kind == "resumes" else [])]
    if kind == "merges":
        shards = [tmp_path / f"{n}.h5" for n in (1, 2)]
        for n, shard in enumerate(shards, 1):
            build_targets(read_cocoa(source), shard, shard=(n, 2))
        command = ["merge", *shards, "-o", out]
    wait = "import sys; from amodal_cli.data import main; sys.stdin.readline(); main()"
    run = [sys.executable, "-c", wait, *command]
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": locking}
    processes = [subprocess.Popen(run, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                  env=environment) for _ in range(2)]  # fmt: skip
    time.sleep(1)  # both have imported what they need
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    messages = [process.communicate()[1].decode() for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes in ([0, 0], [0, 2]), messages
    assert verify_cache(out, read_cocoa(source)).ok
    assert [name for name in listing(tmp_path) if name not in ("1.h5", "2.h5")] == ["c.h5"]
    assert out.read_bytes() == (folder / "c.h5").read_bytes()


def test_the_error_names_the_process_that_writes(folder, tmp_path):
    out = tmp_path / "c.h5"
    source = folder / "COCO_amodal_val2014.json"
    with sole_writer(tmp_path / ".c.h5.lock", "the cache c.h5"):
        result = run_command("amodal-data", "build-targets", source, "-o", out)
        assert result.returncode == 2 and f"is being written by process {os.getpid()}" in result.stderr
        with pytest.raises(InUseError):
            merge_shards([folder / "c.h5"], out)
        assert run_command("amodal-data", "check", source).returncode == 0
    assert run_command("amodal-data", "build-targets", source, "-o", out).returncode == 0


@pytest.mark.parametrize(
    "command", ["convert {c} --to coco -o {o}", "convert {c} --to table -o {o}", "inspect {c} --html {o}",
                "inspect {c} --png {o}", "evaluate {c} {r} --csv {o}"],
)  # fmt: skip
def test_a_full_disk_keeps_the_previous_file(folder, tmp_path, command, run_process):
    """A file-size limit stands in for a full disk."""
    results = folder / "r.json"
    if not results.exists():
        assert run_command("amodal-data", "convert", folder / "c.h5", "--to", "results", "-o", results).returncode == 0
    suffix = {"html": ".html", "png": ".png"}.get(command.split("--")[-1][:4].strip(), ".out")
    out = tmp_path / f"o{suffix}"
    out.write_text("precious")
    arguments = [part.format(c=folder / "c.h5", o=out, r=results) for part in command.split()]
    size = 20 if "csv" in command or "table" in command else 2000  # less than the file
    result = run_process("amodal-data", *arguments, "--force", file_size=size)
    assert result.returncode == 1 and "too large" in result.stderr and "this is a bug" not in result.stderr
    assert out.read_text() == "precious" and listing(tmp_path) == [out.name]


def test_linked_folders_are_not_written_through(tmp_path):
    from amodal_data.io.files import folder_for

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "overlays").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError, match="not written through"):
        folder_for(tmp_path / "overlays")


def test_listing_datasets_needs_no_write_access(folder, tmp_path):
    """`get` in a folder that cannot be written, or whose record is no record."""
    from amodal_data.readers.inventory import RECORD

    source = tmp_path / "COCO_amodal_val2014.json"
    source.write_bytes((folder / source.name).read_bytes())
    (tmp_path / RECORD).write_text("{")
    assert "first seen" in run_command("amodal-data", "get", "cocoa", "-d", tmp_path).stdout
    (tmp_path / RECORD).unlink()
    (tmp_path / RECORD).mkdir()
    assert "first seen" in run_command("amodal-data", "get", "cocoa", "-d", tmp_path).stdout
    assert "COCOA-cls" in run_command("amodal-data", "get").stdout


def test_an_open_cache_survives_its_replacement(folder, tmp_path):
    path = tmp_path / "c.h5"
    path.write_bytes((folder / "c.h5").read_bytes())
    with TargetCache(path, hold=False) as cache:
        build_targets(read_cocoa(folder / "COCO_amodal_val2014.json").first(2), path, force=True)
        assert len([cache[index] for index in range(6)]) == 6
