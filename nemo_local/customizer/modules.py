"""The linear layers of a checkpoint, and which of them get adapters. No torch here."""

from __future__ import annotations

import fnmatch
import json
import struct
from collections.abc import Collection
from itertools import chain
from pathlib import Path

from nemo_local.catalog import near_names
from nemo_local.core.errors import Invalid

NEMO_MODULES = {
    "linear_qkv": ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    "linear_proj": ("o_proj",),
    "linear_fc1": ("gate_proj", "up_proj", "gate_up_proj"),
    "linear_fc2": ("down_proj",),
}
"""NeMo's names of the linear layers, and what Hugging Face checkpoints call them."""


def resolve_modules(wanted: Collection[str] | None, modules: Collection[str]) -> tuple[str, ...]:
    """The layers that get adapters, as names or endings of names; all linear ones by default.

        resolve_modules(["linear_qkv"], modules_of_a_llama) -> ("q_proj", "k_proj", "v_proj")
        resolve_modules(["*.layers.0.*.linear_proj"], ...) -> ("model.layers.0.self_attn.o_proj",)
        resolve_modules(["decoder.layers.0.self_attention.linear_proj"], ...) -> the same

    Raises:
        Invalid: a name or pattern matches no layer of the model.
    """
    leaves = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in modules))
    chosen: dict[str, None] = {}
    for pattern in wanted or leaves:
        before, dot, last = pattern.rpartition(".")
        before = before.replace("self_attention", "self_attn")
        if before.startswith("decoder."):
            before = before.replace("decoder", "model", 1)
        nemo = [of for name, of in NEMO_MODULES.items() if fnmatch.fnmatchcase(name, last)]
        parts = [f"{before}{dot}{part}" for part in (last, *chain.from_iterable(nemo))]
        found = [leaf for part in parts for leaf in leaves if fnmatch.fnmatchcase(leaf, part)]
        found = found or [
            name for name in modules if any(fnmatch.fnmatchcase(name, part) for part in parts)
        ]
        if not found:
            known = [*NEMO_MODULES, *leaves]
            raise Invalid(
                f"hyperparameters.lora.target_modules: {pattern!r} is no linear layer of the base "
                f"model. {did_you_mean(pattern, known)} Known are: {', '.join(known)}."
            )
        chosen.update(dict.fromkeys(found))
    return tuple(chosen)


PACKABLE = ("llama", "mistral", "qwen2", "gemma2")
"""Architectures (`model_type`) whose packed sequences, as a test shows, do not see each other."""


def why_not_packed(checkpoint: Path, training_type: str, teacher: Path | None = None) -> str:
    """Why sequences of this training cannot share rows; empty when they can.

    The teacher, where there is one, reads the same rows.
    """
    if training_type == "dpo":
        return "the two answers of a pair share a batch already"
    for folder, whose in ((checkpoint, ""), (teacher, " of the teacher")):
        if folder is None:
            continue
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
        if kind not in PACKABLE:
            return f"not tested for {kind!r}{whose}, only for {', '.join(PACKABLE)}"
    return ""


def linear_modules(checkpoint: Path) -> list[str]:
    """Names of the linear layers of a checkpoint, without the output head.

    Read from the headers of its safetensors files: a matrix that is no embedding is a layer.
    """
    names = []
    for path in sorted(checkpoint.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for key, tensor in header.items():
            name = key.removesuffix(".weight")
            leaf = name.rsplit(".", 1)[-1]
            if key.endswith(".weight") and len(tensor["shape"]) == 2:
                if leaf not in ("lm_head", "wte", "wpe") and "embed" not in leaf:
                    names.append(name)
    return names


def did_you_mean(name: str, known: Collection[str]) -> str:
    """ "Did you mean 'epochs'?", or nothing when no known name is near."""
    near = near_names(name, list(known))
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
