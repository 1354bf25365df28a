"""Scores, rows and kinds of error, read from what an evaluator leaves."""

import io
import json
import zipfile

import pytest

from tests.utils.scripted_platform import Scripted
from utils import evaluator
from utils.errors import InvalidFile, JobFailed
from utils.evaluator import ARGS_SCORE, NAME_SCORE

TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": {}}}
    for name in ("get_weather", "get_news")
]
WEATHER = TOOLS[0]["function"]["name"]
GOLD = {"city": "Oslo", "days": 3}


def row(calls=(), text="", name=0.0, args=0.0, answered=True, gold="get_weather"):
    """One element of results.json; `calls` are (name, arguments as text), `gold` a tool."""
    message = {
        "role": "assistant",
        "content": text,
        "tool_calls": [{"function": {"name": n, "arguments": a}} for n, a in calls],
    }
    return {
        "item": {
            "messages": [{"role": "user", "content": "How warm is Oslo?"}],
            "tools": TOOLS,
            "tool_calls": [{"function": {"name": gold, "arguments": GOLD}}],
        },
        "sample": {"response": {"choices": [{"message": message}]} if answered else None},
        "metrics": {
            "calls": {"scores": {NAME_SCORE: {"value": name}, ARGS_SCORE: {"value": args}}}
        },
    }


