"""Suggestions for an unknown name."""

import difflib
from collections.abc import Iterable


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of `known` that look like `name`, best first.

    near_names("meta/llama-3.2-1b", ["meta/llama-3.2-1b-instruct", "other"])
    -> ["meta/llama-3.2-1b-instruct"]
    """
    by_lower = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5)
    return [by_lower[entry] for entry in close]


def did_you_mean(near: Iterable[str]) -> str:
    """The end of a message, " Did you mean ns/a or ns/b?"; empty when nothing is near."""
    names = " or ".join(near)
    return f" Did you mean {names}?" if names else ""
