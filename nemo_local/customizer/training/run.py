"""All that one training works with, from its job to its trackers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch

from nemo_local.customizer.plan import Plan
from nemo_local.customizer.progress import ProgressWriter
from nemo_local.customizer.special_tokens import SpecialTokens
from nemo_local.customizer.task import Task
from nemo_local.customizer.training.call_accuracy import CallAccuracy
from nemo_local.customizer.training.ranks import Ranks
from nemo_local.customizer.training.token_files import TokenFile
from nemo_local.customizer.training.trackers import Trackers


@dataclass(frozen=True)
class Run:
    """The training of one job: its model, its data, and where it reports."""

    task: Task
    folder: Path
    ranks: Ranks
    tokenizer: Any
    special: SpecialTokens
    training: TokenFile
    validation: TokenFile
    progress: ProgressWriter
    stop: Event
    trackers: Trackers | None
    """None in a process that does not report."""
    call_accuracy: CallAccuracy | None

    @property
    def plan(self) -> Plan:
        return self.task.plan

    @property
    def longest(self) -> int:
        """Tokens of the longest training row."""
        return max(self.training.lengths)

    @property
    def longest_of_all(self) -> int:
        """Tokens of the longest row of training or validation."""
        return max(self.longest, max(self.validation.lengths, default=0))

    @property
    def device(self) -> torch.device:
        return self.ranks.device
