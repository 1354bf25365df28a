"""How many rows a forward pass takes. No torch here."""

from __future__ import annotations

from nemo_local.customizer.plan import Plan

TOKENS_PER_PASS = {"cpu": 8192, "cuda": 32768}
"""Tokens of one forward pass (padding included); larger batches are accumulated. More would keep a
GPU no busier, and the error of its memory estimate would grow with them."""


def pass_sizes(
    plan: Plan, longest: int, processes: int = 1, device: str = "cpu"
) -> tuple[int, ...]:
    """Numbers of rows that a forward pass may have: the most, then about half each time, down to 1.

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
    """The most rows of a batch that one process computes."""
    return -(-plan.batch_size // processes)


def sequences_a_row(plan: Plan) -> int:
    """Sequences that a row is computed as: 2 for a preference pair, else 1."""
    return 2 if plan.training_type == "dpo" else 1
