"""Rows as text, beside transformers' own way from a template to text."""

import json
from pathlib import Path

import pytest
from jinja2.exceptions import SecurityError
from transformers import AutoTokenizer

import nemo_local.pocket
from nemo_local.core.chat_templates import render, with_short_ids
from nemo_local.pocket.world import rows
from tests.nemo_local.customizer.tiny_llama import tokenizer
from utils import xlam

BASE = Path(nemo_local.pocket.__file__).parent / "weights" / "base"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "items": [1], "keys": None}}}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "", "parameters": SCHEMA}}]
CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": "é", "b": [1.5, None]}}}
MESSAGES = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "two", "name": "f"},
]


def usual(tok, messages, tools, prompt):
    return tok.apply_chat_template(
        messages, tools=tools or None, add_generation_prompt=prompt, tokenize=False
    )


@pytest.mark.parametrize("prompt", [True, False], ids=["prompt", "whole"])
@pytest.mark.parametrize(
    "template",
    [
        "{% for t in tools or [] %}{{ t.function.name }}{{ t.function.missing }}{% endfor %}!",
        "{% for t in tools or [] %}{{ t.function.missing is defined }}{{ t['type'] }}{% endfor %}!",
        "{% for k, v in (tools or [{}])[0].items() %}{{ k }}={{ v | tojson }}{% endfor %}",
        "{% set p = (tools or [{}])[0].function.parameters.properties.a %}"
        "{{ p.items is mapping }}{{ p['items'] }}{{ p.keys() | list }}{{ p.get('type') }}{{ p.x }}",
        "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}"
        "{{ loop.length }}{{ loop.previtem.role }}{{ loop.cycle('a', 'b') }}{{ m.name }}"
        "{{ m.tool_calls | length }}{{ m.tool_calls | tojson }}{% endfor %}",
        "{% set seen = namespace(role='') %}{% for m in messages %}"
        "{% set seen.role = seen.role + m.role %}{% endfor %}{{ seen.role }}",
        "{{ bos_token }}{{ pad_token }}{{ add_generation_prompt }}{{ documents }}{{ tools }}",
        "{{ messages[0].__class__ }}{{ messages[0].content.__class__ }}{{ ''.join(['a']) }}",
        "{{ messages | map(attribute='role') | join(',') }}{{ messages[-1].content.upper() }}",
        "{% macro f(n, sep='-') %}{{ n }}{{ sep if n else '' }}{{ f(n - 1) if n else '' }}"
        "{{ caller() if caller else '' }}{% endmacro %}"
        "{% for m in messages %}{{ f(2, sep=loop.index) }}{{ f() }}{% endfor %}"
        "{% call f(1) %}{{ messages | length }}{% endcall %}",
        "{% macro f(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ f(1, 2) }}",
        "{% macro f(a) %}{{ a }}{% endmacro %}{% for m in messages %}{{ f(b=m) }}{% endfor %}",
    ],
    ids=[
        "keys", "defined", "items", "shadowed", "loops", "namespace", "given", "unsafe", "lists",
        "macros", "more", "refused",
    ],
)  # fmt: skip
def test_a_template_renders_as_transformers_renders_it(template, prompt):
    tok = tokenizer()
    tok.chat_template = template
    for messages in (MESSAGES, MESSAGES[:1]):
        for tools in (TOOLS, []):
            outcomes = []
            for way in (usual, render):
                try:
                    outcomes.append(way(tok, messages, tools, prompt))
                except Exception as error:
                    outcomes.append((type(error), str(error)))
            assert outcomes[0] == outcomes[1]


def test_generated_rows_read_as_inference_shows_them():
    tok = AutoTokenizer.from_pretrained(BASE)
    examples = [xlam.to_chat_example(row) for row in xlam.prepare(rows(60, 5)).rows]
    assert len(examples) > 20
    for example in examples:
        messages = json.loads(json.dumps(example["messages"]))
        for given, prompt in ((messages[:1], True), (messages, False)):
            text = render(tok, given, example["tools"], prompt)
            assert text == usual(tok, given, example["tools"], prompt)


@pytest.mark.parametrize(
    "template",
    ["{{ messages.append(1) }}", "{{ messages[0].update(a=1) }}", "{{ tools[0].clear() }}"],
    ids=["list", "dict", "tool"],
)
def test_a_template_cannot_change_a_row(template):
    tok = tokenizer()
    tok.chat_template = template
    with pytest.raises(SecurityError):
        render(tok, MESSAGES, TOOLS, True)


def test_a_tokenizer_with_a_template_for_tools_uses_it_for_them():
    tok = tokenizer()
    tok.chat_template = {"default": "plain", "tool_use": "with tools"}
    assert render(tok, MESSAGES, [], True) == "plain"
    assert render(tok, MESSAGES, TOOLS, True) == usual(tok, MESSAGES, TOOLS, True) == "with tools"


def test_an_answer_that_comes_first_is_refused():
    with pytest.raises(ValueError, match="no message before the first answer"):
        render(tokenizer(), [], [], True)


def test_calls_of_mistral_have_ids_of_nine_letters_and_digits():
    def renamed(*messages):
        found = []
        for message in with_short_ids([*messages]):
            calls = [call.get("id") for call in message.get("tool_calls", [])]
            found.append(calls or message.get("tool_call_id"))
        return found

    def calls(*ids):
        given = [CALL if name is None else {**CALL, "id": name} for name in ids]
        return {"role": "assistant", "content": "", "tool_calls": given}

    def result(**given):
        return {"role": "tool", "content": "2", **given}

    first, second = "000000000", "000000001"
    assert renamed(calls("abcdefgh9"), result(tool_call_id="abcdefgh9")) == [
        ["abcdefgh9"], "abcdefgh9",
    ]  # fmt: skip
    twisted = [result(tool_call_id="call_b"), result(tool_call_id="call_a")]
    assert renamed(calls("call_a", "call_b"), *twisted) == [[first, second], second, first]
    assert renamed(calls(None, None), result(), result()) == [[first, second], first, second]
    again = renamed(calls(None), result(), calls(None), result(tool_call_id="x"))
    assert again == [[first], first, [second], second]
    assert renamed({"role": "user", "content": "one"}, result()) == [None, None]
    assert "id" not in CALL


def test_calls_of_other_families_keep_the_ids_they_have():
    tok = tokenizer()
    tok.chat_template = "{{ messages[1].tool_calls[0].id is defined }}"
    assert render(tok, MESSAGES, TOOLS, True) == "False"
    tok.chat_template += "{# [TOOL_CALLS] #}"
    assert render(tok, MESSAGES, TOOLS, True) == "True"
