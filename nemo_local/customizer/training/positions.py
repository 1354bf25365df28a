"""How many tokens a model has positions for, where they are looked up in a table."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from nemo_local.customizer.progress import TrainingFailed

TABLES = {
    **dict.fromkeys(
        (
            *("biogpt", "codegen", "ctrl", "gpt2", "gpt_bigcode", "gpt_neo", "gptj"),
            *("openai-gpt", "opt"),
        ),
        "max_position_embeddings",
    ),
    "mpt": "max_seq_len",
}
"""Architectures (`model_type`) that, as a test shows, take no longer row than this field says.
Others compute positions from their numbers, as far as rows go."""


def check_positions(checkpoint: Path, teacher: Path | None, longest: int) -> None:
    """Raise TrainingFailed where a row of `longest` tokens has more than a model has positions."""
    for name, path in (("base model", checkpoint), ("teacher", teacher)):
        if path is None:
            continue
        config = AutoConfig.from_pretrained(path, local_files_only=True).get_text_config()
        most = getattr(config, TABLES.get(config.model_type, ""), longest)
        if longest > most:
            raise TrainingFailed(
                f"the longest row has {longest} tokens, and the {name} ({config.model_type}) has "
                f"positions for {most}; lower the config's max_seq_length to {most}"
            )
