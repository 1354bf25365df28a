"""What the choices for a training depend on, and what a choice is. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_local.customizer.parallelism import SHARDED
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.training.activations import Size
from nemo_local.settings import Parallelism

ROW_BY_ROW, SDPA, EAGER, FLASH = "row_by_row", "sdpa", "eager", "flash_attention_2"
UNMASKED = "sdpa_unmasked"
"""SDPA that looks back, and no more; transformers then looks for no mask. See attention.py."""
AMPERE, VOLTA = (8, 0), (7, 0)
"""The compute capabilities from which on there are bf16, TF32 and FlashAttention 2; and Triton."""


@dataclass(frozen=True)
class Facts:
    """What the choices depend on."""

    plan: Plan
    precision: str
    """As the config asks: bf16-mixed, bf16, fp32, ..."""
    device_asked: str
    """NEMO_LOCAL_DEVICE."""
    device: str
    """cpu or cuda."""
    device_name: str
    """NVIDIA A100-SXM4-80GB, a CPU with AVX2, ..."""
    has_bf16: bool
    """Whether it computes in bf16 itself."""
    model_type: str
    size: Size
    head_dim: int
    parameters: int
    checkpoint_bytes: int
    longest: int
    """Tokens of the longest row."""
    most_learnt: int
    """Tokens that are learnt in the row, or in one answer of the pair, that has most of them."""
    vocabulary: int
    """Tokens that the model can predict."""
    pass_sizes: tuple[int, ...]
    """Rows that a pass may have, the most first."""
    steps: int
    """Of the whole run."""
    capability: tuple[int, int] = (0, 0)
    """Of the GPU."""
    free_bytes: int = 0
    """Of the GPU, before the model is there; of several the least."""
    installed: frozenset[str] = frozenset()
    """Of flash_attn, liger_kernel, triton, and cc, the C compiler that Triton's kernels need."""
    kernel_error: str = ""
    """Why a trial Liger kernel failed; empty when it ran or Liger is not installed."""
    activation: str = "silu"
    """Of the feed-forward block."""
    attentions: frozenset[str] = frozenset()
    """What of SDPA and FLASH the architecture can use."""
    can_checkpoint: bool = True
    """Whether the architecture can compute its layers again."""
    why_not_row_by_row: str = ""
    """Empty when it suits."""
    why_masked: str = ""
    """Empty when attention that looks back is all that rows padded on the right need."""
    why_not_packed: str = ""
    """Empty when sequences of this training could share rows."""
    padding: tuple[float, float] = (0.0, 0.0)
    """Shares of the tokens of a packed run's passes that are padding: without packing, and with."""
    teacher_parameters: int = 0
    teacher_bytes: int = 0
    processes: int = 1
    parallelism: Parallelism = "ddp"
    refused: int | None = None
    """Rows of a pass for which memory ran out; None while it has not."""

    @property
    def sharded(self) -> bool:
        """Whether a process holds a part of the weights only."""
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
        """Whether it is used, of those that are used or not."""
        return self.value == "on"

    def __str__(self) -> str:
        return f"{self.name}: {self.value} ({self.reason})"
