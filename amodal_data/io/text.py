"""Text from files, made safe to show, and counts."""


def count_of(n: int, noun: str) -> str:
    """Return a count with its noun: ``"1 image"``, ``"2 images"``."""
    return f"{n} {noun}{'s' * (n != 1)}"


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Escape control characters, which file names and labels may contain. keep_lines: line ends stay."""
    kept = "\n" if keep_lines else ""
    return "".join(char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text)
