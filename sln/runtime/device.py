"""Which device, which precision, and what to say when there is not enough of it."""

from importlib.metadata import version

import torch

from sln.errors import MachineError, TrainingError


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU. Raises :class:`MachineError` if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MachineError(f"no such device: {name!r}", fix="auto, cpu, cuda or cuda:0, cuda:1, ...") from error
    if device.type not in ("cpu", "cuda"):
        raise MachineError(f"{device.type!r} devices are not supported", fix="auto, cpu or cuda")
    if device.type == "cuda":
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= there:
            found = f"{there} CUDA devices" if there else "no CUDA device"
            raise MachineError(f"{name!r} asked for, {found} found (torch {version('torch')})", fix="--device cpu")
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where the precision says so; ``auto`` means on CUDA."""
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def memory_used(device: torch.device) -> float | None:
    """Most memory used on a CUDA device so far, GiB; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def out_of_memory(error: BaseException) -> bool:
    """Did a step fail for lack of memory, on a GPU or on the CPU (whose allocator raises a plain RuntimeError)?"""
    said = ("can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in said)


def out_of_memory_error(device: torch.device, size: int, batch: int, accumulate: int, rois: int) -> TrainingError:
    """What to say when memory runs out."""
    total = ""
    if device.type == "cuda":
        total = f" of {torch.cuda.get_device_properties(device).total_memory / 2**30:.1f} GiB"
    said = f"out of memory{total}: {batch // accumulate} photos of {size} px at once, {rois} regions each"
    finer = [parts for parts in range(accumulate + 1, batch + 1) if batch % parts == 0]
    advice = [f"--set train.accumulate={finer[0]}"] if finer else []
    advice += [f"--set train.rois={max(4, rois // 2)}", f"--set data.size={max(32, size * 3 // 4 // 32 * 32)}"]
    return TrainingError(said, place=str(device), fix=" or ".join(advice))
