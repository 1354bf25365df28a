"""Rendering and masks, with a byte-level tokenizer: one token a character."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from nemo_local.customizer.rows import ChatRow, PreferenceRow, TextRow
from nemo_local.customizer.texts import UntrainableData
from nemo_local.customizer.training.preferences import make_pairs
from nemo_local.customizer.training.rendering import IGNORED, Renderer
from tests.nemo_local.customizer.tiny_llama import call_row, tokenizer
from tests.tiny_checkpoint import make_tokenizer

EOT, PAD = 1, 2


@pytest.fixture(scope="module")
def tok():
    return tokenizer()


@pytest.fixture
def renderer(tok):
    return Renderer(tok, [EOT])


def chat(*turns, tools=()):
    messages = [{"role": role, "content": content} for role, content in turns]
    return ChatRow(messages, list(tools), "a.jsonl line 1")


def learnt(tok, tokens, number=0):
    """The learnt text, with | between runs."""
    runs, previous = [], None
    for position, label in enumerate(tokens.labels[number]):
        if label != IGNORED:
            if previous != position - 1:
                runs.append([])
            runs[-1].append(label)
            previous = position
    return "|".join(tok.decode(run) for run in runs)


def call_chat(number):
    row = call_row(number)
    return ChatRow(row["messages"], row["tools"], f"a.jsonl line {number}")


def test_only_the_call_and_its_end_of_turn_are_learnt(tok, renderer):
    tokens = renderer.tokens([call_chat(7)], 500)
    assert learnt(tok, tokens) == '{"name": "sum", "parameters": {"a": 7}}<|eot_id|>'
    whole = tok.decode(tokens.input_ids[0])
    assert whole.startswith("<|bos|><|user|>sum 7<|eot_id|>[add][sum]<|assistant|>{")
    assert all(
        label in (IGNORED, token)
        for token, label in zip(tokens.input_ids[0], tokens.labels[0], strict=True)
    )


def test_a_limit_the_tokenizer_came_with_cuts_no_row():
    limited = tokenizer()
    limited.backend_tokenizer.enable_truncation(8)
    limited.backend_tokenizer.enable_padding(pad_id=PAD, pad_token="<|pad|>", length=4000)
    assert len(Renderer(limited, [EOT]).tokens([call_chat(7)], 500).input_ids[0]) > 30
    tokens = Renderer(limited, [EOT]).tokens([call_chat(7), call_chat(77)], 500)
    assert [PAD in ids for ids in tokens.input_ids] == [False, False]


def test_a_tokenizer_written_in_python_is_refused_with_the_reason():
    with pytest.raises(UntrainableData, match="ByT5Tokenizer is a tokenizer without a tokeniz"):
        Renderer(ByT5Tokenizer(), [1])


def test_the_prompt_is_what_inference_would_render(tok, renderer):
    row = call_chat(7)
    tokens = renderer.tokens([row], 500)
    prompt = tok.apply_chat_template(
        row.messages[:1], tools=row.tools, add_generation_prompt=True, tokenize=False
    )
    first = next(i for i, label in enumerate(tokens.labels[0]) if label != IGNORED)
    assert tokens.input_ids[0][:first] == tok(prompt, add_special_tokens=False).input_ids


def test_every_assistant_turn_is_learnt_and_nothing_else(tok, renderer):
    row = chat(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"),
               ("assistant", "d"), ("user", "e"))  # fmt: skip
    tokens = renderer.tokens([row], 500)
    assert len(tokens.input_ids) == 1
    assert learnt(tok, tokens) == "b<|eot_id|>|d<|eot_id|>"
    assert not tok.decode(tokens.input_ids[0]).endswith("e<|eot_id|>")


def test_an_earlier_answer_keeps_its_own_prompt_when_the_template_moves_the_tools(tok, renderer):
    tools = call_row(1)["tools"]
    row = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), tools=tools)
    tokens = renderer.tokens([row], 500)
    texts = [tok.decode(ids) for ids in tokens.input_ids]
    assert texts == [
        "<|bos|><|user|>a<|eot_id|>[add][sum]<|assistant|>b<|eot_id|>",
        "<|bos|><|user|>a<|eot_id|><|assistant|>b<|eot_id|><|user|>c<|eot_id|>[add][sum]"
        "<|assistant|>d<|eot_id|>",
    ]
    assert [learnt(tok, tokens, n) for n in range(2)] == ["b<|eot_id|>", "d<|eot_id|>"]


def test_a_line_break_after_the_end_of_turn_is_not_learnt(tok):
    tok = tokenizer()
    tok.chat_template = tok.chat_template.replace('"<|eot_id|>"', '"<|eot_id|>\n"')
    tokens = Renderer(tok, [EOT]).tokens([chat(("user", "a"), ("assistant", "b"))], 500)
    assert learnt(tok, tokens) == "b<|eot_id|>"


def test_a_completion_is_learnt_with_the_end_of_text(tok, renderer):
    tokens = renderer.tokens([TextRow("Q: ", "é!", "w")], 500)
    assert tok.decode(tokens.input_ids[0]) == "Q: é!<|eot_id|>"
    assert learnt(tok, tokens) == " é!<|eot_id|>"
    for prompt in (" ", "Q:\n"):
        tokens = renderer.tokens([TextRow(prompt, "é!", "w")], 500)
        assert learnt(tok, tokens) == "é!<|eot_id|>"


def test_the_first_word_of_a_completion_is_learnt_where_words_begin_with_their_space():
    words = Tokenizer(BPE())
    words.pre_tokenizer = ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.train_from_iterator(
        ["the film was good positive"] * 9,
        BpeTrainer(vocab_size=600, special_tokens=["<end>", "<pad>"], show_progress=False),
    )
    tok = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>")
    renderer = Renderer(tok, [tok.eos_token_id])
    tokens = renderer.tokens([TextRow("the film was good ", "positive", "w")], 50)
    assert learnt(tok, tokens) == " positive<end>"


def test_turns_that_do_not_fit_are_cut_off(tok, renderer):
    row = chat(("user", "a"), ("assistant", "b"), ("user", "c" * 50), ("assistant", "d"))
    tokens = renderer.tokens([row], 20)
    assert learnt(tok, tokens) == "b<|eot_id|>"
    assert len(tokens.input_ids[0]) <= 20 and tokens.truncated == 1


def test_a_text_answer_is_cut_and_a_tool_call_is_dropped(tok, renderer):
    row = chat(("user", "a"), ("assistant", "b" * 50))
    tokens = renderer.tokens([row, call_chat(7)], 20)
    assert learnt(tok, tokens) == "b" * 15
    assert (tokens.truncated, tokens.dropped, len(tokens.input_ids)) == (1, 1, 1)


def test_a_later_call_is_kept_whole_or_cut_off_whole(tok, renderer):
    first = call_chat(7)
    again = [{"role": "tool", "content": "8"}, first.messages[1]]
    row = ChatRow([*first.messages, *again], first.tools, "a.jsonl line 1")
    call = '{"name": "sum", "parameters": {"a": 7}}<|eot_id|>'
    whole = renderer.tokens([row], 500)
    assert learnt(tok, whole) == f"{call}|{call}" and whole.truncated == 0
    length = len(whole.input_ids[0])
    for shorter in range(length - 30, length):
        cut = renderer.tokens([row], shorter)
        assert learnt(tok, cut) == call and tok.decode(cut.input_ids[0]).endswith(call)
        assert (cut.truncated, cut.dropped) == (1, 0)


def test_a_prompt_that_fills_the_context_is_dropped(renderer):
    tokens = renderer.tokens([chat(("user", "a" * 50), ("assistant", "b"))], 20)
    assert (tokens.dropped, tokens.input_ids) == (1, [])


def test_a_template_that_hides_the_tools_is_refused():
    tok = tokenizer()
    tok.chat_template = tok.chat_template.replace("tool.function.name", '"x"')
    with pytest.raises(UntrainableData, match="line 7: tool 'add' does not appear"):
        Renderer(tok, [EOT]).tokens([call_chat(7)], 500)


def test_a_tool_that_only_the_user_names_is_hidden():
    tok = tokenizer()
    tok.chat_template = tok.chat_template.replace("tool.function.name", '"x"')
    row = call_chat(7)
    row.messages[0]["content"] = "add or sum 7"
    with pytest.raises(UntrainableData, match="line 7: tool 'add' does not appear"):
        Renderer(tok, [EOT]).tokens([row], 500)


def test_a_template_without_an_end_that_generation_knows_is_refused(tok):
    with pytest.raises(UntrainableData, match="would never learn to stop"):
        Renderer(tok, [PAD + 1]).tokens([call_chat(7)], 500)


def test_a_template_that_shows_no_answers_is_refused():
    tok = tokenizer()
    tok.chat_template = "{{ messages[0].content }}{{ '>' if add_generation_prompt }}"
    with pytest.raises(UntrainableData, match="message 2 cannot be found"):
        Renderer(tok, [EOT]).tokens([chat(("user", "a"), ("assistant", "b"))], 500)


def test_a_template_that_fails_names_the_row():
    tok = tokenizer()
    tok.chat_template = "{{ raise_exception('no system') }}"
    with pytest.raises(UntrainableData, match="line 1: the chat template refused the row: no sys"):
        Renderer(tok, [EOT]).tokens([chat(("user", "a"), ("assistant", "b"))], 500)


def test_a_model_without_chat_template_is_refused():
    tok = tokenizer()
    tok.chat_template = None
    with pytest.raises(UntrainableData, match="refused the row"):
        Renderer(tok, [EOT]).tokens([call_chat(7)], 500)


def test_a_pad_that_equals_the_stop_token_is_replaced():
    tok = tokenizer()
    tok.pad_token = "<|eot_id|>"
    Renderer(tok, [EOT])
    assert tok.pad_token_id not in (EOT, None)


def test_an_answer_that_calls_a_tool_it_was_not_offered_is_refused(renderer):
    row = call_chat(7)
    row.messages[1]["tool_calls"][0]["function"]["name"] = "unheard_of"
    with pytest.raises(UntrainableData, match="line 7: an answer calls 'unheard_of', which is not"):
        renderer.tokens([row], 500)


def test_half_of_a_surrogate_pair_is_refused_with_its_row(renderer):
    rows = [chat(("user", "a"), ("assistant", "b")), chat(("user", "\ud800"), ("assistant", "b"))]
    with pytest.raises(UntrainableData, match=r"line 1: '\\ud800' is half of a surrogate pair"):
        renderer.tokens(rows, 500)


def test_a_greeting_before_the_first_question_is_given_and_later_answers_are_learnt(tok, renderer):
    row = chat(("assistant", "hi"), ("user", "a"), ("assistant", "b"), ("user", "c"),
               ("assistant", "d"))  # fmt: skip
    tokens = renderer.tokens([row], 500)
    assert tok.decode(tokens.input_ids[0]).startswith("<|bos|><|assistant|>hi<|eot_id|><|user|>a")
    assert learnt(tok, tokens) == "b<|eot_id|>|d<|eot_id|>"


def test_a_row_cut_where_prompt_and_answer_share_a_token_is_dropped_and_counted():
    tok = make_tokenizer()
    renderer = Renderer(tok, [tok.eos_token_id])
    row = TextRow("What time is it in the city? ti", "me zones", "w")
    shared = tok.tokenize(row.prompt + row.completion).index("Ġtime", 2)
    tokens = renderer.tokens([row, TextRow("What ", "time", "w")], shared + 1)
    assert (tokens.dropped, tokens.truncated, tokens.numbers) == (1, 0, [1])
    whole = renderer.tokens([row], shared + 2)
    assert (whole.dropped, whole.truncated, whole.learnt) == (0, 1, [1])


def test_a_pair_cut_where_prompt_and_answer_share_a_token_is_dropped_and_counted():
    tok = make_tokenizer()
    tok.chat_template = (
        "{% for m in messages %}{{ 'ti' if m.role == 'assistant' }}{{ m.content }}"
        "{{ '<|eot_id|>' if m.role == 'assistant' else ' ' }}{% endfor %}"
        "{% if add_generation_prompt %}ti{% endif %}"
    )
    chosen, rejected = (
        chat(("user", "it in the city?"), ("assistant", answer)) for answer in ("me zones", "no")
    )
    shared = tok.tokenize("it in the city? time zones").index("Ġtime")
    renderer = Renderer(tok, [tok.eos_token_id])
    pairs = make_pairs(renderer, [PreferenceRow(chosen, rejected, "w")], shared + 1)
    assert (pairs.dropped, pairs.truncated, pairs.lengths) == (1, 0, [])


def test_a_completion_with_nothing_before_it_is_learnt_from_its_second_token_on(tok, renderer):
    tokens = renderer.tokens([TextRow("", "abc", "w"), TextRow("Q", "d", "w")], 500)
    assert tok.decode(tokens.input_ids[0]) == "abc<|eot_id|>"
    # As the loss is: nothing stands before the first token that it could be told from.
    assert learnt(tok, tokens) == "bc<|eot_id|>" and tokens.learnt == [3, 2]


def test_a_chat_template_that_shows_the_answers_alone_is_refused():
    tok = tokenizer()
    tok.chat_template = (
        "{% for m in messages if m.role == 'assistant' %}{{ m.content }}<|eot_id|>{% endfor %}"
    )
    with pytest.raises(UntrainableData, match="2 of 2 tokens would be learnt; expected the answ"):
        Renderer(tok, [EOT]).tokens([chat(("user", "a"), ("assistant", "b"))], 500)


def test_a_completion_ends_where_generation_stops_if_the_tokenizer_has_no_end_of_text():
    tok = tokenizer()
    tok.eos_token = None
    tokens = Renderer(tok, [EOT]).tokens([TextRow("Q", "d", "w")], 500)
    assert learnt(tok, tokens) == "d<|eot_id|>"
    with pytest.raises(UntrainableData, match="names a token that ends a text; name "):
        Renderer(tok, []).tokens([TextRow("Q", "d", "w")], 500)


def end_takes_line_breaks():
    """A tokenizer whose end of a turn is a token that takes the white space behind it."""
    special = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
    backend = make_tokenizer().backend_tokenizer
    backend.add_special_tokens([AddedToken(name, rstrip=True, special=True) for name in special])
    tok = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|pad|>"
    )
    tok.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tok


def test_an_end_of_turn_that_takes_the_line_break_behind_it_is_learnt_in_every_turn():
    tok = end_takes_line_breaks()
    renderer = Renderer(tok, [tok.eos_token_id])
    row = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    tokens = renderer.tokens([row], 500)
    assert learnt(tok, tokens) == "b<|im_end|>|d<|im_end|>"
    length = len(tokens.input_ids[0])
    shorter = renderer.tokens([row], length - 1)
    assert learnt(tok, shorter) == "b<|im_end|>" and shorter.cut == {0}
    assert tok.decode(shorter.input_ids[0]).endswith("b<|im_end|>")


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_completion_follows_the_tokens_that_inference_makes_of_its_prompt(scheme):
    backend = Tokenizer(BPE(unk_token="<unk>"))
    backend.pre_tokenizer = Metaspace(prepend_scheme=scheme)
    trainer = BpeTrainer(special_tokens=["<unk>", "<s>", "</s>", "<pad>"], show_progress=False)
    backend.train_from_iterator(["The capital of France is Paris"] * 3, trainer)
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tok = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokens = Renderer(tok, [2]).tokens([TextRow("The capital of France is ", "Paris", "w")], 99)
    asked = tok("The capital of France is").input_ids
    assert tokens.input_ids[0][: len(asked)] == asked
    answer = tok.convert_ids_to_tokens(tokens.input_ids[0][len(asked) :])
    assert "".join(answer) == "▁Paris</s>"
    assert [label == IGNORED for label in tokens.labels[0]] == [
        *[True] * len(asked), *[False] * len(answer),
    ]  # fmt: skip
