"""One job from its dataset to a served model: fetch, train in a child process, publish."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from nemo_local.core.client import Client, UpstreamError
from nemo_local.core.documents import Document
from nemo_local.core.jobs import FINISHED
from nemo_local.customizer.cards import model_card
from nemo_local.customizer.hub import FilesUnavailable, Hub
from nemo_local.customizer.hyperparameters import Plan
from nemo_local.customizer.progress import DISK_FULL, STOPPED, Progress, ProgressReader, read_all
from nemo_local.customizer.records import Records
from nemo_local.customizer.references import DatasetSource, DatasetUrl, OutputModel

logger = logging.getLogger(__name__)

POLL_S = 0.3
LEAVES_CHECKPOINT_WITHIN_S = 8.0
"""What a training gets to end the step under way and save it, when the platform stops."""
SERVED_WITHIN_S = 30.0
ATTEMPTS = 3
"""A job that was running when the platform died is picked up so many times, then failed."""

CHILD_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "offline",
    # Threads that spin for long starve every other process on a small machine; a short spin saves
    # an eighth of a step.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "30000",
    # glibc gives every large tensor back to the kernel and asks for it again: a third of a step.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "NEMO_LOCAL_TOKEN", "WANDB_API_KEY")


class JobFailed(Exception):
    """The job cannot go on; the message is the reason it shows."""

    def __init__(self, phase: str, reason: str, error: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.phase = phase
        self.error = error or {"message": reason}


class Interrupted(Exception):
    """The job was cancelled, or the platform stops."""


class JobRun:
    """The work of one job, on a worker thread."""

    def __init__(
        self,
        job: Document,
        records: Records,
        hub: Hub,
        platform: Client,
        nim: Client,
        jobs_dir: Path,
    ) -> None:
        self.id: str = job["id"]
        self.folder = jobs_dir / self.id
        self.output = OutputModel(**job["run"]["output"])
        self._records = records
        self._hub = hub
        self._platform = platform
        self._nim = nim

    def __call__(self, cancelled: threading.Event) -> None:
        """Run to the end, or until `cancelled`. Every outcome is recorded; nothing is raised."""
        try:
            job = self._begin()
            if job is None:
                return
            if not job["run"].get("fetched"):
                self._fetch(job)
                self._records.keep(self.id, fetched=True)
            _raise_if(cancelled)
            if not job["run"].get("trained"):
                self._train(job, cancelled)
                self._records.keep(self.id, trained=True)
            _raise_if(cancelled)
            self._publish(cancelled)
        except Interrupted:
            self.interrupted()
        except JobFailed as failure:
            self._fail(failure)
        except Exception as error:
            logger.exception("customization job %s crashed", self.id)
            self._fail(JobFailed("Job", f"{type(error).__name__}: {error}"))

    def interrupted(self) -> None:
        """End a cancelled job; a job the platform left when it stopped stays as it is."""
        if self._records.get(self.id)["status"] != "cancelling":
            return
        self.mark_entity("upload_failed")
        self._records.move(self.id, "cancelled", "Cancelled")
        self._clean()

    def _begin(self) -> Document | None:
        job = self._records.get(self.id)
        if job["status"] in FINISHED:
            return None
        steps = read_all(self.folder).steps
        went_on = steps > job["run"].get("steps_at_start", -1)
        attempts = 1 if went_on else job["run"]["attempts"] + 1
        if attempts > ATTEMPTS:
            raise JobFailed(
                "Job", f"the platform ended {ATTEMPTS} times at step {steps} of this job"
            )
        if self._records.move(self.id, "running") is None:
            if job["status"] != "running":
                return None  # cancelled a moment ago
            self._records.log(self.id, "JobResumed", f"the platform ended after step {steps}")
        return self._records.keep(self.id, attempts=attempts, steps_at_start=steps)

    def _fetch(self, job: Document) -> None:
        self._records.log(self.id, "EntityHandler_0_Running", f"fetching {job['dataset']}")
        source = job["run"]["source"]
        dataset = DatasetSource(**{**source, "url": DatasetUrl(**source["url"])})
        try:
            count = self._hub.download(dataset, self.folder / "data")
        except FilesUnavailable as error:
            raise JobFailed("EntityHandler_0", str(error)) from error
        self._records.log(self.id, "EntityHandler_0_Completed", f"{count} data files")

    def _train(self, job: Document, cancelled: threading.Event) -> None:
        (self.folder / "job.json").write_text(
            json.dumps(job["run"]["task"], indent=2), encoding="utf-8"
        )
        self._records.log(self.id, "TrainingJobCreated")
        reader, progress = ProgressReader(self.folder), Progress()
        # What an earlier process reported is part of this run.
        progress.apply(reader.read())
        progress.failure, progress.finished = None, False
        with (self.folder / "train.log").open("ab") as log:
            process = start_training(self.folder, log, job["run"]["task"]["threads"])
            try:
                self._follow(process, reader, progress, cancelled)
            finally:
                cancelled_job = self._records.get(self.id)["status"] == "cancelling"
                end_process(process, 0 if cancelled_job else LEAVES_CHECKPOINT_WITHIN_S)
        if progress.failure is not None:
            raise JobFailed("TrainingJob", progress.failure["message"], progress.failure)
        if process.returncode != 0 or not progress.finished:
            raise JobFailed("TrainingJob", _how_it_ended(process.returncode, progress))
        self._records.log(
            self.id,
            "TrainingJobCompleted",
            f"{progress.steps} steps, best epoch {progress.best_epoch}",
        )

    def _follow(
        self,
        process: subprocess.Popen[bytes],
        reader: ProgressReader,
        progress: Progress,
        cancelled: threading.Event,
    ) -> None:
        announced: Any = None
        ended = False
        while not ended:
            # Asked before reading, so that the last events are read after the end.
            ended = process.poll() is not None
            events = reader.read()
            if events:
                progress.apply(events)
                if progress.prepared is not announced and progress.prepared:
                    announced = progress.prepared
                    self._records.log(self.id, "TrainingJobRunning", _summary(announced))
                self._records.progress(self.id, progress.details())
            if not ended and cancelled.wait(POLL_S):
                raise Interrupted

    def _publish(self, cancelled: threading.Event) -> None:
        for state in ("Created", "Pending", "Running"):
            self._records.log(self.id, f"EntityHandler_1_{state}")
        job = self._records.get(self.id)
        plan = Plan.from_json(job["run"]["task"]["plan"])
        folder = self.folder / ("adapter" if plan.makes_adapter else "model")
        (folder / "README.md").write_text(model_card(job, plan, self.output), encoding="utf-8")
        try:
            self._hub.upload(folder, self.output, f"Output of job {self.id}")
            self._set_artifact_status("upload_completed")
        except (FilesUnavailable, UpstreamError) as error:
            raise JobFailed("EntityHandler_1", str(error)) from error
        if plan.makes_adapter:
            warning = self._wait_until_served(str(self.output), cancelled)
            if warning:
                self._records.log(self.id, "ModelNotServed", warning)
        else:
            self._records.log(self.id, "ModelStored", _how_to_serve(self.output))
        self._records.move(self.id, "completed", "EntityHandler_1_Completed")
        self._clean()

    def _wait_until_served(self, model_id: str, cancelled: threading.Event) -> str:
        """Empty once inference lists the model; else why it does not."""
        deadline = time.monotonic() + SERVED_WITHIN_S
        reason = "inference does not list it"
        while time.monotonic() < deadline:
            try:
                answer = self._nim.post("/internal/refresh")
                if model_id in answer["models"]:
                    return ""
                reason = answer.get("failed", {}).get(model_id, reason)
            except UpstreamError as error:
                reason = str(error)
                if self._is_listed(model_id):  # another inference server, without our refresh
                    return ""
            if cancelled.wait(POLL_S):
                raise Interrupted
        return f"{model_id} is stored, but not served after {SERVED_WITHIN_S:g} s: {reason}"

    def _is_listed(self, model_id: str) -> bool:
        try:
            return any(model["id"] == model_id for model in self._nim.get("/v1/models")["data"])
        except UpstreamError:
            return False

    def _fail(self, failure: JobFailed) -> None:
        reason = str(failure)
        logger.warning("customization job %s failed: %s", self.id, reason)
        self.mark_entity("upload_failed")
        self._records.keep_error(self.id, {**failure.error, "message": reason})
        self._records.move(self.id, "failed", f"{failure.phase}_Failed", reason)

    def mark_entity(self, status: str) -> None:
        """Say in the Entity Store how the model stands; a model that is gone stays gone."""
        try:
            self._set_artifact_status(status)
        except UpstreamError as error:
            logger.warning("job %s: %s is not marked %s: %s", self.id, self.output, status, error)

    def _set_artifact_status(self, status: str) -> None:
        artifact = self._platform.get(self.output.entity_path)["artifact"]
        changed = {"artifact": {**artifact, "status": status}}
        self._platform.patch(self.output.entity_path, json=changed)

    def _clean(self) -> None:
        """Keep the logs of a finished job; its files are in the Data Store."""
        for name in ("data", "tokens", "checkpoints", "best", "adapter", "model"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def start_training(folder: Path, log: IO[bytes], threads: int | None) -> subprocess.Popen[bytes]:
    """The training process of a job's folder; it ends when this process does."""
    environment = {key: value for key, value in os.environ.items() if key not in SECRETS}
    environment |= CHILD_ENVIRONMENT
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "nemo_local.customizer.train", str(folder)],
        stdin=subprocess.PIPE,  # its end of file tells the child that we are gone
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,  # Ctrl-C in the platform's terminal must not fail the job
    )


