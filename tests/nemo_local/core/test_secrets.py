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


def test_a_mask_without_a_stored_secret_is_no_secret():
    assert restored({"api_key": "******"}, {}) == {"api_key": None}


def test_a_mask_is_refused_where_a_secret_is_new():
    refuse_masks({"api_key": "sk", "text": "******", "models": [{"token": None}]})
    with pytest.raises(Invalid) as refused:
        refuse_masks({"models": [{}, {"NGC_API_KEY": "******"}]})
    assert refused.value.detail[0]["loc"] == ["body", "models", 1, "NGC_API_KEY"]
