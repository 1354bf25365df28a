"""Entity Store verbs: namespaces, datasets and models by name. Each `ensure_*` may run twice."""

import nemo_microservices
from nemo_microservices import NeMoMicroservices
from nemo_microservices.types import Dataset, Model, Namespace

from utils.errors import OutOfOrder
from utils.http import translates


@translates("ENTITY_STORE_URL")
def ensure_namespace(client: NeMoMicroservices, namespace: str) -> Namespace:
    """The namespace, created if it was not there."""
    try:
        return client.namespaces.create(id=namespace)
    except nemo_microservices.ConflictError:
        return client.namespaces.retrieve(namespace)


@translates("ENTITY_STORE_URL")
def ensure_dataset(
    client: NeMoMicroservices,
    namespace: str,
    name: str,
    files_url: str,
    *,
    description: str = "",
) -> Dataset:
    """The dataset entity that names `files_url`, created or corrected.

    ensure_dataset(nemo, "ns", "xlam", "hf://datasets/ns/xlam").files_url -> "hf://datasets/ns/xlam"
    """
    try:
        return client.datasets.create(
            name=name,
            namespace=namespace,
            files_url=files_url,
            project="tool_calling",
            description=description,
        )
    except nemo_microservices.ConflictError:
        known = client.datasets.retrieve(name, namespace=namespace)
        if known.files_url == files_url:
            return known
        return client.datasets.update(name, namespace=namespace, files_url=files_url)


@translates("ENTITY_STORE_URL")
def find_model(client: NeMoMicroservices, model: str) -> Model | None:
    """The model entity `namespace/name@version`, or None when the Entity Store has none."""
    namespace, _, name = model.partition("/")
    try:
        return client.models.retrieve(name, namespace=namespace)
    except nemo_microservices.NotFoundError:
        return None


def require_model(client: NeMoMicroservices, model: str, *, notebook: str) -> Model:
    """The model entity `namespace/name@version`, which `notebook` leaves behind.

    Raises:
        OutOfOrder: the Entity Store has none, as after a reset of the platform.
    """
    found = find_model(client, model)
    if found is None:
        url = str(client.base_url).rstrip("/")
        raise OutOfOrder(f"{model} is not on the platform at {url}. Run {notebook} again.")
    return found


def artifact_status(model: Model | None) -> str:
    """`created`, `upload_completed`, `upload_failed`, or `absent` when there is no model."""
    if model is None or model.artifact is None:
        return "absent"
    return str(model.artifact.status)
