"""Deployment verbs: ask the platform to load a base model into NIM."""

import nemo_microservices
from nemo_microservices import NeMoMicroservices
from nemo_microservices.types.deployment import ModelDeployment

from utils.errors import JobFailed
from utils.http import is_taken, translates
from utils.jobs import SUCCEEDED, OnUpdate, wait_for


@translates("DEPLOYMENT_URL")
def ensure_deployed(client: NeMoMicroservices, model: str, *, image: str) -> ModelDeployment:
    """The deployment of `model` on one GPU, started if there was none.

        ensure_deployed(nemo, "meta/llama-3.2-1b-instruct",
                        image="nvcr.io/nim/meta/llama-3.2-1b-instruct:1.8.3")

    The answer comes before the model is loaded: follow with `wait_until_deployed`.
    """
    namespace, _, name = model.partition("/")
    image_name, _, image_tag = image.rpartition(":")
    try:
        return client.deployment.model_deployments.create(
            namespace=namespace,
            name=name,
            config={
                "model": model,
                "nim_deployment": {
                    "image_name": image_name,
                    "image_tag": image_tag,
                    "gpu": 1,
                    "pvc_size": "25Gi",
                },
            },
        )
    except nemo_microservices.APIStatusError as error:
        if not is_taken(error):
            raise
        return client.deployment.model_deployments.retrieve(name, namespace=namespace)


def wait_until_deployed(
    client: NeMoMicroservices, model: str, *, timeout_s: float, on_update: OnUpdate | None = None
) -> ModelDeployment:
    """The deployment of `model`, as soon as the platform says that it is ready.

    Raises:
        JobFailed: it has failed; with the platform's reason.
        TimedOut: it is not ready after `timeout_s` seconds.
    """

    def ready() -> ModelDeployment | None:
        found = _deployment(client, model)
        details = found.status_details
        if details.status == "failed":
            why = details.description or "no reason given"
            raise JobFailed(
                f"The deployment of {model} has failed: {why}. Correct the name if it is wrong; if "
                f"it is right, see to the reason, delete the deployment {model} and run this cell "
                "again."
            )
        return found if found.deployed or details.status in SUCCEEDED else None

    deployed = wait_for(
        ready, what=f"the deployment of {model}", timeout_s=timeout_s, on_update=on_update
    )
    assert deployed is not None  # wait_for returns truthy values only
    return deployed


@translates("DEPLOYMENT_URL")
def _deployment(client: NeMoMicroservices, model: str) -> ModelDeployment:
    namespace, _, name = model.partition("/")
    return client.deployment.model_deployments.retrieve(name, namespace=namespace)
