"""What a reader sees, in words."""

from types import SimpleNamespace

import pytest

from utils import show
from utils.inference import ServedModel
from utils.jobs import Progress

MODEL = "meta/llama-3.2-1b-instruct"


def look(status="running", fraction=0.5, value=None):
    return Progress("training job cust-1", status, fraction, 61.0, value)


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ([ServedModel(MODEL, None, "pocket")], "answered by the stand-in pocket"),
        ([ServedModel(MODEL, None, MODEL)], "answered by the model itself"),
        ([], "not served yet"),
    ],
    ids=["stand-in", "the model", "nobody"],
)
def test_the_first_output_says_who_really_answers(served, expected, capsys):
    services = {
        "Evaluator": ("EVALUATOR_URL", "http://a"),
        "Guardrails": ("GUARDRAILS_URL", "http://a"),
        "NIM": ("NIM_URL", "http://b"),
    }
    show.where(services, [MODEL], served, "smoke")
    printed = capsys.readouterr().out
    assert printed.startswith("Platform  http://a, http://b\n")
    assert expected in printed and "smoke" in printed


def test_plain_lines_are_few_and_end_with_the_outcome(monkeypatch, capsys):
    monkeypatch.setenv("CI", "1")
    report = show.progress()
    for percent in range(101):
        report(look(fraction=percent / 100))
    report(look("completed", 1.0))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "training job cust-1: completed after 1 min 01 s"


def test_a_training_job_shows_its_latest_loss(monkeypatch, capsys):
    monkeypatch.setenv("CI", "1")
    points = [SimpleNamespace(step=9, value=1.25)]
    series = SimpleNamespace(train_loss=points, val_loss=None)
    details = SimpleNamespace(metrics=SimpleNamespace(metrics=series))
    show.training()(look(value=SimpleNamespace(status_details=details)))
    assert "loss 1.250" in capsys.readouterr().out


class Cell:
    """What a notebook shows in one place."""

    def __init__(self, thing):
        self.shown = [thing]

    def update(self, thing, raw=False):
        self.shown.append(thing)


def test_the_live_curve_goes_when_the_job_is_over(monkeypatch):
    cells = []

    def display(thing):
        cells.append(Cell(thing))
        return cells[-1]

    monkeypatch.setattr(show, "_mode", lambda: "jupyter")
    monkeypatch.setattr(show, "_display", display)
    report, points = show.training(), []
    for step in (9, 19):
        points.append(SimpleNamespace(step=step, value=2.0))
        series = SimpleNamespace(train_loss=points, val_loss=None)
        details = SimpleNamespace(metrics=SimpleNamespace(metrics=series))
        report(look(value=SimpleNamespace(status_details=details)))
        report(look(value=SimpleNamespace(status_details=details)))  # no other loss, no redraw
    report(look("no answer, trying again"))
    line, curve = cells
    assert [len(figure.axes[0].lines[0].get_xdata()) for figure in curve.shown] == [1, 2]
    report(look("completed", 1.0, SimpleNamespace(status_details=details)))
    assert curve.shown[-1] == {"text/plain": ""} and "completed" in repr(line.shown[-1])


def test_a_call_reads_like_code():
    call = {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}
    assert show.call_text(call) == 'get_weather(city="Oslo", days=3)'


def test_a_call_with_broken_arguments_is_shown_as_it_came():
    assert show.call_text({"name": "f", "arguments": '{"a": '}) == 'f({"a": )'


def test_a_signature_marks_what_may_be_left_out():
    function = {
        "name": "f",
        "parameters": {
            "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
            "required": ["a"],
        },
    }
    assert show.signature(function) == "f(a: string, b?: integer)"


@pytest.mark.parametrize(("seconds", "text"), [(8.44, "8.4 s"), (61, "1 min 01 s")])
def test_durations_are_for_people(seconds, text):
    assert show.duration(seconds) == text


def test_a_table_has_no_index_and_escapes_what_models_write():
    table = show.table([{"tool": "<b>", "wrong": 1}])
    assert "&lt;b&gt;" in table._repr_html_()
    assert repr(table).split() == ["tool", "wrong", "<b>", "1"]


def test_an_empty_table_says_so():
    assert show.table([])._repr_html_() == repr(show.table([])) == "(no rows)"
