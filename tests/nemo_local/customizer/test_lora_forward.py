"""The merged forward of LoRA layers against PEFT's own."""

import pytest

from tests.nemo_local.customizer.tiny_llama import make_checkpoint

# Of transformers and PEFT between themselves.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model"))


def adapted(checkpoint, dropout=0.0):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(checkpoint),
        LoraConfig(r=4, lora_alpha=6, lora_dropout=dropout, target_modules="all-linear"),
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model.train()


def loss_and_gradients(model):
    import torch

    ids = torch.arange(3, 63).reshape(3, 20)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_loss_and_gradients_are_those_of_peft(checkpoint):
    import torch

    from nemo_local.customizer.lora_forward import merge_in_forward

    theirs, ours = adapted(checkpoint), adapted(checkpoint)
    assert merge_in_forward(ours) == 14
    expected_loss, expected = loss_and_gradients(theirs)
    loss, gradients = loss_and_gradients(ours)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
    assert len(gradients) == 28


def test_matrices_added_up_once_give_the_same_and_only_within(checkpoint):
    import torch

    from nemo_local.customizer.lora_forward import merge_in_forward, merged_once

    model, ids = adapted(checkpoint), torch.arange(3, 63).reshape(3, 20)
    merge_in_forward(model)
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    own, expected = layer.forward, model(ids).logits
    with pytest.raises(KeyError), torch.no_grad(), merged_once(model):
        assert layer.forward is not own
        torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=0)
        raise KeyError
    assert layer.forward is own
    torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=0)


def test_layers_with_dropout_keep_the_form_of_peft(checkpoint):
    from nemo_local.customizer.lora_forward import merge_in_forward

    assert merge_in_forward(adapted(checkpoint, dropout=0.1)) == 0
