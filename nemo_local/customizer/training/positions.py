"""Refuses rows with more tokens than a model's table of positions."""

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
"""Architectures (`model_type`) with a table of positions, and the field of its size. They take no
longer row, as a test shows; others compute positions for rows of any length."""


def check_positions(checkpoint: Path, teacher: Path | None, longest: int) -> None:
    """Raise TrainingFailed where a row of `longest` tokens exceeds a model's positions."""
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
