"""Callbacks of a running training: its reports, checkpoints, best weights and early stop."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from nemo_local.customizer.progress import Progress, ProgressWriter, TrainingFailed
from nemo_local.customizer.training.ranks import Ranks
from nemo_local.customizer.training.saving import save_weights

STEP_REPORT_EVERY_S = 0.5
SAVING_SHARE = 0.05
"""Share of a training's time that writing checkpoints may take."""
EARLY_STOP_EPOCHS = 10
EARLY_STOP_DELTA = 0.001


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None; incomplete ones that are newer are removed."""
    for path in sorted(
        folder.glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]), reverse=True
    ):
        try:
            # Written last, so its presence says that the rest is there.
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            return path
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return None


class StopAt(TrainerCallback):
    """Once the event is set, ends the run after the current step or during the current validation.

    The event of one process is enough: all end at the same place, with a checkpoint.
    """

    def __init__(self, stop: Event, ranks: Ranks) -> None:
        self._stop = stop
        self._ranks = ranks
        self.stopped = False

    def told(self) -> bool:
        """Whether to stop; every process must call it."""
        self.stopped = self._ranks.any(self._stop.is_set())
        return self.stopped

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.told():
            control.should_save = control.should_training_stop = True


class SavePace(TrainerCallback):
    """Skips checkpoints while writing them has taken more than its share of the time.

    They are due every few steps, which are minutes on a CPU and a second or two on a GPU; those of
    all weights are many gigabytes. Must come before StopAt, whose checkpoint is always written.
    """

    def __init__(self, ranks: Ranks, clock: Callable[[], float] = time.monotonic) -> None:
        self._ranks = ranks
        self._clock = clock
        self._began = clock()
        self._spent = 0.0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context that counts its time as time of writing a checkpoint."""
        began = self._clock()
        yield
        self._spent += self._clock() - began

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = self._clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_save:
            allowed = SAVING_SHARE * (self._clock() - self._began)
            control.should_save = not self._ranks.any(self._spent > allowed)


class LossWindow(TrainerCallback, ExportableState):
    """Mean loss of the steps since the last report.

    Checkpoints keep it, so that a resumed run reports what an uninterrupted one would have. The
    Trainer's own mean forgets the steps before the checkpoint.
    """

    def __init__(self, total: float = 0.0, steps: int = 0) -> None:
        self._total: Any = total
        self._steps = steps
        self._finite: Any = steps  # steps from the first whose running sum is finite
        self._step: Any = 0.0
        self.ranks = Ranks()

    @classmethod
    def of(cls, checkpoint: Path | None) -> LossWindow:
        """The window that a checkpoint keeps; empty without one."""
        if checkpoint is None:
            return cls()
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        kept = (state.get("stateful_callbacks") or {}).get(cls.__name__)
        return cls(**kept["args"]) if kept else cls()

    def add(self, loss: Any) -> None:
        """Add the loss of one pass; those of a step's passes add up to the step's loss."""
        self._step = self._step + loss.detach()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._total = self._total + self.ranks.sum(self._step) / self.ranks.count
        self._finite = self._finite + torch.isfinite(torch.as_tensor(self._total))
        self._step = 0.0
        self._steps += 1

    def check(self, last: int) -> None:
        """Raise TrainingFailed if the loss of a step since the last report was not finite.

        `last` is the number of the newest step. The check waits for the device.
        """
        finite = int(self._finite)
        if finite < self._steps:
            raise _not_finite("training", float(self._total), last + 1 - self._steps + finite)

    def take(self) -> float:
        """Return the mean, and start a new window."""
        mean = float(self._total) / max(1, self._steps)
        self._total, self._steps, self._finite = 0.0, 0, 0
        return mean

    def state(self) -> dict[str, Any]:
        return {"args": {"total": float(self._total), "steps": self._steps}, "attributes": {}}


