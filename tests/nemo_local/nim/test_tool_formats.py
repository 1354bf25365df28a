"""Reading tool calls from replies in the form of each model family."""

import json
import re
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from nemo_local.core.tool_formats import (
    HERMES,
    LLAMA3_JSON,
    MISTRAL,
    PYTHONIC,
    TOOL_FORMATS,
    ToolCall,
    ToolFormat,
    format_of_template,
    formats_by_model,
    parse_json_calls,
)
from nemo_local.nim.call_stream import ReplyStream, read_constrained
from nemo_local.nim.checkpoint import load_checkpoint
from nemo_local.nim.grammars.constraints import Constraint, Grammars
from nemo_local.nim.tool_calls import ToolUse
from tests.tiny_checkpoint import entry, make_checkpoint, make_tokenizer

ADD = '{"name": "add", "parameters": {"a": 1}}'
TIME = '{"name": "time", "arguments": {}}'
ADD_CALL, TIME_CALL = ToolCall("add", '{"a": 1}'), ToolCall("time", "{}")
OPEN, CLOSE = "<tool_call>", "</tool_call>"


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        pytest.param(ADD, [ADD_CALL], id="one object"),
        pytest.param(f"  {ADD}\n", [ADD_CALL], id="white space around"),
        pytest.param(f"{ADD}; {TIME}", [ADD_CALL, TIME_CALL], id="semicolon"),
        pytest.param(f"{ADD}\n{TIME}", [ADD_CALL, TIME_CALL], id="line break"),
        pytest.param(f"[{ADD}, {TIME}]", [ADD_CALL, TIME_CALL], id="JSON list"),
        pytest.param(f"<|python_tag|>{ADD}", [ADD_CALL], id="python tag"),
        pytest.param('{"name":"f","parameters":{"x":"é"}}', [ToolCall("f", '{"x": "é"}')], id="é"),
        pytest.param(
            '{"name":"f","parameters":{"x":"\\ud800"}}', [ToolCall("f", '{"x": "\\ud800"}')],
            id="half a surrogate pair",
        ),
        pytest.param("Hello", None, id="prose"),
        pytest.param(f"Sure: {ADD}", None, id="prose before"),
        pytest.param(f"{ADD} done", None, id="prose after"),
        pytest.param(f"{ADD} {TIME}", None, id="no separator"),
        pytest.param(f"{ADD};", None, id="dangling separator"),
        pytest.param('{"name": "add", "parameters": {"a": 1}', None, id="not closed"),
        pytest.param('{"name": "add", "parameters": "{}"}', None, id="arguments as text"),
        pytest.param('{"name": "add", "parameters": {"a": NaN}}', None, id="not JSON"),
        pytest.param('{"name": "add"}', None, id="no arguments"),
        pytest.param('{"answer": 4}', None, id="another object"),
        pytest.param(f"{ADD}; 5", None, id="one that is no call"),
        pytest.param("[]", None, id="empty list"),
        pytest.param("[" * 100_000, None, id="absurd nesting"),
        pytest.param("", None, id="nothing"),
    ],
)  # fmt: skip
def test_a_llama_reply_is_calls_only_as_a_whole(text: str, calls: list[ToolCall] | None) -> None:
    assert parse_json_calls(text) == calls
    reading = LLAMA3_JSON.read(text, constrained=False)
    assert (reading.content, reading.calls) == ((None, calls) if calls else (text, []))


