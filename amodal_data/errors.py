"""The exceptions of this package, all of them."""

import re
from functools import partial
from typing import ClassVar

_VALUES = r"amodal|modal|front-first|back-first|keep|all|cpu|masks|[0-9.]+|[A-Z]{2,}"  # of options, in remedies
_FLAGS = ("force", "join", "resume", "skip-repeated")  # Options without a value
_ARGUMENTS = {"format": "form", "license": "licenses"}  # Options whose argument in Python has another name


class AmodalError(Exception):
    """An error that names what is wrong, where it is, and what to do.

    ``str()`` gives at most three lines: the message, ``at:`` the place, ``fix:`` the remedy. Remedies name options of
    the commands (``fix``); outside the commands, ``str()`` names the arguments instead: ``masks="modal"``.

    Examples:
        >>> import amodal_data as ad
        >>> try:
        ...     ad.read_cocoa("missing.json")
        ... except ad.AmodalError as error:
        ...     print(error.message)
        cannot read the file: No such file or directory
    """

    in_command: ClassVar[bool] = False  # Set by the commands

    def __init__(self, message: str, *, place: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.fix = fix

    def __str__(self) -> str:
        fix = self.fix if self.in_command else _in_python(self.fix)
        lines = [self.message, self.place and f"  at:  {self.place}", fix and f"  fix: {fix}"]
        return "\n".join(line for line in lines if line)

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), self.message, place=self.place, fix=self.fix), ()


def _in_python(fix: str) -> str:
    """A remedy with arguments instead of options, except in the commands that it names."""
    fix = re.sub(r"--set ([\w.]+=)", r"the setting \1", fix)
    parts = re.split(r"(\bamodal-data [^,;]+)", fix)
    parts[::2] = [re.sub(rf"--([a-z][a-z-]*)(?: ({_VALUES})\b)?", _argument, part) for part in parts[::2]]
    return "".join(parts)


def _argument(match: re.Match[str]) -> str:
    name = _ARGUMENTS.get(match[1], match[1].replace("-", "_"))
    if match[1] in _FLAGS:
        return f"{name}=True"
    value = match[2] or "..."
    return f"{name}={value}" if not value[0].isalpha() else f'{name}="{value}"'


class AnnotationError(AmodalError):
    """An annotation file cannot be read: missing, truncated, not JSON."""


class LayoutError(AnnotationError):
    """The file is JSON, but not in a layout this package reads."""


class MaskError(AmodalError, ValueError):
    """An invalid mask: its runs do not sum to the image, or it has none."""


class MaskSizeError(MaskError):
    """A mask of another size than its image."""


class SceneError(AmodalError, ValueError):
    """A scene whose parts do not match."""


class LevelsError(AmodalError):
    """An image with more regions or deeper levels than a level table holds."""


class CacheError(AmodalError):
    """A target cache cannot be written or read."""


class CacheFormatError(CacheError):
    """The file is no target cache, one of another format, or a damaged one."""


class ImageLookupError(CacheError, KeyError):
    """An image id that the cache does not hold, or holds several times."""


class PredictionError(AmodalError, ValueError):
    """Predictions that cannot be scored: unknown image, no score, an invalid mask."""


class SelectionError(AmodalError):
    """An ambiguous or unknown selection."""


class PhotoError(AmodalError):
    """A photo that is missing, unreadable, huge, or of another size than its targets."""


class InUseError(AmodalError):
    """Another process is writing the same output."""


class OutputExistsError(AmodalError, FileExistsError):
    """The output exists; it is only overwritten on request."""
