"""Metrics against cases counted by hand."""

import json
import logging
import math
from typing import Any

import pytest

from nemo_local.evaluator.metrics import RowError, corpus_bleu, score_row

TRUTH = {"tool_calls_ground_truth": "{{ item.tool_calls | tojson }}"}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool_score(expected: Any, predicted: Any, content: str | None = None) -> list[float]:
    message = {"role": "assistant", "content": content, "tool_calls": predicted}
    sample = {"output_text": content or "", "response": {"choices": [{"message": message}]}}
    scores = score_row("tool-calling", TRUTH, {"item": {"tool_calls": expected}, "sample": sample})
    return [scores["function_name_accuracy"], scores["function_name_and_args_accuracy"]]


@pytest.mark.parametrize(
    ("expected", "predicted", "scores"),
    [
        pytest.param([call("f", {"a": 1})], [call("f", '{"a": 1}')], [1, 1], id="equal"),
        pytest.param([call("f", {"a": 1})], [call("f", '{"a": 1.0}')], [1, 1], id="1 equals 1.0"),
        pytest.param([call("f", {"a": 1})], [call("f", '{"a": "1"}')], [1, 0], id="1 is not '1'"),
        pytest.param(
            [call("f", {"a": 1, "b": 2})], [call("f", '{"b": 2, "a": 1}')], [1, 1], id="key order"
        ),
        pytest.param(
            [call("f", {"a": [1, 2]})], [call("f", '{"a": [2, 1]}')], [1, 0], id="list order"
        ),
        pytest.param([call("f", {"a": 1})], [call("f", "{}")], [1, 0], id="missing argument"),
        pytest.param([call("f", {})], [call("f", None)], [1, 1], id="null arguments are empty"),
        pytest.param([call("f", {})], [call("f", "[]")], [1, 0], id="an empty list is none"),
        pytest.param([call("f", "{}")], [call("f", "{}")], [1, 1], id="truth as text"),
        pytest.param([call("f", {})], [call("F", "{}")], [0, 0], id="case matters"),
        pytest.param([call("f", {})], [], [0, 0], id="no call"),
        pytest.param([call("f", {})], None, [0, 0], id="null calls"),
        pytest.param([], None, [1, 1], id="none expected, none made"),
        pytest.param([], [call("f", "{}")], [0, 0], id="none expected, one made"),
        pytest.param(
            [call("f", {}), call("g", {})],
            [call("g", "{}"), call("f", "{}")],
            [1, 1],
            id="order of calls does not matter",
        ),
        pytest.param(
            [call("f", {"a": 1}), call("g", {"a": 2})],
            [call("f", '{"a": 2}'), call("g", '{"a": 1}')],
            [1, 0],
            id="arguments belong to their call",
        ),
        pytest.param(
            [call("f", {"a": 1}), call("f", {"a": 2})],
            [call("f", '{"a": 2}')],
            [1, 1],
            id="of two calls of one name the last counts",
        ),
        pytest.param(
            [call("f", {})],
            [{"type": "function"}, call("", "{}"), call("f", "{}")],
            [1, 1],
            id="nameless ignored",
        ),
    ],
)
def test_tool_calling_scores_names_then_arguments(
    expected: Any, predicted: Any, scores: list[float]
) -> None:
    assert tool_score(expected, predicted) == scores


def test_arguments_that_are_not_json_score_nan_and_keep_the_name_score() -> None:
    name, arguments = tool_score([call("f", {})], [call("f", "{'a': 1")])
    assert name == 1 and math.isnan(arguments)


def test_a_call_written_as_text_does_not_count() -> None:
    text = json.dumps({"name": "f", "parameters": {}})
    assert tool_score([call("f", {})], None, content=text) == [0, 0]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        pytest.param({"name": "f"}, "must be a list, not dict", id="object"),
        pytest.param([{"name": "f"}], "must have", id="no function"),
        pytest.param([{"function": {"name": "f"}}], "must have", id="no arguments"),
        pytest.param([call("f", "{")], "are not JSON", id="broken arguments"),
    ],
)
def test_a_malformed_ground_truth_fails_the_row(truth: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        tool_score(truth, [])


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (["{{ sample.output_text }}", "equals", "Paris"], 0),
        (["{{ sample.output_text }}", "contains", "{{ item.answer }}"], 1),
        (["{{ sample.output_text }}", "not contains", "Rome"], 1),
        (["{{ sample.output_text }}", "startswith", "It"], 1),
        (["{{ sample.output_text }}", "endswith", "paris"], 0),
        (["a", "!=", "b"], 1),
        (["a", "<>", "a"], 0),
    ],
)
def test_string_check_compares_two_rendered_strings(check: list[str], expected: float) -> None:
    context = {"item": {"answer": "Paris"}, "sample": {"output_text": "It is Paris"}}
    assert score_row("string-check", {"check": check}, context) == {"string-check": expected}


