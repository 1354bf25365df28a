"""Finds JSON bodies that no answer could repeat.

Python's parser accepts NaN, infinities, lone surrogates and UTF-16, which no answer could carry
back: one stored NaN would break every listing it is in. So would a value nested deeper than the
database driver or the SDK's types can follow.
"""

from __future__ import annotations

import json
import math
import re

MAX_DEPTH = 100
"""Levels of objects and arrays inside one another."""

_SUSPECT = re.compile(rb"NaN|Infinity|[eE]\+?\d{3}|\\u[dD][89a-fA-F]")
_MANY_DIGITS = re.compile(rb"(?<!\d)\d{200}")
"""Only bodies that match one of these are parsed here: the others can hold no such value."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def unrepeatable(body: bytes, max_depth: int = MAX_DEPTH) -> str:
    """Why no answer could repeat this JSON body; empty when one could, or when it is not JSON.

    unrepeatable(b'{"a": NaN}') -> "NaN is not a JSON number"
    """
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        return f"JSON is written in UTF-8, not in {encoding.upper()}"
    try:
        body.decode(encoding)
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8"
    if _is_deeper(body, max_depth):
        return f"it is nested more than {max_depth} levels deep"
    if not (_SUSPECT.search(body) or _MANY_DIGITS.search(body)):
        return ""
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except _Unrepeatable as problem:
        return str(problem)
    except ValueError:
        return ""  # not JSON at all; whoever reads it will say so
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return "a text holds half of a surrogate pair (\\ud800 to \\udfff), not a character"
    return ""


class _Unrepeatable(Exception):
    """A value that JSON cannot carry; the client sees the message."""


def _is_deeper(body: bytes, max_depth: int) -> bool:
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return False
    depth = 0
    for byte in _STRINGS.sub(b"", body):
        if byte in b"[{":
            depth += 1
            if depth > max_depth:
                return True
        elif byte in b"]}":
            depth -= 1
    return False


def _refuse_constant(name: str) -> float:
    raise _Unrepeatable(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        shown = text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}"
        raise _Unrepeatable(f"{shown} is too large for a number")
    return value
