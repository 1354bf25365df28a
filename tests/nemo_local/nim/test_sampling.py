"""What the rules of a reply do to its logits."""

import torch
import xgrammar

from nemo_local.nim.constraints import Constraint, Grammars
from nemo_local.nim.generation import Generation, Sampling, TextStream, Vocabulary
from nemo_local.nim.sampling import choose
from tests.tiny_checkpoint import make_tokenizer


def reply(size: int, matcher: xgrammar.GrammarMatcher | None) -> Generation:
    return Generation(
        prompt=[1],
        sampling=Sampling(max_tokens=8, temperature=0),
        vocabulary=Vocabulary(size, frozenset({4}), 4),
        adapter=None,
        stream=TextStream(lambda ids: "", ()),
        emit=lambda piece: None,
        matcher=matcher,
    )


def test_a_grammar_leaves_the_tokens_that_xgrammar_allows_and_no_other_row_changes() -> None:
    tokenizer = make_tokenizer()
    size = len(tokenizer)
    grammars = Grammars(tokenizer, size, [4])
    choice, number = Constraint("choice", ["yes", "no"]), Constraint("regex", "[0-9]+")
    grown = size + 45  # as beside an adapter with tokens of its own
    for columns in (size, grown):
        rows = [
            reply(size, grammars.matcher(choice)),
            reply(columns, None),
            reply(size, grammars.matcher(number)),
        ]
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
