"""A small grammar: templates with slots and alternatives, expanded by a seeded generator.

expand("(bake|cook) a {dish}", {"dish": ["pie", "stew"]}, rng) -> "cook a pie"
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Slots = Mapping[str, Sequence[str]]

_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\{(\w+)\}")
_DOUBLED = re.compile(r"^[^aeiou]*[aeiou][bdglmnprt]$")
_DOUBLED_TOO = frozenset("debug program forget begin commit submit refer admit".split())
_DEPTH = 16


@dataclass(frozen=True)
class Harm:
    """One kind of harm. Verdicts name its first two categories, or later ones if none is listed."""

    name: str
    categories: tuple[str, ...]
    """Names from the taxonomy, best first."""
    custom: tuple[str, ...]
    """Names that a custom policy might give it."""
    acts: tuple[str, ...] = ()
    """Verb phrases that any request frame can carry."""
    says: tuple[str, ...] = ()
    """Whole messages."""
    tales: tuple[str, ...] = ()
    """Whole messages too, written as people talk, in words the other two lack."""


def harm(name: str, categories: str, custom: str, acts: str = "", says: str = "") -> Harm:
    """A harm from text blocks: names separated by commas, templates one a line."""
    return Harm(name, phrases(categories), phrases(custom), lines(acts), lines(says))


def lines(block: str) -> tuple[str, ...]:
    """The non-empty lines of a text block, stripped."""
    return tuple(line.strip() for line in block.splitlines() if line.strip())


def phrases(block: str) -> tuple[str, ...]:
    """The comma-separated phrases of a text block, on any number of lines."""
    return tuple(part.strip() for part in block.replace("\n", ",").split(",") if part.strip())


def expand(template: str, slots: Slots, rng: random.Random) -> str:
    """The template with every slot and every (a|b) alternative chosen at random.

    Raises:
        KeyError: the template names a slot that does not exist.
        ValueError: slots name each other without end.
    """
    text = template
    for _ in range(_DEPTH):
        before = text
        text = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text)
        text = _SLOT.sub(lambda found: rng.choice(slots[found[1]]), text)
        if text == before:
            return " ".join(text.split())
    raise ValueError(f"template {template!r} is still open after {_DEPTH} rounds: {text!r}")


def gerund(phrase: str) -> str:
    """The phrase with its first verb in -ing: "cut a cake" -> "cutting a cake"."""
    verb, _, rest = phrase.partition(" ")
    if verb.endswith("ie"):
        verb = verb[:-2] + "ying"
    elif verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        verb = verb[:-1] + "ing"
    elif _DOUBLED.match(verb) or verb in _DOUBLED_TOO:
        verb += verb[-1] + "ing"
    else:
        verb += "ing"
    return f"{verb} {rest}".strip()
