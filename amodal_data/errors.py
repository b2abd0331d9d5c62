"""The exceptions of this package, all of them.

AmodalError
├── AnnotationError        an annotation file cannot be read: missing, truncated, not JSON
│   └── LayoutError        it is JSON, but not a layout this package reads
├── MaskError              a mask that must not be used: runs that do not add up, no runs at all
│   └── MaskSizeError      a mask of another size than its image
├── SceneError             a scene whose parts do not fit together
├── LevelsError            an image beyond what level tables can hold
├── CacheError             a target cache cannot be written or read
│   ├── CacheFormatError   not a target cache, a newer one, or a damaged one
│   └── ImageLookupError   an image id that the cache does not hold, or holds several times
├── PredictionError        predictions that cannot be scored: unknown image, no score, a bad mask
├── PhotoError             a photo that is missing, unreadable, huge, or of another size than its targets
├── SelectionError         what was asked for is ambiguous or unknown: say which
├── InUseError             another process is writing the same output
└── OutputExistsError      the output is already there and would have been overwritten
"""


class AmodalError(Exception):
    """Something this package will not go on with: what is wrong, where, and what to do.

    ``str()`` gives at most three lines: the message, ``at:`` the place, ``fix:`` the remedy.
    """

    def __init__(self, message: str, *, place: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.message, self.place and f"  at:  {self.place}", self.fix and f"  fix: {self.fix}"]
        return "\n".join(line for line in lines if line)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.place, self.fix)


def _rebuild(kind: type[AmodalError], message: str, place: str, fix: str) -> AmodalError:
    return kind(message, place=place, fix=fix)


class AnnotationError(AmodalError):
    """An annotation file cannot be read."""


class LayoutError(AnnotationError):
    """The file is JSON, but not in a layout this package reads."""


class MaskError(AmodalError, ValueError):
    """A mask that must not be used."""


class MaskSizeError(MaskError):
    """A mask of another size than its image."""


class SceneError(AmodalError, ValueError):
    """A scene whose parts do not fit together."""


class LevelsError(AmodalError):
    """An image with more regions or deeper levels than a level table holds."""


class CacheError(AmodalError):
    """A target cache cannot be written or read."""


class CacheFormatError(CacheError):
    """The file is no target cache, a newer one, or a damaged one."""


class ImageLookupError(CacheError, KeyError):
    """No image, or several, under the id asked for."""


class PredictionError(AmodalError, ValueError):
    """Predictions that cannot be scored."""


class SelectionError(AmodalError):
    """What was asked for is ambiguous or unknown."""


class PhotoError(AmodalError):
    """A photo that cannot be used."""


class InUseError(AmodalError):
    """Another process is writing the same output."""


class OutputExistsError(AmodalError, FileExistsError):
    """The output is already there; nothing is overwritten unasked."""
