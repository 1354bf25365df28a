"""Deployment verbs: ask the platform to load a base model into NIM."""

import nemo_microservices
from nemo_microservices import NeMoMicroservices
from nemo_microservices.types.deployment import ModelDeployment

from utils.http import translates


@translates()
def ensure_deployed(client: NeMoMicroservices, model: str, *, image: str) -> ModelDeployment:
    """The deployment of `model` on one GPU, started if there was none.

        ensure_deployed(nemo, "meta/llama-3.2-1b-instruct",
                        image="nvcr.io/nim/meta/llama-3.2-1b-instruct:1.8.3")

    The answer comes before the model is loaded: follow with `inference.wait_until_served`.
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
        # The service itself says 500 to a name that is taken.
        if error.status_code != 409 and "already exists" not in error.message:
            raise
        return client.deployment.model_deployments.retrieve(name, namespace=namespace)
