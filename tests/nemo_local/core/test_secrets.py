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


NOTHING = [None, "", 0, False, [], {}]


@pytest.mark.parametrize(
    ("secret", "hidden"),
    [
        ("sk-1", "******"),
        (5, "******"),
        (True, "******"),
        (["sk-1", "sk-2"], ["******", "******"]),
        (
            {"value": "sk-1", "parts": [{"a": "x"}, 7]},
            {"value": "******", "parts": [{"a": "******"}, "******"]},
        ),
        (NOTHING, NOTHING),
    ],
    ids=["text", "number", "true", "list", "object", "nothing"],
)
def test_a_secret_of_any_type_keeps_its_shape_and_survives_a_round_trip(secret, hidden):
    stored = {"api_key": secret, "envs": [{"NGC_API_KEY": secret}]}
    shown = {"api_key": hidden, "envs": [{"NGC_API_KEY": hidden}]}
    assert masked(stored) == shown and restored(shown, stored) == stored


def test_a_mask_inside_a_secret_that_is_not_stored_is_refused_and_named():
    with pytest.raises(Invalid) as refused:
        restored({"token": {"parts": ["own", "******"]}}, {"token": {"parts": ["a", "b", "c"]}})
    assert refused.value.detail[0]["loc"] == ["body", "token", "parts", 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tasks", {"type": "data"}),
        ("metrics", {"type": "em"}),
        ("scores", {"value": 1.0}),
        ("groups", {"tasks": ["qa"]}),
        ("task_status", "completed"),
        ("properties", {"type": "string"}),
        ("patternProperties", {"type": "string"}),
        ("$defs", {"type": "string"}),
        ("definitions", {"type": "string"}),
        ("dependentRequired", ["user"]),
    ],
)
def test_a_name_that_a_user_chose_is_no_secret(field, value):
    entity = {"inside": [{field: {"api_key": value, "Token": value}}]}
    assert masked(entity) == entity == restored(entity, {})


def test_a_secret_below_a_field_of_names_is_one_all_the_same():
    shown = {"properties": {"api_key": "******"}, "tasks": {"token": {"api_key": "******"}}}
    stored = {"properties": {"api_key": "sk-1"}, "tasks": {"token": {"api_key": "sk-2"}}}
    assert masked(stored) == shown and restored(shown, stored) == stored


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
        ([A], [{**A, "name": "renamed"}]),
        ([A, URL, B], [URL, B, {**A, "name": "renamed"}]),
        ([URL], [{**URL, "name": "named"}]),
    ],
    ids=[
        "moved",
        "moved and changed",
        "beside a new one",
        "in lists",
        "alike",
        "the only one",
        "renamed",
        "renamed and moved",
        "named for the first time",
    ],
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
