"""Device, precision and memory."""

from importlib.metadata import version

import torch

from sln.errors import MachineError, TrainingError


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA if available, else the CPU. Raises :class:`MachineError` if the device does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MachineError(f"no such device: {name!r}", fix="auto, cpu, cuda or cuda:0, cuda:1, ...") from error
    if device.type not in ("cpu", "cuda"):
        raise MachineError(f"{device.type!r} devices are not supported", fix="auto, cpu or cuda")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            available = f"{count} CUDA device{'s' * (count > 1)}" if count else "no CUDA device"
            raise MachineError(f"no device {name!r}: {available} found (torch {version('torch')})", fix="--device cpu")
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context with bf16 if ``precision`` is ``bf16``, or ``auto`` on CUDA."""
    enabled = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def training_autocast(device: torch.device) -> torch.autocast:
    """A context with bf16 where it is fast: on CUDA, and on CPUs with AVX-512; others emulate it, ten times slower."""
    fast = device.type == "cuda" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def memory_used(device: torch.device) -> float | None:
    """Peak memory allocated on a CUDA device, in GiB; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; the allocator of the CPU raises a plain RuntimeError."""
    messages = ("can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in messages)


def out_of_memory_error(device: torch.device, size: int, batch: int, accumulate: int, rois: int) -> TrainingError:
    """The error for a training step that ran out of memory, with settings that need less."""
    total = ""
    if device.type == "cuda":
        total = f" ({torch.cuda.get_device_properties(device).total_memory / 2**30:.1f} GiB)"
    message = f"out of memory{total} with {batch // accumulate} images of {size} px at a time, {rois} ROIs each"
    accumulations = [parts for parts in range(accumulate + 1, batch + 1) if batch % parts == 0]
    settings = [f"--set train.accumulate={accumulations[0]}"] if accumulations else []
    settings += [f"--set train.rois={max(4, rois // 2)}", f"--set data.size={max(32, size * 3 // 4 // 32 * 32)}"]
    return TrainingError(message, place=str(device), fix=" or ".join(settings))
