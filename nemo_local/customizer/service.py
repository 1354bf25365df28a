"""Creates, lists, cancels and deletes customization jobs."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from nemo_local.catalog import Catalog
from nemo_local.core.client import Client, UpstreamError
from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import Conflict, Invalid, NotFound
from nemo_local.core.ids import new_id
from nemo_local.core.jobs import FINISHED, JobRunner
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.web import check_namespace
from nemo_local.customizer import hyperparameters, integrations, logs, parallelism
from nemo_local.customizer.config_fields import option_for
from nemo_local.customizer.downloads import TARGET, Downloads
from nemo_local.customizer.hub import Hub
from nemo_local.customizer.listing import config_facets, job_facets, select
from nemo_local.customizer.modules import linear_modules, why_no_adapter, why_not_packed
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.processes import TrainingProcesses
from nemo_local.customizer.records import Records, fields_of, shown
from nemo_local.customizer.references import (
    OutputModel,
    default_output,
    find_dataset,
    output_model,
    refuse_branch,
)
from nemo_local.customizer.registry import CONFIG, Registry
from nemo_local.customizer.runner import JobRun
from nemo_local.customizer.seeds import Seeds
from nemo_local.customizer.task import Task
from nemo_local.settings import Settings

logger = logging.getLogger(__name__)

ENDS_WITHIN_S = 10.0


class CustomizerService:
    """Customization jobs; `registry` has the configs and targets."""

    def __init__(
        self,
        documents: Documents,
        platform: Client,
        nim: Client,
        catalog: Catalog,
        jobs_dir: Path,
        settings: Settings,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`stopping` tells whether the platform shuts down; true before it stops answering."""
        self._downloads = Downloads(documents, settings)
        self.registry = Registry(documents, catalog, settings.models_dir, self._downloads)
        self._documents = documents
        self._records = Records(documents)
        self._platform = platform
        self._nim = nim
        self._catalog = catalog
        self._jobs_dir = jobs_dir
        self._settings = settings
        self._stopping = stopping
        self._hub = Hub(platform.base_url, settings.token)
        self._processes = TrainingProcesses(settings.threads, bool(settings.spare_training))
        # Replacing what a failed run left takes two steps, which two jobs must not interleave.
        self._registering = threading.Lock()
        # One worker: one training at a time, others wait.
        self._runner = JobRunner(workers=1, name="customizer")

    def start(self) -> None:
        """Store the catalogue's targets and configs, and resume what an earlier process left."""
        Seeds(self._documents, self._catalog, self.registry).offer()
        self._downloads.resume()
        for job in self._records.all():
            if job["status"] in FINISHED:  # perhaps just before the platform was killed
                self._run_of(job).clean()
            elif job["status"] == "cancelling":
                with suppress(NotFound):  # deleted a moment ago
                    self._run_of(job).interrupted()
            else:
                logger.info("customization job %s is picked up again", job["id"])
                self._submit(job)

    def prepare(self) -> None:
        """Warm up for the first job; a job under way does so for the next one when it ends."""
        if all(job["status"] in FINISHED for job in self._records.all()):
            self._processes.prepare()
            self._hub.prepare()

    def stop(self) -> None:
        """Stop the running training and downloads; the next start resumes them."""
        self._downloads.stop()
        self._runner.shutdown()
        self._processes.close()

    def create_job(self, body: Document, wandb_api_key: str | None = None) -> Document:
        """The new job, in state `created`, after all the checks that a request can fail.

        `wandb_api_key` goes to this job's training process only, and is forgotten when the
        platform ends.

        Raises:
            Invalid: a hyperparameter, config, precision or name we cannot use.
            NotFound: no such config or dataset; the message suggests similar names.
            Conflict: the output model exists.
        """
        job_id = new_id("cust")
        namespace = check_namespace(body.get("namespace") or "default")
        given: Document = body["hyperparameters"]
        config, checkpoint = self.registry.resolve(body["config"])
        option = option_for(config, given)
        teacher, teacher_path = self._teacher(given, option)
        unpacked = why_not_packed(checkpoint, option["training_type"], teacher_path)
        base_model = config["target"]["base_model"]
        plan = _plan(given, option, base_model, checkpoint, can_pack=not unpacked)
        key = (wandb_api_key or "").strip() or None
        wandb = integrations.asked_of_wandb(body.get("integrations"), key)
        integrations.check_mlflow(self._settings.mlflow_tracking_uri)
        source = find_dataset(body["dataset"], self._platform)
        default_name = default_output(namespace, base_model, source, option["finetuning_type"])
        output = output_model(body.get("output_model"), namespace, default_name, job_id)
        refuse_branch(output, self._platform)
        task = Task(
            plan=plan,
            base_model=base_model,
            model_path=checkpoint,
            dataset=source.shown,
            prompt_template=config["prompt_template"],
            max_seq_length=config["max_seq_length"],
            precision=config["training_precision"],
            chat_prompt_template=config.get("chat_prompt_template"),
            tokenizer=config["target"].get("tokenizer"),
            limit=source.limit,
            tools=(body.get("dataset_parameters") or {}).get("tools") or [],
            device=self._settings.device,
            threads=self._settings.threads,
            parallel=parallelism.asked(option, self._settings),
            wandb=wandb,
            teacher=teacher,
            teacher_path=teacher_path,
        )
        warnings = [
            *hyperparameters.warnings(given, option, unpacked),
            *integrations.warnings(wandb),
            *parallelism.warnings(option, self._settings),
        ]
        model = self._catalog.get(base_model)
        job = {
            **fields_of(body, task, option),
            "config": body["config"] if isinstance(body["config"], str) else config,
            "output_model": str(output),
            "warnings": warnings or None,
            "run": {
                "task": task.as_json(),
                "source": asdict(source),
                "output": asdict(output),
                "answered_by": model.answered_by if model else base_model,
            },
        }
        created = self._store(job_id, namespace, job, config["target"]["num_parameters"])
        self._queue(created, key)
        return shown(created)

    def job(self, job_id: str) -> Document:
        """The job as it stands. Raises NotFound."""
        return shown(self._records.get(job_id))

    def status(self, job_id: str) -> Document:
        """The job's status details. Raises NotFound."""
        job = self._records.get(job_id)
        return {**job["status_details"], "status": job["status"]}

    def cancel(self, job_id: str) -> Document:
        """Ask the job to stop; one that has not begun is cancelled at once. Returns the job.

        Raises:
            NotFound; Conflict: the job has ended.
        """
        left = self._records.move(job_id, "cancelling", "Cancelling")
        job = self._records.get(job_id)
        if left is None and job["status"] != "cancelling":
            raise Conflict(f"Job {job_id} is {job['status']} and cannot be cancelled")
        at_work = self._runner.cancel(job_id)
        if left in ("created", "pending") or not at_work:
            self._run_of(job).interrupted()
        return self.job(job_id)

    def delete(self, job_id: str) -> None:
        """Delete a job and its files, after cancelling it if it runs. Raises NotFound, Conflict."""
        if self._records.get(job_id)["status"] not in FINISHED:
            self.cancel(job_id)
            self._wait_until_ended(job_id)
        # Files first: without their job they would stay for good.
        shutil.rmtree(self._jobs_dir / job_id, ignore_errors=True)
        self._records.delete(job_id)

    def logs(self, job_id: str) -> Document:
        """The log of the training process, and the job's events. Raises NotFound."""
        return logs.container_logs(self._records.get(job_id), self._jobs_dir / job_id)

    def jobs(self, query: ListQuery) -> Page:
        """One page of jobs."""
        return select(self._records.all(), query, job_facets).map(shown)

    def configs(self, query: ListQuery) -> Page:
        """One page of configs, each with its target."""
        configs = map(self.registry.shown_config, self._documents.all(CONFIG))
        return select(list(configs), query, config_facets)

    def targets(self, query: ListQuery) -> Page:
        """One page of targets."""
        return self._documents.find(TARGET, query)

    def _teacher(self, given: Document, option: Document) -> tuple[str | None, Path | None]:
        """The target that a distillation learns from, and the folder of its weights.

        Raises:
            NotFound: no such target. Invalid: it is not enabled, or has no weights here.
        """
        name = (given.get("distillation") or {}).get("teacher")
        if option["training_type"] != "distillation" or not name:
            return None, None
        return name, self.registry.trainable(name, "hyperparameters.distillation.teacher")

    def _store(self, job_id: str, namespace: str, job: Document, num_parameters: int) -> Document:
        """Register the output model, then store the new job. Raises Conflict."""
        output = OutputModel(**job["run"]["output"])
        with self._registering:
            self._register(output, job, num_parameters)
            try:
                (self._jobs_dir / job_id).mkdir(parents=True)
                return self._records.create(job_id, namespace, job)
            except Exception:  # a full disk
                with suppress(UpstreamError):
                    self._platform.delete(output.entity_path)
                raise

    def _register(self, output: OutputModel, job: Document, num_parameters: int) -> None:
        """Register the model in the Entity Store, replacing what a failed run left."""
        snapshot = job["config_snapshot"]
        existing = self._platform.find(output.entity_path)
        if existing is not None:
            status = (existing.get("artifact") or {}).get("status")
            if status != "upload_failed" and not (status == "created" and self._gave_up(output)):
                raise Conflict(f"Model {output} already exists")
            self._platform.delete(output.entity_path)
        entity = {
            "namespace": output.namespace,
            "name": f"{output.name}@{output.version}",
            "description": job["description"],
            "project": job["project"],
            "base_model": snapshot["base_model"],
            "spec": {
                "num_parameters": num_parameters,
                "context_size": snapshot["max_seq_length"],
                "num_virtual_tokens": 0,
                "is_chat": True,
            },
            "artifact": {
                "status": "created",
                "files_url": f"hf://{output}",
                "backend_engine": "hugging_face",
                "gpu_arch": self._settings.device,
                "precision": snapshot["precision"],
                "tensor_parallelism": 1,
            },
        }
        # A model without `peft` counts as a whole model, not as an adapter of its base.
        if snapshot["training_option"]["finetuning_type"] == "lora":
            entity["peft"] = {"finetuning_type": "lora"}
        try:
            self._platform.post("/v1/models", json=entity)
        except UpstreamError as error:
            if error.status == 409:
                raise Conflict(f"Model {output} already exists") from None
            raise

    def _gave_up(self, output: OutputModel) -> bool:
        """Whether there were jobs to make this model, and all failed or were cancelled."""
        ends = [j["status"] for j in self._records.all() if j["output_model"] == str(output)]
        return bool(ends) and all(end in ("failed", "cancelled") for end in ends)

    def _wait_until_ended(self, job_id: str) -> None:
        deadline = time.monotonic() + ENDS_WITHIN_S
        while self._records.get(job_id)["status"] not in FINISHED:
            if time.monotonic() > deadline:
                raise Conflict(f"Job {job_id} is still being cancelled; delete it again later")
            time.sleep(0.05)

    def _queue(self, job: Document, key: str | None) -> None:
        for message in ("PVCCreated", "EntityHandler_0_Created"):
            self._records.log(job["id"], message)
        self._records.move(job["id"], "pending", "EntityHandler_0_Pending")
        self._submit(job, key)

    def _submit(self, job: Document, key: str | None = None) -> None:
        self._runner.submit(job["id"], self._run_of(job, key))

    def _run_of(self, job: Document, key: str | None = None) -> JobRun:
        environment = integrations.environment(key, self._settings.mlflow_tracking_uri)
        return JobRun(
            job, self._records, self._hub, self._platform, self._nim, self._jobs_dir,
            self._processes, environment, self._stopping,
        )  # fmt: skip


def _plan(
    given: Document, option: Document, base_model: str, checkpoint: Path, can_pack: bool
) -> Plan:
    """The trainer's plan for these hyperparameters. Raises Invalid."""
    unserved = why_no_adapter(checkpoint)
    if option["finetuning_type"] == "lora" and unserved:
        raise Invalid(
            f"An adapter of {base_model} could not be served: {unserved}. Use "
            "finetuning_type 'lora_merged' or 'all_weights', if the config offers it"
        )
    parallel_rows = option["micro_batch_size"] * (option.get("data_parallel_size") or 1)
    return hyperparameters.make_plan(given, linear_modules(checkpoint), parallel_rows, can_pack)