@pytest.mark.parametrize(
    ("format_", "text", "content", "calls"),
    [
        pytest.param(
            HERMES, f"{OPEN}\n{TIME}\n{CLOSE}", None, [TIME_CALL], id="hermes"
        ),
        pytest.param(
            HERMES, f"I look.\n{OPEN}{ADD}{CLOSE}\n{OPEN}{TIME}", "I look.",
            [ADD_CALL, TIME_CALL], id="hermes after text, the last tag open",
        ),
        pytest.param(HERMES, f"{OPEN}{{{CLOSE}", f"{OPEN}{{{CLOSE}", [], id="hermes broken"),
        pytest.param(HERMES, ADD, ADD, [], id="hermes without tags is text"),
        pytest.param(
            HERMES, f"{OPEN}{ADD}{CLOSE} so", f"{OPEN}{ADD}{CLOSE} so", [], id="hermes then text"
        ),
        pytest.param(
            MISTRAL, f"[TOOL_CALLS] [{ADD}, {TIME}]", None, [ADD_CALL, TIME_CALL], id="mistral"
        ),
        pytest.param(
            MISTRAL, '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]time[ARGS]{}', None,
            [ADD_CALL, TIME_CALL], id="mistral by name",
        ),
        pytest.param(
            MISTRAL, '[TOOL_CALLS]add[CALL_ID]abcdefghi[ARGS]{"a": 1}', None, [ADD_CALL],
            id="mistral with an id",
        ),
        pytest.param(MISTRAL, 'Hm [TOOL_CALLS]add{"a":1}', "Hm", [ADD_CALL], id="mistral in text"),
        pytest.param(MISTRAL, f"[{ADD}]", f"[{ADD}]", [], id="mistral without its mark is text"),
        pytest.param(MISTRAL, "[TOOL_CALLS]", "[TOOL_CALLS]", [], id="mistral mark alone"),
        pytest.param(
            PYTHONIC, '[add(a=1), say.it(x="é", y=[True, None], z={"k": -1.5})]', None,
            [ADD_CALL, ToolCall("say.it", '{"x": "é", "y": [true, null], "z": {"k": -1.5}}')],
            id="pythonic",
        ),
        pytest.param(PYTHONIC, "[add(1)]", "[add(1)]", [], id="pythonic by position"),
        pytest.param(PYTHONIC, "[add(a=b)]", "[add(a=b)]", [], id="pythonic with a name"),
        pytest.param(PYTHONIC, "[add(**{})]", "[add(**{})]", [], id="pythonic unpacking"),
        pytest.param(PYTHONIC, "[f(a={1})]", "[f(a={1})]", [], id="pythonic set"),
        pytest.param(PYTHONIC, "[f()(a=1)]", "[f()(a=1)]", [], id="pythonic call of a call"),
        pytest.param(PYTHONIC, "[1, 2]", "[1, 2]", [], id="pythonic list of numbers"),
        pytest.param(PYTHONIC, '["\\d" + f(a=1)]', '["\\d" + f(a=1)]', [], id="pythonic sum"),
        pytest.param(PYTHONIC, "[" * 5000, "[" * 5000, [], id="pythonic absurd nesting"),
    ],
)  # fmt: skip
def test_each_family_has_its_own_form(
    format_: ToolFormat, text: str, content: str | None, calls: list[ToolCall]
) -> None:
    reading = format_.read(text, constrained=False)
    assert (reading.content, reading.calls) == (content, calls)


REPLIES = {
    "llama3_json": [f"{ADD}; {TIME}", "Hello {", "{not a call", "<|python"],
    "hermes": [f"So:\n\n{OPEN}{ADD}{CLOSE}", "a <tool", f"a {OPEN}{{", "  "],
    "mistral": [f"So: [TOOL_CALLS][{ADD}]", "a [TOOL_", "[TOOL_CALLS]x", ""],
    "pythonic": ["[add(a=1)]", "[add", "Hello", ""],
}


@pytest.mark.parametrize("name", list(REPLIES))
def test_a_stream_says_exactly_what_the_whole_reply_says(name: str) -> None:
    format_, use = TOOL_FORMATS[name], ToolUse([], "auto", [], True)
    for text in REPLIES[name]:
        for size in (1, 3, 1000):
            stream = ReplyStream(format_, use)
            pieces = [text[i : i + size] for i in range(0, len(text), size)]
            deltas = [delta for piece in pieces for delta in stream.push(piece)]
            reading = format_.read(text, constrained=False)
            content, calls = joined([*deltas, *stream.finish(reading)])
            assert (content or None, calls) == (reading.content or None, reading.calls)


def joined(deltas: list[dict]) -> tuple[str, list[ToolCall]]:
    """What a client puts together from deltas."""
    content, calls = "", {}
    for delta in deltas:
        content += delta.get("content", "")
        for part in delta.get("tool_calls", []):
            call = calls.setdefault(part["index"], ["", ""])
            call[0] += part["function"].get("name", "")
            call[1] += part["function"]["arguments"]
    return content, [ToolCall(*calls[i]) for i in range(len(calls))]


ARGUMENTS = {"a": 1, "tags": ['x "y"', "é", ""], "more": {"z": [1.5, None, True, {}]}}
SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "more": {"type": "object"},
    },
}
TOOLS = [
    {"function": {"name": "add", "parameters": SCHEMA}},
    {"function": {"name": 'say "é"'}},
]


@pytest.mark.parametrize("name", list(TOOL_FORMATS))
def test_constrained_calls_are_read_back_and_streamed_argument_by_argument(name: str) -> None:
    format_ = TOOL_FORMATS[name]
    form, tokenizer = format_.form, make_tokenizer()
    spelt = [
        json.dumps({"name": tool, form.arguments: arguments}, ensure_ascii=False).join(
            form.around_each
        )
        for tool, arguments in (("add", ARGUMENTS), ('say "é"', {}))
    ]
    text = form.separator.join(spelt).join(form.around_all)
    grammars = Grammars(tokenizer, len(tokenizer), [4], form)
    matcher = grammars.matcher(Constraint("calls", TOOLS))
    assert matcher.accept_string(text) and matcher.accept_token(4)
    reading = format_.read(text, constrained=True)
    expected = [
        ToolCall("add", json.dumps(ARGUMENTS, ensure_ascii=False)), ToolCall('say "é"', "{}")
    ]  # fmt: skip
    assert (reading.content, reading.calls) == (None, expected)
    stream = ReplyStream(format_, ToolUse(TOOLS, "required", TOOLS, True))
    deltas = [delta for letter in text for delta in stream.push(letter)]
    assert len(deltas) > 20 and stream.finish(reading) == []
    assert joined(deltas) == ("", expected)


