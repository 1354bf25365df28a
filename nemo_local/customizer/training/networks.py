"""The models of a training: the one that learns, with its adapter, and the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.liger import apply_liger_kernel

from nemo_local.core.longrope import choose_row_by_row
from nemo_local.customizer.layers.answers_only import end_at_answers
from nemo_local.customizer.layers.dropout import OF_HIDDEN_STATES, add_hidden_dropout, switches
from nemo_local.customizer.layers.fused_compiled import Compiled
from nemo_local.customizer.layers.fused_layers import Operations, fuse_layers
from nemo_local.customizer.layers.fused_torch import InTorch
from nemo_local.customizer.layers.lora_forward import shorten_forward
from nemo_local.customizer.layers.token_rows import add_rows, rows_to_train
from nemo_local.customizer.modules import OTHER_SENSES
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.progress import TrainingFailed
from nemo_local.customizer.special_tokens import NO_TOKENS, SpecialTokens
from nemo_local.customizer.task import Task
from nemo_local.customizer.training.choices import Choices
from nemo_local.customizer.training.facts import FLASH, ROW_BY_ROW, UNMASKED
from nemo_local.customizer.training.ranks import Ranks

LIGER_LAYERS = {"cross_entropy": False, "fused_linear_cross_entropy": False}
"""Liger's norms, rotary embeddings and gates, but no loss: ours has few logits already, and Liger's
fused one would replace the model's forward, which TRL has wrapped."""


def load_model(
    checkpoint: Path,
    plan: Plan,
    ranks: Ranks,
    choices: Choices,
    special: SpecialTokens = NO_TOKENS,
) -> Any:
    """The checkpoint, set up for what the plan trains, on this process's device.

    Raises:
        TrainingFailed: the architecture does not have a dropout that the plan asks for.
    """
    attention = choices.attention.value
    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    dropouts = switches(config, plan)
    split = ranks.count > 1 and ranks.parallelism == "fsdp"
    model: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.bfloat16 if choices.weights.value == "bf16" else torch.float32,
        attn_implementation=attention if attention in (ROW_BY_ROW, UNMASKED, FLASH) else None,
        **dropouts,
        **(_split_over(ranks) if split else {}),
    )
    for name in dropouts.keys() - {"attention_dropout"}:  # some read it later; saving resets it
        setattr(model.config, name, getattr(config, name))
    add_rows(model, special)
    model.has_longrope = choose_row_by_row(model) is not None
    if not ranks.sharded:
        model.to(ranks.device)
    if not ranks.sharded and not choices.compile.on:  # its graphs would be cut at the answers
        end_at_answers(model)
    if plan.hidden_dropout and config.model_type not in OF_HIDDEN_STATES:
        add_hidden_dropout(model, plan.hidden_dropout)
    if choices.liger.on:
        # Not by the Trainer's `use_liger_kernel`: with it TRL's trainers may change their losses.
        apply_liger_kernel(model, LIGER_LAYERS)
    if plan.finetuning_type == "all_weights":
        return _in_training(model)
    adapted = get_peft_model(
        model,
        LoraConfig(
            r=plan.adapter_dim,
            lora_alpha=plan.alpha,
            lora_dropout=plan.adapter_dropout,
            target_modules=list(plan.target_modules),
            exclude_modules=OTHER_SENSES if config.get_text_config() is not config else None,
            trainable_token_indices=rows_to_train(model, special),
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    # With a name to look up, PEFT would put the whole embedding into every checkpoint once it grew.
    adapted.peft_config["default"].base_model_name_or_path = ""
    if not ranks.sharded:
        shorten_forward(adapted)
    if choices.fused.on:
        operations: Operations = Compiled() if attention == ROW_BY_ROW else InTorch()
        fuse_layers(adapted, torch.bfloat16 if choices.bf16 else model.dtype, operations)
    return _in_training(adapted)


def load_teacher(task: Task, tokenizer: Any, choices: Choices, device: Any) -> Any:
    """The frozen teacher of a distillation, whole in every process.

    Raises:
        TrainingFailed: its tokenizer differs from the student's.
    """
    path, name = task.teacher_path, task.teacher
    own = AutoTokenizer.from_pretrained(path, local_files_only=True)
    if own.get_vocab() != tokenizer.get_vocab():
        raise TrainingFailed(
            f"the teacher {name} does not have the tokenizer of the base model ({len(own)} and "
            f"{len(tokenizer)} tokens); distillation compares token by token and needs one for both"
        )
    teacher: Any = AutoModelForCausalLM.from_pretrained(
        path,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.bfloat16 if choices.teacher.value == "bf16" else torch.float32,
    )
    teacher.has_longrope = choose_row_by_row(teacher) is not None
    end_at_answers(teacher)
    return teacher.to(device).eval().requires_grad_(False)


def _in_training(model: Any) -> Any:
    """The model in training mode; from now on `train` visits its layers only on a change of mode.

    The Trainer calls `train` before each pass, and the visit takes milliseconds of Python.
    """
    visit = model.train().train

    def train(mode: bool = True) -> Any:
        return model if model.training == mode else visit(mode)

    model.train = train
    return model


def _split_over(ranks: Ranks) -> dict[str, Any]:
    """Options that make transformers load only this process's part of the weights, for FSDP."""
    from transformers.distributed import DistributedConfig

    return {"distributed_config": DistributedConfig(fsdp_size=ranks.count)}
