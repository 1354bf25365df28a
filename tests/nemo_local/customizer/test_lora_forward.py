"""Our forward passes of LoRA layers against PEFT's own."""

import pytest

# Of transformers and PEFT between themselves.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def adapted(checkpoint, dropout=0.0, dtype="float32"):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype),
        LoraConfig(r=4, lora_alpha=6, lora_dropout=dropout, target_modules="all-linear"),
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model.train()


def loss_and_gradients(model, bf16=False):
    import torch

    torch.manual_seed(2)  # of dropout
    ids = torch.arange(3, 63).reshape(3, 20)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def forms(model):
    """How many layers compute the merged form, and how many the other one."""
    found = [
        layer.__dict__["forward"].__func__.__name__
        for layer in model.modules()
        if "forward" in layer.__dict__
    ]
    return found.count("_merged"), found.count("_beside")


@pytest.mark.parametrize(
    ("dropout", "widest", "expected_forms"),
    [(0.0, 2048, (14, 0)), (0.0, 32, (8, 6)), (0.3, 2048, (0, 14))],
    ids=["narrow", "wide", "dropout"],
)
@pytest.mark.parametrize("training", [True, False], ids=["training", "answering"])
def test_loss_and_gradients_are_those_of_peft(
    checkpoint, monkeypatch, dropout, widest, expected_forms, training
):
    import torch

    from nemo_local.customizer.layers import lora_forward

    monkeypatch.setattr(lora_forward, "WIDEST", widest)
    theirs, ours = adapted(checkpoint, dropout), adapted(checkpoint, dropout)
    assert lora_forward.shorten_forward(ours) == 14
    assert forms(ours) == expected_forms
    expected_loss, expected = loss_and_gradients(theirs.train(training))
    loss, gradients = loss_and_gradients(ours.train(training))
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
    assert len(gradients) == 28


def about_as_peft(theirs, ours, autocast):
    """Whether both learn the same, but for the rounding of bfloat16."""
    import torch

    expected_loss, expected = loss_and_gradients(theirs, autocast)
    loss, gradients = loss_and_gradients(ours, autocast)
    torch.testing.assert_close(loss, expected_loss, rtol=0.01, atol=0)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    assert len(gradients) == len(expected) == 28
    return all(
        torch.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0) > 0.99
        for name, gradient in gradients.items()
    )


@pytest.mark.parametrize("dropout", [0.0, 0.3], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_an_adapter_beside_bfloat16_weights_learns_what_it_does_with_peft(
    checkpoint, dropout, autocast
):
    from nemo_local.customizer.layers.lora_forward import shorten_forward

    theirs, ours = (adapted(checkpoint, dropout, "bfloat16") for _ in range(2))
    assert shorten_forward(ours) == 14 and forms(ours) == (0, 14)
    assert about_as_peft(theirs, ours, autocast)


def test_products_in_bfloat16_learn_what_those_of_peft_do(checkpoint):
    from nemo_local.customizer.layers import lora_forward

    theirs, ours = adapted(checkpoint), adapted(checkpoint)
    assert lora_forward.shorten_forward(ours) == 14 and forms(ours) == (14, 0)
    assert about_as_peft(theirs, ours, autocast=True)


def test_without_its_adapter_a_layer_is_what_it_was(checkpoint):
    import torch

    from nemo_local.customizer.layers.lora_forward import shorten_forward

    ids = torch.arange(3, 63).reshape(3, 20)
    for model in (adapted(checkpoint), adapted(checkpoint, dtype="bfloat16")):
        with model.disable_adapter():
            expected = model(ids).logits
        shorten_forward(model)
        with model.disable_adapter():
            torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=0)
        assert not torch.equal(model(ids).logits, expected)


def test_matrices_added_up_once_give_the_same_and_only_within(checkpoint):
    import torch

    from nemo_local.customizer.layers.lora_forward import merged_once, shorten_forward

    model, ids = adapted(checkpoint), torch.arange(3, 63).reshape(3, 20)
    shorten_forward(model)
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    own, expected = layer.forward, model(ids).logits
    with pytest.raises(KeyError), torch.no_grad(), merged_once(model):
        assert layer.forward is not own
        torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=0)
        raise KeyError
    assert layer.forward is own
    torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=0)
