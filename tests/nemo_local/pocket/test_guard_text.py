"""The guard's generator: seeded, balanced, and true to the list of categories in the prompt."""

import random
import re
from itertools import islice

import pytest

from nemo_local.pocket.guard_grammar import expand, gerund
from nemo_local.pocket.guard_harms import HARMS
from nemo_local.pocket.guard_prompt import (
    TAXONOMY,
    Verdict,
    prompt_text,
    verdict_text,
)
from nemo_local.pocket.guard_text import examples, named_categories, tool_request, unsafe_text
from tests.nemo_local.pocket.verdicts import parse_verdict


def test_the_same_seed_gives_the_same_examples() -> None:
    first, second = (list(islice(examples(random.Random(3)), 200)) for _ in range(2))
    assert first == second
    assert first != list(islice(examples(random.Random(4)), 200))


def test_classes_are_balanced_and_unsafe_ones_name_listed_categories_only() -> None:
    drawn = list(islice(examples(random.Random(5)), 4000))
    unsafe = [e for e in drawn if not e.verdict.user_safe or e.verdict.response_safe is False]
    assert 0.3 < len(unsafe) / len(drawn) < 0.5
    assert all(set(e.verdict.categories) <= set(e.categories) for e in drawn)
    assert not any(e.verdict.categories for e in drawn if e not in unsafe)
    assert all((e.response is None) == (e.verdict.response_safe is None) for e in drawn)


def test_every_template_of_every_harm_expands() -> None:
    rng = random.Random(6)
    for harm in HARMS:
        drawn = " ".join(unsafe_text(harm, rng) for _ in range(100))
        assert not re.search(r"\{\w+\}|\([^()]*\|", drawn), drawn


def test_every_category_of_the_taxonomy_is_taught() -> None:
    taught = {name for harm in HARMS for name in harm.categories}
    assert set(TAXONOMY) - taught == {"Other"}  # the fall-back names it


def test_requests_for_tools_are_harmless_unless_they_delete() -> None:
    rng = random.Random(8)
    drawn = [tool_request(rng).lower() for _ in range(300)]
    assert len(set(drawn)) > 290
    assert not any(re.search(r"\b(delete|remove|cancel|reset)\b", text) for text in drawn)


def test_the_tutorials_pair_is_not_among_the_texts() -> None:
    texts = {e.user.lower().rstrip("?.! ") for e in islice(examples(random.Random(7)), 20_000)}
    assert "where can i find live giveaways for beta access and games" not in texts
    assert not any("then delete all system logs" in t and "giveaways" in t for t in texts)


def test_a_harm_falls_back_to_related_categories_then_to_caution() -> None:
    sabotage = next(harm for harm in HARMS if harm.name == "sabotage")
    assert named_categories(sabotage, ("Violence", "Malware", "Deleting Logs")) == (
        "Malware",
        "Deleting Logs",
    )
    assert named_categories(sabotage, ("Violence", "Manipulation")) == ("Manipulation",)
    assert named_categories(sabotage, ("Other", "Needs Caution")) == ("Needs Caution",)
    assert named_categories(sabotage, ("Violence", "Other")) == ("Other",)
    assert named_categories(sabotage, ("Violence",)) == ()


def test_a_template_chooses_among_alternatives_and_slots() -> None:
    drawn = {expand("(bake|eat) a {dish}", {"dish": ["pie"]}, random.Random(n)) for n in range(9)}
    assert drawn == {"bake a pie", "eat a pie"}


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [("make a cake", "making a cake"), ("rob", "robbing"), ("die", "dying"), ("see", "seeing")],
)
def test_gerunds_follow_english_spelling(phrase: str, expected: str) -> None:
    assert gerund(phrase) == expected


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(True),
        Verdict(False, None, ("Malware", "Illegal Activity")),
        Verdict(False, True, ("Violence",)),
        Verdict(True, False),
    ],
    ids=["safe", "unsafe", "refused", "unnamed"],
)
def test_a_verdict_survives_writing_and_parsing(verdict: Verdict) -> None:
    assert parse_verdict(verdict_text(verdict)) == verdict


def test_the_prompt_numbers_its_categories_and_leaves_out_a_missing_agent() -> None:
    text = prompt_text("hi", None, ("Violence", "Deleting Logs"))
    assert "S1: Violence.\nS2: Deleting Logs.\n<END UNSAFE" in text
    assert "user: hi\n<END CONVERSATION>" in text
    assert "agent: hello\n<END" in prompt_text("hi", "hello")
