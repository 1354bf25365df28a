"""What to do when memory runs out in training."""

from __future__ import annotations

import gc
from typing import Any

import torch

from nemo_local.customizer import objectives
from nemo_local.customizer.choices import Choices

WAY_BACK = {"use_reentrant": False}
"""How PyTorch computes layers again: it recommends this form, which needs no trained input."""
SHORTEST = 16
"""Tokens of the shortest row that is tried."""
REFUSALS = (
    "can't allocate memory",  # the CPU's allocator
    "CUDA error: out of memory",  # the driver, to what does not ask PyTorch's allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
)
"""What a RuntimeError says that is no OutOfMemoryError, and means the same."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    refused = isinstance(error, RuntimeError) and any(sign in str(error) for sign in REFUSALS)
    return refused or isinstance(error, torch.OutOfMemoryError | MemoryError)


def release() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def longest_that_fits(model: Any, longest: int, sequences: int, choices: Choices) -> int:
    """Tokens of one row that can be trained on, found by halving `longest`; 0 when none can.

    A row is one sequence, or two of a pair. Passes are computed as the choices say.
    """
    length = longest // 2
    model.train()
    if choices.checkpointing.on:
        model.gradient_checkpointing_enable(WAY_BACK)
    while length >= SHORTEST:
        try:
            _try_pass(model, sequences, length, choices.bf16)
            return length
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        release()
        length //= 2
    return 0


def _try_pass(model: Any, sequences: int, length: int, bf16: bool) -> None:
    ids = torch.ones((sequences, length), dtype=torch.long, device=model.device)
    places = objectives.places_before(torch.ones_like(ids, dtype=torch.bool))
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        logits = objectives.answer_logits(model, {"input_ids": ids}, places)
    logits.sum().backward()
    model.zero_grad(set_to_none=True)
