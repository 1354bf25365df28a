"""One job from its dataset to a served model: fetch, train in a child process, publish."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from nemo_local.core.client import Client, UpstreamError
from nemo_local.core.documents import Document
from nemo_local.core.errors import NotFound
from nemo_local.core.hub_urls import DatasetUrl
from nemo_local.core.jobs import FINISHED
from nemo_local.customizer import sentences
from nemo_local.customizer.cards import model_card
from nemo_local.customizer.hub import FilesUnavailable, Hub
from nemo_local.customizer.processes import Training, TrainingProcesses, end_process
from nemo_local.customizer.progress import Progress, ProgressReader, read_all
from nemo_local.customizer.records import Records
from nemo_local.customizer.references import DatasetSource, OutputModel
from nemo_local.customizer.task import Task

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 0.1
ASK_AGAIN_S = 0.3
LEAVES_CHECKPOINT_WITHIN_S = 8.0
"""Time a training has to finish its step and save a checkpoint when the platform stops."""
SERVED_WITHIN_S = 30.0
LISTED_WITHIN_S = 5.0
TELL_AGAIN_S = 1.0
"""Pause before a job's end is recorded again after a full disk prevented it."""
ATTEMPTS = 3
"""Runs of a job that the platform's end may cut off at the same step before the job fails."""


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
        processes: TrainingProcesses,
        environment: Mapping[str, str],
        stopping: Callable[[], bool],
    ) -> None:
        """`environment` is for the training process alone, and may hold secrets.

        `stopping` tells whether the platform stops: a failure is then not the job's fault.
        """
        self.id: str = job["id"]
        self.folder = jobs_dir / self.id
        self.output = OutputModel(**job["run"]["output"])
        self._records = records
        self._hub = hub
        self._platform = platform
        self._nim = nim
        self._processes = processes
        self._environment = environment
        self._stopping = stopping

    def __call__(self, cancelled: threading.Event) -> None:
        """Run to the end, or until `cancelled`. Every outcome is recorded; nothing is raised."""
        try:
            self._run(cancelled)
        except NotFound:  # its model may be another job's by now
            logger.info("customization job %s was deleted", self.id)
        finally:
            # Only now: beside a training, a spare would compete for memory and processor.
            if not self._stopping():
                self._processes.prepare()

    def interrupted(self) -> None:
        """End a cancelled job; one that only the platform's stop interrupted stays as it is."""
        if self._records.get(self.id)["status"] != "cancelling":
            return
        self._mark_failed()
        self._records.move(self.id, "cancelled", "Cancelled")
        self.clean()

    def clean(self) -> None:
        """Delete a finished job's files except its logs; any output is in the Data Store."""
        for name in ("data", "tokens", "checkpoints", "best", "adapter", "model"):
            for ending in ("", ".fetched", ".partial"):
                shutil.rmtree(self.folder / f"{name}{ending}", ignore_errors=True)

    def _run(self, cancelled: threading.Event) -> None:
        try:
            job = self._begin()
            if job is None:
                return
            if not job["run"].get("fetched"):
                self._fetch(job, cancelled)
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
            self._fail(failure, cancelled)
        except NotFound:
            raise
        except Exception as error:
            logger.exception("customization job %s crashed", self.id)
            self._fail(JobFailed("Job", f"{type(error).__name__}: {error}"), cancelled)

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
            status = self._records.get(self.id)["status"]
            if status == "cancelling":
                raise Interrupted
            if status != "running":
                return None  # cancelled a moment ago
            self._records.log(self.id, "JobResumed", f"the platform ended after step {steps}")
        return self._records.keep(self.id, attempts=attempts, steps_at_start=steps)

    def _fetch(self, job: Document, cancelled: threading.Event) -> None:
        self._records.log(self.id, "EntityHandler_0_Running", f"fetching {job['dataset']}")
        source = job["run"]["source"]
        dataset = DatasetSource(**{**source, "url": DatasetUrl(**source["url"])})
        try:
            count = _until(
                cancelled, lambda: self._hub.download(dataset, self.folder / "data", cancelled)
            )
        except FilesUnavailable as error:
            raise JobFailed("EntityHandler_0", str(error)) from error
        self._records.log(self.id, "EntityHandler_0_Completed", f"{count} data files")

    def _train(self, job: Document, cancelled: threading.Event) -> None:
        Task.from_json(job["run"]["task"]).write(self.folder)
        self._records.log(self.id, "TrainingJobCreated")
        reader, progress = ProgressReader(self.folder), Progress()
        # What an earlier process reported is part of this run.
        progress.apply(reader.read())
        progress.failure, progress.finished = None, False
        returncode, heard = self._run_process(reader, progress, cancelled)
        killed_first = returncode < 0 and not heard  # perhaps the spare, just as it got the job
        if killed_first and not self._stopping():
            self._records.log(self.id, "TrainingJobCreated", "the process was killed; once more")
            returncode, _ = self._run_process(reader, progress, cancelled)
        if progress.failure is not None:
            raise JobFailed("TrainingJob", progress.failure["message"], progress.failure)
        if returncode != 0 or not progress.finished:
            raise JobFailed("TrainingJob", sentences.how_it_ended(returncode, progress))
        self._records.log(self.id, "TrainingJobCompleted", sentences.result(progress))

    def _run_process(
        self, reader: ProgressReader, progress: Progress, cancelled: threading.Event
    ) -> tuple[int, bool]:
        """Train in a process to its end; its exit status, and whether it reported anything."""
        with (self.folder / "train.log").open("ab") as log:
            process = self._processes.start(self.folder, log, self._environment)
            try:
                heard = self._follow(process, reader, progress, cancelled)
            finally:
                cancelled_job = self._records.get(self.id)["status"] == "cancelling"
                end_process(process, 0 if cancelled_job else LEAVES_CHECKPOINT_WITHIN_S)
        return process.wait(), heard

    def _follow(
        self,
        process: Training,
        reader: ProgressReader,
        progress: Progress,
        cancelled: threading.Event,
    ) -> bool:
        """Record what the process reports until it ends; whether it reported anything."""
        announced: Any = None
        heard = ended = False
        while not ended:
            # Asked before reading, so that the last events are read after the end.
            ended = process.poll() is not None
            events = reader.read()
            if events:
                heard = True
                progress.apply(events)
                if progress.prepared is not announced and progress.prepared:
                    announced = progress.prepared
                    self._records.log(self.id, "TrainingJobRunning", sentences.summary(announced))
                self._records.progress(self.id, progress.details())
            if not ended and cancelled.wait(POLL_S):
                raise Interrupted
        return heard

    def _publish(self, cancelled: threading.Event) -> None:
        for state in ("Created", "Pending", "Running"):
            self._records.log(self.id, f"EntityHandler_1_{state}")
        job = self._records.get(self.id)
        task = Task.from_json(job["run"]["task"])
        folder = self.folder / task.plan.output_folder
        (folder / "README.md").write_text(model_card(job, task.plan, self.output), encoding="utf-8")
        try:
            message = f"Output of job {self.id}"
            _until(cancelled, lambda: self._hub.upload(folder, self.output, message, cancelled))
            _raise_if(cancelled)
            registered = self._set_artifact_status("upload_completed")
        except (FilesUnavailable, UpstreamError) as error:
            raise JobFailed("EntityHandler_1", str(error)) from error
        if not registered:
            self._records.log(self.id, "ModelNotServed", sentences.not_registered(self.output))
        elif task.plan.makes_adapter:
            warning = self._wait_until_served(str(self.output), task.base_model, cancelled)
            if warning:
                self._records.log(self.id, "ModelNotServed", warning)
        else:
            self._records.log(self.id, "ModelStored", sentences.how_to_serve(self.output))
        self._records.move(self.id, "completed", "EntityHandler_1_Completed")
        self.clean()

    def _wait_until_served(self, model_id: str, base: str, cancelled: threading.Event) -> str:
        """Wait until inference lists the adapter; why it does not, or empty when it does."""
        deadline = time.monotonic() + SERVED_WITHIN_S
        reason = "inference does not list it"
        while time.monotonic() < deadline:
            try:
                answer = _until(
                    cancelled,
                    lambda: self._nim.post("/internal/refresh", timeout=SERVED_WITHIN_S),
                )
                if model_id in answer["models"]:
                    return ""
                if base not in answer["models"]:
                    reason = (
                        f"inference does not serve its base model {base}, which can be deployed"
                    )
                reason = answer.get("failed", {}).get(model_id, reason)
            except UpstreamError as error:
                reason = str(error)
                if self._is_listed(model_id):  # another inference server, without our refresh
                    return ""
            if cancelled.wait(ASK_AGAIN_S):
                raise Interrupted
        return f"{model_id} is stored, but not served after {SERVED_WITHIN_S:g} s: {reason}"

    def _is_listed(self, model_id: str) -> bool:
        try:
            listed = self._nim.get("/v1/models", timeout=LISTED_WITHIN_S)["data"]
            return any(model["id"] == model_id for model in listed)
        except UpstreamError:
            return False

    def _fail(self, failure: JobFailed, cancelled: threading.Event) -> None:
        """Record the failure, unless it came from the platform's stop."""
        if self._stopping():
            return self.interrupted()
        reason = str(failure)
        logger.warning("customization job %s failed: %s", self.id, reason)
        self.clean()  # makes room for the reason on a full disk
        self._mark_failed()
        while True:
            try:
                self._records.keep_error(self.id, {**failure.error, "message": reason})
                self._records.move(self.id, "failed", f"{failure.phase}_Failed", reason)
                return None
            except NotFound:
                raise
            except Exception:  # of the database: most likely its disk is full
                logger.exception("that customization job %s failed cannot be stored", self.id)
            if cancelled.wait(TELL_AGAIN_S):
                return self.interrupted()

    def _mark_failed(self) -> None:
        """Mark the model `upload_failed` in the Entity Store, unless it was deleted there."""
        try:
            self._set_artifact_status("upload_failed")
        except Exception as error:  # a job ends whatever others made of the entity
            logger.warning(
                "job %s: %s is not marked upload_failed: %s", self.id, self.output, error
            )

    def _set_artifact_status(self, status: str) -> bool:
        """Set the model's artifact status in the Entity Store; False when it was deleted there."""
        try:
            artifact = self._platform.get(self.output.entity_path).get("artifact") or {}
            changed = {"artifact": {**artifact, "status": status}}
            self._platform.patch(self.output.entity_path, json=changed)
        except UpstreamError as error:
            if error.status != 404:
                raise
            return False
        return True


def _until(cancelled: threading.Event, work: Callable[[], T]) -> T:
    """The result of `work`, run in a thread that is abandoned once `cancelled` is set.

    Raises:
        Interrupted: `cancelled` was set. Else whatever `work` raises.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="transfer", daemon=True).start()
    while not wait([done], POLL_S).done:
        _raise_if(cancelled)
    return done.result()


def _raise_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Interrupted
