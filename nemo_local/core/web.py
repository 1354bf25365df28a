"""HTTP conventions of every service: bodies, list queries, pages, and clients that disconnect."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Coroutine, Iterator, Mapping
from typing import Any, TypeVar, cast

from fastapi import APIRouter
from pydantic import BaseModel, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import to_jsonable_python
from starlette.requests import ClientDisconnect, Request

from nemo_local.core.errors import Invalid, invalid_field
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.secrets import masked
from nemo_local.core.strict_json import MAX_DEPTH, unrepeatable

Json = TypeVar("Json")
T = TypeVar("T")

MAX_PAGE_SIZE = 1000
UVICORN: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    # Far longer than clients keep an idle connection (httpx: 5 s): otherwise one may send on a
    # connection that the server is just closing.
    "timeout_keep_alive": 75,
    "timeout_graceful_shutdown": 5,
}
"""Uvicorn's settings for every application of ours; times in seconds."""
CLIENT_CLOSED = 499
"""Status in our own log for a client that disconnected."""
LONGEST_NAME = 255
ENTITY_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@+\-]{{0,{LONGEST_NAME - 1}}}")
NAMESPACE_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._\-]{{0,{LONGEST_NAME - 1}}}")


def add_routes(router: APIRouter, *others: APIRouter) -> None:
    """Add the others' routes as they are: FastAPI's `include_router` would build each again."""
    for other in others:
        router.routes.extend(other.routes)


def _set_aside(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, dict):
        return validate(value)
    aside = {key: None for key, item in value.items() if item is None}
    if isinstance(value.get("custom_fields"), dict):
        aside["custom_fields"] = value["custom_fields"]
    checked = {key: item for key, item in value.items() if key not in aside}
    return {**validate(without_nulls(checked)), **aside}


NULLS = WrapValidator(_set_aside)
"""`body: Annotated[DatasetCreateParams, NULLS]` lets a client send back the nulls it was shown.

It also accepts any JSON object as custom_fields, in which some of the SDK's types want strings.
"""


def _as_patch(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, dict):
        value = {**dict.fromkeys(_PATH_PARAMETERS, "in the path"), **value}
    return _set_aside(value, validate)


PATCH = WrapValidator(_as_patch)
"""NULLS for the body of an update, in which the SDK's types demand the path's parameters too.

The service drops them again, since a PATCH changes no identity, and asks `showable` whether the
entity can do without what became null.
"""

_PATH_PARAMETERS = ("namespace",)


def as_sent(**shown_as: type[BaseModel]) -> WrapValidator:
    """`Annotated[ConfigCreateParams, NULLS, as_sent(pod_spec=TrainingPodSpec)]` keeps a pod_spec.

    The SDK's request types drop or refuse nested fields that they spell differently or do not
    know. Here such an object is checked against the type it is shown as, and kept as sent.
    """

    def keep(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, dict):
            return validate(value)
        sent = {key: value[key] for key in shown_as if value.get(key) is not None}
        checked = validate({key: item for key, item in value.items() if key not in sent})
        for key, item in sent.items():
            showable(shown_as[key], item, ("body", key))
        return {**checked, **sent}

    return WrapValidator(keep)


_EVERY_ENTITY_HAS = ("id", "namespace", "name", "created_at", "updated_at")
_BRACKETS = re.compile(r"(filter|search)((?:\[[^\[\]]+\])+)")


def list_query(
    request: Request,
    shown_as: type[BaseModel],
    filter_keys: Collection[str],
    sort_keys: Collection[str] = ("created_at",),
) -> ListQuery:
    """The query of a list request; `shown_as` is the SDK's type of the entities.

    Filters by keys outside `filter_keys` are ignored; so are searches in fields that the type
    does not have.

        ?filter[namespace]=ns1&sort=-created_at, or ?filter={"namespace": "ns1"}&sort=-created_at
        -> ListQuery(sort="-created_at", filter={"namespace": "ns1"})

    Raises:
        Invalid: page or page_size out of bounds, an unknown sort key, or a filter or search that
            is not a JSON object.
    """
    sort = request.query_params.get("sort") or "created_at"
    if sort.removeprefix("-") not in sort_keys:
        choices = ", ".join(sort_keys)
        raise invalid_field("query", "sort", f"sort by one of: {choices} (or with '-')", sort)
    nested: dict[str, dict[str, Any]] = {"filter": {}, "search": {}}
    for key, value in request.query_params.multi_items():
        found = _BRACKETS.fullmatch(key)
        if found:
            path = re.findall(r"\[([^\[\]]+)\]", found[2])
            if len(path) > MAX_DEPTH:
                problem = f"nest at most {MAX_DEPTH} levels deep"
                raise invalid_field("query", found[1], problem, f"{key[:40]}...")
            _put(nested[found[1]], path, value)
        elif key in nested and value:
            nested[key] |= _from_json(key, value)
    return ListQuery(
        page=_number(request, "page", 1, None),
        page_size=_number(request, "page_size", 10, MAX_PAGE_SIZE),
        sort=sort,
        filter=_known(nested["filter"], filter_keys),
        search=_known(nested["search"], {*_EVERY_ENTITY_HAS, *shown_as.model_fields}),
    )


