"""Limits on text methods in templates: a search may take len(text) * len(sought) comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.filters import do_trim

SLOW_METHODS = ("decode", "encode")
"""Methods of texts that take minutes with some codecs, `punycode` among them; none is allowed."""


def check_search(comparisons: int, text: Any, *sought: Any) -> None:
    """Raise SecurityError when searching `text` for the longest of `sought` may take too long.

    `comparisons` limits the product of their lengths. Values that are not text are ignored.
    """
    longest = max((len(one) for one in sought if isinstance(one, (str, bytes))), default=0)
    if isinstance(text, (str, bytes)) and len(text) * longest > comparisons:
        raise SecurityError(f"a template may not search for {longest} characters in {len(text)}")


def bounded_trim(comparisons: int) -> Callable[..., str]:
    """Jinja's filter `trim`, limited by `check_search`."""

    def trim(value: Any, characters: str | None = None) -> str:
        check_search(comparisons, str(value), characters)
        return do_trim(value, characters)

    return trim
