"""The committed base checkpoint: an ordinary folder, small, with a card that tells what it is."""

import hashlib
import json

import pytest
from transformers import AutoTokenizer

from nemo_local.catalog import POCKET_WEIGHTS

FOLDER = POCKET_WEIGHTS / "base"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gets the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "default": 3},
                "points": {"type": "array", "items": {"type": "number"}},
            },
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


def render(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def test_the_request_stands_before_the_tools_which_are_compact_signatures(tokenizer):
    text = render(tokenizer, [{"role": "user", "content": "Weather?"}], tools=[TOOL],
                  add_generation_prompt=True)  # fmt: skip
    assert text == (
        "<|begin_of_text|><|user|>Weather?<|eot_id|><|tools|>"
        "get_weather(city: string, days?: integer = 3, points?: [number]) - Gets the weather."
        "<|eot_id|><|assistant|>"
    )


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        (True, "x?: any"),
        ({}, "x?: any"),
        ({"type": ["string", "null"], "default": None}, "x?: string|null"),
        ({"enum": ["a", 1], "default": "a"}, "x?: a|1 = a"),
        ({"anyOf": [{"type": "integer"}, {"type": "array"}], "default": []}, "x?: integer|[] = []"),
        ({"type": "string", "default": ""}, "x?: string"),
    ],
    ids=json.dumps,
)
def test_a_parameter_s_schema_is_shown_in_few_characters(tokenizer, schema, shown):
    function = {"name": "f", "description": "d", "parameters": {"properties": {"x": schema}}}
    text = render(tokenizer, [{"role": "user", "content": "?"}], tools=[{"function": function}])
    assert f"f({shown}) - d" in text


@pytest.mark.parametrize(
    "arguments", [{"city": "Paris"}, '{"city": "Paris"}'], ids=["object", "text"]
)
def test_a_tool_call_renders_alike_from_an_object_and_from_json_text(tokenizer, arguments):
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "content": "sunny"},
    ]
    once = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
    assert render(tokenizer, messages).endswith(
        f"<|assistant|>{once}; {once}<|eot_id|><|tool|>sunny<|eot_id|>"
    )


def test_a_word_is_the_same_token_in_a_request_a_name_and_a_json_string(tokenizer):
    request, name, text = (
        set(tokenizer(sample, add_special_tokens=False).input_ids)
        for sample in ("the weather there", "get_weather_by", '{"a": "weather"}')
    )
    word = tokenizer.convert_tokens_to_ids("weather")
    assert word in request & name & text


@pytest.mark.parametrize("text", ["naïve 東京 😀 1,024.5", 'a\t"b"\n\n c  d_E', "getHTTPResponse2"])
def test_any_text_survives_encoding_and_decoding(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_pad_is_not_the_end_of_a_turn(tokenizer):
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_weights_are_safetensors_under_25_mb_and_the_card_names_their_hash():
    weights = FOLDER / "model.safetensors"
    assert weights.stat().st_size < 25e6
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in (FOLDER / "README.md").read_text()
    assert not list(FOLDER.glob("*.bin")) and not list(FOLDER.glob("*.pt"))
