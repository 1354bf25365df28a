"""Networks other than Llama, held to what transformers writes with them."""

from pathlib import Path

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from nemo_local.catalog import context_length
from nemo_local.nim.checkpoint import Checkpoint, load_checkpoint
from nemo_local.nim.engine import Engine
from nemo_local.nim.metrics import Metrics
from tests.nemo_local.nim.conftest import Writer
from tests.tiny_checkpoint import entry, store_network

SIZE = {
    "vocab_size": 360,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


def served(folder: Path, model: PreTrainedModel) -> Checkpoint:
    store_network(folder, model)
    return load_checkpoint(entry("acme/network", folder, context_length(folder)), "cpu")


def written(checkpoint: Checkpoint, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """What the engine writes after these prompts, all in one batch."""
    engine = Engine(Metrics(), threads=1)
    engine.start()
    engine.add(checkpoint)
    try:
        writer = Writer(checkpoint, engine)
        replies = [writer.generation(prompt, max_tokens=tokens) for prompt in prompts]
        writer.write(*replies)
        assert [reply.error for reply in replies] == [None] * len(prompts)
        return [reply.tokens for reply in replies]
    finally:
        engine.stop()


def expected(model: PreTrainedModel, prompt: list[int], tokens: int) -> list[int]:
    """What transformers writes after a prompt, alone."""
    rules = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
    ids = torch.tensor([prompt])
    reply = model.generate(  # type: ignore[operator]
        ids, attention_mask=torch.ones_like(ids), eos_token_id=None, pad_token_id=0, **rules
    )
    return reply[0, len(prompt) :].tolist()


def test_a_model_that_also_sees_is_served_with_text(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = SIZE | {
        "head_dim": 16, "query_pre_attn_scalar": 16, "max_position_embeddings": 64,
        "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8,
    }  # fmt: skip
    eye = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    eye |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    model = Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=eye, mm_tokens_per_image=4)
    ).eval()
    checkpoint = served(tmp_path, model)
    assert checkpoint.context == 64
    prompts = [list(range(9, 9 + size)) for size in (3, 20)]
    assert written(checkpoint, prompts, 8) == [expected(model, one, 8) for one in prompts]


def test_replies_of_a_longrope_model_do_not_change_beside_a_longer_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4}
    rope |= {"long_factor": [4.0] * 4, "original_max_position_embeddings": 32}
    config = Phi3Config(
        **SIZE, max_position_embeddings=128, original_max_position_embeddings=32,
        rope_parameters=rope,
    )  # fmt: skip
    model = Phi3ForCausalLM(config).eval()
    checkpoint = served(tmp_path, model)
    # The second and the third reply come to be longer than the original context.
    prompts = [list(range(9, 9 + size)) for size in (5, 22, 31, 32, 33, 60)]
    assert written(checkpoint, prompts, 15) == [expected(model, one, 15) for one in prompts]
    assert written(checkpoint, prompts[1:2], 15) == [expected(model, prompts[1], 15)]
