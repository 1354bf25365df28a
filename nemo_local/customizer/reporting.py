"""What a training leaves behind while it runs: its reports, its checkpoints, its best adapter."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import TrainerCallback

from nemo_local.customizer.hyperparameters import Plan
from nemo_local.customizer.progress import Progress, ProgressWriter, TrainingFailed, read_all

STEP_REPORT_EVERY_S = 0.5
EARLY_STOP_EPOCHS = 10
EARLY_STOP_DELTA = 0.001


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; others are removed."""
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


class Reporter(TrainerCallback):
    """Reports steps and losses, keeps the best adapter, and stops when nothing improves."""

    def __init__(
        self, progress: ProgressWriter, so_far: Progress, best_dir: Path, plan: Plan
    ) -> None:
        self._progress = progress
        self._best_dir = best_dir
        self._plan = plan
        self._reported_at = 0.0
        self._per_epoch = so_far.prepared["steps_per_epoch"]
        self._best = math.inf
        self._improved_at_step = so_far.prepared["resumed_from"]
        for point in so_far.val_loss:
            self._is_best(point["value"], point["step"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        if now - self._reported_at >= STEP_REPORT_EVERY_S:
            self._reported_at = now
            self._progress.write("step", steps=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        logs, step = given["logs"], state.global_step - 1
        if "loss" in logs:
            loss = float(logs["loss"])
            print(f"step {step}: train_loss {loss:.4f}, lr {float(logs['learning_rate']):.2e}")
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"the training loss became {loss} at step {step}; "
                    "try a lower learning_rate or a longer warm-up"
                )
            self._progress.write("train_loss", step=step, value=loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        step, loss = state.global_step - 1, float(given["metrics"]["eval_loss"])
        print(f"step {step}: val_loss {loss:.4f}")
        if self._is_best(loss, step):
            save_adapter(given["model"], self._best_dir)
        self._progress.write("val_loss", step=step, value=loss)
        waited = (step - self._improved_at_step) / self._per_epoch
        if waited >= EARLY_STOP_EPOCHS:
            print(f"no improvement above {EARLY_STOP_DELTA} for {EARLY_STOP_EPOCHS} epochs: stop")
            control.should_training_stop = True

    def _is_best(self, loss: float, step: int) -> bool:
        if loss < self._best - EARLY_STOP_DELTA:
            self._improved_at_step = step
        better = loss < self._best
        self._best = min(loss, self._best)
        return better


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter alone, as `adapter_model.safetensors` and `adapter_config.json`."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"]
    training, config.inference_mode = config.inference_mode, True
    config.save_pretrained(partial)
    config.inference_mode = training
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def finish(trainer: Any, job: dict[str, Any], job_dir: Path, progress: ProgressWriter) -> None:
    """Leave the best adapter in `job_dir/adapter`, and report the end."""
    steps = trainer.state.global_step
    best, adapter = job_dir / "best", job_dir / "adapter"
    if not best.is_dir():
        save_adapter(trainer.model, best)
    shutil.rmtree(adapter, ignore_errors=True)
    shutil.copytree(best, adapter)
    config_path = adapter / "adapter_config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    # The folder's name would mean nothing elsewhere, and tells where this machine keeps models.
    config["base_model_name_or_path"] = job["base_model"]
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    progress.write("finished", steps=steps, best_epoch=read_all(job_dir).best_epoch)
