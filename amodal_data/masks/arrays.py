"""Masks as arrays of other libraries: any number type, ``[1, H, W]``, tensors and pictures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.errors import MaskError


def as_array(value: Any) -> NDArray[Any] | None:
    """A NumPy array, tensor (torch) or picture (PIL) as an array; None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        return np.asarray(value.detach().cpu())
    return np.asarray(value) if hasattr(value, "getbands") else None


def binary_mask(value: NDArray[Any]) -> NDArray[np.bool_]:
    """A mask ``[H, W]`` or ``[1, H, W]`` of any number type, bool [H, W]: 0 is outside.

    Floats are probabilities: 0.5 and more is inside. Integers have one value besides 0. Raises :class:`MaskError` for
    another shape or dtype, for values that are not finite, and for several values besides 0: a map of objects.
    """
    array = value.reshape(value.shape[1:]) if value.ndim == 3 and value.shape[0] == 1 else value
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise MaskError(f"a mask is numbers [H, W], found {value.dtype} {list(value.shape)}")
    if array.dtype.kind == "b":
        return array
    values = np.unique(array)
    if not np.isfinite(values).all():
        raise MaskError(f"{array.dtype}, not finite")
    if array.dtype.kind == "f" and len(values) and values[0] >= 0 and values[-1] <= 1:
        return array >= 0.5
    if len(values) == 0 or set(values.tolist()) <= {0, values[-1]}:
        return array != 0
    examples = ", ".join(f"{x:g}" for x in values[:4].tolist())
    raise MaskError(
        f"{array.dtype} with {len(values)} values ({examples}) is not a mask: pass array == value per object"
    )
