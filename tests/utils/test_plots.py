"""Pictures hold what they should; how they look is for eyes."""

import matplotlib
import pytest

matplotlib.use("Agg")

from matplotlib.colors import to_rgba  # noqa: E402
from matplotlib.container import ErrorbarContainer  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

from utils import plots  # noqa: E402
from utils.intervals import Proportion  # noqa: E402


def test_before_and_after_have_a_bar_for_each_score():
    before = {"right tool": Proportion(3, 50), "right arguments": Proportion(0, 50)}
    after = {"right tool": Proportion(46, 50), "right arguments": Proportion(36, 50)}
    axes = plots.before_after(before, after, "title").axes[0]
    heights = [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]
    assert [round(height, 2) for height in heights] == [0.06, 0.0, 0.92, 0.72]


def test_loss_curve_draws_both_series_and_copes_with_none():
    figure = plots.loss_curve({"train_loss": [(9, 2.0), (19, 1.0)], "val_loss": [(19, 1.2)]})
    assert len(figure.axes[0].lines) == 2
    assert plots.loss_curve({}).axes[0].lines[:] == []


def test_score_card_and_errors_by_kind_draw():
    card = plots.scorecard({"caught": Proportion(9, 10), "passed": Proportion(10, 10)}, "guard")
    kinds = plots.errors_by_kind({"no call": 40}, {"no call": 1, "wrong value": 9})
    assert len(card.axes[0].patches) == 2
    assert len(kinds.axes[0].patches) == 4


def test_error_bars_reach_from_end_to_end_of_the_interval():
    rates = [Proportion(9, 10), Proportion(30, 40)]
    card = plots.scorecard(dict(zip(("caught", "passed"), rates, strict=True)), "guard")
    bars = [one for one in card.axes[0].containers if isinstance(one, ErrorbarContainer)]
    drawn = [bar[2][0].get_segments()[0][:, 1].tolist() for bar in bars]
    assert drawn == [pytest.approx(rate.interval) for rate in rates]


def test_losses_are_drawn_on_a_scale_that_shows_the_end():
    assert plots.loss_curve({"train_loss": [(9, 2.0), (19, 0.1)]}).axes[0].get_yscale() == "log"
    assert plots.loss_curve({"train_loss": [(9, 2.0), (19, 0.0)]}).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("highest", [3.5, 6.8, 120.0])
def test_every_number_beside_a_logarithmic_scale_is_a_plain_one(highest):
    figure = plots.loss_curve({"train_loss": [(9, highest), (19, highest / 10.5)]})
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_ylim()
    axis = figure.axes[0].yaxis
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    shown = [t.label1.get_text() for t in ticks if low <= t.get_loc() <= high]
    assert len([float(text) for text in shown if text]) >= 2


@pytest.mark.parametrize("decades", [4, 6, 9, 13])
def test_losses_over_many_decades_have_a_few_numbers_beside_them(decades):
    figure = plots.loss_curve({"train_loss": [(1, 3.0), (2, 3 * 10.0**-decades)]})
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_ylim()
    shown = [t for t in figure.axes[0].yaxis.get_major_ticks() if low <= t.get_loc() <= high]
    assert 3 <= sum(bool(tick.label1.get_text()) for tick in shown) <= 9


def test_a_single_logged_loss_is_a_point_that_one_can_see():
    (line,) = plots.loss_curve({"train_loss": [(9, 2.0)]}).axes[0].lines
    assert line.get_marker() == "o"


def test_losses_within_a_factor_of_ten_have_plain_numbers_beside_them():
    losses = {"train_loss": [(0, 3.8), (5, 3.2)], "val_loss": [(5, 2.4)]}
    assert plots.loss_curve(losses).axes[0].get_yscale() == "linear"


def test_kinds_of_error_stand_in_one_order_whatever_the_order_of_sets():
    after = {"no call": 5, "wrong value": 3, "extra argument": 3, "wrong tool": 9}
    for kinds in (after, dict(reversed(after.items()))):
        axes = plots.errors_by_kind({"no call": 40}, kinds).axes[0]
        shown = [label.get_text() for label in axes.get_yticklabels()]
        assert shown == ["extra argument", "wrong value", "wrong tool", "no call"]


def test_before_and_after_have_their_colours_in_every_picture():
    rates = {"right tool": Proportion(3, 50)}
    pictures = [plots.before_after(rates, rates, ""), plots.errors_by_kind({"a": 1}, {"a": 2})]
    for picture in pictures:
        colours = [bar.get_facecolor() for bar in picture.axes[0].patches]
        assert colours == [to_rgba(plots.BEFORE), to_rgba(plots.AFTER)]
