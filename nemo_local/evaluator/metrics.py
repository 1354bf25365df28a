"""Metrics: one row's scores, counted from what the model really said."""

from __future__ import annotations

import json
import logging
import math
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nemo_local.evaluator.models import first_choice
from nemo_local.evaluator.templates import RenderError, render

logger = logging.getLogger(__name__)

NAN = math.nan
ABSOLUTE_DIFFERENCE = "absolute difference"
OUTPUT_TEXT = "{{ sample.output_text }}"
MAX_WORD_PAIRS = 10_000_000
"""Limit on (words of the prediction) * (words of the reference) in rouge: seconds and 100 MB."""
Params = Mapping[str, Any]
Context = Mapping[str, Any]
Scores = dict[str, float]

_NUMBER = re.compile(
    r"""(?<![^\W_])                                 # no end of a word, no second half of 10-12
        (?<!\d[.])
        -?(?: (?:\d{1,3}(?:,\d{3})+(?!\d) | \d+) (?:[.]\d+)? | (?<![.])[.]\d+ )
        (?:[eE][-+]?\d+)?""",
    re.VERBOSE,
)


class RowError(Exception):
    """This row cannot be scored; the message says why."""


@dataclass(frozen=True)
class Metric:
    """How one metric type scores a row."""

    scores: tuple[str, ...]
    """Names of the scores every row gets."""
    required: tuple[str, ...]
    """Parameters a config must give."""
    score: Callable[[Params, Context], Scores]
    """Scores of one row; NaN where a score is undefined. Raises RowError, RenderError."""


def score_row(kind: str, params: Params, context: Context) -> Scores:
    """The scores of one row under the metric type `kind`.

    Raises:
        RowError: the row cannot be scored: a template fails, or the ground truth is malformed.
    """
    try:
        return METRICS[kind].score(params, context)
    except RowError:
        raise
    except RenderError as error:
        raise RowError(str(error)) from error
    except Exception as error:  # a reply may hold anything
        logger.debug("a metric of type %s failed", kind, exc_info=True)
        raise RowError(f"{type(error).__name__}: {error}") from error


def tool_calling(params: Params, context: Context) -> Scores:
    """Tool-call scores: names compared as sets, then arguments by call name, without coercion.

    Source: contract of the evaluator, "tool-calling: exact scoring".
    """
    truth = render(params["tool_calls_ground_truth"], context)
    expected = _ground_truth_calls(truth)
    predicted = _predicted_calls(context["sample"].get("response"))
    names_equal = {name for name, _ in predicted} == {name for name, _ in expected}
    if not names_equal:
        return _tool_scores(0.0, 0.0)
    try:
        predicted_arguments = {name: _arguments(raw) for name, raw in predicted}
    except ValueError:
        return _tool_scores(1.0, NAN)
    return _tool_scores(1.0, float(predicted_arguments == dict(expected)))


def string_check(params: Params, context: Context) -> Scores:
    """1 where `[left, operator, right]` holds between two strings, else 0."""
    left, operator, right = params["check"]
    sides = [render(side, context) for side in (left, right)]
    if not all(isinstance(side, str) for side in sides):
        kinds = " and ".join(type(side).__name__ for side in sides)
        raise RowError(f"string-check compares strings, not {kinds}; cast with '| string'")
    return {"string-check": float(STRING_OPERATORS[str(operator)](*sides))}


def number_check(params: Params, context: Context) -> Scores:
    """1 where the last numbers of two texts pass the comparison, else 0; NaN without a number."""
    left, operator, right, epsilon = number_check_parts(params["check"])
    a, b = (_last_number(render(side, context)) for side in (left, right))
    if math.isnan(a) or math.isnan(b):
        return {"number-check": NAN}
    if operator == ABSOLUTE_DIFFERENCE:
        return {"number-check": float(abs(a - b) <= epsilon)}
    return {"number-check": float(NUMBER_OPERATORS[operator](a, b))}


def exact_match(params: Params, context: Context) -> Scores:
    """1 where prediction and ground truth are equal after normalising, else 0."""
    truth, prediction = _truth_and_prediction(params, context)
    return {"em": float(normalised(prediction) == normalised(truth))}


