"""Values of parsed JSON as the type that is expected of them."""


def integer(value: object) -> int | None:
    """An int of 64 bits, or a float that is one; None for anything else, bool included."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def number(value: object) -> float | None:
    """A finite int or float as float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None  # NaN compares False


def text(value: object) -> str:
    """The string itself; ``""`` for anything else."""
    return value if isinstance(value, str) else ""


def coco_box(value: object) -> tuple[float, float, float, float] | None:
    """COCO's ``bbox``, a list [x, y, width, height]; None unless it holds four finite numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = map(number, value)
    if x is None or y is None or width is None or height is None:
        return None
    return x, y, width, height
