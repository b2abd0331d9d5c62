"""Where the tests find things, and how they make scenes."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

# small networks and images: a second thread waits more than it works. Before numpy and torch are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from amodal_data import RLE, Instance, Scene
from amodal_data.scenes.occlusion_order import from_ranks

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data" / "cocoa-real"

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
        terminal.left_behind()
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


def make_scene(masks, ranks=None, visible=None, in_front=None, **more):
    """A scene from bool masks [N, H, W], front to back unless ranks or in_front say otherwise."""
    masks = np.asarray(masks, bool)
    ranks = np.arange(len(masks)) if ranks is None else np.asarray(ranks)
    shown = [None] * len(masks) if visible is None else [RLE.from_mask(v) for v in visible]
    instances = tuple(
        Instance(RLE.from_mask(mask), annotation_id=7, region_index=n, order=int(ranks[n]) + 1, visible=shown[n])
        for n, mask in enumerate(masks)
    )
    matrix = from_ranks(ranks) if in_front is None else in_front
    return Scene(1, "a.jpg", masks.shape[1:], instances, matrix, **more)


def random_masks(rng, n, size=(13, 11), kinds=("box", "speckle", "empty", "full", "twin", "edge")):
    """n bool masks of every awkward sort, [N, H, W]."""
    masks = np.zeros((n, *size), bool)
    for at in range(n):
        kind = kinds[int(rng.integers(len(kinds)))]
        y0, x0 = rng.integers(0, size[0]), rng.integers(0, size[1])
        y1, x1 = rng.integers(y0, size[0]) + 1, rng.integers(x0, size[1]) + 1
        if kind == "box":
            masks[at, y0:y1, x0:x1] = True
        elif kind == "speckle":
            masks[at] = rng.random(size) < rng.random()
        elif kind == "full":
            masks[at] = True
        elif kind == "twin" and at:
            masks[at] = masks[int(rng.integers(at))]
        elif kind == "edge":
            masks[at, :, :x1] |= rng.random() < 0.5
            masks[at, y0:, x0:] = True
    return masks


def partial_order(rng, n, density=0.5):
    """A transitively closed partial order as bool [N, N]."""
    ranks = rng.permutation(n)
    known = from_ranks(ranks) & (rng.random((n, n)) < density)
    for k in range(n):
        known |= known[:, k, None] & known[None, k, :]
    return known


def ellipse(size, y, x, ry, rx):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return ((rows - y) / ry) ** 2 + ((columns - x) / rx) ** 2 <= 1


def modal_photos(folder):
    """The modal annotations of ten photos of one colour each: three whole ellipses and one that the frame cuts."""
    rng, size = np.random.default_rng(1), (96, 128)
    images, annotations = [], []
    for n in range(1, 11):
        photo = np.zeros((*size, 3), np.uint8) + rng.integers(0, 120, 3, np.uint8)
        places = [(28, 30), (30, 90), (70, 60), (80, 120)]
        for at, (y, x) in enumerate(places):
            mask = ellipse(size, y, x, rng.uniform(12, 18), rng.uniform(12, 20))
            photo[mask] = rng.integers(130, 255, 3)
            row = {"id": len(annotations) + 1, "image_id": n, "category_id": 1 + at % 2, "iscrowd": 0}
            annotations.append(row | {"segmentation": RLE.from_mask(mask).to_coco(), "area": int(mask.sum())})
        Image.fromarray(photo).save(folder / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "height": 96, "width": 128, "license": 4 if n < 9 else 6})
    licenses = [{"id": 4, "url": "http://x.org/licenses/by/2.0/", "name": "Attribution"},
                {"id": 6, "url": "http://x.org/licenses/by-nd/2.0/", "name": "Attribution-NoDerivs"}]  # fmt: skip
    names = [{"id": 1, "name": "cup"}, {"id": 2, "name": "box"}]
    path = folder / "instances.json"
    content = {"images": images, "annotations": annotations, "categories": names, "licenses": licenses}
    path.write_text(json.dumps(content))
    return path