def f1(params: Params, context: Context) -> Scores:
    """Harmonic mean of token precision and recall after normalising."""
    texts = _truth_and_prediction(params, context)
    truth, prediction = (normalised(text).split() for text in texts)
    if not truth or not prediction:
        return {"f1_score": float(truth == prediction)}
    common = sum((Counter(truth) & Counter(prediction)).values())
    return {"f1_score": 2 * common / (len(truth) + len(prediction))}


def bleu(params: Params, context: Context) -> Scores:
    """Sentence BLEU, 0 to 100, as sacreBLEU counts it."""
    from sacrebleu import sentence_bleu

    candidate, references = bleu_texts(params, context)
    return {"sentence": float(sentence_bleu(candidate, references).score)}


def corpus_bleu(pairs: list[tuple[str, str]]) -> float:
    """Corpus BLEU, 0 to 100, of (candidate, reference) pairs."""
    import sacrebleu

    candidates, references = zip(*pairs, strict=True)
    return float(sacrebleu.corpus_bleu(list(candidates), [list(references)]).score)


def rouge(params: Params, context: Context) -> Scores:
    """ROUGE-1, -2, -3 and -L F-measures with stemming.

    Raises RowError for long texts: the library keeps a table of all pairs of words.
    """
    from rouge_score.rouge_scorer import RougeScorer

    truth, prediction = _truth_and_prediction(params, context)
    words = [len(re.findall("[a-zA-Z0-9]+", text)) for text in (truth, prediction)]
    if math.prod(words) > MAX_WORD_PAIRS:
        raise RowError(
            f"rouge cannot compare texts of {words[0]} and {words[1]} words; their product may be "
            f"{MAX_WORD_PAIRS:,} at most"
        )
    kinds = {"rouge1": "1", "rouge2": "2", "rouge3": "3", "rougeL": "L"}
    found = RougeScorer(list(kinds), use_stemmer=True).score(truth, prediction)
    return {f"rouge_{kinds[kind]}_score": float(found[kind].fmeasure) for kind in kinds}


def bleu_texts(params: Params, context: Context) -> tuple[str, list[str]]:
    """The candidate and the references of one row."""
    candidate = _text(first_given(params, CANDIDATE, OUTPUT_TEXT), context)
    references = _as_list(render(first_given(params, REFERENCES), context))
    texts = [text for reference in references for text in _as_list(reference)]
    if not texts:
        raise RowError("bleu needs at least one reference")
    return candidate, [_as_text(text) for text in texts]


def normalised(text: str) -> str:
    """Lower case without punctuation, articles and extra spaces.

    normalised("The  Answer, please!") -> "answer please"
    """
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def number_check_parts(check: list[Any]) -> tuple[Any, str, Any, float]:
    """left, operator, right and epsilon of a check in either published order.

        ["absolute difference", "{{ a }}", "{{ b }}", "epsilon", 0.1], or 0.1 alone
        -> ("{{ a }}", "absolute difference", "{{ b }}", 0.1)

    Raises:
        ValueError: what follows is not an epsilon, or `absolute difference` has none.
    """
    left, operator, right = check[:3]
    if left in (*NUMBER_OPERATORS, ABSOLUTE_DIFFERENCE):
        left, operator = operator, left
    tail = check[4:] if check[3:4] == ["epsilon"] else check[3:]
    if not tail and len(check) == 3 and operator != ABSOLUTE_DIFFERENCE:
        return left, str(operator), right, 0.0
    most = sys.float_info.max
    if len(tail) != 1 or type(tail[0]) not in (int, float) or not 0 <= tail[0] <= most:
        raise ValueError(f'{operator!r} takes "epsilon" and a number of 0 or more, not {check[3:]}')
    return left, str(operator), right, float(tail[0])


STRING_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "equals": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "not equals": lambda a, b: a != b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "contains": lambda a, b: b in a,
    "not contains": lambda a, b: b not in a,
    "startswith": lambda a, b: a.startswith(b),
    "endswith": lambda a, b: a.endswith(b),
}

