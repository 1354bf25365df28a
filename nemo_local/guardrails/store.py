"""Stored rails configurations: created, changed, and found by the references of requests."""

from __future__ import annotations

from nemo_microservices.types.shared import GuardrailConfig

from nemo_local.core.documents import Documents
from nemo_local.core.errors import BadRequest, Conflict, Invalid, NotFound
from nemo_local.core.ids import new_id
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.secrets import restored
from nemo_local.core.web import check_name, check_namespace, deleted, showable
from nemo_local.guardrails.configs import PRELOADED, STORE_URL, Data, filled
from nemo_local.guardrails.engine import Engine
from nemo_local.guardrails.rules import check_data

CONFIG = "guardrail_config"
_FIELDS: Data = {
    "description": None,
    "project": None,
    "custom_fields": {},
    "ownership": None,
    "schema_version": "1.0",
}
"""Fields beside the content, with their defaults."""


class ConfigStore:
    """Configurations by namespace and name; their contents are checked before they are stored."""

    def __init__(self, documents: Documents, engine: Engine) -> None:
        self._documents = documents
        self._engine = engine

    def seed(self) -> None:
        """Store the preloaded configurations."""
        for name in PRELOADED:
            if not self._documents.all(CONFIG, namespace="default", name=name):
                document = {
                    "description": f"{name} guardrail config",
                    "files_url": f"{STORE_URL}{name}",
                    "schema_version": "1.0",
                }
                self._documents.create(CONFIG, "default", name, document, new_id("guardrail"))

    def create(self, body: Data) -> Data:
        """The stored configuration, defaults filled in.

        Raises:
            Invalid: neither data nor a known files_url, or something in it is unsupported.
            Conflict: the name is taken.
        """
        name = check_name(_string(body, "name")) if body.get("name") else None
        namespace = check_namespace(_string(body, "namespace") or "default")
        document = {
            **_FIELDS,
            **_given(body),
            **self._content(body, {}),
        }
        showable(GuardrailConfig, document)
        try:
            entity_id = new_id("guardrail")
            return _shown(self._documents.create(CONFIG, namespace, name, document, entity_id))
        except Conflict:
            raise Conflict(f"config '{name}' already exists.") from None

    def retrieve(self, namespace: str, name: str) -> Data:
        try:
            return _shown(self._documents.get(CONFIG, namespace, name))
        except NotFound:
            raise NotFound("Guardrail config not found.") from None

    def update(self, namespace: str, name: str, body: Data) -> Data:
        """The configuration after a shallow merge; its content is replaced as a whole.

        Raises:
            NotFound: it does not exist.
            Invalid: the result could not be used or shown; nothing is stored.
        """
        stored = self.retrieve(namespace, name)
        content = "data" in body or "files_url" in body
        changes = self._content(body, stored) if content else {}
        changes |= restored(_given(body), stored)

        def merge(entity: Data) -> Data:
            return showable(GuardrailConfig, {**entity, **changes})

        return _shown(self._documents.update(CONFIG, stored["id"], merge))

    def delete(self, namespace: str, name: str) -> Data:
        entity = self._documents.delete(CONFIG, self.retrieve(namespace, name)["id"])
        return deleted(entity, self._documents.now())

    def find(self, query: ListQuery) -> Page:
        return self._documents.find(CONFIG, query).map(_shown)

    def data(self, reference: str) -> Data:
        """The content of `name`, or of `namespace/name`. Raises BadRequest when there is none."""
        namespace, slash, name = reference.partition("/")
        places = [(namespace, name), ("default", name)] if slash else [("default", namespace)]
        for place in places:
            for entity in self._documents.all(CONFIG, namespace=place[0], name=place[1]):
                stored: Data | None = entity.get("data")
                return stored or filled(PRELOADED[entity["files_url"].removeprefix(STORE_URL)])
        raise BadRequest(f"Guardrail config not found: {'/'.join(places[0])}")

    def _content(self, body: Data, stored: Data) -> Data:
        """The checked and filled `data` of a body, or its known `files_url`; the other is None.

        Its masks become the stored secrets once its form was checked.
        """
        if body.get("data") is not None:
            check_data(body["data"], self._engine.nim_url)
            data = filled(restored({"data": body["data"]}, stored)["data"])
            try:
                self._engine.check(data)
            except ValueError as error:
                raise Invalid(f"data is not a valid rails configuration: {error}") from None
            return {"data": data, "files_url": None}
        url = str(body.get("files_url") or "")
        if url.removeprefix(STORE_URL) not in PRELOADED:
            raise Invalid(
                "a config needs data; of files_url only the preloaded ones are supported: "
                + ", ".join(f"{STORE_URL}{name}" for name in PRELOADED)
            )
        return {"data": None, "files_url": url}


def _string(body: Data, key: str) -> str:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise Invalid(f"{key}: must be a string, not {value!r}")
    return value or ""


def _given(body: Data) -> Data:
    """The fields in a body, with the default in place of a null."""
    given = {key: body[key] for key in _FIELDS if key in body}
    return {key: _FIELDS[key] if value is None else value for key, value in given.items()}


def _shown(entity: Data) -> Data:
    """The configuration as the API shows it: with either data or a files_url."""
    absent = [key for key in ("data", "files_url") if entity.get(key) is None]
    return {key: value for key, value in entity.items() if key not in absent}
