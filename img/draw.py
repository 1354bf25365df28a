"""Draws the figures of the README and the notebooks: `python img/draw.py` writes img/*.png."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).parent
INK, PAPER = "#333a42", "#ffffff"
CLIENT, PLATFORM, INFERENCE = "#e9edf2", "#e4f0dc", "#dde8f6"
EDGE = {CLIENT: "#8d97a5", PLATFORM: "#4f9d2f", INFERENCE: "#3b6fb6"}


def main() -> None:
    flow()


def flow() -> None:
    """flow.png: the way of a row through the four notebooks and the services."""
    figure, axes = plt.subplots(figsize=(10, 4.9), dpi=130)
    axes.set(xlim=(0, 100), ylim=(0, 50.5))
    axes.axis("off")
    notebooks = (
        ("1 · Data preparation", "rows become examples\nlint, split"),
        ("2 · Fine-tuning", "upload, train a LoRA\nask, run the call"),
        ("3 · Evaluation", "before and after\nerrors by kind"),
        ("4 · Guardrails", "unsafe is blocked\nsafe passes"),
    )
    for index, (title, text) in enumerate(notebooks):
        x = 2 + 24.5 * index
        _box(axes, x, 36, 21.5, 11, CLIENT, title, text)
        if index:
            _arrow(axes, x - 3, 41.5, x, 41.5)
    axes.text(2, 48.6, "data/run.json carries names and ids from one notebook to the next",
              fontsize=9, color=INK)  # fmt: skip
    services = (
        ("Data Store", "files, versions"),
        ("Entity Store", "datasets, models"),
        ("Deployment", "base models"),
        ("Customizer", "LoRA training"),
        ("Evaluator", "scores per row"),
        ("Guardrails", "checks"),
    )
    for index, (title, text) in enumerate(services):
        _box(axes, 2 + 16.2 * index, 17, 14.2, 9, PLATFORM, title, text)
    _box(axes, 26, 2, 48, 9, INFERENCE, "NIM", "base model, adapters, content-safety model")
    axes.text(2, 14.8, "one gateway URL, or one for each", fontsize=9, color=INK, va="center")
    axes.text(75.5, 6.4, "its own URL, OpenAI API", fontsize=9, color=INK, va="center")
    # (from x, from y) -> (to x, to y): who calls whom
    for start, end in (
        ((9.1, 26), (11, 36)),  # rows come from the Data Store or the Hub
        ((27.5, 36), (12.5, 26)),
        ((30.5, 36), (25.3, 26)),
        ((33.4, 36), (33.4, 11)),  # between two services: notebook 2 asks the model itself
        ((38, 36), (41.5, 26)),
        ((43, 36), (56, 26)),
        ((62, 36), (72, 26)),
        ((86, 36), (89, 26)),
        ((41.5, 17), (43, 11)),
        ((57.7, 17), (54, 11)),  # adapters
        ((73.9, 17), (62, 11)),
        ((90.1, 17), (71, 11)),
    ):
        _arrow(axes, *start, *end)
    figure.savefig(HERE / "flow.png", bbox_inches="tight", facecolor=PAPER)
    plt.close(figure)


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, fill: str, title: str, text: str
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=1.2",
            facecolor=fill,
            edgecolor=EDGE[fill],
            linewidth=1.3,
        )  # fmt: skip
    )
    axes.text(
        x + width / 2, y + height - 2.4, title,
        ha="center", va="center", fontsize=9.2, fontweight="bold", color=INK,
    )  # fmt: skip
    axes.text(
        x + width / 2, y + (height - 4) / 2, text,
        ha="center", va="center", fontsize=9, color=INK, linespacing=1.4,
    )  # fmt: skip


def _arrow(axes: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.1})


if __name__ == "__main__":
    main()
