"""Attention that takes no mask against the plain one of transformers."""

import pytest
import torch

from tests.nemo_local.customizer.architectures import ARCHITECTURES, make_architecture
from tests.nemo_local.customizer.training import make_job


def loss_and_gradients(checkpoint, implementation, padded):
    from transformers import AutoModelForCausalLM

    from nemo_local.customizer.layers import attention  # registers the implementation

    model = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation=implementation)
    ids = torch.arange(3, 63).reshape(4, 15)
    labels = ids.clone()
    labels[1, padded:] = -100
    mask = (labels != -100).long()
    without = attention.takes_no_mask(implementation, ids.device)
    loss = model(input_ids=ids, labels=labels, attention_mask=None if without else mask).loss
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [1, 2], ids=["one-thread", "two-threads"], indirect=True)
@pytest.mark.parametrize("implementation", ["row_by_row", "sdpa_unmasked"])
@pytest.mark.parametrize("padded", [15, 11], ids=["full", "padded-on-the-right"])
def test_loss_and_gradients_are_those_of_plain_attention(checkpoint, padded, implementation):
    """The tiny Llama has two heads and one key-value head."""
    expected = loss_and_gradients(checkpoint, "eager", padded)
    found = loss_and_gradients(checkpoint, implementation, padded)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "longest", "reason"),
    [
        ({"sliding_window": 64}, 100, "the model has sliding_window"),
        ({"attention_dropout": 0.1}, 100, "the model has attention_dropout"),
        ({"attn_pdrop": 0.1}, 100, "the model has attn_pdrop"),
        ({}, 4000, "rows of 4000 tokens, it is for up to 512"),
    ],
    ids=["sliding-window", "dropout", "dropout-of-gpt-2", "long-rows"],
)
def test_models_and_rows_it_does_not_suit_keep_their_own_attention(changes, longest, reason):
    from transformers import LlamaConfig, LlamaForCausalLM

    from nemo_local.customizer.layers import attention

    def why_not(device, longest, **changes):
        return attention.why_not(
            LlamaConfig(**changes), LlamaForCausalLM, torch.device(device), longest
        )

    assert why_not("cpu", 100) == ""
    assert reason in why_not("cpu", longest, **changes)
    assert why_not("cuda", 100) == "not on cuda"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Gemma3", "sliding_window"),
        ("Gemma4", "sliding_window"),
        ("Llama4Text", "attention_chunk_size"),
    ],
)
def test_a_window_or_chunks_are_found_where_the_architecture_keeps_them(name, field):
    """Models that also see keep it in the configuration of their text part."""
    import transformers

    from nemo_local.customizer.layers import attention

    config = getattr(transformers, f"{name}Config")()
    model = transformers.AutoModelForCausalLM._model_mapping[type(config)]
    assert attention.why_not(config, model, torch.device("cpu"), 100) == f"the model has {field}"


@pytest.mark.parametrize("name", ["Bloom", "CodeGen", "GPTNeo"])
def test_architectures_with_attention_in_code_of_their_own_keep_it(name, tmp_path):
    """Bloom and CodeGen saw what was still to come, and GPT-Neo knew no such attention."""
    import transformers

    from nemo_local.customizer.training.gather import gather
    from nemo_local.customizer.training.ranks import Ranks

    shape = {"attention_types": [[["global"], 2]]} if name == "GPTNeo" else {"rotary_dim": 4}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, n_embd=32, n_layer=2, n_head=4,
        **shape,
    )  # fmt: skip
    getattr(transformers, f"{name}ForCausalLM")(config).save_pretrained(tmp_path)
    plan = make_job(tmp_path).plan
    facts = gather(tmp_path, plan, Ranks(), [10, 50], 9)
    assert facts.why_not_row_by_row.endswith("computes attention in code of its own")


def test_long_rows_of_validation_keep_the_models_own_attention(checkpoint):
    from nemo_local.customizer.training.gather import gather
    from nemo_local.customizer.training.ranks import Ranks

    plan = make_job(checkpoint).plan
    facts = gather(checkpoint, plan, Ranks(), [10, 50], 9, longest_validated=4096)
    assert facts.why_not_row_by_row == "rows of 4096 tokens, it is for up to 512"


def test_attention_that_drops_nothing_refuses_to_be_asked_for_it():
    from nemo_local.customizer.layers import attention

    q = torch.randn(1, 2, 5, 8)
    with pytest.raises(ValueError, match="drops nothing, and 0.5 was asked for"):
        attention.attend_row_by_row(torch.nn.Identity(), q, q, q, None, 1.0, dropout=0.5)


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"gemma 2"}))
def test_architectures_that_only_look_back_need_no_mask(name, tmp_path):
    checkpoint = make_architecture(name, tmp_path)  # Mistral's sees 16 tokens, of 15
    expected = loss_and_gradients(checkpoint, "eager", 11)
    found = loss_and_gradients(checkpoint, "sdpa_unmasked", 11)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_window_that_holds_all_rows_needs_no_mask():
    from transformers import Gemma2Config, LlamaConfig, MistralConfig

    from nemo_local.customizer.layers import attention

    assert attention.why_masked(LlamaConfig(), 100) == ""
    assert attention.why_masked(MistralConfig(sliding_window=100), 100) == ""
    sees = attention.why_masked(MistralConfig(sliding_window=99), 100)
    assert sees == "it sees 99 tokens, and rows have up to 100"
    assert attention.why_masked(Gemma2Config(), 100) == "not tested without for gemma2"


def test_rows_padded_on_the_right_need_no_mask_for_their_own_tokens(checkpoint):
    from transformers import AutoModelForCausalLM

    from nemo_local.customizer.layers import attention

    model = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="sdpa").eval()
    ids, mask = torch.arange(3, 43).reshape(2, 20), torch.ones(2, 20, dtype=torch.long)
    mask[1, 11:] = 0
    with torch.no_grad():
        without, masked = model(ids).logits, model(ids, attention_mask=mask).logits
    torch.testing.assert_close(without[mask == 1], masked[mask == 1], rtol=1e-5, atol=1e-6)
    assert attention.takes_no_mask("sdpa", torch.device("cuda"))
    assert not attention.takes_no_mask("sdpa", torch.device("cpu"))
    assert attention.takes_no_mask("row_by_row", torch.device("cpu"))
    assert attention.takes_no_mask("sdpa_unmasked", torch.device("cuda"))
    assert not attention.takes_no_mask("flash_attention_2", torch.device("cuda"))
