"""What a score of n rows can and cannot say: intervals and a paired test, standard library only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class Proportion:
    """A share of rows, with the 95 % Wilson interval it stands for."""

    successes: int
    n: int
    """Rows counted; rows without a verdict are not among them."""

    @property
    def value(self) -> float:
        return self.successes / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.successes, self.n)


@dataclass(frozen=True)
class PairedTest:
    """McNemar's exact test on the same rows before and after."""

    gained: int
    """Rows wrong before and right after."""
    lost: int
    """Rows right before and wrong after."""
    p_value: float
    """Chance of a split at least this uneven if the change were a coin toss (two-sided)."""
    left_out: int = 0
    """Rows without a verdict before or after; they count neither way."""

    def __str__(self) -> str:
        chance = f"p = {self.p_value:.3f}" if self.p_value >= 0.001 else "p < 0.001"
        left_out = f", {self.left_out} rows without two answers left out" if self.left_out else ""
        return f"{self.gained} rows gained, {self.lost} rows lost, {chance}{left_out}"


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Lower and upper 95 % bound of a proportion; honest for small n and for shares near 0 or 1.

        wilson(46, 50) -> (0.81, 0.97)

    `n = 0` gives (0, 1): nothing is known.

    Source: https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval#Wilson_score_interval
    """
    if n == 0:
        return 0.0, 1.0
    share, z = successes / n, Z_95
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - spread) / scale, (centre + spread) / scale
    # Rounding must not put the share itself outside its interval.
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def paired_test(before: Sequence[bool | None], after: Sequence[bool | None]) -> PairedTest:
    """Whether the same rows changed more often one way than chance allows.

        paired_test([False] * 10, [True] * 10) -> PairedTest(gained=10, lost=0, p_value=0.002)

    None is a row without a verdict, such as a request that failed.

    Raises:
        ValueError: the two runs do not have the same number of rows.
    """
    if len(before) != len(after):
        raise ValueError(
            f"a paired test needs the same rows twice; got {len(before)} before and "
            f"{len(after)} after. Evaluate both models with one config."
        )
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if None not in (b, a)]
    gained = sum(1 for b, a in pairs if a and not b)
    lost = sum(1 for b, a in pairs if b and not a)
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return PairedTest(gained, lost, min(1.0, 2 * tail / 2**changed), len(before) - len(pairs))
