"""Customizer verbs: start a training run once, follow it, and read its results."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from nemo_microservices import APIStatusError, NeMoMicroservices, omit
from nemo_microservices.types.customization import CustomizationJob, CustomizationStatusDetails

from utils.entity_store import artifact_status, find_model
from utils.http import is_taken, translates
from utils.jobs import RECIPE, UNDER_WAY, OnUpdate, fingerprint, wait_for_job


@dataclass(frozen=True)
class Training:
    """The job that trains a recipe, and why this job was chosen."""

    job: CustomizationJob
    how: Literal["started", "followed", "reused"]
    reason: str
    """One sentence for the reader."""

    @property
    def model(self) -> str:
        """Name of the adapter, as NIM will list it: namespace/name@version."""
        return str(self.job.output_model)


@translates("CUSTOMIZER_URL")
def ensure_training(
    client: NeMoMicroservices,
    entity_store: NeMoMicroservices,
    *,
    config: str,
    dataset: str,
    dataset_contents: str,
    output_name: str,
    hyperparameters: Mapping[str, Any],
    base_answered_by: str,
    namespace: str,
    wandb_api_key: str | None = None,
) -> Training:
    """The run that trains this recipe: a finished one, one under way, or a new one.

        ensure_training(trainer, nemo, config="meta/llama-3.2-1b-instruct@v1.0.0+80GB",
                        dataset="ns/xlam", dataset_contents="4c1f...", output_name="llama-xlam",
                        base_answered_by=base.answered_by, namespace="ns",
                        hyperparameters={...}).model -> "ns/llama-xlam@v1"

    A recipe is the config, the weights that answer for its base model (`ServedModel.answered_by`),
    what the dataset holds (`data_store.contents`) and the hyperparameters. The same recipe is
    trained once: its finished model is used again. Any change, or a run that failed, takes the next
    free version, so that no earlier model is overwritten. `client` is Customizer's, and may be the
    same as that of the Entity Store.
    """
    recipe = fingerprint(
        config, base_answered_by, dataset, dataset_contents, output_name, hyperparameters
    )
    for attempt in (1, 2):
        known = _known(client, entity_store, dataset, recipe)
        if known is not None:
            return known
        version = _next_version(entity_store, namespace, output_name)
        try:
            job = client.customization.jobs.create(
                config=config,
                dataset=dataset,
                hyperparameters=cast(Any, dict(hyperparameters)),
                output_model=f"{namespace}/{output_name}@{version}",
                namespace=namespace,
                project="tool_calling",
                custom_fields={RECIPE: recipe},
                wandb_api_key=wandb_api_key or omit,
            )
            break
        except APIStatusError as error:
            if attempt == 2 or not is_taken(error):
                raise  # else another run was faster: its job may be the one we want
    return Training(job, "started", f"no finished run of this recipe; it becomes {version}")


def wait_for_training(
    client: NeMoMicroservices, job_id: str, *, timeout_s: float, on_update: OnUpdate | None = None
) -> CustomizationJob:
    """The completed job: trained, stored in the Data Store and registered in the Entity Store.

    Raises:
        JobFailed: it ended as failed or cancelled; with its last log lines.
        TimedOut: it still runs after `timeout_s` seconds, and goes on running.
    """
    return wait_for_job(
        lambda: _job(client, job_id),
        what=f"training job {job_id}",
        timeout_s=timeout_s,
        on_update=on_update,
        logs=lambda: logs(client, job_id),
        again="run the cell with ensure_training again: it takes the next version",
    )


def losses(details: CustomizationStatusDetails) -> dict[str, list[tuple[int, float]]]:
    """Loss series as [(step, loss)]: {"train_loss": [(9, 2.1), ...], "val_loss": [...]}."""
    values = details.metrics.metrics if details.metrics else None
    return {
        key: [
            (p.step or 0, p.value) for p in getattr(values, key, None) or [] if p.value is not None
        ]
        for key in ("train_loss", "val_loss")
    }


def seconds(job: CustomizationJob) -> tuple[float, str]:
    """Wall time of a finished job (s), and what that time covers.

    seconds(job) -> (74.2, "training"), from the first `TrainingJobRunning` of its status log
    seconds(job) -> (310.5, "training, with its wait in the queue,"), where there is no such line
    """
    entries = (job.status_details.status_logs if job.status_details else None) or []
    begun = [entry.updated_at for entry in entries if entry.message == "TrainingJobRunning"]
    counted = "training" if begun else "training, with its wait in the queue,"
    begin = min(begun, default=job.created_at)
    if begin is None or job.updated_at is None:
        return 0.0, counted
    return round((job.updated_at - begin).total_seconds(), 1), counted


@translates("CUSTOMIZER_URL")
def logs(client: NeMoMicroservices, job_id: str, lines: int = 40) -> str:
    """The last lines that the job's containers wrote, and the error that ended it, if any."""
    entries = client.customization.jobs.container_logs(job_id)
    text = "\n".join(
        str(log)
        for entry in (entries.entries or {}).values()
        for log in (entry.logs or {}).values()
    )
    if entries.error:
        text += "\n" + "\n".join(f"{k}: {v}" for k, v in entries.error.to_dict().items() if v)
    return "\n".join(text.strip().splitlines()[-lines:])


def _known(
    client: NeMoMicroservices, entity_store: NeMoMicroservices, dataset: str, recipe: str
) -> Training | None:
    """The run of this recipe that is under way or has left its model."""
    for job in client.customization.jobs.list(filter={"dataset": dataset}, sort="-created_at"):
        if (job.custom_fields or {}).get(RECIPE) != recipe:
            continue
        if job.status in UNDER_WAY:
            return Training(job, "followed", f"job {job.id} trains this recipe already")
        stored = artifact_status(find_model(entity_store, str(job.output_model)))
        if job.status == "completed" and stored == "upload_completed":
            reason = f"job {job.id} trained this recipe already: same config, data and settings"
            return Training(job, "reused", reason)
    return None


@translates("CUSTOMIZER_URL")
def _job(client: NeMoMicroservices, job_id: str) -> CustomizationJob:
    return client.customization.jobs.retrieve(job_id)


@translates("ENTITY_STORE_URL")
def _next_version(client: NeMoMicroservices, namespace: str, name: str) -> str:
    """`v1`, or one more than the highest version that the Entity Store knows."""
    taken = [
        int(match[1])
        for model in client.models.list(filter={"namespace": namespace}, sort="-created_at")
        if (match := re.fullmatch(rf"{re.escape(name)}@v(\d+)", model.name or ""))
    ]
    return f"v{max(taken, default=0) + 1}"
