"""What the rules of a reply, and the sampling fields of a request, do to the choice of a token."""

from typing import Any

import pytest
import torch
import xgrammar

from nemo_local.nim.generation import Generation, Sampling, TextStream, Vocabulary
from nemo_local.nim.grammars.constraints import Constraint, Grammars
from nemo_local.nim.rules import sampling_of
from nemo_local.nim.sampling import choose
from nemo_local.nim.schemas import CompletionRequest
from tests.tiny_checkpoint import make_tokenizer

STOP = 4


def reply(prompt: list[int], tokens: list[int], rules: dict[str, Any], size: int = 5) -> Generation:
    generation = Generation(
        prompt=prompt,
        sampling=Sampling(max_tokens=8, **rules),
        vocabulary=Vocabulary(size, frozenset({STOP}), STOP),
        adapter=None,
        stream=TextStream(lambda ids: "", ()),
        emit=lambda piece: None,
    )
    generation.tokens.extend(tokens)
    return generation


@pytest.mark.parametrize(
    ("logits", "prompt", "tokens", "rules", "chosen"),
    [
        pytest.param([0, 1, 0, 0, 2], [0], [0], {}, STOP, id="the end, when it is likeliest"),
        pytest.param([0, 1, 0, 0, 2], [0], [0], {"min_tokens": 2}, 1, id="no end yet"),
        pytest.param([0, 1, 0, 0, 2], [0], [0, 0], {"min_tokens": 2}, STOP, id="long enough"),
        pytest.param(
            [0, 3, 2, 0, 0], [1], [], {"repetition_penalty": 2.0}, 2, id="repeats the prompt"
        ),
        pytest.param(
            [0, 3, 2, 0, 0], [0], [1], {"repetition_penalty": 2.0}, 2, id="repeats the reply"
        ),
        pytest.param(
            [-9, -2, -3, -9, -9], [1], [], {"repetition_penalty": 2.0}, 2, id="repeats, below 0"
        ),
        pytest.param([0, 3, 2.5, 0, 0], [1], [], {"presence_penalty": 1.0}, 1, id="prompt is free"),
        pytest.param([0, 3, 2.5, 0, 0], [0], [1], {"presence_penalty": 1.0}, 2, id="written"),
        pytest.param(
            [0, 3, 2.5, 0, 0], [0], [1, 1, 1], {"presence_penalty": 0.4}, 1, id="written thrice"
        ),
        pytest.param([0, 3, 2.5, 0, 0], [0], [1], {"frequency_penalty": 0.4}, 1, id="once"),
        pytest.param([0, 3, 2.5, 0, 0], [0], [1, 1], {"frequency_penalty": 0.4}, 2, id="twice"),
    ],
)
def test_a_rule_changes_which_token_is_likeliest(
    logits: list[float], prompt: list[int], tokens: list[int], rules: dict[str, Any], chosen: int
) -> None:
    row = reply(prompt, tokens, {"temperature": 0.0, **rules})
    assert choose(torch.tensor([logits]).float(), [row]) == [chosen]


@pytest.mark.parametrize(
    ("rules", "possible"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": -1}, {0, 1, 2, 3}),
        ({"min_p": 0.3}, {0, 1, 2}),
        ({"min_p": 0.6}, {0, 1}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.75}, {0, 1, 2}),
        ({"top_k": 3, "min_p": 0.6}, {0, 1}),
        ({"temperature": 0.02}, {0}),
    ],
    ids=str,
)
def test_a_rule_leaves_unlikely_tokens_out(rules: dict[str, Any], possible: set[int]) -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1, 0.0]]).log()
    row = reply([0], [], {"seed": 1, **rules})
    assert {choose(logits.clone(), [row])[0] for _ in range(300)} == possible


def test_sampling_fields_of_nvext_are_used_and_those_beside_it_win() -> None:
    nvext = {"top_k": 5, "repetition_penalty": 1.3, "ignore_eos": True}
    body: dict[str, Any] = {"model": "m", "prompt": "hi", "nvext": nvext}
    rules = sampling_of(CompletionRequest(**body), None, None, room=9)
    assert (rules.top_k, rules.repetition_penalty, rules.ignore_eos) == (5, 1.3, True)
    body |= {"top_k": 2, "ignore_eos": False}
    rules = sampling_of(CompletionRequest(**body), None, None, room=9)
    assert (rules.top_k, rules.repetition_penalty, rules.ignore_eos) == (2, 1.3, False)


def test_a_grammar_leaves_the_tokens_that_xgrammar_allows_and_no_other_row_changes() -> None:
    tokenizer = make_tokenizer()
    size = len(tokenizer)
    grammars = Grammars(tokenizer, size, [STOP])
    choice, number = Constraint("choice", ["yes", "no"]), Constraint("regex", "[0-9]+")
    grown = size + 45  # as beside an adapter with tokens of its own
    for columns in (size, grown):
        rows = [reply([1], [], {"temperature": 0}, width) for width in (size, columns, size)]
        rows[0].matcher, rows[2].matcher = map(grammars.matcher, (choice, number))
        logits = torch.randn(3, columns)
        expected = logits.clone()
        for i in (0, 2):
            matcher = rows[i].matcher
            assert matcher is not None
            mask = xgrammar.allocate_token_bitmask(1, size)
            matcher.fill_next_token_bitmask(mask)
            xgrammar.apply_token_bitmask_inplace(expected[i : i + 1, :size], mask)
            expected[i, size:] = float("-inf")
        chosen = choose(logits, rows)
        assert torch.equal(logits, expected)
        assert chosen == expected.argmax(dim=-1).tolist()


def test_a_reply_held_to_a_form_ends_before_its_least_tokens_only_where_it_must() -> None:
    tokenizer = make_tokenizer()
    grammars = Grammars(tokenizer, len(tokenizer), [STOP])
    letter, yes = (tokenizer.encode(text, add_special_tokens=False) for text in ("a", "yes"))
    for form, written, least, ends in (
        (Constraint("regex", "[a-z]*"), [], 2, False),
        (Constraint("regex", "[a-z]*"), letter, 2, False),
        (Constraint("regex", "[a-z]*"), letter * 2, 2, True),
        (Constraint("choice", ["yes"]), yes, 50, True),
    ):
        row = reply([1], [], {"temperature": 0, "min_tokens": least}, len(tokenizer))
        row.matcher = grammars.matcher(form)
        for token in written:
            row.add(token)
        logits = torch.zeros(1, len(tokenizer))
        logits[0, STOP] = 9
        assert (choose(logits, [row]) == [STOP], row.error) == (ends, None)
