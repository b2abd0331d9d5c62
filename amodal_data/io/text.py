"""Text from files, made safe to show, counts, and remedies for wrong names."""

from collections.abc import Iterable
from difflib import get_close_matches

_LISTED_NAMES = 20  # Longest list of valid names in a remedy


def count_of(n: int, noun: str) -> str:
    """Return a count with its noun: ``"1 image"``, ``"2 images"``."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def suggest_name(word: str, names: Iterable[str]) -> str:
    """Return the remedy for a wrong name: the nearest valid one, or a list of them.

    Examples:
        >>> suggest_name("dgo", ["cat", "dog"])
        "did you mean 'dog'?"
    """
    names = list(names)
    nearest = {name.lower(): name for name in names}
    matches = get_close_matches(word.lower(), nearest, 1)
    rest = len(names) - _LISTED_NAMES
    listed = ", ".join(names[:_LISTED_NAMES]) + f" and {rest} more" * (rest > 0)
    return f"did you mean {nearest[matches[0]]!r}?" if matches else f"choose from {listed}"


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Escape control characters, which file names and labels may contain. keep_lines: line ends stay."""
    kept = "\n" if keep_lines else ""
    return "".join(char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text)
