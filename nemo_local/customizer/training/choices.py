"""How a training is computed on its device: each choice with its reason. No torch here.

    facts -> choose(facts) -> "attention: sdpa (rows are padded on the right, so ...)", ...

On a CPU the choices are those that were measured there. Those for a GPU follow what PyTorch,
transformers and Liger document; docs/decisions.md says which of them have ever run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from nemo_local.customizer.training.facts import (
    AMPERE,
    EAGER,
    FLASH,
    ROW_BY_ROW,
    SDPA,
    UNMASKED,
    Choice,
    Facts,
)
from nemo_local.customizer.training.fitting import Form, fit, gb

FLASH_HEAD_DIM = 256
"""The widest attention heads that FlashAttention 2 computes."""
FP32_UP_TO_BYTES = 1_000_000_000
FUSED_MODELS = ("llama", "mistral", "qwen2")
"""Architectures with Llama's layers, which Liger's kernels and our fused layers can replace; both
always compute the gate with SiLU."""
COMPILE_FROM_STEPS = 500
"""Steps that make up for torch.compile, a guess: it takes minutes, and saves tenths of a step."""


@dataclass(frozen=True)
class Choices:
    """All choices for one run, in the order in which its log prints them."""

    device: Choice
    precision: Choice
    weights: Choice
    teacher: Choice
    tf32: Choice
    attention: Choice
    cudnn: Choice
    packing: Choice
    rows: Choice
    checkpointing: Choice
    fused: Choice
    liger: Choice
    compile: Choice

    def __iter__(self) -> Iterator[Choice]:
        return (getattr(self, field.name) for field in fields(self))

    @property
    def bf16(self) -> bool:
        """Whether matrix products are computed in bf16."""
        return self.precision.value == "bf16"

    @property
    def rows_of_a_pass(self) -> int:
        """Rows of one forward and backward pass."""
        return int(self.rows.value)

    def note(self) -> str:
        """The computation in a few words, for the job's status."""
        extra = (self.packing, self.fused, self.liger, self.compile, self.checkpointing)
        used = [choice.name for choice in extra if choice.on]
        precision = f"{self.precision.value} ({self.precision.reason})"
        attention = f"{self.attention.value} attention"
        return ", ".join([self.device.value, precision, attention, *used])


def choose(facts: Facts) -> Choices:
    """The choices for a run with these facts."""
    precision = _precision(facts)
    bf16 = precision.value == "bf16"
    weights = _weights(facts, bf16)
    teacher = _teacher(facts, bf16)
    packing = _packing(facts, bf16)
    attention = _attention(facts, bf16, packing.on)
    form = Form(
        width=2 if bf16 else 4,
        stored=2 if weights.value == "bf16" else 4,
        teacher=2 if teacher.value == "bf16" else 4,
        fused=attention.value != EAGER,
    )
    rows, checkpointing = fit(facts, form)
    fused = _fused(facts, attention)
    liger = _liger(facts, fused.on)
    return Choices(
        device=_device(facts),
        precision=precision,
        weights=weights,
        teacher=teacher,
        tf32=_tf32(facts, bf16),
        attention=attention,
        cudnn=_cudnn(facts),
        packing=packing,
        rows=rows,
        checkpointing=checkpointing,
        fused=fused,
        liger=liger,
        compile=_compile(facts, bf16, fused.on, liger.on, packing.on, checkpointing.on),
    )


def with_less_memory(facts: Facts, choices: Choices) -> Facts | None:
    """The facts once memory ran out with these choices; None when nothing is left to try."""
    rows = choices.rows_of_a_pass
    if rows == facts.pass_sizes[-1] and (choices.checkpointing.on or not facts.can_checkpoint):
        return None
    return replace(facts, refused=rows)


def _device(facts: Facts) -> Choice:
    asked = f"NEMO_LOCAL_DEVICE is {facts.device_asked}"
    if facts.device == "cuda":
        free = f"{gb(facts.free_bytes)} free"
        return Choice("device", "cuda", f"{asked}; {facts.device_name}, {free}")
    no = "" if facts.device_asked == "cpu" else ", and no CUDA device is visible"
    return Choice("device", facts.device, f"{asked}{no}")


