"""Secrets are hidden where an entity is shown, and survive the client that sends it back."""

import pytest

from nemo_local.core.errors import Invalid
from nemo_local.core.secrets import masked, refuse_masks, restored


def test_secrets_are_masked_at_any_depth():
    entity = {"a": [{"api_key": "sk", "token": None}], "hf_token": "hf", "max_tokens": 3}
    assert masked(entity) == {
        "a": [{"api_key": "******", "token": None}],
        "hf_token": "******",
        "max_tokens": 3,
    }


def test_tokens_of_a_tokenizer_are_no_secrets():
    assert masked({"eos_token": "</s>", "start_token": "<think>"}) == {
        "eos_token": "</s>",
        "start_token": "<think>",
    }


def test_what_was_shown_can_be_sent_back_without_losing_a_secret():
    stored = {
        "models": [{"parameters": {"api_key": "sk-1"}}, {"parameters": {"api_key": "sk-2"}}],
        "custom_fields": {"token": "t", "x": 1},
        "additional_envs": {"NGC_API_KEY": "n"},
    }
    sent = {**masked(stored), "description": "new"}
    assert restored(sent, stored) == {**stored, "description": "new"}


@pytest.mark.parametrize("secret", [5, 0, True, ["sk-1"], {"value": "sk-1"}, "sk-1"])
def test_a_secret_of_any_type_is_masked_and_survives_a_round_trip(secret):
    stored = {"api_key": secret, "envs": [{"NGC_API_KEY": secret}]}
    shown = {"api_key": "******", "envs": [{"NGC_API_KEY": "******"}]}
    assert masked(stored) == shown and restored(shown, stored) == stored


def test_a_parameter_that_a_schema_describes_is_no_secret():
    schema = {"type": "object", "properties": {"api_key": {"type": "string"}}}
    assert masked({"tools": [schema]}) == {"tools": [schema]}
    assert masked({"properties": {"api_key": "sk-1"}}) == {"properties": {"api_key": "******"}}


A = {"name": "a", "token": "of a", "note": "old"}
B = {"name": "b", "token": "of b"}
URL = {"url": "http://c", "api_key": "of c"}
ALIKE = [{"token": "1"}, {"token": "2"}]


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ([A, B, URL], [URL, B]),
        ([A, B], [{**B, "note": "new"}, {**A, "note": "new"}]),
        ([A, URL], [{"name": "new", "token": "own"}, URL, A]),
        ([[A], [B]], [[B], [A]]),
        (ALIKE, ALIKE),
        ([{"url": "old", "api_key": "k"}], [{"url": "new", "api_key": "k"}]),
    ],
    ids=["moved", "moved and changed", "beside a new one", "in lists", "alike", "the only one"],
)
def test_a_secret_follows_its_item_through_a_list(stored, sent):
    assert restored(shown(sent, but="own"), stored) == sent


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ([A], [A, {**B, "name": "new"}]),
        ([A, URL], [{**URL, "url": "http://other"}, {"url": "http://new", "api_key": "k"}]),
        (ALIKE, ALIKE[1:]),
        ([], [A]),
        (None, [A]),
    ],
    ids=["a new name", "changed without a name", "one of two alike", "none stored", "no list"],
)
def test_no_item_of_a_list_gets_the_secret_of_another(stored, sent):
    with pytest.raises(Invalid, match="stands for a secret"):
        restored(masked(sent), stored)


def shown(items, but):
    """The items with every secret masked but this one, which is new."""
    if isinstance(items, list):
        return [shown(item, but) for item in items]
    return items if but in items.values() else masked(items)


def test_a_mask_without_a_stored_secret_is_refused():
    for stored in ({}, {"api_key": None}, {"api_key": ""}, None):
        with pytest.raises(Invalid) as refused:
            restored({"x": {"api_key": "******"}}, {"x": stored})
        assert refused.value.detail[0]["loc"] == ["body", "x", "api_key"]


def test_a_mask_is_refused_where_a_secret_is_new():
    refuse_masks({"api_key": "sk", "text": "******", "models": [{"token": None}]})
    with pytest.raises(Invalid) as refused:
        refuse_masks({"models": [{}, {"NGC_API_KEY": "******"}]})
    assert refused.value.detail[0]["loc"] == ["body", "models", 1, "NGC_API_KEY"]
