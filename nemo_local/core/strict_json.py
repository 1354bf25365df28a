"""JSON texts that can be repeated.

Python's parser takes a NaN, an infinity and half of a surrogate pair, and no answer could carry
them back: one stored NaN would break every listing it is in.
"""

from __future__ import annotations

import json
import math
import re

_SUSPECT = re.compile(rb"NaN|Infinity|[eE]\+?\d{3}|\\u[dD][89a-fA-F]")
"""Only bodies with one of these are parsed here: the others cannot be at fault."""


def unrepeatable(body: bytes) -> str:
    """What in this JSON text no JSON could repeat; empty when nothing is, or when it is no JSON.

    unrepeatable(b'{"a": NaN}') -> "NaN is no JSON number"
    """
    if not _SUSPECT.search(body):
        return ""
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except _Unrepeatable as problem:
        return str(problem)
    except (ValueError, RecursionError):
        return ""  # not JSON at all, which is said where it is read
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return "a text holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
    return ""


class _Unrepeatable(Exception):
    """The message is what the client is told."""


def _refuse_constant(name: str) -> float:
    raise _Unrepeatable(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Unrepeatable(f"{text} is too large for a number")
    return value
