"""The references a job carries: config, dataset, output model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from nemo_local.core.client import Client
from nemo_local.core.errors import Invalid, NotFound
from nemo_local.core.hub_urls import DatasetUrl, split_dataset_url
from nemo_local.core.near import did_you_mean, near_names
from nemo_local.core.urls import same_server
from nemo_local.core.web import ENTITY_NAME, LONGEST_NAME, NAMESPACE_ID

LONGEST_REPOSITORY = 96
"""The most characters that a repository's name may have by the Hub's rules."""
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+\-]{0,254}")


@dataclass(frozen=True)
class DatasetSource:
    """Where a job's rows come from."""

    shown: str
    """What the job shows: `ns/name`, or the URL it was given."""
    url: DatasetUrl
    limit: int | None = None
    """The most rows to use; None = all."""
    hf_endpoint: str | None = None
    """A hub other than the platform's Data Store; None = the Data Store."""


@dataclass(frozen=True)
class OutputModel:
    """The model a job makes: `namespace/name@version`."""

    namespace: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}@{self.version}"

    @property
    def repository(self) -> str:
        """The model's repository in the Data Store, where the version is a tag."""
        return f"{self.namespace}/{self.name}"

    @property
    def entity_path(self) -> str:
        """The model's path in the Entity Store's API."""
        return f"/v1/models/{quote(self.namespace)}/{quote(f'{self.name}@{self.version}')}"


def split_name(reference: str, what: str, at_most: int = LONGEST_NAME) -> tuple[str, str]:
    """Namespace and name of `ns/name`; the name keeps its `@version`. Raises Invalid."""
    namespace, _, name = reference.partition("/")
    longest = max(len(namespace), len(name))
    if longest > at_most:
        raise Invalid(
            f"{what} {reference!r} is too long: a name of {longest} characters, of at most "
            f"{at_most}"
        )
    if not NAMESPACE_ID.fullmatch(namespace) or not ENTITY_NAME.fullmatch(name):
        raise Invalid(f"{what} {reference!r} does not have the form namespace/name")
    return namespace, name


def parse_dataset_url(url: str) -> DatasetUrl:
    """The parts of a dataset URL. Raises Invalid for any other URL."""
    try:
        return split_dataset_url(url)
    except ValueError as error:
        raise Invalid(f"Dataset URL {error}") from None


def find_dataset(given: Any, platform: Client) -> DatasetSource:
    """Where the dataset of a job lies; asks the Entity Store for names, the Data Store for files.

    Raises:
        NotFound: no such dataset (the message suggests similar names), or no such repository.
        Invalid: the reference has no form we know.
    """
    if isinstance(given, dict):
        if given.get("name"):
            given = f"{given.get('namespace') or 'default'}/{given['name']}"
        else:
            given = given.get("files_url") or ""
    if "://" in given:
        source = DatasetSource(given, parse_dataset_url(given))
    else:
        entity = _dataset_entity(given, platform)
        endpoint = entity.get("hf_endpoint")
        source = DatasetSource(
            given,
            parse_dataset_url(entity["files_url"]),
            entity.get("limit"),
            None if not endpoint or same_server(endpoint, platform.base_url) else endpoint,
        )
    if source.limit is not None and source.limit < 1:
        raise Invalid(f"Dataset {source.shown}: its limit must be at least 1, not {source.limit}")
    if source.hf_endpoint is None:
        _check_repository(source, platform)
    return source


def default_output(
    namespace: str, base_model: str, source: DatasetSource, finetuning_type: str
) -> str:
    """The output model's name when the user gives none; a long dataset name is cut to fit."""
    base = re.sub(r"[^A-Za-z0-9_.]+", "-", base_model)  # an `@` would begin the version
    before, after = f"{base}-", f"-{finetuning_type}"
    room = LONGEST_REPOSITORY - len(f"{namespace}/{before}{after}")
    dataset = source.url.repository.split("/", 1)[1]
    return before + dataset[: max(1, room)].rstrip("-.") + after


def output_model(given: str | None, namespace: str, default_name: str, job_id: str) -> OutputModel:
    """The model a job will make.

        output_model("ns/run1", "default", …, "cust-1") -> ns/run1@cust-1
        output_model(None, "default", "meta-llama-d-lora", "cust-1")
        -> default/meta-llama-d-lora@cust-1

    Raises:
        Invalid: a name that neither the Entity Store nor the Data Store could keep.
    """
    text = given or default_name
    if "/" not in text:
        text = f"{namespace}/{text}"
    model_namespace, _, rest = text.partition("/")
    name, at, version = rest.partition("@")
    version = version if at else job_id
    model = OutputModel(model_namespace, name, version)
    if not _VERSION.fullmatch(version) or ".." in version:
        raise Invalid(
            f"output_model {text!r}: the version {version!r} must have letters, digits and . _ + - "
            "only, first a letter or digit, and no '..'"
        )
    if version == "main":
        raise Invalid(
            f"output_model {text!r}: 'main' is the branch with the newest version of a model; "
            "choose another version"
        )
    split_name(model.repository, "output_model", LONGEST_REPOSITORY)
    _check_repository_name(model.repository)
    return model


def refuse_branch(model: OutputModel, platform: Client) -> None:
    """Raise Invalid when a branch of the model's repository has the version's name."""
    refs = platform.find(f"/v1/hf/api/models/{quote(model.repository)}/refs") or {"branches": []}
    if model.version in (branch["name"] for branch in refs["branches"]):
        raise Invalid(
            f"output_model '{model}': the Data Store's {model.repository} has a branch "
            f"{model.version!r}; choose another version"
        )


def _check_repository_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        for part in repository.split("/"):
            validate_repo_id(part)
    except HFValidationError as error:
        raise Invalid(f"output_model {repository!r} cannot name a repository: {error}") from None


def _dataset_entity(name: str, platform: Client) -> dict[str, Any]:
    namespace, short = split_name(name, "Dataset")
    found = platform.find(f"/v1/datasets/{quote(namespace)}/{quote(short)}")
    if found is not None:
        return dict(found)
    listed = platform.get("/v1/datasets", params={"page_size": "1000", "sort": "-created_at"})
    known = [f"{entry['namespace']}/{entry['name']}" for entry in listed["data"]]
    raise NotFound(f"Dataset {name} not found.{did_you_mean(near_names(name, known))}")


def _check_repository(source: DatasetSource, platform: Client) -> None:
    if platform.find(f"/v1/hf/api/datasets/{quote(source.url.repository)}") is None:
        raise NotFound(
            f"Dataset {source.shown} not found: the Data Store has no dataset repository "
            f"{source.url.repository}. Create it and upload training/*.jsonl first."
        )
