"""Text from foreign data, made safe to show."""


def printable(text: str, *, lines: bool = True) -> str:
    """Escape the control characters of ``text``, such as those in file names and labels.

    lines: True keeps line ends, False escapes them too.
    """
    return "".join(c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode() for c in text)
