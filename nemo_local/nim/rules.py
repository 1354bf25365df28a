"""A request's fields as rules for writing: checked, defaulted, and free of contradictions."""

from collections.abc import Callable
from typing import Any

from nemo_local.nim.errors import BadValue
from nemo_local.nim.generation import Sampling
from nemo_local.nim.grammars.constraints import Constraint, Kind
from nemo_local.nim.schemas import Guides, SamplingFields
from nemo_local.nim.tool_calls import ToolUse

MAX_CHOICES = 32
MAX_LOGPROBS = 20
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 1000
"""Characters of a stop string, at most: its beginnings are looked for at every token."""

_LIMITS: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: 0 <= value <= 100, "between 0 and 100"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_k": (lambda value: value >= -1, "-1 or more"),
    "min_p": (lambda value: 0 <= value <= 1, "between 0 and 1"),
    "n": (lambda value: 1 <= value <= MAX_CHOICES, f"between 1 and {MAX_CHOICES}"),
    "max_tokens": (lambda value: value >= 1, "at least 1"),
    "max_completion_tokens": (lambda value: value >= 1, "at least 1"),
    "min_tokens": (lambda value: value >= 0, "0 or more"),
    "presence_penalty": (lambda value: -2 <= value <= 2, "between -2 and 2"),
    "frequency_penalty": (lambda value: -2 <= value <= 2, "between -2 and 2"),
    "repetition_penalty": (lambda value: 0 < value <= 2, "above 0 and at most 2"),
    "top_logprobs": (lambda value: 0 <= value <= MAX_LOGPROBS, f"between 0 and {MAX_LOGPROBS}"),
}
_PASSED_ON = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "min_tokens",
    "ignore_eos",
)
"""Fields whose names and defaults are those of Sampling."""


def check_limits(request: SamplingFields) -> None:
    """Raise BadValue for a field that is out of its range; names the field and the range."""
    for name, (holds, wanted) in _LIMITS.items():
        for place, fields in (("", request), ("nvext.", request.nvext)):
            value = getattr(fields, name, None)
            if value is not None and not holds(value):
                raise BadValue(f"{place}{name} must be {wanted}, not {value}", place + name)


def sampling_of(
    request: SamplingFields, max_tokens: int | None, logprobs: int | None, room: int
) -> Sampling:
    """How to write the reply; `room` is what the context leaves for it (tokens).

    Raises:
        BadValue: fields that contradict each other, or stop strings that are no good.
    """
    if max_tokens is not None and (request.min_tokens or 0) > max_tokens:
        raise BadValue(
            f"min_tokens ({request.min_tokens}) must not exceed max_tokens ({max_tokens})",
            "min_tokens",
        )
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stop) > MAX_STOPS:
        raise BadValue(f"stop must hold at most {MAX_STOPS} strings, not {len(stop)}", "stop")
    if not all(stop):
        raise BadValue("stop must not hold an empty string", "stop")
    if max(map(len, stop), default=0) > MAX_STOP_CHARACTERS:
        longest = f"strings of at most {MAX_STOP_CHARACTERS} characters"
        raise BadValue(f"stop must hold {longest}, not {max(map(len, stop))}", "stop")

    given: dict[str, Any] = {
        name: value
        for fields in (request.nvext, request)  # what stands beside nvext wins
        for name in _PASSED_ON
        if (value := getattr(fields, name, None)) is not None
    }
    limit = min(room, max_tokens or room)
    return Sampling(limit, stop=tuple(stop), logprobs=logprobs, **given)


def constraint_of(request: SamplingFields, use: ToolUse) -> Constraint | None:
    """The form the reply must have, or None when it is free.

    Raises:
        BadValue: more than one form is asked for, or a response format lacks its schema.
    """
    found = _guides(request) + (_guides(request.nvext) if request.nvext else [])
    calls = use.mode in ("required", "named")
    form = None if calls else request.response_format  # which is about text
    if form is not None and form.type == "json_object":
        found.append(("response_format", Constraint("json", None)))
    elif form is not None and form.type == "json_schema":
        schema = (form.json_schema or {}).get("schema")
        if schema is None:
            raise BadValue("response_format.json_schema.schema is missing", "response_format")
        found.append(("response_format", Constraint("schema", schema)))
    if calls:
        kind = Constraint("calls" if use.parallel else "call", use.callable)
        found.append(("tool_choice", kind))
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise BadValue(f"a reply can be held to one form only; asked for: {names}", found[1][0])
    return found[0][1] if found else None


def _guides(guides: Guides) -> list[tuple[str, Constraint]]:
    found: list[tuple[str, Any, Kind]] = [
        ("guided_json", guides.guided_json, "schema"),
        ("guided_choice", guides.guided_choice, "choice"),
        ("guided_regex", guides.guided_regex, "regex"),
        ("guided_grammar", guides.guided_grammar, "grammar"),
    ]
    return [(name, Constraint(kind, value)) for name, value, kind in found if value is not None]
