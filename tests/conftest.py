"""Settings and fixtures of all tests."""

import os

# small networks and images: a second thread waits more than it works. Before numpy and torch are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings
from support.commands import SHARED

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
