import pytest

from amodal_data.io.text import printable


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x85\u200b\ud800", r"\x85\u200b\ud800"),
        ("é 'x' \\ 猫", "é 'x' \\ 猫"),
        ("a\nb", r"a\nb"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_not(text, shown):
    assert printable(text) == shown


def test_line_ends_stay_if_asked_for():
    assert printable("a\nb\tc", keep_lines=True) == "a\nb\\tc"
