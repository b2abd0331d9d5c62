import pytest

from amodal_data.errors import AnnotationError, SelectionError
from amodal_data.readers.discovery import PhotoFinder, find_annotations


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_find_annotations_by_name(tmp_path):
    with pytest.raises(AnnotationError, match="no cocoa annotation file here"):
        find_annotations(tmp_path, "cocoa")
    touch(tmp_path / "COCO_amodal_val2014_with_classes.json")
    touch(tmp_path / "other.json")
    val = touch(tmp_path / "annotations" / "COCO_amodal_val2014.json")
    assert find_annotations(tmp_path, "cocoa").paths == (val,)
    train = touch(tmp_path / "COCO_amodal_train2014.json")
    with pytest.raises(SelectionError, match=r"COCO_amodal_train2014\.json, COCO_amodal_val2014\.json"):
        find_annotations(tmp_path, "cocoa")
    assert find_annotations(tmp_path, "cocoa", "train").paths == (train,)
    with pytest.raises(AnnotationError, match="of split 'test'"):
        find_annotations(tmp_path, "cocoa", "test")


def test_every_dataset_has_its_file_names(tmp_path):
    for name in ("D2S_amodal_training_rot0.json", "D2S_amodal_augmented.json", "D2S_amodal_validation.json"):
        touch(tmp_path / name)
    touch(tmp_path / "update_test_2020.json")
    touch(tmp_path / "COCO_amodal_val2014_with_classes.json")
    paths = find_annotations(tmp_path, "d2sa", "train").paths
    assert [path.name for path in paths] == ["D2S_amodal_augmented.json", "D2S_amodal_training_rot0.json"]
    assert find_annotations(tmp_path, "kins").split == "val"
    assert find_annotations(tmp_path, "cocoa-cls").split == "val"
    touch(tmp_path / "annotations" / "update_test_2020.json")
    with pytest.raises(SelectionError, match="the same file twice"):
        find_annotations(tmp_path, "kins")


@pytest.mark.parametrize("subfolder", ["", "val2014", "images/val"])
def test_find_photos_by_name_and_by_id(tmp_path, subfolder):
    photo = touch(tmp_path / subfolder / "000000000042.jpg")
    finder = PhotoFinder([tmp_path])
    assert finder.find("000000000042.jpg") == photo
    assert finder.find("COCO_val2014_000000000042.jpg") == photo
    assert finder.find("COCO_val2014_000000000043.jpg") is None


def test_names_never_lead_outside(tmp_path):
    inside, outside = tmp_path / "photos", tmp_path / "secret"
    touch(outside / "a.jpg")
    touch(inside / "b.jpg")
    (inside / "linked.jpg").symlink_to(outside / "a.jpg")  # links are the user's own, and are followed
    (inside / "c.jpg").symlink_to(inside / "b.jpg")
    finder = PhotoFinder([inside])
    for name in (
        "a.jpg",
        "../secret/a.jpg",
        str(outside / "a.jpg"),
        "..\\secret\\a.jpg",
        "",
        "..",
    ):
        assert finder.find(name) is None
    assert finder.find("somewhere/else/b.jpg") == inside / "b.jpg"
    assert finder.find("linked.jpg") == inside / "linked.jpg"
    assert finder.candidates("c.jpg") == [inside / "c.jpg"]


def test_accents_links_and_other_suffixes(tmp_path):
    """NFC and NFD are one name, two links to a file are one photo, and masks may have another suffix."""
    (tmp_path / "store").mkdir()
    accented = touch(tmp_path / "photos" / "Cafe\u0301.jpg")
    for split in ("train", "val"):
        (tmp_path / "photos" / split).mkdir()
        (tmp_path / "photos" / split / "a.jpg").symlink_to(touch(tmp_path / "store" / "a.jpg"))
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    finder = PhotoFinder([tmp_path / "photos"])
    assert finder.find("Caf\u00e9.jpg") == accented
    assert len(finder.candidates("a.jpg")) == 1
    assert finder.find("val/a.jpg").parts[-2:] == ("val", "a.jpg")
    assert finder.find("a.png") == finder.find("a.jpg") and finder.find("b.png") is None
