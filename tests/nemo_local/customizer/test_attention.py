"""Attention row by row against the plain one of transformers."""

import pytest

from tests.nemo_local.customizer.tiny_llama import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model"))


def loss_and_gradients(checkpoint, implementation, padded):
    import torch
    from transformers import AutoModelForCausalLM

    from nemo_local.customizer import attention  # registers the implementation

    model = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation=implementation)
    ids = torch.arange(3, 63).reshape(3, 20)
    labels = ids.clone()
    labels[1, padded:] = -100
    mask = (labels != -100).long()
    without = implementation == attention.NAME
    loss = model(input_ids=ids, labels=labels, attention_mask=None if without else mask).loss
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("padded", [20, 11], ids=["full", "padded-on-the-right"])
def test_loss_and_gradients_are_those_of_plain_attention(checkpoint, padded):
    """The tiny Llama has two heads and one key-value head."""
    import torch

    expected = loss_and_gradients(checkpoint, "eager", padded)
    found = loss_and_gradients(checkpoint, "row_by_row", padded)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "longest"),
    [({"sliding_window": 64}, 100), ({"attention_dropout": 0.1}, 100), ({}, 4000)],
    ids=["sliding-window", "dropout", "long-rows"],
)
def test_models_and_rows_it_does_not_suit_keep_their_own_attention(changes, longest):
    import torch
    from transformers import LlamaConfig

    from nemo_local.customizer import attention

    assert attention.suits(LlamaConfig(), torch.device("cpu"), 100)
    assert not attention.suits(LlamaConfig(**changes), torch.device("cpu"), longest)
