"""Warms up the libraries before there is a job, with a training step of a tiny model.

What they put off until they are first used would add half a second to a job's first step:
transformers compiles some hundred patterns for its first checkpoint, and numba gathers all that it
could compile for its first kernel.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from nemo_local.customizer.plan import Plan
from nemo_local.customizer.training.choices import choose
from nemo_local.customizer.training.gather import gather
from nemo_local.customizer.training.networks import load_model
from nemo_local.customizer.training.objectives import answer_logits, places_before
from nemo_local.customizer.training.ranks import Ranks

ROWS, LENGTH = 2, 16
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def rehearse() -> bool:
    """Run a model of random weights forward and backward, as a job on a CPU would.

    Returns False, having done nothing, where there is a GPU: an idle process must not take its
    memory. Leaves no threads behind, so that the process can fork.
    """
    if torch.cuda.is_available():
        return False
    threads, tqdm.monitor_interval = torch.get_num_threads(), 0
    torch.set_num_threads(1)
    try:
        _rehearse()
    finally:
        torch.set_num_threads(threads)
    return True


def _rehearse() -> None:
    plan = Plan(target_modules=LINEARS)
    with TemporaryDirectory() as folder:
        LlamaForCausalLM(_smallest()).save_pretrained(folder)
        facts = gather(
            Path(folder), plan, Ranks(), [LENGTH] * ROWS, LENGTH - 1, precision="bf16-mixed"
        )
        choices = choose(facts)
        model = load_model(Path(folder), plan, Ranks(), choices)
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.int64)
    inputs = {"input_ids": ids, "labels": ids, "places": places_before(torch.ones_like(ids) > 0)}
    with torch.autocast("cpu", torch.bfloat16, choices.bf16):
        answer_logits(model, inputs, inputs["places"]).sum().backward()


def _smallest() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=8,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
