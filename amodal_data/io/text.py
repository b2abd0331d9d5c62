"""Text from files, made safe to show."""


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Escape control characters, which file names and labels may contain. keep_lines: line ends stay."""
    kept = "\n" if keep_lines else ""
    return "".join(char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text)
