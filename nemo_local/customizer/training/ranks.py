"""The processes of one training: which of them this is, and how they exchange values."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from torch import Tensor

from nemo_local.customizer.parallelism import SHARDED
from nemo_local.settings import Parallelism

WAITS_AT_MOST = timedelta(minutes=30)
"""How long a process waits for the others; one that dies is noticed at once."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, seen from this one; by default it is alone."""

    index: int = 0
    count: int = 1
    parallelism: Parallelism = "ddp"
    device: torch.device = torch.device("cpu")

    @classmethod
    def join(cls, device: torch.device, parallelism: Parallelism) -> Ranks:
        """Join the processes that `accelerate launch` started; returns when all are there."""
        if "RANK" not in os.environ:
            return cls(device=device)
        options: dict[str, Any] = {"timeout": WAITS_AT_MOST}
        if device.type == "cpu":
            # With cpu=True Accelerate would leave DeepSpeed out; naming the backend is enough.
            options |= {"backend": "gloo"} if parallelism.startswith("zero") else {"cpu": True}
        state = PartialState(**options)
        return cls(state.process_index, state.num_processes, parallelism, state.device)

    @property
    def first(self) -> bool:
        """Whether this process reports, and writes what all share."""
        return self.index == 0

    @property
    def sharded(self) -> bool:
        """Whether each process holds only a part of the weights."""
        return self.count > 1 and self.parallelism in SHARDED

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes; every one must call it."""
        if self.count == 1:
            return value
        total = value.detach().to(self.device, torch.float64, copy=True)
        torch.distributed.all_reduce(total)
        return total

    def least(self, value: float) -> float:
        """The smallest value of all processes; every one must call it."""
        if self.count == 1:
            return value
        smallest = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(smallest, torch.distributed.ReduceOp.MIN)
        return float(smallest)

    def any(self, value: bool) -> bool:
        """Whether `value` is true in any process; every one must call it."""
        return bool(self.sum(torch.tensor(float(value))) > 0)

    def from_first(self, make: Callable[[], T]) -> T:
        """The result of `make` in the first process, for all; every one must call it."""
        held = [make() if self.first else None]
        if self.count > 1:
            torch.distributed.broadcast_object_list(held, src=0, device=self.device)
        return cast(T, held[0])
