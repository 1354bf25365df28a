"""What is read from a config.json: the context, and networks that cannot be computed here."""

import json
from pathlib import Path

import pytest
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, GPT2Config, MptConfig

from nemo_local.architectures import ATTENTION, STATEFUL, why_stateful
from nemo_local.catalog import context_length, load_catalog, why_unreadable
from nemo_local.settings import Settings
from tests.nemo_local.test_catalog import write_checkpoint


def write_config(folder: Path, **config: object) -> Path:
    (write_checkpoint(folder) / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.filterwarnings("ignore")  # of configurations whose defaults do not fit each other
def test_every_architecture_that_keeps_a_state_is_known() -> None:
    without = {"rwkv", "xlstm", "lfm2", "lfm2_moe"}  # their defaults name no kinds of layers
    found = set()
    for config_class in MODEL_FOR_CAUSAL_LM_MAPPING:
        try:
            text = config_class().get_text_config()
        except Exception:  # of a validator: it needs more than defaults, or writes music
            continue
        if set(getattr(text, "layer_types", None) or ()) - ATTENTION:
            found |= {config_class.model_type, text.model_type}
    assert found | without == STATEFUL


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param({"model_type": "mamba"}, "mamba keeps a state", id="mamba"),
        pytest.param({"model_type": "qwen3_next"}, "qwen3_next keeps", id="mixed by number"),
        pytest.param(
            {"model_type": "own", "layer_types": ["conv", "full_attention"]},
            "own keeps a state besides keys and values in its layers of conv", id="mixed by name",
        ),
        pytest.param(
            {"model_type": "see", "text_config": {"model_type": "mamba"}}, "mamba", id="inside"
        ),
    ],
)  # fmt: skip
def test_a_model_that_keeps_a_state_is_refused_by_name(
    tmp_path: Path, config: dict, words: str
) -> None:
    assert words in why_unreadable(write_config(tmp_path / "acme/own", **config))
    model = load_catalog(Settings(tmp_path, models_dir=tmp_path), tmp_path).models["acme/own"]
    assert model.path is None and words in model.why


def test_a_hybrid_with_attention_in_all_layers_is_none() -> None:
    for kind in ("attention", "full_attention"):
        assert why_stateful({"model_type": "granitemoehybrid", "layer_types": [kind] * 2}) == ""


@pytest.mark.parametrize(
    ("config", "context"),
    [
        pytest.param(GPT2Config(n_positions=128).to_dict(), 128, id="gpt2"),
        pytest.param(MptConfig(max_seq_len=256).to_dict(), 256, id="mpt"),
        pytest.param(
            {"model_type": "gemma3", "text_config": {"max_position_embeddings": 64}}, 64, id="sees"
        ),
        pytest.param({"model_type": "bloom"}, 2048, id="none"),
    ],
)  # fmt: skip
def test_the_context_is_read_under_the_name_that_the_architecture_has_for_it(
    tmp_path: Path, config: dict, context: int
) -> None:
    assert context_length(write_config(tmp_path / "m", **config)) == context