async def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object, whatever content type it was sent with.

    Raises:
        Invalid: it is not a JSON object, or one that no answer could repeat (see strict_json).
    """
    return json_object(await request.body())


def json_object(body: bytes, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The body as a JSON object. Raises Invalid as `json_body` does."""
    problem = unrepeatable(body, max_depth)
    try:
        value = None if problem else json.loads(body)
    except ValueError as error:
        problem = f"it is not valid JSON ({error})"
    if problem or not isinstance(value, dict):
        raise Invalid("the body must be a JSON object" + (problem and f": {problem}"))
    return value


def page_body(page: Page, query: ListQuery) -> dict[str, Any]:
    """The list envelope: data, pagination, and the query echoed where it was given."""
    body: dict[str, Any] = {
        "object": "list",
        "data": page.items,
        "pagination": {
            "page": query.page,
            "page_size": query.page_size,
            "current_page_size": len(page.items),
            "total_pages": -(-page.total // query.page_size),
            "total_results": page.total,
        },
        "sort": query.sort,
    }
    if query.filter:
        body["filter"] = query.filter
    if query.search:
        body["search"] = query.search
    return body


def without_nulls(value: Json, but_in: Collection[str] = ("custom_fields",)) -> Json:
    """The JSON value without keys whose value is null, except inside the fields `but_in`."""
    if isinstance(value, dict):
        kept = {
            key: item if key in but_in else without_nulls(item, but_in)
            for key, item in value.items()
            if item is not None
        }
        return cast(Json, kept)
    if isinstance(value, list):
        return cast(Json, [without_nulls(item, but_in) for item in value])
    return value


def plain(value: Any) -> Any:
    """A validated request body as plain JSON values.

    FastAPI hands over SDK TypedDicts with lazy iterators, dates and models inside; they are
    checked and resolved here. Raises Invalid, naming the field, when an item of a lazy iterator
    has the wrong type.
    """
    return _plain(value, ("body",))


def showable(
    shown_as: type[BaseModel],
    entity: dict[str, Any],
    place: tuple[str | int, ...] = ("body",),
) -> dict[str, Any]:
    """The entity, if the SDK's type can show it; the result of every PATCH is checked here.

        documents.update(kind, id, lambda stored: showable(Dataset, {**stored, **changes}))

    Raises Invalid, naming the field, and then nothing is stored.
    """
    try:
        shown_as.model_validate(entity)
    except ValidationError as error:
        raise _invalid(error, place) from None
    return entity


def check_name(name: str) -> str:
    """The name, if an entity may have it; else raises Invalid."""
    return _checked(name, "name", ENTITY_NAME, ". _ @ + -")


def check_namespace(namespace: str, field: str = "namespace") -> str:
    """The namespace, if it is a valid one; else raises Invalid."""
    return _checked(namespace, field, NAMESPACE_ID, ". _ -")


def deleted(entity: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The body that answers a DELETE."""
    return {"id": entity["id"], "deleted_at": at, "message": "Resource deleted successfully."}


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client disconnects.

    Raises:
        ClientDisconnect: the client disconnected first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _checked(name: str, field: str, allowed: re.Pattern[str], signs: str) -> str:
    if len(name) > LONGEST_NAME:
        message = f"{len(name)} characters are too long, use at most {LONGEST_NAME}"
        raise invalid_field("body", field, message, name)
    if not allowed.fullmatch(name):
        message = f"use letters, digits and {signs} only, first a letter or digit"
        raise invalid_field("body", field, message, name)
    return name


def _plain(value: Any, place: tuple[str | int, ...]) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item, (*place, key)) for key, item in value.items()}
    try:
        items = list(value) if isinstance(value, Iterator) else value
    except ValidationError as error:
        raise _invalid(error, place) from None
    if isinstance(items, (list, tuple)):
        return [_plain(item, (*place, index)) for index, item in enumerate(items)]
    return to_jsonable_python(items)


def _invalid(error: ValidationError, place: tuple[str | int, ...]) -> Invalid:
    problems = error.errors(include_url=False, include_context=False)
    return Invalid(masked([{**problem, "loc": [*place, *problem["loc"]]} for problem in problems]))


def _put(target: dict[str, Any], path: list[str], value: str) -> None:
    """Set target[path[0]][path[1]]…; a repeated key collects a list."""
    for key in path[:-1]:
        inner = target.get(key)
        if not isinstance(inner, dict):
            inner = target[key] = {}
        target = inner
    present = target.get(path[-1])
    if present is None:
        target[path[-1]] = value
    else:
        target[path[-1]] = [*(present if isinstance(present, list) else [present]), value]


def _from_json(name: str, text: str) -> dict[str, Any]:
    """A filter or search given as JSON, with its values as text, as the bracket form has them."""

    def as_given(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_given(inner) for key, inner in value.items() if inner is not None}
        if isinstance(value, list):
            return [as_given(inner) for inner in value]
        return value if isinstance(value, str) else json.dumps(value)

    unreadable = unrepeatable(text.encode())
    try:
        value = None if unreadable else as_given(json.loads(text))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        problem = f'write {name}[field]=value, or {name}={{"field": "value"}}'
        raise invalid_field("query", name, problem + (unreadable and f": {unreadable}"), text)
    return value


def _known(given: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: given[key] for key in given if key in keys}


def _number(request: Request, name: str, default: int, maximum: int | None) -> int:
    text = request.query_params.get(name)
    if not text:
        return default
    bounds = f"between 1 and {maximum}" if maximum else "at least 1"
    # isdecimal refuses signs and spaces; the length keeps absurd numbers out of int().
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= (maximum or 10**9):
        raise invalid_field("query", name, f"must be a whole number {bounds}", text)
    return int(text)
