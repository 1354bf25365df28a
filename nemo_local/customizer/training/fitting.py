"""Fits a pass into memory: how many rows, and whether with activation checkpointing. No torch.

Fewer rows are tried first: they cost less than computing activations again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nemo_local.customizer.training.activations import logits, resident
from nemo_local.customizer.training.facts import Choice, Facts
from nemo_local.customizer.training.passes import TOKENS_PER_PASS, sequences_a_row

FILLS = 0.8
"""Share of a GPU's free memory that an estimate may fill; what it leaves out needs the rest."""
ROWS, CHECKPOINTING = "rows a pass", "activation checkpointing"


@dataclass(frozen=True)
class Form:
    """The choices that decide how much memory a pass needs."""

    width: int
    """Bytes of a computed value (activation)."""
    stored: int
    """Bytes of a weight."""
    teacher: int
    """Bytes of a teacher's weight."""
    fused: bool
    """Whether attention keeps no scores."""


def fit(facts: Facts, form: Form) -> tuple[Choice, Choice]:
    """The rows of a pass, and activation checkpointing."""
    left = [size for size in facts.pass_sizes if facts.refused is None or size < facts.refused]
    batch = f"a batch has {_rows(facts.plan.batch_size)}"
    most = f"{batch}, a pass takes {TOKENS_PER_PASS[facts.device]} tokens"
    if not left:
        least = facts.pass_sizes[-1]
        rows = Choice(ROWS, str(least), "there are no fewer")
        checkpointing = Choice(CHECKPOINTING, "on", f"memory ran out with {_rows(least)} a pass")
    elif facts.device == "cuda":
        rows, checkpointing = _by_estimate(facts, left, form)
        rows = replace(rows, reason=f"{most}; {rows.reason}")
    else:
        rows = Choice(ROWS, str(left[0]), most)
        checkpointing = Choice(CHECKPOINTING, "off", "on a CPU only once memory runs out")
    if left and facts.refused is not None:
        rows = replace(rows, reason="halved because memory ran out")
    if not facts.can_checkpoint:
        checkpointing = Choice(CHECKPOINTING, "off", f"{facts.model_type} has none")
    return rows, checkpointing


def needs(facts: Facts, rows: int, form: Form, twice: bool = False) -> int:
    """Bytes that a process needs with `rows` rows a pass; `twice` = with checkpointing."""
    trains_all, width = facts.plan.finetuning_type == "all_weights", form.width
    stays = form.teacher * facts.teacher_parameters + resident(
        facts.parameters, form.stored, width, trains_all, facts.processes, facts.parallelism
    )
    of_a_pass = facts.size.checkpointed if twice else facts.size.activations
    sequences, dropout = rows * sequences_a_row(facts.plan), facts.plan.adapter_dropout > 0
    return (
        stays
        + of_a_pass(sequences, facts.longest, width, form.fused, dropout)
        + logits(
            sequences * facts.most_learnt, facts.vocabulary, width, facts.teacher_parameters > 0
        )
    )


def _by_estimate(facts: Facts, left: list[int], form: Form) -> tuple[Choice, Choice]:
    def need(size: int, twice: bool = False) -> int:
        return needs(facts, size, form, twice)

    room, free = FILLS * facts.free_bytes, f"of {gb(facts.free_bytes)} free"
    fits = [size for size in left if need(size) <= room]
    if fits:
        about = f"{_rows(fits[0])} a pass need about {gb(need(fits[0]))} {free}"
        return Choice(ROWS, str(fits[0]), about), Choice(CHECKPOINTING, "off", about)
    too_much = f"{_rows(left[-1])} a pass would need about {gb(need(left[-1]))} {free}"
    if not facts.can_checkpoint:
        return Choice(ROWS, str(left[-1]), too_much), Choice(CHECKPOINTING, "off", "")
    size = next((size for size in left if need(size, twice=True) <= room), left[-1])
    about = f"{_rows(size)} a pass need about {gb(need(size, twice=True))} {free} with it"
    return (
        Choice(ROWS, str(size), about.replace("with it", f"with {CHECKPOINTING}")),
        Choice(CHECKPOINTING, "on", f"{too_much}; {about}"),
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def gb(size: int) -> str:
    """A size for people: gb(1_500_000_000) -> "1.5 GB", gb(30_000_000) -> "30.0 MB" """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
