"""Experiment trackers of a training: TensorBoard, Weights & Biases and MLflow.

The trackers are transformers' own callbacks, with the names people know: train/loss,
train/learning_rate, train/grad_norm, train/tokens_per_second, eval/loss, eval/tool_call_accuracy
(MLflow has them as loss, ..., eval_loss). No failure of a tracker ends a training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from transformers import TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, WandbCallback

from nemo_local.customizer.integrations import KEY, PROJECT, TRACKING_URI
from nemo_local.customizer.progress import Stopped
from nemo_local.customizer.task import Task

FOLDER, MLFLOW_RUN = "tensorboard", "mlflow_run"
"""In the job's folder: TensorBoard's logs, and the file with the id of the MLflow run."""
WANDB = {
    # Seconds for the server to answer before a run goes offline, and to take the last numbers,
    # which are on disk, too.
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "60",
}
MLFLOW = {
    "MLFLOW_EXPERIMENT_NAME": PROJECT,
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder is what the URI named
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Settings of both clients; those in the platform's own environment take precedence."""


class Tolerant(TrainerCallback):
    """Passes a training's events on to a tracker, up to the tracker's first error."""

    def __init__(self, name: str, make: Callable[[], Any], told: Callable[[str], str]) -> None:
        """`told` makes a message fit to print: one line without secrets."""
        self._name = name
        self._make = make
        self._told = told
        self._tracker: Any = None
        self._failed = False

    def on_train_begin(self, *given: Any, **options: Any) -> None:
        self._pass_on("on_train_begin", given, options)

    def on_log(self, *given: Any, **options: Any) -> None:
        self._pass_on("on_log", given, options)

    def on_train_end(self, *given: Any, **options: Any) -> None:
        self._pass_on("on_train_end", given, options)

    def _pass_on(self, event: str, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        if self._failed:
            return
        try:
            self._tracker = self._tracker or self._make()
            getattr(self._tracker, event)(*given, **options)
        except Exception as error:
            self._failed = True
            reason = self._told(f"{type(error).__name__}: {error}")
            print(f"{self._name} gets no more of this run: {reason}")


class Trackers:
    """The trackers of one job, for as long as its process trains."""

    def __init__(self, task: Task, job_dir: Path) -> None:
        self._task = task
        self._folder = job_dir
        # Out of the environment, which every process started from here would inherit.
        self._key = os.environ.pop(KEY, "")
        self._tracking_uri = os.environ.get(TRACKING_URI, "")
        self._run: Any = None
        self._mlflow: Any = None
        self.where: list[str] = []
        """Where to look, a phrase for each tracker."""

    def __enter__(self) -> Self:
        """Start the trackers; waits for the Weights & Biases server when there is a key."""
        self.where.append(f"TensorBoard in {self._folder / FOLDER}")
        asked = self._task.wandb
        if asked:
            self.where.append(self._begin_wandb(asked))
        if self._tracking_uri:
            _default(**MLFLOW, MLFLOW_TAGS=json.dumps(self._facts()))
            self.where.append(self._told(f"MLflow at {self._tracking_uri}"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for name, end in (("Weights & Biases", self._end_wandb), ("MLflow", self._end_mlflow)):
            try:
                end(kind)
            except Exception as problem:
                print(f"{name} did not end well: {self._told(str(problem))}")

    def callbacks(self, done: int) -> list[TrainerCallback]:
        """The trackers' callbacks, for the trainer of a run that resumes after `done` steps."""

        def tensorboard() -> Any:
            from torch.utils.tensorboard import SummaryWriter

            # What was logged after the checkpoint is logged again.
            purge = done + 1 if done else None
            folder = str(self._folder / FOLDER)
            return TensorBoardCallback(SummaryWriter(folder, purge_step=purge))

        made: dict[str, Callable[[], Any]] = {"TensorBoard": tensorboard}
        if self._run is not None:
            made["Weights & Biases"] = WandbCallback
        if self._tracking_uri:
            made["MLflow"] = self._begin_mlflow
        return [Tolerant(name, make, self._told) for name, make in made.items()]

    def _begin_wandb(self, asked: Mapping[str, Any]) -> str:
        """Start a run; returns where it is."""
        # All that it writes stays in the job's folder.
        names = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
        _default(**WANDB, **dict.fromkeys(names, str(self._folder / "wandb")))
        import wandb

        if self._key:
            try:
                self._run = self._init_wandb(asked, self._key, mode="online", resume="allow")
                return f"Weights & Biases at {self._run.url}"
            except Exception as error:
                why = f"its server could not be used, {type(error).__name__}: {error}"
                with suppress(Exception):  # its process may be gone
                    wandb.teardown()
        elif asked["keyed"]:
            why = "keys are not kept, and the platform has restarted since one came with the job"
        else:
            why = "no wandb-api-key came with the job"
        why = self._told(why)
        try:
            self._run = self._init_wandb(asked, None, mode="offline")
        except Exception as error:
            return f"no Weights & Biases ({why}; offline, {type(error).__name__}: {error})"
        return f"Weights & Biases offline ({why}): wandb sync {self._run.settings.sync_dir}"

    def _init_wandb(self, asked: Mapping[str, Any], key: str | None, **options: Any) -> Any:
        import wandb

        return wandb.init(
            id=self._folder.name,  # a process that resumes the job continues the same run
            name=self._folder.name,
            dir=str(self._folder),
            config=self._facts(),
            **{name: asked[name] for name in ("project", "entity", "notes", "tags")},
            **options,
            settings=wandb.Settings(
                api_key=key,
                console="off",
                disable_git=True,
                save_code=False,
                silent=True,
            ),
        )

    def _end_wandb(self, kind: type[BaseException] | None) -> None:
        if self._run is not None:
            self._run.finish(exit_code=1 if kind else 0)

    def _begin_mlflow(self) -> Any:
        """A callback for the job's MLflow run, a new one or the one an earlier process began."""
        mlflow: Any = import_module("mlflow")  # of mlflow-skinny, an extra
        kept = self._folder / MLFLOW_RUN
        known = kept.read_text(encoding="utf-8") if kept.exists() else ""
        if known:
            os.environ["MLFLOW_MAX_LOG_PARAMS"] = "0"  # they are there, and may not change
        if self._mlflow is None:
            if not known:
                mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
            run = mlflow.start_run(run_id=known or None, run_name=self._folder.name)
            kept.write_text(run.info.run_id, encoding="utf-8")
            self._mlflow = mlflow
        return MLflowCallback()  # ends no run that it did not start

    def _end_mlflow(self, kind: type[BaseException] | None) -> None:
        if self._mlflow is None:
            return
        if kind is Stopped:  # another process goes on with the run
            self._mlflow.flush_async_logging()
        else:
            self._mlflow.end_run("FAILED" if kind else "FINISHED")

    def _facts(self) -> dict[str, str]:
        return {
            "customization_job": self._folder.name,
            "base_model": self._task.base_model,
            "dataset": self._task.dataset,
        }

    def _told(self, text: str) -> str:
        """The text fit for a log: one line, without the key and the tracking URI's password."""
        line = " ".join(text.split())
        for secret in filter(None, (self._key, urlsplit(self._tracking_uri).password)):
            line = line.replace(secret, "***")
        return line


def _default(**variables: str) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)
