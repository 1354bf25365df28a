"""The rules of the Entity Store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from nemo_microservices.types import Dataset, Namespace, Project
from pydantic import BaseModel

from nemo_local.core.documents import Document, Documents, without_columns
from nemo_local.core.errors import Conflict, Invalid, invalid_field
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.secrets import masked, restored
from nemo_local.core.web import check_name, check_namespace, deleted, showable
from nemo_local.entity_store.schemas import FINETUNING_TYPES, Model

Kind = Literal["project", "dataset", "model"]

DEFAULT_NAMESPACE = "default"
SHOWN_AS: dict[str, type[BaseModel]] = {
    "namespace": Namespace,
    "project": Project,
    "dataset": Dataset,
    "model": Model,
}
DEFAULTS = {"custom_fields": {}, "schema_version": "1.0"}


@dataclass(frozen=True)
class Listing:
    """The fields by which a collection may be filtered and sorted."""

    filters: tuple[str, ...]
    sorts: tuple[str, ...] = ("created_at", "name")


LISTINGS: dict[str, Listing] = {
    "namespace": Listing(("namespace", "project"), ("created_at",)),
    "project": Listing(("name", "namespace", "project")),
    "dataset": Listing(("namespace", "project")),
    "model": Listing(("namespace", "project", "base_model", "peft", "prompt", "created_at")),
}


class EntityStoreService:
    """Namespaces, projects, datasets and models."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    def start(self) -> None:
        """Make the namespace that always exists."""
        try:
            self.create_namespace({"id": DEFAULT_NAMESPACE})
        except Conflict:
            return

    def create_namespace(self, body: Document) -> Document:
        """The new namespace. Raises Conflict when it exists, Invalid for an id we cannot use."""
        namespace_id = body.get("id")
        if not namespace_id:
            problem = {"type": "missing", "loc": ["body", "id"], "msg": "Field required"}
            raise Invalid([{**problem, "input": body}])
        check_namespace(namespace_id, "id")
        document = {"custom_fields": {}, **_filled(_without(body, ("id",)))}
        return _namespace(
            self.documents.create("namespace", "", namespace_id, document, id=namespace_id)
        )

    def namespace(self, namespace_id: str) -> Document:
        return _namespace(self.documents.get("namespace", "", namespace_id))

    def update_namespace(self, namespace_id: str, body: Document) -> Document:
        """The namespace after a shallow merge. Raises Invalid when it could not be shown."""
        changes = _filled(without_columns(body))

        def merge(entity: Document) -> Document:
            return showable(Namespace, {**entity, **restored(changes, entity)})

        return _namespace(self.documents.update("namespace", namespace_id, merge))

    def delete_namespace(self, namespace_id: str) -> Document:
        """The answer to the delete; the namespace's entities stay. `default` cannot be deleted."""
        if namespace_id == DEFAULT_NAMESPACE:
            raise Invalid("the namespace 'default' always exists and cannot be deleted")
        return self._deleted(self.documents.delete("namespace", namespace_id))

    def namespaces(self, query: ListQuery) -> Page:
        """One page of namespaces; `namespace` in a filter or search means the namespace's id."""
        page = self.documents.find(
            "namespace", replace(query, filter=_by_id(query.filter), search=_by_id(query.search))
        )
        return page.map(_namespace)

    def create(self, kind: Kind, body: Document) -> Document:
        """The new entity; its name defaults to its id, its namespace to `default`.

        Raises:
            Conflict: the namespace has an entity of this kind and name.
            Invalid: a name we cannot use, or a dataset whose files_url is not a URL.
        """
        namespace = body.get("namespace") or DEFAULT_NAMESPACE
        name = body.get("name")
        check_namespace(namespace)
        if name:
            check_name(name)
        _check_files_url(body)
        document = {**DEFAULTS, **_filled(body)}
        return masked(self.documents.create(kind, namespace, name, document))

    def get(self, kind: Kind, namespace: str, name: str) -> Document:
        return masked(self.documents.get(kind, namespace, name))

    def update(self, kind: Kind, namespace: str, name: str, body: Document) -> Document:
        """The entity after a shallow merge; identity fields in the body are ignored.

        Raises Invalid when the result could not be shown: a required field would be null.
        """
        _check_files_url(body)
        changes = _filled(without_columns(body))

        def merge(entity: Document) -> Document:
            return showable(SHOWN_AS[kind], {**entity, **restored(changes, entity)})

        found = self.documents.get(kind, namespace, name)
        return masked(self.documents.update(kind, found["id"], merge))

    def delete(self, kind: Kind, namespace: str, name: str) -> Document:
        """The answer to the delete; files in the Data Store stay."""
        found = self.documents.get(kind, namespace, name)
        return self._deleted(self.documents.delete(kind, found["id"]))

    def find(self, kind: Kind, query: ListQuery) -> Page:
        if kind == "model":
            query = replace(query, filter=_by_type_of_tuning(query.filter))
        return self.documents.find(kind, query).map(masked)

    def _deleted(self, entity: Document) -> Document:
        return deleted(entity, self.documents.now())


def _namespace(entity: Document) -> Document:
    return masked(_without(entity, ("name", "namespace")))


def _without(body: Document, keys: tuple[str, ...]) -> Document:
    return {key: value for key, value in body.items() if key not in keys}


def _filled(body: Document) -> Document:
    """The body with the default in place of a null, where there is one."""
    return {key: DEFAULTS.get(key) if value is None else value for key, value in body.items()}


def _by_id(criteria: dict[str, Any]) -> dict[str, Any]:
    return {("id" if key == "namespace" else key): value for key, value in criteria.items()}


def _by_type_of_tuning(criteria: dict[str, Any]) -> dict[str, Any]:
    """`filter[peft][lora]` translated to what models store: their finetuning type, or none."""
    peft = criteria.get("peft")
    lora = peft.get("lora") if isinstance(peft, dict) else None
    if lora == "true":
        return {**criteria, "peft": {"finetuning_type": "lora"}}
    if lora == "false":
        others = [name for name in FINETUNING_TYPES if name != "lora"]
        return {**criteria, "peft": ["false", {"finetuning_type": others}]}
    return criteria


def _check_files_url(body: Document) -> None:
    url = body.get("files_url")
    if url is not None and "://" not in url:
        raise invalid_field("body", "files_url", "not a URL, such as hf://datasets/ns/name", url)
