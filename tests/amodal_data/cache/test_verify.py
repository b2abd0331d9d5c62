import json

import pytest

from amodal_data import build_targets, read_cocoa, verify_cache, write_cocoa


@pytest.fixture
def built(tmp_path):
    path = write_cocoa(tmp_path, 4, seed=2, size=(96, 128), photos=False)
    build_targets(read_cocoa(path), tmp_path / "c.h5")
    return path, tmp_path / "c.h5"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content["annotations"])
    path.write_text(json.dumps(content))


def test_a_correct_cache_is_ok(built):
    path, cache = built
    assert verify_cache(cache).to_dict()["ok"]
    report = verify_cache(cache, read_cocoa(path))
    assert report.ok and report.pixels_off == 0
    assert report.stored == report.reproduced == path.read_text().count("visible_mask")
    assert report.figures == report.figures_reproduced == 2 * path.read_text().count("segmentation")
    assert f"{report.stored} of {report.stored} stored masks reproduced, 0 px off" in str(report)
    assert set(report.to_dict()["masks"]) == {"stored", "reproduced", "pixels_off"}


def swap_order(annotations):
    regions = annotations[1]["regions"]
    regions[0]["order"], regions[-1]["order"] = regions[-1]["order"], regions[0]["order"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_order, "a fresh build differs"),
        (lambda annotations: annotations[0]["regions"][0].update(name="other"), "a fresh build differs in text"),
        (lambda annotations: annotations.pop(), "a fresh build has 1 findings"),
        (lambda annotations: annotations[0]["regions"][0].update(area=1), "area 1.0 in the file"),
        (lambda annotations: annotations[0].update(author="x"), "built from COCO_amodal_val2014.json"),
    ],
)
def test_differences_are_reported(built, change, message):
    path, cache = built
    edit(path, change)
    report = verify_cache(cache, read_cocoa(path))
    assert not report.ok
    assert any(message in difference for difference in report.differences), report.differences
    assert "NOT ok" in str(report)


def test_a_stored_mask_that_differs_is_counted_in_pixels(built):
    path, cache = built
    regions = json.loads(path.read_text())["annotations"][0]["regions"]
    index = next(n for n, region in enumerate(regions) if "visible_mask" in region)

    def swap(annotations):
        region = annotations[0]["regions"][index]
        region["visible_mask"], region["invisible_mask"] = region["invisible_mask"], region["visible_mask"]

    edit(path, swap)
    report = verify_cache(cache, read_cocoa(path))
    assert report.stored - report.reproduced == 2
    assert report.pixels_off == 2 * regions[index]["area"]


def test_images_missing_from_the_cache_are_reported(built, tmp_path):
    _, cache = built
    longer = write_cocoa(tmp_path / "more", 6, seed=2, size=(96, 128), photos=False)
    report = verify_cache(cache, read_cocoa(longer))
    assert any("is not in the cache" in difference for difference in report.differences)


@pytest.mark.parametrize("position", [600, 3000, -200])
def test_a_flipped_byte_is_detected(built, position):
    _, cache = built
    raw = bytearray(cache.read_bytes())
    raw[position] ^= 0x40
    cache.write_bytes(raw)
    try:
        assert not verify_cache(cache).ok
    except Exception as error:
        assert type(error).__name__ == "CacheFormatError"
