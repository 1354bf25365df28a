"""Gathers the facts that a training's choices depend on, from torch and installed packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from nemo_local.catalog import count_parameters, weight_files
from nemo_local.customizer.layers import attention
from nemo_local.customizer.modules import why_not_packed
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.training.activations import Size
from nemo_local.customizer.training.choices import choose
from nemo_local.customizer.training.facts import FLASH, SDPA, Facts
from nemo_local.customizer.training.packing import padding_shares
from nemo_local.customizer.training.passes import pass_sizes
from nemo_local.customizer.training.positions import check_positions
from nemo_local.customizer.training.ranks import Ranks

PACKAGES = ("flash_attn", "liger_kernel", "triton")


def gather(
    checkpoint: Path,
    plan: Plan,
    ranks: Ranks,
    lengths: Sequence[int],
    most_learnt: int,
    longest_validated: int = 0,
    precision: str = "fp32",
    device_asked: str = "auto",
    teacher: Path | None = None,
) -> Facts:
    """The facts of a training on rows of these lengths; every process must call it.

    `most_learnt` is the most tokens that count in the loss of one row, `longest_validated` the
    tokens of the longest validation row. All get the first process's facts, with the least free
    memory that one of them has.

    Raises:
        TrainingFailed: a row is longer than a model has positions for.
    """
    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    text, longest = config.get_text_config(), max(lengths)
    heads = getattr(text, "num_attention_heads", 1)
    sizes = pass_sizes(plan, longest, ranks.count, ranks.device.type)
    longest_of_all = max(longest, longest_validated)
    check_positions(checkpoint, teacher, longest_of_all)
    model: Any = AutoModelForCausalLM._model_mapping.get(type(config), None)
    device = _Device.of(ranks.device)
    free = ranks.least(device.free_bytes)
    facts = Facts(
        plan=plan,
        precision=precision,
        device_asked=device_asked,
        device=ranks.device.type,
        device_name=device.name,
        has_bf16=device.has_bf16,
        capability=device.capability,
        free_bytes=int(free),
        installed=_installed(),
        activation=getattr(text, "hidden_act", ""),
        model_type=config.model_type,
        size=Size(
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            intermediate=_intermediate(text),
            heads=heads,
        ),
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        parameters=count_parameters(checkpoint),
        checkpoint_bytes=_bytes(checkpoint),
        teacher_parameters=count_parameters(teacher) if teacher else 0,
        teacher_bytes=_bytes(teacher) if teacher else 0,
        attentions=frozenset(
            name
            for name, flag in ((SDPA, "_supports_sdpa"), (FLASH, "_supports_flash_attn"))
            if getattr(model, flag, False)
        ),
        can_checkpoint=bool(getattr(model, "supports_gradient_checkpointing", False)),
        why_not_row_by_row=(
            "it takes no masks, which packed rows and dropped weights need"
            if plan.needs_masks
            else attention.why_not(config, model, ranks.device, longest_of_all)
        ),
        why_masked=attention.why_masked(text, longest_of_all),
        why_not_packed=why_not_packed(checkpoint, plan.training_type, teacher),
        padding=padding_shares(lengths, plan, sizes[0]) if plan.pack_sequences else (0.0, 0.0),
        longest=longest,
        most_learnt=most_learnt,
        vocabulary=text.vocab_size,
        pass_sizes=sizes,
        steps=plan.total_steps(len(lengths)),
        processes=ranks.count,
        parallelism=ranks.parallelism,
    )
    if facts.device == "cuda" and not choose(facts).fused.on:
        facts = replace(facts, kernel_error=_try_kernel(ranks.device))
    return ranks.from_first(lambda: facts)


@dataclass(frozen=True)
class _Device:
    """The device of this process, as torch describes it."""

    name: str
    has_bf16: bool
    capability: tuple[int, int] = (0, 0)
    free_bytes: int = 0

    @classmethod
    def of(cls, device: torch.device) -> _Device:
        if device.type == "cuda":
            return cls(
                name=torch.cuda.get_device_name(device),
                # Older GPUs emulate it, slower than fp32.
                has_bf16=torch.cuda.is_bf16_supported(including_emulation=False),
                capability=torch.cuda.get_device_capability(device),
                free_bytes=torch.cuda.mem_get_info(device)[0],
            )
        instructions = torch.backends.cpu.get_cpu_capability()
        if instructions == "AVX512" and torch.cpu._is_avx512_bf16_supported():
            return cls("a CPU with AVX512_BF16", has_bf16=True)
        return cls(f"a CPU with {instructions}", has_bf16=False)


def _installed() -> frozenset[str]:
    found = {name for name in PACKAGES if find_spec(name) is not None}
    # As Triton looks for it.
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return frozenset(found | ({"cc"} if compiler else set()))


def _try_kernel(device: torch.device) -> str:
    """Compile a small Liger kernel and run it, forward and backward; the error, or empty.

    An installed compiler may lack Python's headers or the driver's library.
    """
    if find_spec("liger_kernel") is None:
        return ""
    try:
        from liger_kernel.transformers.rms_norm import LigerRMSNorm

        norm = LigerRMSNorm(16).to(device)
        norm(torch.ones(2, 16, device=device)).sum().backward()
        torch.cuda.synchronize()
    except Exception as error:
        return f"{type(error).__name__}: {error}".strip().split("\n", 1)[0]
    return ""


def _bytes(checkpoint: Path) -> int:
    return sum(path.stat().st_size for path in weight_files(checkpoint))


def _intermediate(config: Any) -> int:
    """Width of the feed-forward block; with experts, of all together that see a token."""
    width: int = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return width * (getattr(config, "num_experts_per_tok", None) or 1)
