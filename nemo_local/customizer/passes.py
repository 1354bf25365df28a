"""How many rows a forward pass takes, and what to say when memory holds none. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemo_local.customizer.plan import Plan

if TYPE_CHECKING:  # torch comes with it
    from nemo_local.customizer.ranks import Ranks

TOKENS_PER_PASS = {"cpu": 8192, "cuda": 32768}
"""Tokens of one forward pass (padding included); a larger batch is accumulated. More keep a GPU no
busier, and what an estimate of its memory gets wrong grows with them."""


def pass_sizes(
    plan: Plan, longest: int, processes: int = 1, device: str = "cpu"
) -> tuple[int, ...]:
    """Rows that a forward pass may have: the most, then about half of it, down to one.

    Each divides the rows of a process.

    pass_sizes(a plan of 24 rows, 1000 tokens) -> (8, 4, 2, 1)
    """
    rows, tokens = rows_of_each(plan, processes), longest * sequences_a_row(plan)
    sizes, most = list[int](), rows
    while not sizes or sizes[-1] > 1:
        sizes.append(
            max(
                size
                for size in range(1, min(most, max(1, TOKENS_PER_PASS[device] // tokens)) + 1)
                if rows % size == 0
            )
        )
        most = sizes[-1] // 2
    return tuple(sizes)


def rows_of_each(plan: Plan, processes: int) -> int:
    """Rows of a batch that a process learns from, at most."""
    return -(-plan.batch_size // processes)


def sequences_a_row(plan: Plan) -> int:
    """One, or the two answers of a pair."""
    return 2 if plan.training_type == "dpo" else 1


def what_fits(longest: int, fits: int, checkpointed: bool) -> str:
    """The reason of a run for which one row of `longest` tokens is too much; `fits` may be 0."""
    how = " and activation checkpointing" if checkpointed else ""
    words = f"memory ran out with one row of {longest} tokens at a time{how}; "
    if fits:
        words += f"rows of {fits} tokens fit: lower the config's max_seq_length to that, or "
    return words + "train fewer weights (lora, a smaller adapter_dim), or take a smaller model"


def what_several_may_do(ranks: Ranks, size: int, longest: int, what: str) -> str:
    """The reason of a run of several processes, in which `size` rows were too many for one."""
    words = (
        f"memory ran out in process {ranks.index} of {ranks.count} with {size} "
        f"{'row' if size == 1 else 'rows'} of up to {longest} tokens at a time ({what}); "
        "lower batch_size or the config's max_seq_length, or "
    )
    if ranks.sharded:
        return words + "use more processes"
    return words + "split the weights up (NEMO_LOCAL_PARALLELISM fsdp or zero3)"