_COMPARISONS: list[tuple[tuple[str, ...], Callable[[float, float], bool]]] = [
    (("equals", "=="), lambda a, b: a == b),
    (("not equals", "!=", "<>"), lambda a, b: a != b),
    ((">=", "gte", "greater than or equal", "greater than or equals"), lambda a, b: a >= b),
    ((">", "gt", "greater than"), lambda a, b: a > b),
    (("<=", "lte", "less than or equal", "less than or equals"), lambda a, b: a <= b),
    (("<", "lt", "less than"), lambda a, b: a < b),
]
NUMBER_OPERATORS = {name: compare for names, compare in _COMPARISONS for name in names}

_ROUGE = ("rouge_1_score", "rouge_2_score", "rouge_3_score", "rouge_L_score")
METRICS: dict[str, Metric] = {
    "tool-calling": Metric(
        ("function_name_accuracy", "function_name_and_args_accuracy"),
        ("tool_calls_ground_truth",),
        tool_calling,
    ),
    "string-check": Metric(("string-check",), ("check",), string_check),
    "number-check": Metric(("number-check",), ("check",), number_check),
    "em": Metric(("em",), ("ground_truth",), exact_match),
    "f1": Metric(("f1_score",), ("ground_truth",), f1),
    "bleu": Metric(("sentence",), ("references",), bleu),
    "rouge": Metric(_ROUGE, ("ground_truth",), rouge),
}
REFERENCES = ("references", "reference", "ground_truth")
GROUND_TRUTH = ("ground_truth", "reference", "references")
CANDIDATE = ("candidate", "prediction", "predictions")
PREDICTION = ("prediction", "predictions", "candidate")
ALIASES = {"references": REFERENCES, "ground_truth": GROUND_TRUTH}
"""All published names of a required parameter; the first one given is used."""


def first_given(params: Params, names: tuple[str, ...], default: Any = None) -> Any:
    """The value of the first of these parameters that is not null."""
    return next((params[name] for name in names if params.get(name) is not None), default)


def _tool_scores(name: float, name_and_arguments: float) -> Scores:
    return {
        "function_name_accuracy": name,
        "function_name_and_args_accuracy": name_and_arguments,
    }


def _ground_truth_calls(truth: Any) -> list[tuple[str, Any]]:
    if not isinstance(truth, list):
        raise RowError(f"tool_calls_ground_truth must be a list, not {type(truth).__name__}")
    calls = []
    for call in truth:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not {"name", "arguments"} <= function.keys():
            raise RowError('a ground-truth call must have {"function": {"name", "arguments"}}')
        try:
            calls.append((str(function["name"]), _arguments(function["arguments"])))
        except ValueError:
            name = function["name"]
            raise RowError(f"the ground truth's arguments of {name!r} are not JSON") from None
    return calls


def _predicted_calls(response: Any) -> list[tuple[str, Any]]:
    """(name, raw arguments) of a reply's tool calls; text never counts as a call."""
    message = first_choice(response).get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    functions = [call.get("function") for call in calls or [] if isinstance(call, dict)]
    named = [f for f in functions if isinstance(f, dict) and isinstance(f.get("name"), str)]
    return [(f["name"], f.get("arguments")) for f in named if f["name"]]


def _arguments(raw: Any) -> Any:
    """Arguments as JSON; null is `{}`. Raises ValueError on text that is not JSON."""
    try:
        value = json.loads(raw) if isinstance(raw, str) else raw
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return {} if value is None else value


def _truth_and_prediction(params: Params, context: Context) -> tuple[str, str]:
    truth = render(first_given(params, GROUND_TRUTH), context)
    if isinstance(truth, list):
        raise RowError(
            f"the ground truth is a list of {len(truth)}, and is compared as one reference; "
            "pick one, as in {{ item.answers[0] }}"
        )
    prediction = first_given(params, PREDICTION, OUTPUT_TEXT)
    return _as_text(truth), _text(prediction, context)


def _text(template: Any, context: Context) -> str:
    return _as_text(render(template, context))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _last_number(value: Any) -> float:
    found = _NUMBER.findall(_as_text(value).replace("\N{MINUS SIGN}", "-"))
    return float(found[-1].replace(",", "")) if found else NAN
