"""The linear layers of a checkpoint, and which of them get adapters."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection
from itertools import chain
from pathlib import Path

from nemo_local.catalog import config_of, tensor_shapes, weight_files
from nemo_local.core.errors import Invalid
from nemo_local.core.near import did_you_mean, near_names

NEMO_MODULES = {
    "linear_qkv": ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv"),
    "linear_proj": ("o_proj", "out_proj", "dense", "attn.c_proj"),
    "linear_fc1": (
        *("gate_proj", "up_proj", "gate_up_proj", "fc1", "fc_in", "c_fc", "dense_h_to_4h"),
        *("input_linear", "w1", "w3"),
    ),
    "linear_fc2": (
        *("down_proj", "fc2", "fc_out", "mlp.c_proj", "dense_4h_to_h", "output_linear", "w2"),
    ),
}
"""NeMo's names of the linear layers, and what Hugging Face checkpoints call them."""

ROUTERS = ("gate", "router")
"""Names of routers, which choose experts: a matrix that is not a linear layer of its own."""
CONV1D = ("gpt2", "openai-gpt")
"""Architectures (`model_type`) with transposed matrices, for which inference has no adapters."""
OTHER_SENSES = r"(.*\.)?(vision|visual|audio|multi_modal)[^.]*(\..*)?"
"""Module names in a model's vision and audio parts, which get no adapters: rows are text."""


def resolve_modules(
    wanted: Collection[str] | None, modules: Collection[str], merged: bool = False
) -> tuple[str, ...]:
    """The layers that get adapters, as names or endings of names; all linear ones by default.

        resolve_modules(["linear_qkv"], modules_of_a_llama) -> ("q_proj", "k_proj", "v_proj")
        resolve_modules(["*.layers.0.*.linear_proj"], ...) -> ("model.layers.0.self_attn.o_proj",)
        resolve_modules(["decoder.layers.0.self_attention.linear_proj"], ...) -> the same

    Routers, and experts, which share one matrix, get adapters only when they are named, and only
    where adapters are `merged` into the weights.

    Raises:
        Invalid: a name or pattern matches no layer of the model, or none that can have an adapter.
    """
    apart = _experts_and_routers(modules)
    every = list(dict.fromkeys(map(_leaf, modules)))
    leaves = [leaf for leaf in every if leaf not in apart]
    chosen: dict[str, None] = {}
    for pattern in wanted or leaves:
        found = _matches(pattern, modules)
        if not found:
            nemo = [name for name in NEMO_MODULES if _matches(name, modules)]
            known = [*nemo, *(every if merged else leaves)]
            hint = did_you_mean(map(repr, near_names(pattern, known)))
            raise Invalid(
                f"hyperparameters.lora.target_modules: {pattern!r} is not a linear layer of the "
                f"base model.{hint} Known are: {', '.join(known)}."
            )
        if not merged:
            found = [name for name in found if _leaf(name) not in apart]
        if not found:
            raise Invalid(
                f"hyperparameters.lora.target_modules: {pattern!r} means routers or experts of the "
                "base model, on which no adapter can be served. Use finetuning_type 'lora_merged', "
                f"or name some of: {', '.join(leaves)}."
            )
        chosen.update(dict.fromkeys(found))
    for pair in (("gate_proj", "up_proj"), ("w1", "w3")):
        ends = {_leaf(name) for name in chosen} & apart.intersection(pair)
        if len(ends) == 1:
            raise Invalid(
                f"hyperparameters.lora.target_modules: {' and '.join(pair)} of the experts are one "
                f"matrix, and only {ends.pop()!r} is named; name both"
            )
    return tuple(chosen)


def _matches(pattern: str, modules: Collection[str]) -> list[str]:
    """The name endings that a name or pattern matches, or else the whole names."""
    before, dot, last = pattern.rpartition(".")
    before = before.replace("self_attention", "self_attn")
    if before.startswith("decoder."):
        before = before.replace("decoder", "model", 1)
    nemo = [of for name, of in NEMO_MODULES.items() if fnmatch.fnmatchcase(name, last)]
    parts = [f"{before}{dot}{part}" for part in (last, *chain.from_iterable(nemo))]
    leaves = list(dict.fromkeys(map(_leaf, modules)))
    found = [leaf for part in parts for leaf in leaves if fnmatch.fnmatchcase(leaf, part)]
    ends = [f"*.{part}" if not dot and "." in part else part for part in parts]
    return found or [
        name for name in modules if any(fnmatch.fnmatchcase(name, end) for end in ends)
    ]


def _experts_and_routers(modules: Collection[str]) -> set[str]:
    """Last name parts of experts and routers; PEFT takes any layer named so for an expert."""
    experts = {_leaf(name) for name in modules if ".experts." in name}
    return experts.union(ROUTERS)


def _leaf(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def why_no_adapter(checkpoint: Path) -> str:
    """Why inference could not serve an adapter of this checkpoint; empty when it could."""
    kind = config_of(checkpoint).get("model_type")
    if kind in CONV1D:
        return (
            f"the matrices of {kind} are transposed (Conv1D), and inference has adapters for none"
        )
    return ""


PACKABLE = ("llama", "mistral", "qwen2", "gemma2")
"""Architectures (`model_type`) whose packed sequences do not see each other, as a test shows."""


def why_not_packed(checkpoint: Path, training_type: str, teacher: Path | None = None) -> str:
    """Why sequences of this training cannot share rows; empty when they can.

    The teacher, where there is one, reads the same rows.
    """
    if training_type == "dpo":
        return "the two answers of a pair share a batch already"
    for folder, whose in ((checkpoint, ""), (teacher, " of the teacher")):
        if folder is None:
            continue
        config = config_of(folder)
        kind = config.get("model_type")
        if kind not in PACKABLE:
            return f"not tested for {kind!r}{whose}, only for {', '.join(PACKABLE)}"
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if rope.get("rope_type", rope.get("type")) == "longrope":
            return f"longrope positions{whose} depend on the length of a row"
    return ""


def linear_modules(checkpoint: Path) -> list[str]:
    """Names of the linear layers that read text, without the output head.

    Read from the headers of the checkpoint's weight files: a matrix that is no embedding counts as
    a layer.
    """
    names = []
    for path in weight_files(checkpoint):
        for key, shape in tensor_shapes(path).items():
            name = key.removesuffix(".weight")
            leaf = _leaf(name)
            if key.endswith(".weight") and len(shape) == 2:
                embeds = leaf in ("lm_head", "wte", "wpe") or "embed" in leaf
                if not embeds and not re.fullmatch(OTHER_SENSES, name):
                    names.append(name)
    return names
