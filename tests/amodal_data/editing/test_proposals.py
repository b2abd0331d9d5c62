"""Proposed outlines: whole objects for what is visible, accepted, bent or left, on the server and on the page."""

import json
import threading

import numpy as np
import pytest
from support.edit_page import levels, settled
from support.editing import serving

from amodal_data import RLE
from amodal_data.errors import SelectionError
from amodal_data.masks.contours import outline_parts
from amodal_data.masks.rle import merge, rasterize

SIZE = 120, 160


def box(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def mask_of(polygon):
    return rasterize([np.array(polygon, float)], SIZE)[0]


CUP, PLATE = box(70, 20, 120, 100), box(20, 40, 70, 80)  # the plate goes on behind the cup, but ends there in the file
WHOLE = box(20, 40, 110, 80)


@pytest.fixture
def plate(tmp_path):
    """A file in which only the visible part of a plate is drawn."""
    shapes = [(CUP, "cup"), (PLATE, "plate"), (box(5, 5, 9, 9), "far")]
    regions = [{"segmentation": polygon, "order": n + 1, "name": name} for n, (polygon, name) in enumerate(shapes)]
    content = {"images": [{"id": 1, "height": SIZE[0], "width": SIZE[1], "file_name": "a.jpg"}],
               "annotations": [{"image_id": 1, "regions": regions}]}  # fmt: skip
    path = tmp_path / "plate.json"
    path.write_text(json.dumps(content))
    return path


def complete_plate(size, visible):
    """Completes the plate and nothing else."""
    assert size == SIZE
    return [mask_of(WHOLE) if mask == mask_of(PLATE) else mask for mask in visible]


def test_an_outline_has_few_points_and_is_a_pixel_off_at_most():
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    disk = (rows - 60) ** 2 + (columns - 70) ** 2 < 40**2
    disk[5:9, 5:30] = True
    parts = outline_parts(RLE.from_mask(disk), 1.0)
    assert len(parts) == 2 and all(6 <= len(part) < 120 for part in parts)
    drawn = merge(rasterize([np.array(part) for part in parts], SIZE)).decode()
    padded = np.pad(disk, 2)
    near = [np.roll(padded, (y, x), (0, 1))[2:-2, 2:-2] for y in (-2, 0, 2) for x in (-2, 0, 2)]
    assert not (drawn & ~np.any(near, axis=0)).any() and not (~drawn & np.all(near, axis=0)).any()


def test_the_session_proposes_what_hides_behind_others(plate):
    with serving(plate, complete_plate) as server:
        made = server.session.propose(0, 1)
        assert made["added"] == 40 * 40 and mask_of(made["polygons"][0]) == mask_of(WHOLE)
        assert server.session.document(0)["revision"] == 0  # nothing has changed
        assert server.session.propose(0, 0)["added"] == 0
        for instance in (3, -1):
            with pytest.raises(SelectionError, match="visible"):
                server.session.propose(0, instance)
    with serving(plate) as server, pytest.raises(SelectionError, match="completes"):
        server.session.propose(0, 1)


def test_a_proposal_is_accepted_bent_or_left(visit, plate):
    with serving(plate, complete_plate) as server:
        page = visit(server.url)
        page.wait_for_function("() => editor.writer")
        page.evaluate("editor.choose(1)")  # listed below the stack, because it overlaps nothing
        page.keyboard.press("p")
        page.wait_for_function("() => editor.proposal")
        assert page.locator(".points.proposed circle").count() == 4
        assert "1,600 hidden pixels" in page.locator("#editor-state").inner_text()
        page.keyboard.press("Escape")
        assert page.evaluate("editor.proposal") is None and page.evaluate("editor.now.undo") == 0
        page.click("#propose")
        page.wait_for_function("() => editor.proposal")
        corner = page.evaluate("editor.proposal[0].findIndex((x, at) => at % 2 === 0 && x === 110) / 2")
        for _ in range(corner + 1):
            page.keyboard.press(".")
        page.keyboard.press("Shift+ArrowRight")
        assert page.evaluate("editor.now.undo") == 0 and page.evaluate("Math.max(...editor.proposal[0])") == 120
        page.click("#accept")
        settled(page, 1)
        outline = np.reshape(page.evaluate("editor.now.outlines[1][0]"), (-1, 2))
        assert sorted(outline[:, 0].tolist()) == [20, 20, 110, 120]
        assert (levels(page)[1] == np.where(mask_of(outline.ravel()).decode(), 1 + mask_of(CUP).decode(), 0)).all()
        assert page.evaluate("editor.proposal") is None
        page.keyboard.press("Control+z")
        settled(page, 0)


def test_the_command_completes_by_the_shipped_prior(plate):
    pytest.importorskip("torch")
    from amodal_cli.data_commands.edit import _proposer

    propose, masks = _proposer(), [mask_of(CUP), mask_of(PLATE)]
    whole = propose(SIZE, masks)
    assert [mask.size for mask in whole] == [SIZE, SIZE]
    assert all((one.decode() | ~other.decode()).all() for one, other in zip(whole, masks, strict=True))
    with serving(plate, propose) as server:
        answers = []
        threads = [threading.Thread(target=lambda n=n: answers.append(server.session.propose(0, n))) for n in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 2 and all(answer["polygons"] for answer in answers)
