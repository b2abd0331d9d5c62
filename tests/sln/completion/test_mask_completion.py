"""Completion by the shipped shape prior: masks in, whole objects out; no image, no network, no torchvision."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT, run_command

import sln
from amodal_data import RLE
from amodal_data.errors import PhotoError, PredictionError
from sln.completion.pretrained import SHIPPED, shipped_file
from sln.completion.window_cells import cured_owners, owner_codes
from sln.completion.window_maps import GRID
from sln.errors import WeightsError

SIZE = (120, 160)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]


def disc(y, x, radius):
    return (Y - y) ** 2 + (X - x) ** 2 < radius**2


def two_discs():
    """Two visible masks and the whole of the one behind."""
    front, behind = disc(60, 90, 25), disc(60, 60, 28)
    return np.stack([behind & ~front, front]), behind


@pytest.fixture(scope="module")
def completer():
    return sln.Completer.from_pretrained()


def test_a_disc_behind_another_is_made_whole(completer):
    masks, behind = two_discs()
    completed = completer.complete(SIZE, masks=masks, classes=["cup", "ball"], scores=[0.9, 0.8])
    assert np.array_equal(completed.modal(), masks) and np.array_equal(completed.levels == 1, masks)
    whole = completed.amodal()
    assert (whole[0] & behind).sum() / (whole[0] | behind).sum() > 0.9
    assert np.array_equal(whole[1], masks[1])  # the one in front is left alone
    assert completed.order.tolist() == [[0, -1], [1, 0]] and completed.levels.max() == 2
    assert [category.name for category in completed.categories] == ["cup", "ball"]
    assert completed.scored_mask(0).visible == RLE.from_mask(masks[0]) and completed.scores[1] == np.float32(0.8)
    assert np.array_equal(completed.confidence > 0.5, whole)
    assert np.array_equal(completed.only([1]).amodal()[0], whole[1])
    photo = np.full((*SIZE, 3), 200, np.uint8)
    for given in (photo, Image.fromarray(photo)):
        assert np.array_equal(sln.complete(given, masks=masks).amodal(), whole)
    layer = completed.layers(photo)[0]
    assert np.array_equal(layer.pixels[..., 3] > 0, masks[0]) and (layer.pixels[masks[0], :3] == 200).all()
    assert np.array_equal(layer.inpaint, whole[0] & ~masks[0])


def test_shared_pixels_are_visible_in_the_one_in_front_and_hidden_in_the_other(completer):
    masks, behind = two_discs()
    given = np.stack([behind, masks[1]])  # the one behind is given whole
    prompts = sln.Prompts.of_masks(given)
    prediction, findings = completer.complete_prompts(SIZE, prompts, file="a.jpg")
    visible, whole = prediction.modal(), prediction.amodal()
    assert not visible.all(0).any() and np.array_equal(visible.any(0), given.any(0))
    assert (whole >= given).all()
    (finding,) = findings
    assert finding.code == "prompts-overlap" and "keeps them" in finding.message
    doubled = completer.complete(SIZE, masks=np.stack([masks[1], masks[1]]))
    assert doubled.modal().sum() == masks[1].sum() and (doubled.amodal() >= masks[1]).all()


def test_a_mask_inside_a_larger_one_is_in_front(completer):
    masks = np.stack([disc(60, 80, 40), disc(60, 90, 12)])
    completed = completer.complete(SIZE, masks=masks)
    assert np.array_equal(completed.modal()[1], masks[1]) and completed.order[1, 0] == 1
    assert np.array_equal(completed.amodal()[0], masks[0])


def test_a_gap_between_masks_is_cured_in_what_the_prior_sees(completer):
    masks, behind = two_discs()
    apart = np.stack([behind & ~disc(60, 90, 27), masks[1]])
    completed = completer.complete(SIZE, masks=apart)
    assert np.array_equal(completed.modal(), apart)
    whole = completed.amodal()[0]
    assert (whole & behind).sum() / (whole | behind).sum() > 0.85


def test_gaps_are_filled_from_the_nearer_side():
    owner = np.full((5, 12), -1, np.int32)
    owner[:, :3], owner[:, 5:7], owner[:, 10:] = 0, 1, 1
    cured = cured_owners(owner)
    assert cured[2].tolist() == [0, 0, 0, 0, 1, 1, 1, -1, -1, -1, 1, 1]  # a gap inside one mask stays
    assert np.array_equal(cured_owners(cured), cured)


def test_where_outlines_of_touching_masks_part_there_is_background():
    (behind, front), _ = two_discs()
    owner = np.where(front, 1, np.where(behind, 0, -1)).astype(np.int32)
    assert np.array_equal(cured_owners(owner), owner)
    owner[behind & disc(60, 90, 27)] = -1  # now two pixels lie between them
    assert (cured_owners(owner) >= 0).sum() >= (front | behind).sum() - 4


def test_others_are_numbered_by_their_area_in_the_window():
    cells = np.full((2, GRID, GRID), -1, np.int32)
    cells[:, 0], cells[:, 1:3], cells[:, 3:6], cells[:, 6] = 0, 1, 2, -2
    codes = owner_codes(cells, np.array([0, 2]))
    assert codes[0, [0, 1, 3, 6, 7], 0].tolist() == [0, 2, 1, -2, -1]
    assert codes[1, [0, 1, 3, 6, 7], 0].tolist() == [2, 1, 0, -2, -1]


def test_what_cannot_be_completed_says_what_to_do(completer):
    masks, _ = two_discs()
    with pytest.raises(PredictionError, match="boxes alone") as raised:
        completer.complete(SIZE, boxes=np.array([[1.0, 1, 20, 20]]))
    assert "Completer.from_pretrained" in str(raised.value)
    with pytest.raises(PredictionError, match="either prompts, masks or boxes"):
        completer.complete(SIZE)
    with pytest.raises(PhotoError, match="its prompts are of"):
        completer.complete((50, 50), masks=masks)
    with pytest.raises(PhotoError, match="a size is"):
        completer.complete((50, 50, 3), masks=masks)
    with pytest.raises(PredictionError, match="expected masks, bool"):
        completer.complete(SIZE, masks=masks[0])
    with pytest.raises(PredictionError, match="2 scores from 0 to 1"):
        completer.complete(SIZE, masks=masks, scores=[2, 1])
    with pytest.raises(WeightsError, match="coco-shapes"):
        sln.Completer.from_pretrained("nothing")
    with pytest.raises(ValueError, match="a completer needs"):
        sln.Completer()
    empty = completer.complete(SIZE, masks=np.zeros((2, *SIZE), bool))
    assert len(empty) == 2 and not empty.amodal().any()
    assert len(completer.complete(SIZE, masks=masks[:0])) == 0


def test_masks_need_no_torchvision(tmp_path):
    masks, _ = two_discs()
    np.save(tmp_path / "masks.npy", masks)
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import numpy as np, sln\n"
        f"masks = np.load({str(tmp_path / 'masks.npy')!r})\n"
        "print(sln.complete(masks.shape[1:], masks=masks))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "Prediction(2 instances" in done.stdout, done.stderr


def test_the_command_needs_no_model(tmp_path):
    masks, _ = two_discs()
    np.save(tmp_path / "masks.npy", masks)
    Image.new("RGB", SIZE[::-1], (90, 120, 60)).save(tmp_path / "photo.png")
    command = ["sln", "complete", tmp_path / "photo.png", "--prompts", tmp_path / "masks.npy"]
    done = run_command(*command, "-o", tmp_path / "out", "--save", "coco,png,layers")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(rows) == 2 and (tmp_path / "out" / "overlays" / "photo.png").exists()
    layer = np.asarray(Image.open(tmp_path / "out" / "layers" / "photo" / "000.png"))
    assert np.array_equal(layer[..., 3] > 0, masks[0])
    paint = np.asarray(Image.open(tmp_path / "out" / "layers" / "photo" / "000_inpaint.png"))
    assert paint.any() and not (paint > 0)[masks[0]].any()
    for model in (["--model", "coco-shapes"], ["--model", str(shipped_file("coco-shapes"))]):
        done = run_command(*command, "-o", tmp_path / "again", "--save", "coco", "--force", *model)
        assert done.returncode == 0 and json.loads((tmp_path / "again" / "predictions.json").read_text()) == rows
    first = run_command(
        "sln", "complete", shipped_file("coco-shapes"), *command[2:], "-o", tmp_path / "b", "--save=coco"
    )
    assert first.returncode == 0, first.stderr
    wrong = run_command("sln", "complete", tmp_path / "no.jpg", *command[3:], "-o", tmp_path / "c")
    assert wrong.returncode == 2 and "no such file" in wrong.stderr


def test_shipped_weights_are_listed_small_and_have_a_card():
    done = run_command("sln", "models", "--json")
    (row,) = json.loads(done.stdout)["models"]
    assert row["model"] == "coco-shapes" and row["bytes"] <= 8e6 and "CC BY 4.0" in row["license"]
    assert "coco-shapes" in run_command("sln", "models").stdout
    for name in SHIPPED:
        assert "CC BY 4.0" in shipped_file(name).with_suffix(".md").read_text()


def test_one_command_from_annotations_to_a_completer(tmp_path):
    annotations, shape = [], np.zeros((80, 100), bool)
    for n, (y, x) in enumerate([(30, 25), (50, 70)]):
        shape = (np.mgrid[:80, :100][0] - y) ** 2 + (np.mgrid[:80, :100][1] - x) ** 2 < 18**2
        annotations.append({"id": n + 1, "image_id": 1, "category_id": 1, "iscrowd": 0,
                            "segmentation": RLE.from_mask(shape).to_coco()})  # fmt: skip
    content = {"images": [{"id": 1, "file_name": "a.jpg", "height": 80, "width": 100}],
               "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}  # fmt: skip
    (tmp_path / "instances.json").write_text(json.dumps(content))
    out = tmp_path / "shapes.safetensors"
    done = run_command("sln", "fit-prior", tmp_path / "instances.json", "-o", out, "--steps", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "2 of whole objects" in done.stdout and f"--model {out}" in done.stderr
    assert len(sln.Completer.from_pretrained(out).complete((80, 100), masks=shape[None])) == 1
    timed = run_command("sln", "fit-prior", tmp_path / "instances.json", "-o", out, "--minutes", "0.02", "--force")
    assert timed.returncode == 0, timed.stderr
