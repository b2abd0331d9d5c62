"""Settings and fixtures of all tests."""

import fcntl
import gc
import os
import shutil

# small networks and images: a second thread waits more than it works. Before numpy and torch are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings
from support.commands import SHARED
from support.process_server import ProcessServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
REAL = SHARED / "data" / "cocoa-real"

settings.register_profile(
    "house", deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")
os.environ.setdefault("NO_COLOR", "1")


@pytest.fixture(scope="session")
def real():
    """Three real COCOA images, where they exist."""
    if not REAL.is_dir():
        pytest.skip("no real COCOA sample beside this checkout")
    return REAL / "COCO_amodal_sample.json"


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, where it exists."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "the tests of pages need Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def pytest_configure(config):
    """Each run of the tests has one process server, which its workers share."""
    path = getattr(config, "workerinput", {}).get("process_server")
    config.process_server = ProcessServer(path) if path else ProcessServer.launch()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["process_server"] = node.config.process_server.path


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        config.process_server.close()


@pytest.fixture(scope="session")
def run_process(request):
    """Runs ``amodal-data``, ``sln`` or a script in a process of its own; ``run_process.start`` does not wait."""
    return request.config.process_server


def _made_once(tmp_path_factory, name, make):
    """A folder of this run of the tests that the first worker fills; the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / f"{name}.made").exists():
            make(root)
            (root / f"{name}.made").touch()
    return root


@pytest.fixture(scope="session")
def tiny_scenes(tmp_path_factory):
    """A folder of six synthetic scenes of 60 x 80 px with their images. Tests only read it and what is made of it."""
    from amodal_data import write_cocoa

    def make(root):
        write_cocoa(root / "tiny", 6, seed=4, size=(60, 80), instances=(3, 4), force=True)

    return _made_once(tmp_path_factory, "tiny-scenes", make) / "tiny"


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory, tiny_scenes):
    """The target cache of these scenes, beside them."""
    from amodal_data import build_targets, read_cocoa

    cache = tiny_scenes / "t.h5"
    _made_once(tmp_path_factory, "tiny-cache", lambda root: build_targets(
        read_cocoa(tiny_scenes / "COCO_amodal_val2014.json"), cache, force=True))  # fmt: skip
    return cache


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_cache):
    """A run of two steps on this cache, beside it."""
    pytest.importorskip("torch")
    from support.networks import FEW_STEPS, small

    import sln

    run = tiny_cache.parent / "run"
    sources = sln.Sources(tiny_cache, (tiny_cache.parent,))
    _made_once(tmp_path_factory, "tiny-run", lambda root: sln.fit(small(*FEW_STEPS), sources, run, device="cpu"))
    return run


SLOWEST = (
    "test_paper.py", "test_examples.py", "test_contributing.py", "test_pages.py", "test_trainer.py", "test_build.py",
    "test_exported.py", "test_detector.py", "test_composing.py", "test_shape_prior.py", "test_prediction.py",
    "test_read_in_workers.py",
)  # fmt: skip
"""Files that begin, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items):
    gc.freeze()  # imported modules stay: no collection visits them
    items.sort(key=lambda item: (*SLOWEST, item.path.name).index(item.path.name))
