"""The facts that the choices for a training depend on, and a choice's form. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_local.customizer.parallelism import SHARDED
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.training.activations import Size
from nemo_local.settings import Parallelism

ROW_BY_ROW, SDPA, EAGER, FLASH = "row_by_row", "sdpa", "eager", "flash_attention_2"
UNMASKED = "sdpa_unmasked"
"""Purely causal SDPA, for which transformers looks for no mask. See attention.py."""
AMPERE, VOLTA = (8, 0), (7, 0)
"""The lowest compute capabilities with bf16, TF32 and FlashAttention 2, and with Triton."""


@dataclass(frozen=True)
class Facts:
    """The facts that the choices for one training depend on."""

    plan: Plan
    precision: str
    """The precision that the config asks for: bf16-mixed, bf16, fp32, ..."""
    device_asked: str
    """The setting NEMO_LOCAL_DEVICE."""
    device: str
    """cpu or cuda."""
    device_name: str
    """NVIDIA A100-SXM4-80GB, a CPU with AVX2, ..."""
    has_bf16: bool
    """Whether the device computes bf16 natively."""
    model_type: str
    size: Size
    head_dim: int
    parameters: int
    checkpoint_bytes: int
    longest: int
    """Tokens of the longest training row."""
    most_learnt: int
    """The most tokens that count in the loss of any row, or of one answer of a pair."""
    vocabulary: int
    """Tokens that the model can predict."""
    pass_sizes: tuple[int, ...]
    """Numbers of rows that a pass may have, the largest first."""
    steps: int
    """Optimiser steps of the whole run."""
    capability: tuple[int, int] = (0, 0)
    """Compute capability of the GPU."""
    free_bytes: int = 0
    """Free memory of the GPU before the model is loaded; of several GPUs, the least."""
    installed: frozenset[str] = frozenset()
    """Which are present of flash_attn, liger_kernel, triton, and cc, Triton's C compiler."""
    kernel_error: str = ""
    """Why a trial Liger kernel failed; empty when it ran or Liger is not installed."""
    activation: str = "silu"
    """Activation function of the feed-forward block."""
    attentions: frozenset[str] = frozenset()
    """Which of SDPA and FLASH the architecture can use."""
    can_checkpoint: bool = True
    """Whether the architecture supports activation checkpointing."""
    why_not_row_by_row: str = ""
    """Why ROW_BY_ROW attention does not suit; empty when it does."""
    why_masked: str = ""
    """Why right-padded rows need a mask; empty when causal attention is enough."""
    why_not_packed: str = ""
    """Why sequences of this training cannot share rows; empty when they can."""
    padding: tuple[float, float] = (0.0, 0.0)
    """Shares of padding in passes, of a run that asks for packing: without it, and with it."""
    teacher_parameters: int = 0
    teacher_bytes: int = 0
    processes: int = 1
    parallelism: Parallelism = "ddp"
    refused: int | None = None
    """Rows that a pass had when memory ran out; None while it has not."""

    @property
    def sharded(self) -> bool:
        """Whether a process holds only a part of the weights."""
        return self.processes > 1 and self.parallelism in SHARDED

    @property
    def why_no_triton(self) -> str:
        """Why kernels written in Triton cannot run; empty when they can."""
        if self.device != "cuda":
            return "not on a CPU"
        if "triton" not in self.installed:
            return "Triton is not installed"
        if self.capability < VOLTA:
            return f"Triton needs compute capability 7.0, {self.device_name} has {self._capability}"
        if "cc" not in self.installed:
            return "Triton needs a C compiler, and there is none"
        return f"a kernel was tried and failed: {self.kernel_error}" if self.kernel_error else ""

    @property
    def _capability(self) -> str:
        return "{}.{}".format(*self.capability)


@dataclass(frozen=True)
class Choice:
    """One thing that was chosen."""

    name: str
    value: str
    reason: str

    @property
    def on(self) -> bool:
        """Whether the choice is "on", for choices that are on or off."""
        return self.value == "on"

    def __str__(self) -> str:
        return f"{self.name}: {self.value} ({self.reason})"
