"""How much templates may seek in a text: Python may compare everything, in one call without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.filters import do_trim


def check_search(comparisons: int, text: Any, *sought: Any) -> None:
    """Raise SecurityError when the text and the longest of what is sought in it are too long.

    `comparisons` is what the product of their lengths may be. What is no text counts for nothing.
    """
    longest = max((len(one) for one in sought if isinstance(one, (str, bytes))), default=0)
    if isinstance(text, (str, bytes)) and len(text) * longest > comparisons:
        raise SecurityError(f"a template may not seek {longest} characters in {len(text)}")


def bounded_trim(comparisons: int) -> Callable[..., str]:
    """Jinja's filter `trim`, which seeks no more than `check_search` lets it."""

    def trim(value: Any, characters: str | None = None) -> str:
        check_search(comparisons, str(value), characters)
        return do_trim(value, characters)

    return trim
