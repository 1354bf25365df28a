"""Splits the rows of a pass on a CPU among threads, each of which computes its whole pass.

PyTorch splits each operation among threads, which then wait for each other some thousand times a
step, and our kernels use one thread. Threads with rows of their own wait once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]

LEAST_TOKENS = 500
"""The fewest tokens of a thread, padding included: with 400, products cost half more a token."""


class RowThreads:
    """`count` threads, the caller's included; with one, everything is computed as usual."""

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._others = ThreadPoolExecutor(max(1, count - 1), "rows")

    def parts(self, rows: int, length: int) -> int:
        """How many threads to split this many rows of `length` tokens among."""
        return max(1, min(self._count, rows, rows * length // LEAST_TOKENS))

    def sum(
        self,
        loss_of: Callable[[Inputs], Tensor],
        parts: Sequence[Inputs],
        trained: Sequence[Tensor],
    ) -> Tensor:
        """The sum of the parts' losses, differentiable with respect to the `trained` weights."""
        if len(parts) == 1:
            return loss_of(parts[0])
        if not torch.is_grad_enabled():
            return torch.stack([loss for loss, _ in self._computed(loss_of, parts, ())]).sum()

        def computed() -> list[tuple[Tensor, Sequence[Tensor]]]:
            return self._computed(loss_of, parts, trained)

        total: Tensor = _ThereAndBack.apply(computed, *trained)  # type: ignore[no-untyped-call]
        return total

    def _computed(
        self,
        loss_of: Callable[[Inputs], Tensor],
        parts: Sequence[Inputs],
        trained: Sequence[Tensor],
    ) -> list[tuple[Tensor, Sequence[Tensor]]]:
        """Each part's loss, and its gradients with respect to the `trained` weights."""
        before, inside = torch.get_num_threads(), max(1, self._count // len(parts))
        # A new thread inherits neither autocast nor the gradient mode of the one that starts it.
        halves, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

        def computed(part: Inputs) -> tuple[Tensor, Sequence[Tensor]]:
            torch.set_num_threads(inside)
            with torch.autocast("cpu", dtype, halves), torch.set_grad_enabled(bool(trained)):
                loss = loss_of(part)
            return loss.detach(), torch.autograd.grad(loss, trained) if trained else ()

        others = [self._others.submit(computed, part) for part in parts[1:]]
        try:
            own = computed(parts[0])
        finally:
            wait(others)  # after a failure, too, no thread may go on
            torch.set_num_threads(before)
        return [own, *(other.result() for other in others)]


class _ThereAndBack(torch.autograd.Function):
    """A sum of losses whose gradients are computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, computed: Callable[[], list[tuple[Tensor, Sequence[Tensor]]]], *trained: Tensor
    ) -> Tensor:
        losses, gradients = zip(*computed(), strict=True)
        ctx.save_for_backward(*(torch.stack(each).sum(0) for each in zip(*gradients, strict=True)))
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient * given[0] for gradient in ctx.saved_tensors)