@pytest.mark.parametrize("number", ["1e999", "-1.5e+400", "1" * 4301], ids=lambda n: n[:9])
@pytest.mark.parametrize("name", list(TOOL_FORMATS))
def test_a_constrained_call_with_a_number_too_large_for_python_is_a_call(
    name: str, number: str
) -> None:
    format_ = TOOL_FORMATS[name]
    call = f'{{"name": "add", "{format_.form.arguments}": {{"a": {number}}}}}'
    text = call.join(format_.form.around_each).join(format_.form.around_all)
    expected = [ToolCall("add", f'{{"a": {number}}}')]
    reading = read_constrained(text, format_, cut=False)
    assert (reading.calls, reading.content, reading.cut) == (expected, None, False)
    stream = ReplyStream(format_, ToolUse(TOOLS, "required", TOOLS, True))
    assert joined([*stream.push(text), *stream.finish(reading)]) == ("", expected)


def test_ids_of_calls_are_such_as_templates_of_mistral_take() -> None:
    """Its templates refuse all others when the conversation goes on."""
    for format_, form in ((MISTRAL, r"[a-z0-9]{9}"), (LLAMA3_JSON, r"chatcmpl-tool-[0-9a-f]{32}")):
        stream = ReplyStream(format_, ToolUse(TOOLS, "required", TOOLS, True))
        head = stream.push(f'{{"name": "add", "{format_.form.arguments}": ')[0]["tool_calls"][0]
        assert re.fullmatch(form, head["id"]) and re.fullmatch(form, format_.new_call_id())
        assert head["id"] != format_.new_call_id()


def test_a_constrained_reply_cut_before_its_first_name_is_text() -> None:
    stream = ReplyStream(LLAMA3_JSON, ToolUse(TOOLS, "named", TOOLS[:1], False))
    assert stream.push('{"na') == []
    reading = LLAMA3_JSON.read('{"na', constrained=True)
    assert joined(stream.finish(reading)) == ('{"na', [])


@pytest.mark.parametrize(
    ("template", "format_"),
    [
        pytest.param("... within <tool_call></tool_call> XML tags", HERMES, id="Qwen, Hermes"),
        pytest.param("{{ '[TOOL_CALLS]' }}", MISTRAL, id="Mistral"),
        pytest.param("[func_name1(params_name1=params_value1, ...)]", PYTHONIC, id="Llama 4"),
        pytest.param('Respond in the format {"name": function name', LLAMA3_JSON, id="Llama 3"),
        pytest.param("", LLAMA3_JSON, id="no template"),
    ],
)
def test_the_chat_template_tells_the_format(template: str, format_: ToolFormat) -> None:
    assert format_of_template(template) is format_


def test_marks_of_calls_survive_decoding_although_they_are_control_tokens(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]", "[CALL_ID]"]})
    tokenizer.chat_template += "{# [TOOL_CALLS] #}"
    tokenizer.save_pretrained(folder)
    checkpoint = load_checkpoint(entry("acme/mistral", folder), "cpu")
    ids = checkpoint.encode(f"[TOOL_CALLS][{ADD}]<|eot_id|>", special=False)
    assert checkpoint.tool_format is MISTRAL
    assert checkpoint.decode_calls(ids) == f"[TOOL_CALLS][{ADD}]"
    assert checkpoint.decode(ids) == f"[{ADD}]"
    with_id = '[TOOL_CALLS]add[CALL_ID]abcdefghi[ARGS]{"a": 1}'
    assert checkpoint.decode_calls(checkpoint.encode(with_id, special=False)) == with_id
    chosen = load_checkpoint(entry("acme/other", folder), "cpu", PYTHONIC)
    assert chosen.tool_format is PYTHONIC and chosen.decode_calls(ids) == f"[{ADD}]"


def test_a_setting_chooses_the_format_of_a_model() -> None:
    chosen = formats_by_model(" acme/a=hermes, ns/b@v1=pythonic,")
    assert chosen == {"acme/a": HERMES, "ns/b@v1": PYTHONIC}
    assert formats_by_model(None) == {}
    with pytest.raises(ValueError, match="'acme/a=json' is not.*llama3_json, hermes"):
        formats_by_model("acme/a=json")
