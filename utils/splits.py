"""Training, validation and evaluation rows, and a slice of tools that training never sees."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from utils.xlam import XlamRow


@dataclass(frozen=True)
class Splits:
    """Four parts without a common row; `why` says how their sizes came about."""

    train: list[XlamRow]
    validation: list[XlamRow]
    evaluation: list[XlamRow]
    """Held-out rows, drawn like the training rows: mostly tools that training has seen."""
    unseen: list[XlamRow]
    """Held-out rows; the tool to call occurs in no training row, not even as an offer."""
    why: str


def split_rows(
    rows: Sequence[XlamRow],
    *,
    train: int,
    validation: int,
    evaluation: int,
    unseen: int,
    seed: int,
) -> Splits:
    """The four parts, the same for the same rows and seed.

        split_rows(rows, train=3500, validation=300, evaluation=300, unseen=150, seed=42)

    Some tools are held out first: rows that call one are the unseen part, other rows that offer
    one are left over. With fewer rows than asked for, all parts shrink in proportion. A question
    that occurs twice stays on one side: only its first row is used.

    Raises:
        ValueError: fewer than one row for each part.
    """
    asked = train + validation + evaluation + unseen
    pool = _first_of_each_question(rows)
    Random(seed).shuffle(pool)
    scarce = min(1.0, len(pool) / asked)
    held_out, left = _hold_out(pool, int(unseen * scarce))
    wanted = (train, validation, evaluation)
    share = min(1.0, len(left) / sum(wanted))
    sizes = [int(count * share) for count in wanted]
    if not held_out or not all(sizes):
        raise ValueError(
            f"{len(rows)} usable rows are too few for {asked}: every part needs one at least."
        )
    first, second, third = sizes
    why = f"{len(rows)} rows, {asked} asked for: " + (
        "every part has its size"
        if share == 1 and len(held_out) == unseen
        else f"parts shrunk to {', '.join(map(str, sizes))} and {len(held_out)} unseen"
    )
    return Splits(
        train=left[:first],
        validation=left[first : first + second],
        evaluation=left[first + second : first + second + third],
        unseen=held_out,
        why=why,
    )


def tools_of(rows: Sequence[XlamRow]) -> set[str]:
    """Names of every tool that the rows offer."""
    return {tool["function"]["name"] for row in rows for tool in row.tools}


def _first_of_each_question(rows: Sequence[XlamRow]) -> list[XlamRow]:
    return list({row.query.strip().lower(): row for row in reversed(rows)}.values())[::-1]


def _hold_out(pool: Sequence[XlamRow], count: int) -> tuple[list[XlamRow], list[XlamRow]]:
    """`count` rows that call held-out tools, and the rows that neither call nor offer one.

    Tools that rarely stand beside others go first: holding them out wastes the fewest rows.
    """
    offers: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for row in pool:
        calls[row.calls[0]["name"]] += 1
        offers.update({tool["function"]["name"] for tool in row.tools})
    order = {name: place for place, name in enumerate(calls)}  # of the shuffled pool
    names = sorted(calls, key=lambda name: (round(offers[name] / calls[name]), order[name]))
    held: set[str] = set()
    found = 0
    for name in names:
        if found >= count:
            break
        held.add(name)
        found += calls[name]
    unseen = [row for row in pool if row.calls[0]["name"] in held][:count]
    return unseen, [row for row in pool if not held & tools_of([row])]
