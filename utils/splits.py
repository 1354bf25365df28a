"""Training, validation and evaluation rows, and a slice of tools that training never sees."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

    Some tools are held out first: rows that call one form the unseen part. Other rows that offer
    one are used only if there are too few without, and the offer is removed. With fewer rows than
    asked for, all parts shrink in proportion. Of rows with the same question only the first is
    used, so no question is in two parts.

    Raises:
        ValueError: fewer than one row for each part, or all rows call the same tool.
    """
    asked = train + validation + evaluation + unseen
    pool = _first_of_each_question(rows)
    Random(seed).shuffle(pool)
    scarce = min(1.0, len(pool) / asked)
    wanted = (train, validation, evaluation)
    held_out, left = _hold_out(pool, int(unseen * scarce), sum(wanted))
    share = min(1.0, len(left) / sum(wanted))
    sizes = [int(count * share) for count in wanted]
    if not held_out or not all(sizes):
        enough = 2 * math.ceil(asked / min(*wanted, unseen))
        called = sorted({row.calls[0]["name"] for row in pool})
        if len(called) == 1 and len(pool) >= enough:
            raise ValueError(
                f"All {len(rows)} usable rows call {called[0]!r}: a tool cannot be both "
                "learnt and unseen. Add rows that call another one."
            )
        raise ValueError(
            f"{len(rows)} usable rows are too few for {asked}: {len(pool)} have a question of "
            f"their own, and with {enough} of those every part would surely get some."
        )
    first, second, third = sizes
    repeated = len(rows) - len(pool)
    why = f"{len(rows)} rows, {asked} asked for: " + (
        "every part has its size"
        if share == 1 and len(held_out) == unseen
        else f"parts shrunk to {', '.join(map(str, sizes))} and {len(held_out)} unseen"
        + (f"; {repeated} rows repeat the question of another" if repeated else "")
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


def _hold_out(
    pool: Sequence[XlamRow], count: int, needed: int
) -> tuple[list[XlamRow], list[XlamRow]]:
    """`count` rows that call held-out tools, and rows that neither call nor offer one.

    Tools that are rarely offered without being called are held out first; at most half of the rows
    may call one. If fewer than `needed` rows do without them, other rows lose the offer.
    """
    offers: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for row in pool:
        calls[row.calls[0]["name"]] += 1
        offers.update(tools_of([row]))
    order = {name: place for place, name in enumerate(calls)}  # of the shuffled pool
    names = sorted(calls, key=lambda name: (round(offers[name] / calls[name]), order[name]))
    held: set[str] = set()
    found = 0
    for name in names:
        if found >= count:
            break
        if 2 * (found + calls[name]) <= len(pool):
            held.add(name)
            found += calls[name]
    unseen = [row for row in pool if row.calls[0]["name"] in held]
    left = [row for row in pool if row.calls[0]["name"] not in held]
    offering = [row.query for row in left if held & tools_of([row])]
    spare = max(0, needed - (len(left) - len(offering)))
    away = set(offering[spare:])
    return unseen[:count], [_without(row, held) for row in left if row.query not in away]


def _without(row: XlamRow, names: set[str]) -> XlamRow:
    """The row without its offers of these tools."""
    return replace(row, tools=[t for t in row.tools if t["function"]["name"] not in names])
