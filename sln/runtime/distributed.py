"""The processes of a training run, one or several under torchrun; all use of torch.distributed."""

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

_TIMEOUT = timedelta(hours=3)  # How long processes wait for the main one, which validates alone


def world_size() -> int:
    """Number of processes that train together; 1 before they join."""
    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if joined else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Sum of a tensor over all processes; the tensor itself if there is one process."""
    if world_size() == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run; this one has number ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1
    _cpu_group: Any = field(default=None, repr=False)
    """Communicates through the CPU, so that :meth:`any` does not wait for a GPU"""

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """Join the processes that torchrun started; one process without torchrun."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=_TIMEOUT)
        return cls(distributed.get_rank(), size, distributed.new_group(backend="gloo", timeout=_TIMEOUT))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with its gradients averaged over all processes."""
        if self.size == 1:
            return model
        ids = [device.index or 0] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of a tensor over all processes."""
        return sum_over_processes(values) / self.size if self.size > 1 else values

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process. All processes must call this at the same step."""
        if self.size == 1:
            return flag
        flags = torch.tensor(float(flag))
        distributed.all_reduce(flags, group=self._cpu_group)
        return bool(flags > 0)
