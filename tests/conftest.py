"""Settings and fixtures of all tests."""

import os

# small networks and images: a second thread waits more than it works. Before numpy and torch are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings
from support.commands import SHARED
from support.process_server import ProcessServer

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
