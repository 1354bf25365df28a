"""JSON texts that can be repeated.

Python's parser takes a NaN, an infinity, half of a surrogate pair and UTF-16, and no answer could
carry them back: one stored NaN would break every listing it is in. So would a value nested deeper
than the database's driver or the SDK's types can follow.
"""

from __future__ import annotations

import json
import math
import re

MAX_DEPTH = 100
"""Objects and arrays inside one another."""

_SUSPECT = re.compile(rb"NaN|Infinity|[eE]\+?\d{3}|\d{200}|\\u[dD][89a-fA-F]")
"""Only bodies with one of these are parsed here: the others cannot be at fault."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def unrepeatable(body: bytes, max_depth: int = MAX_DEPTH) -> str:
    """What in this JSON text no JSON could repeat; empty when nothing is, or when it is no JSON.

    unrepeatable(b'{"a": NaN}') -> "NaN is no JSON number"
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
    if not _SUSPECT.search(body):
        return ""
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except _Unrepeatable as problem:
        return str(problem)
    except ValueError:
        return ""  # not JSON at all, which is said where it is read
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return "a text holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
    return ""


class _Unrepeatable(Exception):
    """The message is what the client is told."""


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
    raise _Unrepeatable(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        shown = text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}"
        raise _Unrepeatable(f"{shown} is too large for a number")
    return value