def test_string_check_refuses_a_value_that_is_no_string() -> None:
    with pytest.raises(RowError, match="not int and str"):
        score_row("string-check", {"check": ["{{ item.n }}", "==", "1"]}, {"item": {"n": 1}})


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (["{{ sample.output_text }}", "==", 1200], 1),
        ([">=", "{{ sample.output_text }}", "1,201"], 0),
        (["absolute difference", "{{ sample.output_text }}", 1203.5, "epsilon", 4], 1),
        (["{{ sample.output_text }}", "<", "two"], math.nan),
    ],
)
def test_number_check_reads_the_last_number_in_either_order(
    check: list[Any], expected: float
) -> None:
    context = {"item": {}, "sample": {"output_text": "of 7 it is 1,200."}}
    score = score_row("number-check", {"check": check}, context)["number-check"]
    assert score == expected or (math.isnan(score) and math.isnan(expected))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,2,3", 3),
        ("points (3,4)", 4),
        ("1,200.50", 1200.5),
        ("10-12", 12),
        ("in 2020-2021", 2021),
        ("it is -5", -5),
        ("it is \N{MINUS SIGN}5", -5),
        ("x=.5", 0.5),
        ("about 1e3", 1000),
        ("12 apples of type A4", 12),
        ("none", math.nan),
    ],
)
def test_the_last_number_of_a_text_is_read_as_people_read_it(text: str, number: float) -> None:
    check = ["==", "{{ item.text }}", str(number)]
    score = score_row("number-check", {"check": check}, {"item": {"text": text}})["number-check"]
    assert math.isnan(score) if math.isnan(number) else score == 1


@pytest.mark.parametrize("tail", [[0.1], ["epsilon", 0.1]], ids=["bare", "named"])
def test_an_absolute_difference_has_its_epsilon_in_either_form(tail: list[Any]) -> None:
    for right, expected in (("1.05", 1), ("1.2", 0)):
        check = ["1", "absolute difference", right, *tail]
        assert score_row("number-check", {"check": check}, {}) == {"number-check": expected}


@pytest.mark.parametrize("truth", ["ground_truth", "reference", "references"])
@pytest.mark.parametrize("prediction", ["prediction", "predictions", "candidate"])
def test_each_published_name_of_a_text_counts(truth: str, prediction: str) -> None:
    params = {"ground_truth": None, "prediction": None, truth: "a b c d", prediction: "a b c d"}
    context = {"sample": {"output_text": "zzz"}}
    assert score_row("em", params, context) == {"em": 1}
    assert score_row("bleu", params, context) == {"sentence": pytest.approx(100)}


def test_an_empty_prediction_is_not_replaced_by_the_reply() -> None:
    params = {"ground_truth": "x y", "prediction": ""}
    assert score_row("em", params, {"sample": {"output_text": "x y"}}) == {"em": 0}


def test_em_and_f1_ignore_case_punctuation_and_articles() -> None:
    context = {"item": {"truth": "The quick brown fox"}, "sample": {"output_text": "a QUICK fox!"}}
    params = {"ground_truth": "{{ item.truth }}"}
    assert score_row("em", params, context) == {"em": 0}
    # Two of two predicted and two of three true tokens: 2 * 2 / (2 + 3).
    assert score_row("f1", params, context) == {"f1_score": pytest.approx(0.8)}


def test_f1_of_two_empty_texts_is_one() -> None:
    empty = {"ground_truth": "the", "prediction": "!"}
    assert score_row("f1", empty, {}) == {"f1_score": 1}
    assert score_row("f1", {**empty, "prediction": "word"}, {}) == {"f1_score": 0}


def test_texts_of_a_book_s_length_are_a_row_error_of_rouge() -> None:
    long = "word " * 40_000
    with pytest.raises(RowError, match="rouge cannot compare texts of 40000 and 40000 words"):
        score_row("rouge", {"ground_truth": long, "prediction": long}, {})


def test_bleu_and_rouge_of_equal_texts_are_full() -> None:
    text = "the cat sat on the mat"
    assert score_row("bleu", {"references": [text], "candidate": text}, {}) == {
        "sentence": pytest.approx(100)
    }
    assert corpus_bleu([(text, text)]) == pytest.approx(100)
    rouge = score_row("rouge", {"ground_truth": "the cats sat", "prediction": "a cat sat"}, {})
    # Stemmed unigrams: 2 of 3 on both sides; bigrams: 1 of 2; the longest sequence: 2 of 3.
    assert rouge == pytest.approx(
        {
            "rouge_1_score": 2 / 3,
            "rouge_2_score": 1 / 2,
            "rouge_3_score": 0,
            "rouge_L_score": 2 / 3,
        }
    )


def test_a_metric_that_breaks_leaves_its_traceback_to_who_looks_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd = {"item": {"tool_calls": []}, "sample": None}
    with (
        caplog.at_level(logging.DEBUG, "nemo_local.evaluator"),
        pytest.raises(RowError, match="AttributeError"),
    ):
        score_row("tool-calling", TRUTH, odd)
    (record,) = caplog.records
    assert record.exc_info and record.exc_info[0] is AttributeError
