"""Rows of templates that show a question otherwise once it is answered, as inference shows them."""

import pytest

from nemo_local.customizer.rows import ChatRow, PreferenceRow
from nemo_local.customizer.training.preferences import make_pairs
from nemo_local.customizer.training.rendering import IGNORED, Renderer
from nemo_local.nim.chat_template import render_chat
from tests.nemo_local.customizer.tiny_llama import tokenizer, tool

MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
  {%- set system_message = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
  {%- if message["role"] == "user" %}
    {%- if tools is not none and message == user_messages[-1] %}
      {{- "[AVAILABLE_TOOLS] " + tools | tojson + "[/AVAILABLE_TOOLS]" }}
    {%- endif %}
    {%- if loop.last and system_message is defined %}
      {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
    {%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
  {%- elif message.tool_calls is defined and message.tool_calls is not none %}
    {{- "[TOOL_CALLS] [" }}
    {%- for tool_call in message.tool_calls %}
      {{- (tool_call.function | tojson)[:-1] }}
      {%- if not tool_call.id is defined or tool_call.id | length != 9 %}
        {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
      {%- endif %}
      {{- ', "id": "' + tool_call.id + '"}' }}{{- ", " if not loop.last else "]" + eos_token }}
    {%- endfor %}
  {%- elif message["role"] == "assistant" %}{{- " " + message["content"] | trim + eos_token }}
  {%- elif message["role"] == "tool" %}
    {{- '[TOOL_RESULTS] {"content": ' + message.content | string + ", " }}
    {%- if not message.tool_call_id is defined or message.tool_call_id | length != 9 %}
      {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
    {%- endif %}
    {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
  {%- endif %}
{%- endfor %}"""
"""What Mistral-7B-Instruct-v0.3 ships, with a plainer list of tools."""

REASONS = """\
{%- for m in messages -%}
  {%- if m.role == "user" -%}{{- "<|user|>" + m.content -}}
  {%- else -%}{{- "<|assistant|>" + m.content.split("</think>")[-1] + eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|assistant|><think>\n" -}}{%- endif -%}"""
"""As DeepSeek-R1's: a prompt ends amid an answer, whose reasoning is not shown again."""

SYSTEM = {"role": "system", "content": "be nice"}
ASKED = {"role": "user", "content": "add 1"}
SAID = {"role": "assistant", "content": "it is 2"}


def called(**given):
    function = {"name": "add", "arguments": {"a": 1}}
    calls = [{"type": "function", "function": function, **given}]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def result(**given):
    return {"role": "tool", "content": "2", **given}


def learnt(template, messages, tools=()):
    """The prompts and answers that are learnt of a conversation, each prompt as it is served."""
    tok = tokenizer()
    tok.chat_template = template
    row = ChatRow(messages, list(tools), "a.jsonl line 1")
    tokens = Renderer(tok, [tok.eos_token_id]).tokens([row], 2000)
    found = []
    for ids, labels in zip(tokens.input_ids, tokens.labels, strict=True):
        for place, label in enumerate(labels):
            if label != IGNORED and labels[place - 1] == IGNORED:
                end = next((i for i in range(place, len(ids)) if labels[i] == IGNORED), len(ids))
                found.append((tok.decode(ids[:place]), tok.decode(ids[place:end])))
    answers = [n for n, message in enumerate(messages) if n and message["role"] == "assistant"]
    served = [render_chat(tok, messages[:n], list(tools)) for n in answers]
    assert [prompt for prompt, _ in found] == served
    return found


@pytest.mark.parametrize(
    "given",
    [{}, {"id": "call_9c3f2b1a0d8e4f5a9b7c6d5e"}],
    ids=["none", "of OpenAI"],
)
def test_mistral_learns_calls_with_ids_its_template_would_refuse(given):
    asked = {"tool_call_id": given["id"]} if given else {}
    messages = [ASKED, called(**given), result(**asked), SAID]
    (_, call), (prompt, answer) = learnt(MISTRAL, messages, [tool("add")])
    assert call.startswith('[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "000000000"')
    assert prompt.endswith('{"content": 2, "call_id": "000000000"}[/TOOL_RESULTS]')
    assert answer == " it is 2<|eot_id|>"


def test_mistral_learns_from_a_conversation_with_a_system_message():
    messages = [SYSTEM, ASKED, SAID, {"role": "user", "content": "and 2"}, SAID]
    assert learnt(MISTRAL, messages) == [
        ("<|bos|>[INST] be nice\n\nadd 1[/INST]", " it is 2<|eot_id|>"),
        (
            "<|bos|>[INST] add 1[/INST] it is 2<|eot_id|>[INST] be nice\n\nand 2[/INST]",
            " it is 2<|eot_id|>",
        ),
    ]


def test_mistral_learns_calls_and_answers_beneath_a_system_message():
    messages = [SYSTEM, ASKED, called(), result(), SAID]
    (first, call), (second, answer) = learnt(MISTRAL, messages, [tool("add")])
    assert first.endswith("[/AVAILABLE_TOOLS][INST] be nice\n\nadd 1[/INST]")
    assert call.startswith('[TOOL_CALLS] [{"name": "add"') and call.endswith("}]<|eot_id|>")
    assert "be nice" not in second and answer == " it is 2<|eot_id|>"


def test_preferred_answers_beneath_a_system_message_share_their_prompt():
    tok = tokenizer()
    tok.chat_template = MISTRAL
    good, bad = (
        ChatRow([SYSTEM, ASKED, {**SAID, "content": text}], [], "line 1", learn_from=2)
        for text in ("it is 2", "it is 3")
    )
    pairs = make_pairs(Renderer(tok, [1]), [PreferenceRow(good, bad, "line 1")], 500)
    assert tok.decode(pairs.prompt_ids[0]) == "<|bos|>[INST] be nice\n\nadd 1[/INST]"
    assert tok.decode(pairs.chosen_ids[0]) == " it is 2<|eot_id|>"
    assert tok.decode(pairs.rejected_ids[0]) == " it is 3<|eot_id|>"


@pytest.mark.parametrize("answer", ["2", "0", "10", "<b", " a"])
def test_an_answer_is_learnt_where_only_its_prompt_begins_to_reason(answer):
    messages = [ASKED, {"role": "assistant", "content": f"<think>\nhm</think>{answer}"}]
    prompt = "<|user|>add 1<|assistant|><think>\n"
    assert learnt(REASONS, messages) == [(prompt, f"{answer}<|eot_id|>")]