def end_process(process: subprocess.Popen[bytes], within_s: float) -> None:
    """Ask the process to end, and end it by force when it has not `within_s` seconds later."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin:
        process.stdin.close()


def _raise_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Interrupted


def _how_it_ended(returncode: int | None, progress: Progress) -> str:
    if returncode == DISK_FULL:
        return "the disk is full, so that not even the reason could be written; make room"
    at = f"after step {progress.steps} of {progress.prepared.get('total_steps', '?')}"
    if returncode == STOPPED:
        return f"the training process was told to end (SIGTERM) {at}"
    if returncode is not None and returncode < 0:
        name = signal.Signals(-returncode).name
        hint = " (most often the machine ran out of memory)" if name == "SIGKILL" else ""
        return f"the training process was ended by {name} {at}{hint}; see container-logs"
    return f"the training process ended with status {returncode} {at}; see container-logs"


def _summary(prepared: dict[str, Any]) -> str:
    parts = [
        f"{prepared['rows']} training and {prepared['validation_rows']} validation sequences",
        f"{prepared['total_steps']} steps",
        prepared["note"],
    ]
    for key in ("dropped", "truncated"):
        if prepared[key]:
            parts.append(f"{prepared[key]} {key} at max_seq_length")
    if prepared["resumed_from"]:
        parts.append(f"resumed from step {prepared['resumed_from']}")
    return ", ".join(parts)


def _how_to_serve(output: OutputModel) -> str:
    return (
        f"{output} is a whole model, which is served once it is deployed: POST "
        f"/v1/deployment/model-deployments with config.model {str(output)!r}"
    )
