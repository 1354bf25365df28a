"""The view shows what training trains on; the platform's own renderer is the reference."""

import json
from copy import deepcopy

import pytest

from nemo_local.customizer.rows import RowReader
from nemo_local.customizer.training.rendering import IGNORED, Renderer
from tests.nemo_local.customizer.test_rendering import end_takes_line_breaks
from tests.nemo_local.customizer.test_texts import MISTRAL, REASONS
from tests.nemo_local.customizer.tiny_llama import call_row, tokenizer, write_rows
from utils.model_view import Piece, View, model_views


@pytest.fixture(scope="module")
def tok():
    return tokenizer()


def conversation(*turns, tools=()):
    return {"messages": [{"role": r, "content": c} for r, c in turns], "tools": list(tools)}


def as_text(row):
    """The row as Arrow keeps it: arguments and tools as JSON text, no content."""
    call = row["messages"][1]["tool_calls"][0]["function"]
    kept = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
    answer = {"role": "assistant", "content": None, "tool_calls": [{"function": kept}]}
    return {"messages": [row["messages"][0], answer], "tools": json.dumps(row["tools"])}


TOOLS = call_row(1)["tools"]
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "8"}
EXAMPLES = {
    "a call": call_row(7),
    "a call as Arrow keeps it": as_text(call_row(7)),
    "two answers": conversation(
        ("developer", "s"), ("user", "é1"), ("assistant", "ü"), ("user", "c"), ("assistant", "d")
    ),
    "a greeting first": conversation(("assistant", "a"), ("user", "b"), ("assistant", "c")),
    "tools that move": conversation(
        ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), tools=TOOLS
    ),
    "a call, its result and an answer": {
        "messages": [*call_row(7)["messages"], RESULT, {"role": "assistant", "content": "8."}],
        "tools": TOOLS,
    },
    "parts": {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": {"type": "text", "text": "c"}},
    ]},
    "a function call of old": {"messages": [
        {"role": "user", "content": "w?"},
        {"role": "assistant", "content": None, "tool_calls": "null",
         "function_call": {"name": TOOLS[0]["function"]["name"], "arguments": '{"a": 1}'}},
    ], "tools": TOOLS},
}  # fmt: skip


def assert_as_trained(example, tok, folder):
    path = write_rows(folder / "a.jsonl", [example])
    rows = list(RowReader().read(folder, [path]))
    reference = Renderer(tok, [tok.eos_token_id]).tokens(rows, 1000)
    views = model_views(example, tok)
    assert len(views) == len(reference.input_ids)
    for view, ids, labels in zip(views, reference.input_ids, reference.labels, strict=True):
        assert view.text == tok.decode(ids)
        assert view.tokens == len(ids)
        assert view.learnt == sum(label != IGNORED for label in labels)
        learnt = "".join(piece.text for piece in view.pieces if piece.learnt)
        assert learnt == tok.decode([label for label in labels if label != IGNORED])


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_view_shows_the_tokens_that_training_learns(tok, tmp_path, name):
    assert_as_trained(EXAMPLES[name], tok, tmp_path)


@pytest.mark.parametrize("said", ["it is 2", "0", "10", " a"])
@pytest.mark.parametrize(
    ("template", "before"),
    [(MISTRAL, ""), (REASONS, "<think>hm</think>")],
    ids=["Mistral", "a reasoning model"],
)
def test_an_answer_is_found_where_its_prompt_is_shown_otherwise_afterwards(
    tmp_path, template, before, said
):
    tok = tokenizer()
    tok.chat_template = template
    turns = [("user", "add 1"), ("assistant", before + said)] * 2
    system = [] if before else [("system", "be nice")]
    assert_as_trained(conversation(*system, *turns), tok, tmp_path)


@pytest.mark.parametrize("given", [None, "call_9c3f2b1a0d8e", "abcdefgh1"])
def test_calls_have_the_ids_that_the_templates_of_mistral_take(tmp_path, given):
    tok = tokenizer()
    tok.chat_template = MISTRAL
    example = deepcopy(EXAMPLES["a call, its result and an answer"])
    if given:
        example["messages"][1]["tool_calls"][0]["id"] = given
        example["messages"][2]["tool_call_id"] = given
    assert_as_trained(example, tok, tmp_path)


def test_an_end_of_turn_that_takes_the_line_break_behind_it_is_marked_in_every_turn():
    turns = [("user", "a"), ("assistant", "b")] * 2
    (view,) = model_views(conversation(*turns), end_takes_line_breaks())
    asked = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert view.marked() == f"{asked}⟦b<|im_end|>\n⟧{asked}⟦b<|im_end|>⟧"
    assert view.learnt == 4


def test_what_is_learnt_stands_between_marks(tok):
    (view,) = model_views(call_row(7), tok)
    assert view.marked() == (
        "<|bos|><|user|>sum 7<|eot_id|>[add][sum]<|assistant|>"
        '⟦{"name": "sum", "parameters": {"a": 7}}<|eot_id|>⟧'
    )
    assert View((Piece("a", False), Piece("b", True)), 2, 1).marked("<", ">") == "a<b>"


def test_an_example_that_cannot_be_learnt_says_why(tok):
    with pytest.raises(ValueError, match="no assistant message"):
        model_views(conversation(("user", "a")), tok)
    odd = tokenizer()
    odd.chat_template = "{{ messages[0].content }}"
    with pytest.raises(ValueError, match="message 2 cannot be found"):
        model_views(conversation(("user", "a"), ("assistant", "b")), odd)
