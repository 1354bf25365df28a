"""Detects, tries out and explains that memory runs out in training."""

from __future__ import annotations

import gc
from typing import Any

import torch

from nemo_local.customizer.training import objectives
from nemo_local.customizer.training.choices import Choices
from nemo_local.customizer.training.ranks import Ranks

WAY_BACK = {"use_reentrant": False}
"""Form of activation checkpointing that PyTorch recommends; it needs no trained input."""
SHORTEST = 16
"""Tokens of the shortest row that is tried."""
REFUSALS = (
    "can't allocate memory",  # the CPU's allocator
    "CUDA error: out of memory",  # the driver, to what does not ask PyTorch's allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
)
"""Phrases of RuntimeErrors that mean the same as an OutOfMemoryError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    refused = isinstance(error, RuntimeError) and any(sign in str(error) for sign in REFUSALS)
    return refused or isinstance(error, torch.OutOfMemoryError | MemoryError)


def release() -> None:
    """Free memory that nothing refers to any more."""
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


def what_fits(longest: int, fits: int, checkpointed: bool) -> str:
    """Why a run failed for which one row of `longest` tokens is too much; `fits` may be 0."""
    how = " and activation checkpointing" if checkpointed else ""
    words = f"memory ran out with one row of {longest} tokens at a time{how}; "
    if fits:
        words += f"rows of {fits} tokens fit: lower the config's max_seq_length to that, or "
    return words + "train fewer weights (lora, a smaller adapter_dim), or take a smaller model"


def what_several_may_do(ranks: Ranks, size: int, longest: int, what: str) -> str:
    """Why a run on several processes failed, when `size` rows were too many for one of them."""
    words = (
        f"memory ran out in process {ranks.index} of {ranks.count} with {size} "
        f"{'row' if size == 1 else 'rows'} of up to {longest} tokens at a time ({what}); "
        "lower batch_size or the config's max_seq_length, or "
    )
    if ranks.sharded:
        return words + "use more processes"
    return words + "split the weights up (NEMO_LOCAL_PARALLELISM fsdp or zero3)"


def _try_pass(model: Any, sequences: int, length: int, bf16: bool) -> None:
    ids = torch.ones((sequences, length), dtype=torch.long, device=model.device)
    places = objectives.places_before(torch.ones_like(ids, dtype=torch.bool))
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        logits = objectives.answer_logits(model, {"input_ids": ids}, places)
    logits.sum().backward()
    model.zero_grad(set_to_none=True)
