"""The bounds of numbers in a JSON Schema: how a grammar must be told them, and which it keeps."""

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

DECIMALS = 6
"""Decimals of the numbers that a grammar knows between bounds."""
LARGEST_STEP, MOST_NUMBERS = 1024, 10_000
"""The largest `multipleOf` that xgrammar keeps, and the most numbers between bounds beside it."""
_LOWER, _UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_ROUNDED: dict[str, Callable[[float], int]] = {
    "minimum": math.ceil,
    "exclusiveMinimum": math.floor,
    "maximum": math.floor,
    "exclusiveMaximum": math.ceil,
}
_NUMERIC = frozenset([*_ROUNDED, "multipleOf"])
_INTEGERS = (-(2**63), 2**63 - 1)
_NUMBERS = (-sys.float_info.max, sys.float_info.max)
"""The least and the most that xgrammar reads of integers and of numbers."""
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


def whole(key: str, value: float, schema: dict[str, Any]) -> float:
    """The value of a keyword as the whole number that it means: 2.0 characters, or below 0.5.

    xgrammar wants whole numbers for counts and for the bounds of integers.
    """
    if key in _COUNTS and value.is_integer():
        return int(value)
    return _ROUNDED[key](value) if key in _ROUNDED and of_integers(schema) else value


def unkept_bounds(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What no grammar keeps of the bounds in this schema, and its keyword.

    {"type": "integer", "multipleOf": 5, "minimum": 0}
    -> "'multipleOf' with a bound on one side", "multipleOf"
    """
    if _NUMERIC.isdisjoint(schema):
        return
    bounds = {key: schema[key] for key in _ROUNDED if isinstance(schema.get(key), int | float)}
    least, most = _INTEGERS if of_integers(schema) else _NUMBERS
    for key in [key for key, bound in bounds.items() if not least <= bound <= most]:
        del bounds[key]
        yield f"{key!r} beyond 64 bits", key
    if what := _unkept_range(bounds, schema):
        yield from ((what, key) for key in bounds)
    if schema.get("multipleOf") and not {"enum", "const"} & schema.keys():
        if what := _unkept_step(schema["multipleOf"], bounds, schema):
            yield what, "multipleOf"


def of_integers(schema: dict[str, Any]) -> bool:
    """Whether the numbers of this schema are whole."""
    types = schema.get("type")
    return types == "integer" or (
        isinstance(types, list) and "integer" in types and "number" not in types
    )


def _edges(bounds: dict[str, float]) -> tuple[tuple[float, bool], tuple[float, bool]]:
    """The lower and the upper edge, each with whether its number is excluded."""
    low = max((bounds[key], key == "exclusiveMinimum") for key in _LOWER if key in bounds)
    high = min((bounds[key], key != "exclusiveMaximum") for key in _UPPER if key in bounds)
    return low, (high[0], not high[1])


def _two_sided(bounds: dict[str, float]) -> bool:
    return not bounds.keys().isdisjoint(_LOWER) and not bounds.keys().isdisjoint(_UPPER)


def _unkept_range(bounds: dict[str, float], schema: dict[str, Any]) -> str | None:
    if of_integers(schema) or not _two_sided(bounds):
        return None
    if any(round(bound, DECIMALS) != bound for bound in bounds.values()):
        return f"a bound of more than {DECIMALS} decimals"
    (low, above), (high, below) = _edges(bounds)
    if above and below and (high - low) * 10**DECIMALS < 1.5:
        return f"a range without a number of {DECIMALS} decimals"
    return None


def _unkept_step(step: Any, bounds: dict[str, float], schema: dict[str, Any]) -> str | None:
    if schema.get("type") != "integer":
        return "'multipleOf' without 'type' integer"
    if not isinstance(step, int | float) or step % 1 or not 0 < step <= LARGEST_STEP:
        return f"'multipleOf' other than a whole number from 1 to {LARGEST_STEP}"
    if bounds and not _two_sided(bounds):
        return "'multipleOf' with a bound on one side"
    if bounds:
        (low, above), (high, below) = _edges(
            {key: _ROUNDED[key](value) for key, value in bounds.items()}
        )
        if high - below - low - above >= MOST_NUMBERS:
            return f"'multipleOf' with more than {MOST_NUMBERS} numbers between its bounds"
    return None
