"""The processes of a training run: one, or several under torchrun."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

__all__ = ["World"]

_PATIENCE = timedelta(hours=3)
"""How long processes wait for the first one, which validates alone."""


@dataclass(frozen=True, slots=True)
class World:
    """This process is number ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """The processes that torchrun started; one process if it did not."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=_PATIENCE)
        return cls(distributed.get_rank(), size)

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
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
            values = values / self.size
        return values
