"""The processes of a training run: one, or several under torchrun. Nobody else sees torch.distributed."""

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

_PATIENCE = timedelta(hours=3)
"""How long processes wait for the first one, which validates alone."""


def world_size() -> int:
    """How many processes train together; 1 unless they have joined."""
    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if joined else 1


def summed_over_all(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes; the tensor itself where there is one."""
    if world_size() == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total


@dataclass(frozen=True, slots=True)
class World:
    """This process is number ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1
    _signals: Any = field(default=None, repr=False)
    """A group that talks through the CPU, so that a question to all does not wait for a GPU"""

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """The processes that torchrun started; one process if it did not."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=_PATIENCE)
        return cls(distributed.get_rank(), size, distributed.new_group(backend="gloo", timeout=_PATIENCE))

    @property
    def first(self) -> bool:
        """Is this the process that writes files?"""
        return self.rank == 0

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with its gradients averaged over all processes."""
        if self.size == 1:
            return model
        ids = [device.index or 0] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        return summed_over_all(values) / self.size if self.size > 1 else values

    def any(self, here: bool) -> bool:
        """Is it so in any process? All of them ask at the same moment and get the same answer."""
        if self.size == 1:
            return here
        asked = torch.tensor(float(here))
        distributed.all_reduce(asked, group=self._signals)
        return bool(asked > 0)