def _precision(facts: Facts) -> Choice:
    """bf16 (autocast over the weights) or fp32."""
    asked, name = facts.precision, facts.device_name

    def chosen(value: str, reason: str) -> Choice:
        return Choice("precision", value, reason)

    if asked == "fp32":
        return chosen("fp32", "asked for")
    if facts.device == "cpu" and facts.parallelism.startswith("zero"):
        return chosen("fp32", "DeepSpeed on a CPU")
    if facts.has_bf16:
        return chosen("bf16", f"{asked} asked for, which {name} computes")
    if facts.device == "cuda":
        return chosen("fp32", f"{asked} asked for, but {name} has no bf16 of its own")
    return chosen("fp32", f"{asked} asked for, but bf16 is slower than fp32 on {name}")


def _weights(facts: Facts, bf16: bool) -> Choice:
    if facts.plan.finetuning_type == "all_weights":
        reason = "all are trained, and steps smaller than half a bf16 unit would be lost"
        return Choice("weights", "fp32", reason)
    return Choice("weights", *_frozen(facts.checkpoint_bytes, bf16))


def _teacher(facts: Facts, bf16: bool) -> Choice:
    """The type of the teacher's weights; its products are computed in the student's type."""
    if not facts.teacher_bytes:
        return Choice("teacher", "none", f"{facts.plan.training_type} has none")
    return Choice("teacher", *_frozen(facts.teacher_bytes, bf16))


def _frozen(size: int, bf16: bool) -> tuple[str, str]:
    """The type in which frozen weights of this many bytes are kept, and why."""
    if not bf16:  # their products would be in bf16, too
        return "fp32", f"frozen, {gb(size)}: products are in fp32"
    if size <= FP32_UP_TO_BYTES:
        return "fp32", f"frozen, {gb(size)}: up to {gb(FP32_UP_TO_BYTES)} in fp32"
    return "bf16", f"frozen, {gb(size)}: above {gb(FP32_UP_TO_BYTES)} in bf16"


def _tf32(facts: Facts, bf16: bool) -> Choice:
    if facts.device != "cuda":
        return Choice("TF32", "off", "a format of GPUs")
    if facts.capability < AMPERE:
        return Choice("TF32", "off", f"{facts.device_name} is older than Ampere")
    if bf16:
        return Choice("TF32", "on", "for the products that bf16 leaves in fp32")
    return Choice("TF32", "off", f"{facts.precision} asked for, and TF32 would round its products")


def _attention(facts: Facts, bf16: bool, packed: bool) -> Choice:
    own = SDPA if SDPA in facts.attentions else EAGER

    def chosen(value: str, reason: str) -> Choice:
        return Choice("attention", value, reason)

    if facts.device == "cpu":
        if not facts.why_not_row_by_row:
            reason = f"rows of up to {facts.longest} tokens, whose scores fit into a CPU's cache"
            return chosen(ROW_BY_ROW, reason)
        return chosen(own, f"the model's own; not {ROW_BY_ROW}: {facts.why_not_row_by_row}")
    if packed:
        return chosen(FLASH, "packed sequences lie end to end in one row, without mask or padding")
    if own == SDPA:
        if facts.why_masked:
            return chosen(SDPA, f"PyTorch's fused kernel with a mask; {facts.why_masked}")
        why = "rows are padded on the right and need no mask: PyTorch's fused kernel"
        return chosen(UNMASKED, why)
    if no_flash := _why_not_flash(facts, bf16):
        return chosen(own, f"the architecture's own; not {FLASH}: {no_flash}")
    return chosen(FLASH, f"{facts.model_type} has no {SDPA}")


def _cudnn(facts: Facts) -> Choice:
    """Whether cuDNN computes PyTorch's fused attention, as PyTorch prefers on an H100."""
    no_gpu = "a library for GPUs"
    reason = "it plans each new shape of a pass, for longer than a pass takes"
    return Choice("cuDNN attention", "off", reason if facts.device == "cuda" else no_gpu)


def _why_not_flash(facts: Facts, bf16: bool) -> str:
    if FLASH not in facts.attentions:
        return f"{facts.model_type} cannot use it"
    if "flash_attn" not in facts.installed:
        return "flash_attn is not installed"
    if facts.capability < AMPERE:
        return f"{facts.device_name} is older than Ampere"
    if not bf16:
        return "it does not compute in fp32"
    if facts.head_dim > FLASH_HEAD_DIM:
        return f"heads are {facts.head_dim} wide, it knows {FLASH_HEAD_DIM}"
    return ""