def archive_of(texts):
    """A zip archive of these files: {name: text}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return file.getvalue()


def results(rows, task="seen"):
    texts = {"eval-1/results/results.json": json.dumps({task: rows}), "eval-1/config.json": "{}"}
    answers = {("GET", "/v1/evaluation/jobs/eval-1/download-results"): archive_of(texts)}
    return evaluator.row_results(Scripted(answers).client(), "eval-1")


@pytest.mark.parametrize(
    ("expected", "reply"),
    [
        ("right", row([("get_weather", json.dumps(GOLD))], name=1, args=1)),
        ("no call", row(text="It is cold there.")),
        ("call written as text", row(text='{"name": "get_weather", "parameters": {')),
        ("call written as text", row(text="get_weather(city=Oslo)")),
        ("call written as text", row(text="I call {name: get_weather}")),
        ("no call", row(text="Sure: {note: this is prose}")),
        ("no call", row(text='Use get_weather with days 3, filters {"digital": 3}')),
        ("call written as text", row(text="I call {'function': 'get_weather'}")),
        ("no call", row([(None, "{}")], text="It is cold there.")),
        ("missing argument", row([("get_weather", None)], name=1)),
        ("broken arguments", row([("get_weather", "[" * 1500)], name=1, args=None)),
        ("broken arguments", row([(WEATHER, "{bad"), (WEATHER, "{}")], name=1, args=None)),
        ("missing argument", row([(WEATHER, "{}"), ("", "{}")], name=1)),
        ("invented tool", row([("get_wether", "{}")])),
        ("wrong tool", row([("get_news", "{}")])),
        ("broken arguments", row([("get_weather", '{"city": ')], name=1, args=None)),
        ("missing argument", row([("get_weather", '{"city": "Oslo"}')], name=1)),
        ("extra argument", row([("get_weather", json.dumps(GOLD | {"a": 1}))], name=1)),
        ("wrong value", row([("get_weather", json.dumps(GOLD | {"days": "3"}))], name=1)),
        ("no answer", row(answered=False, name=None, args=None)),
    ],
)
def test_a_reply_is_one_kind_of_error(expected, reply):
    assert [found.kind for found in results([reply])] == [expected]


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (archive_of({}), "eval-1 hold no files, but no results.json"),
        (archive_of({"config.json": "{}"}), "eval-1 hold config.json, but no results.json"),
        (b"<html>sign in", "eval-1 are not a zip archive but begin with b'<html>sign in'"),
    ],
    ids=["empty", "no results", "a page"],
)
def test_results_that_cannot_be_read_are_told_with_what_came_instead(archive, told):
    answers = {("GET", "/v1/evaluation/jobs/eval-1/download-results"): archive}
    with pytest.raises(InvalidFile, match=told):
        evaluator.row_results(Scripted(answers).client(), "eval-1")


def test_a_request_that_failed_is_neither_right_nor_wrong():
    unanswered, broken = results(
        [
            row(answered=False, name=None, args=None),
            row([("get_weather", '{"city": ')], name=1, args=None),
        ]
    )
    assert (unanswered.name_right, unanswered.args_right) == (None, None)
    assert (broken.name_right, broken.args_right) == (True, False)


def test_a_row_whose_gold_answer_is_malformed_is_neither_right_nor_wrong():
    (found,) = results([row([("get_news", "{}")], name=None, args=None)])
    assert (found.name_right, found.args_right, found.kind) == (None, None, "no answer")


@pytest.mark.parametrize("call", [{"type": "function"}, {"function": "f"}, "f()"])
def test_a_reply_with_something_like_a_call_does_not_stop_the_reading(call):
    odd = row(text="hm")
    odd["sample"]["response"]["choices"][0]["message"]["tool_calls"] = [call]
    assert [found.kind for found in results([odd])] == ["no call"]


def test_rows_keep_the_order_of_the_data_file_and_their_question():
    found = results([row(text="a"), row(text="b")])
    assert [(r.index, r.text, r.question) for r in found] == [
        (0, "a", "How warm is Oslo?"),
        (1, "b", "How warm is Oslo?"),
    ]


def test_errors_are_grouped_most_frequent_first():
    found = results([row([("get_news", "{}")]), row(text="a"), row(text="b")])
    assert [(kind, len(rows)) for kind, rows in evaluator.errors_by_kind(found).items()] == [
        ("no call", 2),
        ("wrong tool", 1),
    ]


def test_errors_by_tool_count_against_all_rows_of_the_tool_most_errors_first():
    right = row([("get_weather", json.dumps(GOLD))], name=1, args=1)
    wrong = [row([("get_news", "{}")]), row(text="a"), row(text="b")]
    found = results([row(text="a", gold="get_news"), right, *wrong])
    assert list(evaluator.errors_by_tool(found).items()) == [
        ("get_weather", (3, 4, "no call")),
        ("get_news", (1, 1, "no call")),
    ]


def test_a_row_without_a_verdict_is_no_wrong_call_of_its_tool():
    right = row([("get_weather", json.dumps(GOLD))], name=1, args=1)
    assert evaluator.errors_by_tool(results([right, row(text="a", name=None)])) == {}


def scored(*metrics):
    """The scores of a job whose one task has these metrics on the server."""
    path = "/v1/evaluation/jobs/eval-1/results"
    names = ("calls", "calls_2")
    given = {name: {"scores": scores} for name, scores in zip(names, metrics, strict=False)}
    answers = {("GET", path): {"job": "eval-1", "tasks": {"seen": {"metrics": given}}}}
    return evaluator.scores(Scripted(answers).client(), "eval-1")["seen"]


def test_rows_without_an_argument_score_count_as_wrong():
    stats = {
        NAME_SCORE: {"value": 0.5, "stats": {"count": 10, "sum": 5.0, "mean": 0.5}},
        ARGS_SCORE: {"value": 0.5, "stats": {"count": 8, "sum": 4.0, "mean": 0.5, "nan_count": 2}},
    }
    found = scored(stats)
    assert (found[NAME_SCORE].value, found[ARGS_SCORE].value) == (0.5, 0.4)


def stats(total):
    return {"value": total / 10, "stats": {"count": 10, "sum": total, "mean": total / 10}}


def test_scores_that_are_no_shares_of_rows_are_left_out():
    given = {"sentence": stats(350.0), "f1_score": stats(6.6), "em": stats(5.0), "corpus": {}}
    found = scored(given)
    assert {name: (share.successes, share.n) for name, share in found.items()} == {"em": (5, 10)}


def test_two_metrics_that_give_one_score_do_not_hide_each_other():
    found = scored({"em": stats(5.0)}, {"em": stats(7.0)})
    assert {name: share.successes for name, share in found.items()} == {
        "calls.em": 5,
        "calls_2.em": 7,
    }


def test_a_score_without_a_sum_is_its_mean():
    stats = {NAME_SCORE: {"value": 0.92, "stats": {"count": 50, "mean": 0.92}}}
    found = scored(stats)
    assert (found[NAME_SCORE].value, found[NAME_SCORE].n) == (0.92, 50)


def test_a_failed_evaluation_raises_with_the_servers_reason():
    answers = {
        ("GET", "/v1/evaluation/jobs/eval-1"): {
            "id": "eval-1",
            "status": "failed",
            "status_details": {"message": "model ns/x is not served"},
        }
    }
    with pytest.raises(JobFailed, match="model ns/x is not served"):
        evaluator.wait_for_evaluation(Scripted(answers).client(), "eval-1", timeout_s=5)
