import unicodedata

import pytest

from amodal_data.io.image_names import ImageNames

IMAGES = [
    (1, "a/001.jpg"),
    (2, "b/001.jpg"),
    (3, "hall.jpg"),
    (4, "café.png"),
    (5, ""),
    (17, "x/18.png"),
    (18, "y.png"),
]
ONE, TWO, HALL, CAFE, UNNAMED, X, Y = range(7)


@pytest.mark.parametrize(
    ("image_id", "file_name", "positions"),
    [
        (1, "", [ONE]),
        (99, "", []),
        (None, "", []),
        (None, "hall.jpg", [HALL]),
        (1, "hall.jpg", [HALL]),  # the name counts more than the id
        (1, "hell.jpg", []),  # a name that nobody has is no reason to take the id
        (5, "new.jpg", [UNNAMED]),  # unless the image of that id has no name
        (None, "D:\\data\\b\\001.jpg", [TWO]),
        (None, "/home/me/a/001.jpg", [ONE]),
        (None, "C:\\photos\\hall.jpg", [HALL]),
        (None, "./hall.jpg", [HALL]),
        (None, "001.jpg", [ONE, TWO]),  # ambiguous: a folder is missing
        (2, "001.jpg", [TWO]),
        (2, "a/001.jpg", [ONE]),
        (2, "c/001.jpg", []),  # folders that contradict every entry
        (None, "c/hall.jpg", [HALL]),
        (None, unicodedata.normalize("NFD", "café.png"), [CAFE]),
        ("hall", "", [HALL]),
        ("hall.jpg", "", [HALL]),
        ("kitchen", "hall.jpg", [HALL]),
        ("kitchen", "", []),
        ("b/001", "", [TWO]),
        ("001", "", [ONE, TWO]),  # stems of two images, and the id of one
        ("2", "", [TWO]),
        ("18", "", [X, Y]),  # the stem of one image, the id of another
        ("", "", []),
        ("9" * 5000, "", []),
        (None, "Hall.jpg", []),
    ],
)
def test_images_are_found_by_id_and_name(image_id, file_name, positions):
    assert ImageNames(IMAGES).find(image_id, file_name) == positions


def test_a_name_without_folders_is_the_entry_without_folders():
    names = ImageNames([(None, "val/1.jpg"), (None, "1.jpg")])
    assert names.find(file_name="1.jpg") == [1]
    assert names.find(file_name="train/1.jpg") == [1]
    assert names.find(file_name="val/1.jpg") == [0]


def test_a_suffix_is_only_the_last_one():
    names = ImageNames([(1, "a.b.jpg"), (2, "a.jpg"), (3, ".jpg")])
    assert [names.find(text) for text in ("a.b", "a", ".jpg")] == [[0], [1], [2]]