def _packing(facts: Facts, bf16: bool) -> Choice:
    if not facts.plan.pack_sequences:
        reason = facts.why_not_packed or "sequence_packing_enabled was not asked for"
        return Choice("packing", "off", reason)
    without, left = facts.padding
    if facts.device == "cuda":
        left = 0.0
        if no_flash := _why_not_flash(facts, bf16):
            reason = f"asked for, but a mask would cost a GPU more than {without:.0%} of padding"
            return Choice("packing", "off", f"{reason}; not {FLASH}: {no_flash}")
    reason = f"asked for; padding is {left:.0%} of what a pass computes, {without:.0%} without it"
    return Choice("packing", "on", reason)


def _fused(facts: Facts, attention: Choice) -> Choice:
    """Whether our fused layers replace the library's decoder layers."""
    plan, on_cpu = facts.plan, facts.device == "cpu"
    reasons = {
        f"{attention.value} attention takes masks": attention.value not in (UNMASKED, ROW_BY_ROW),
        f"only for {', '.join(FUSED_MODELS)}, not for {facts.model_type}": (
            facts.model_type not in FUSED_MODELS
        ),
        "they are for adapters beside frozen weights": plan.finetuning_type == "all_weights",
        f"they compute silu, and this {facts.model_type} has {facts.activation}": (
            facts.activation != "silu"
        ),
        "a teacher would round otherwise": plan.training_type == "distillation",
        "they have no dropout": bool(plan.adapter_dropout or plan.hidden_dropout),
        f"nobody tried them with {facts.parallelism}": (
            facts.processes > 1 and facts.parallelism != "ddp"
        ),
    }
    if on_cpu:
        reasons |= {
            f"on a CPU they are for sft, not for {plan.training_type}": plan.training_type != "sft",
            "several processes share this processor already": facts.processes > 1,
        }
    if why_not := next((reason for reason, holds in reasons.items() if holds), ""):
        return Choice("fused layers", "off", why_not)
    shared = ", in threads with rows of their own" if on_cpu else ""
    reason = f"{facts.model_type} with adapters, in few operations{shared}"
    return Choice("fused layers", "on", reason)


def _liger(facts: Facts, fused: bool) -> Choice:
    name = "Liger kernels"
    why_not = facts.why_no_triton
    if fused:
        return Choice(name, "off", "our fused layers have no place for them")
    if facts.device == "cuda" and "liger_kernel" not in facts.installed:
        why_not = "liger_kernel is not installed"
    elif not why_not and facts.model_type not in FUSED_MODELS:
        why_not = f"only for {', '.join(FUSED_MODELS)}, not for {facts.model_type}"
    elif not why_not and facts.activation != "silu":
        why_not = f"they compute silu, and this {facts.model_type} has {facts.activation}"
    elif not why_not and facts.sharded:
        why_not = f"weights are split ({facts.parallelism}), for which nobody tried them"
    if why_not:
        return Choice(name, "off", why_not)
    return Choice(name, "on", f"fused layers of {facts.model_type}; the loss stays ours")


def _compile(
    facts: Facts, bf16: bool, fused: bool, liger: bool, packed: bool, checkpointing: bool
) -> Choice:
    plan = facts.plan
    reasons = {
        "accelerate would round the products of fp32 to TF32 with it": not bf16,
        "our fused layers would cut its graphs apart": fused,
        "Liger's kernels are fused already and would cut its graphs apart": liger,
        f"{facts.parallelism} gathers weights between its graphs": (facts.parallelism != "ddp"),
        f"{plan.training_type} calls the model in ways that would be compiled apart": (
            plan.training_type != "sft"
        ),
        "packed rows change their form with every pass": packed,
        "dropout hooks cut its graphs apart": bool(plan.hidden_dropout),
        "layers that are computed again would be compiled again": checkpointing,
        f"{facts.steps} steps are too few to make up for compiling, {COMPILE_FROM_STEPS} needed": (
            facts.steps < COMPILE_FROM_STEPS
        ),
    }
    first = next((reason for reason, holds in reasons.items() if holds), "")
    if why_not := facts.why_no_triton or first:
        return Choice("torch.compile", "off", why_not)
    return Choice("torch.compile", "on", f"{facts.steps} steps make up for compiling")