class Pace(TrainerCallback):
    """Adds the tokens per second of the steps since the last log to the logs.

    Padding does not count, nor does the time of validations and checkpoints.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._tokens: Any = torch.zeros((), dtype=torch.long)
        self._seconds = 0.0
        self._began = time.monotonic()

    def count(self, tokens: Any) -> None:
        """Add the tokens of one pass."""
        self._tokens = self._tokens + tokens

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._seconds += time.monotonic() - self._began

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if "loss" in given["logs"] and self._seconds:
            tokens = float(self._ranks.sum(self._tokens))
            given["logs"]["tokens_per_second"] = tokens / self._seconds
            self._tokens, self._seconds = torch.zeros_like(self._tokens), 0.0


class Reporter(TrainerCallback):
    """Reports steps and losses, keeps the best weights, and stops when nothing improves."""

    def __init__(
        self,
        progress: ProgressWriter,
        so_far: Progress,
        best_dir: Path,
        window: LossWindow,
    ) -> None:
        self._progress = progress
        self._best_dir = best_dir
        self._window = window
        self._ranks = window.ranks
        self._reported_at = 0.0
        self._per_epoch = so_far.prepared["steps_per_epoch"]
        self._best = self._counted = math.inf
        self._improved_at_step = so_far.prepared["resumed_from"]
        for point in so_far.val_loss:
            self._is_best(point["value"], point["step"])
        self._validated_at_step = max((point["step"] for point in so_far.val_loss), default=-1)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Repeat a validation that the checkpoint cut off, unless an earlier process has done so.
        amid = state.stateful_callbacks["TrainerControl"]["args"]["should_evaluate"]
        args.eval_on_start = amid and self._validated_at_step < state.global_step - 1
        self._stop_if_nothing_improves(self._validated_at_step, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        takes_long = control.should_save or control.should_evaluate
        if takes_long or now - self._reported_at >= STEP_REPORT_EVERY_S:
            self._reported_at = now
            self._progress.write("step", steps=state.global_step)
        if takes_long or control.should_training_stop:
            self._window.check(state.global_step - 1)
        if state.global_step == state.max_steps:
            control.should_log |= _never_logged(state)

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        logs, step = given["logs"], state.global_step - 1
        if "loss" in logs:
            self._window.check(step)
            loss = self._window.take()
            print(f"step {step}: train_loss {loss:.4f}, lr {float(logs['learning_rate']):.2e}")
            logs["loss"] = loss  # for the trackers, which come later
            self._progress.write("train_loss", step=step, value=loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        step, loss = state.global_step - 1, float(given["metrics"]["eval_loss"])
        print(f"step {step}: val_loss {loss:.4f}")
        if not math.isfinite(loss):
            raise _not_finite("validation", loss, step)
        if self._is_best(loss, step):
            save_weights(given["model"], self._best_dir, self._ranks)
        self._progress.write("val_loss", step=step, value=loss)
        self._report_calls(step, given["metrics"])
        self._stop_if_nothing_improves(step, state, control)

    def _stop_if_nothing_improves(self, validated_at_step: int, state: Any, control: Any) -> None:
        waited = (validated_at_step - self._improved_at_step) / self._per_epoch
        if waited >= EARLY_STOP_EPOCHS:
            print(f"no improvement above {EARLY_STOP_DELTA} for {EARLY_STOP_EPOCHS} epochs: stop")
            control.should_training_stop = True
            control.should_log |= _never_logged(state)

    def _report_calls(self, step: int, metrics: dict[str, float]) -> None:
        if "eval_tool_call_accuracy" in metrics:
            self._progress.write(
                "tool_calls",
                step=step,
                names=metrics["eval_tool_name_accuracy"],
                calls=metrics["eval_tool_call_accuracy"],
            )

    def _is_best(self, loss: float, step: int) -> bool:
        if loss < self._counted - EARLY_STOP_DELTA:  # small improvements add up
            self._counted, self._improved_at_step = loss, step
        better = loss < self._best
        self._best = min(loss, self._best)
        return better


def _never_logged(state: Any) -> bool:
    """Whether no loss was logged yet; a run may be shorter than the steps between two logs."""
    return not any("loss" in logs for logs in state.log_history)


def _not_finite(which: str, loss: float, step: int) -> TrainingFailed:
    return TrainingFailed(
        f"the {which} loss became {loss} at step {step}; "
        "try a lower learning_rate or a longer warm-up"
    )
