"""The tutorial's pictures. Every function returns a closed Matplotlib figure; a notebook shows it.

One colour per meaning, the same everywhere: grey before, green after, blue for the guard.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from utils.intervals import Proportion

BEFORE, AFTER, GUARD, INK = "#a3a9b1", "#4f9d2f", "#3b6fb6", "#333a42"
DPI = 110
"""Dots per inch: 700 pixels wide on a notebook page."""


def loss_curve(series: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Loss over optimiser steps.

    series: {"train_loss": [(step, loss), ...], "val_loss": [...]}, as `customizer.losses` gives it.
    """
    figure, axes = _figure(6.4, 3.2)
    train, validation = series.get("train_loss", ()), series.get("val_loss", ())
    if train:
        alone = "o" if len(train) == 1 else None  # one point is no line
        axes.plot(
            *zip(*train, strict=True),
            color=BEFORE,
            lw=1.8,
            ms=6,
            marker=alone,
            label="training rows",
        )
    if validation:
        axes.plot(
            *zip(*validation, strict=True), "o-", color=AFTER, lw=1.8, ms=6, label="validation rows"
        )
        step, loss = validation[-1]
        axes.annotate(
            f"{loss:.3f}", (step, loss), xytext=(0, -15), textcoords="offset points",
            ha="center", color=AFTER,
        )  # fmt: skip
    axes.set(xlabel="optimiser step", ylabel="loss per answer token", title="Loss")
    points = [*train, *validation]
    if points:
        axes.set_xlim(0, 1.04 * max(step for step, _ in points) + 1)
        lowest, highest = (pick(loss for _, loss in points) for pick in (min, max))
        if 0 < 10 * lowest < highest:
            axes.set_yscale("log")  # the end, where little moves, is what one looks at
            # Over many decades their powers alone are enough, and more would overlap.
            axes.yaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5) if highest < 1000 * lowest else (1,))
            )
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.15)
        axes.legend(frameon=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(figure)


def before_after(
    before: Mapping[str, Proportion], after: Mapping[str, Proportion], title: str
) -> Figure:
    """Pairs of bars with 95 % Wilson intervals, one pair for each score both sides have."""
    names = [name for name in before if name in after]
    figure, axes = _figure(max(4.2, 1.9 * len(names) + 1.4), 3.6)
    _bars(axes, [before[name] for name in names], -0.2, BEFORE, "before (base model)")
    _bars(axes, [after[name] for name in names], +0.2, AFTER, "after (with adapter)")
    axes.set_xticks(range(len(names)), names)
    _share_axis(axes, "rows")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return _finish(figure)


def scorecard(rates: Mapping[str, Proportion], title: str) -> Figure:
    """One bar for each rate of a guard, with its 95 % interval."""
    figure, axes = _figure(1.5 * len(rates) + 2.2, 3.4)
    _bars(axes, list(rates.values()), 0.0, GUARD, None)
    axes.set_xticks(range(len(rates)), list(rates))
    _share_axis(axes, "prompts")
    axes.set_title(title)
    return _finish(figure)


def errors_by_kind(before: Mapping[str, int], after: Mapping[str, int]) -> Figure:
    """Horizontal bars: how many rows went wrong in each way, before and after."""
    kinds = sorted(
        {*before, *after}, key=lambda kind: (before.get(kind, 0), after.get(kind, 0), kind)
    )
    figure, axes = _figure(6.4, 0.5 * len(kinds) + 1.7)
    rows = range(len(kinds))
    for offset, counts, colour, label in (
        (+0.2, before, BEFORE, "before (base model)"),
        (-0.2, after, AFTER, "after (with adapter)"),
    ):
        values = [counts.get(kind, 0) for kind in kinds]
        bars = axes.barh([row + offset for row in rows], values, 0.36, color=colour, label=label)
        axes.bar_label(bars, padding=3, color=INK, fontsize=9)
    axes.set_yticks(rows, kinds)
    axes.set(xlabel="rows", title="Errors by kind")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.12)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return _finish(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height), dpi=DPI, layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    return figure, axes


def _bars(
    axes: Axes, scores: Sequence[Proportion], offset: float, colour: str, label: str | None
) -> None:
    for index, score in enumerate(scores):
        low, high = score.interval
        value = score.value
        style: dict[str, Any] = {"label": label} if index == 0 else {}
        axes.bar(index + offset, value, 0.36, color=colour, **style)
        axes.errorbar(
            index + offset, value, [[value - low], [high - value]],
            color=INK, capsize=4, lw=1.2, ls="none",
        )  # fmt: skip
        axes.annotate(
            f"{value:.2f}", (index + offset, high), xytext=(0, 4), textcoords="offset points",
            ha="center", color=INK, fontsize=9,
        )  # fmt: skip


def _share_axis(axes: Axes, counted: str) -> None:
    axes.set_ylim(0, 1.12)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel(f"{counted} right")


def _finish(figure: Figure) -> Figure:
    """The figure, unregistered from pyplot, so that a notebook shows it once."""
    plt.close(figure)
    return figure
