"""The URLs of the Data Store: namespaces, repositories and references."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from nemo_local.core.errors import Conflict, Invalid
from nemo_local.core.web import add_routes, list_query, page_body
from nemo_local.data_store.errors import HubError, repo_not_found
from nemo_local.data_store.file_routes import add_file_urls
from nemo_local.data_store.hub import (
    API,
    HUB,
    TAGS,
    HubRoute,
    RepoKey,
    TypeSegment,
    form_or_json,
    repo_type_of,
    repo_url,
)
from nemo_local.data_store.lfs_routes import lfs_router
from nemo_local.data_store.quoted_slash import slashes
from nemo_local.data_store.schemas import BranchRequest, RepoReference, TagRequest
from nemo_local.data_store.service import USER, DataStoreService, RepoType
from nemo_local.data_store.views import commit_view, refs_view, repo_view

NOTHING_HAS = (
    "filter", "apps", "inference", "inference_provider", "num_parameters", "pipeline_tag",
)  # fmt: skip
"""The Hub's filters for properties no repository has here: tags, applications, sizes, tasks."""


def router(service: DataStoreService) -> APIRouter:
    """The Data Store's routes; {kind} is `datasets` or `models`.

    POST GET      /v1/datastore/namespaces          GET DELETE  /v1/datastore/namespaces/{ns}
    below /v1/hf:
    POST          /api/repos/create                 GET         /api/{kind}
    DELETE        /api/repos/delete                 GET         /api/whoami-v2
    POST          /api/validate-yaml                POST        …/preupload/{rev}
    GET           /api/{kind}/{ns}/{name}           POST        …/commit/{rev}
    GET           …/revision/{rev}                  GET         …/tree/{rev}[/{path}]
    GET           …/refs                            POST        …/paths-info/{rev}
    GET           …/commits/{rev}                   POST DELETE …/tag/{rev}
    GET           …/auth-check                      POST DELETE …/branch/{name}
    HEAD GET      /[datasets/]{ns}/{name}/resolve/{rev}/{path}
    POST          /[datasets/]{ns}/{name}.git/info/lfs/objects/batch
    PUT GET POST  /lfs/{oid}
    """
    hub = APIRouter(tags=TAGS, route_class=HubRoute)
    _account_urls(hub)
    _repo_urls(hub, service)
    _ref_urls(hub, service)
    add_file_urls(hub, service)
    _one_part_urls(hub)
    urls = APIRouter()
    add_routes(urls, _namespace_router(service), lfs_router(service), hub)
    return urls


def _namespace_router(service: DataStoreService) -> APIRouter:
    urls = APIRouter(prefix="/v1/datastore/namespaces", tags=TAGS)

    @urls.post("", status_code=201)
    async def create_namespace(request: Request) -> dict[str, Any]:
        fields = await form_or_json(request)
        name = fields.get("namespace")
        if not isinstance(name, str) or not name:
            problem = {"type": "missing", "loc": ["body", "namespace"], "msg": "Field required"}
            raise Invalid([{**problem, "input": fields}])
        return await run_in_threadpool(service.create_namespace, name)

    @urls.get("")
    def list_namespaces(request: Request) -> dict[str, Any]:
        query = replace(
            list_query(request, BaseModel, filter_keys=(), sort_keys=("created_at", "name")),
            search={},
        )
        page = service.namespaces(query)
        return {**page_body(page, query), "namespaces": page.items}

    @urls.get("/{namespace}")
    def get_namespace(namespace: str) -> dict[str, Any]:
        return service.namespace(namespace)

    @urls.delete("/{namespace}")
    def delete_namespace(namespace: str, force: bool = False) -> dict[str, str]:
        service.delete_namespace(namespace, force)
        return {"message": f"namespace {namespace!r} deleted"}

    return urls


def _account_urls(hub: APIRouter) -> None:
    @hub.get(HUB + "/api/whoami-v2")
    def whoami() -> dict[str, Any]:
        token = {"displayName": "local", "role": "write"}
        return {
            "type": "user",
            "id": "1",
            "name": USER,
            "fullname": USER,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": token},
        }

    @hub.post(HUB + "/api/validate-yaml")
    def validate_yaml() -> dict[str, list[str]]:
        return {"errors": [], "warnings": []}


def _repo_urls(hub: APIRouter, service: DataStoreService) -> None:
    @hub.post(HUB + "/api/repos/create")
    def create_repo(body: RepoReference, request: Request) -> Any:
        repo_type, namespace, name = _reference(body)
        url = repo_url(request, repo_type, f"{namespace}/{name}")
        try:
            repo = service.create_repo(repo_type, namespace, name)
        except Conflict:
            text = f"You already created this {repo_type} repo: {namespace}/{name}"
            raise HubError(409, text, url=url) from None
        return {"url": url, "name": f"{namespace}/{name}", "id": repo["id"]}

    @hub.delete(HUB + "/api/repos/delete")
    def delete_repo(body: RepoReference) -> dict[str, Any]:
        repo_type, namespace, name = _reference(body)
        service.delete_repo(repo_type, f"{namespace}/{name}")
        return {}

    @hub.get(HUB + "/api/{kind}")
    def list_repos(
        kind: TypeSegment,
        request: Request,
        author: str | None = None,
        search: Annotated[tuple[str, ...], Query()] = (),
        limit: Annotated[int | None, Query(ge=0)] = None,
        sort: str | None = None,
        direction: int = -1,
        gated: bool = False,
    ) -> list[dict[str, Any]]:
        if any(request.query_params.getlist(name) for name in NOTHING_HAS) or gated:
            return []
        views = [
            view
            for view in (repo_view(*head) for head in service.heads(repo_type_of(kind)))
            if author in (None, view["author"])
            and all(word.lower() in view["id"].lower() for word in search)
        ]
        key = {"created_at": "createdAt", "last_modified": "lastModified"}.get(sort or "", sort)
        if key in ("createdAt", "lastModified", "downloads", "likes"):
            views.sort(key=lambda view: view[key], reverse=direction == -1)
        return views[:limit]

    @hub.get(API)
    def repo_info(key: RepoKey, blobs: bool = False) -> dict[str, Any]:
        repo = service.repo(*key)
        return repo_view(repo, *service.files_at(repo, "main"), blobs)

    @hub.get(API + "/revision/{revision}")
    def repo_info_at(key: RepoKey, revision: str, blobs: bool = False) -> dict[str, Any]:
        repo = service.repo(*key)
        return repo_view(repo, *service.files_at(repo, slashes(revision)), blobs)

    @hub.get(API + "/auth-check")
    def auth_check(key: RepoKey) -> dict[str, Any]:
        service.repo(*key)
        return {}


def _ref_urls(hub: APIRouter, service: DataStoreService) -> None:
    @hub.get(API + "/refs")
    def refs(key: RepoKey) -> dict[str, Any]:
        return refs_view(service.repo(*key))

    @hub.get(API + "/commits/{revision}")
    def commits(key: RepoKey, revision: str) -> list[dict[str, Any]]:
        repo = service.repo(*key)
        return [commit_view(commit) for commit in service.history(repo, slashes(revision))]

    @hub.post(API + "/tag/{revision}")
    def create_tag(key: RepoKey, revision: str, body: TagRequest) -> dict[str, Any]:
        repo = service.repo(*key)
        service.create_ref(repo, "tags", body.tag, slashes(revision))
        return {}

    @hub.delete(API + "/tag/{tag}")
    def delete_tag(key: RepoKey, tag: str) -> dict[str, Any]:
        repo = service.repo(*key)
        service.delete_ref(repo, "tags", slashes(tag))
        return {}

    @hub.post(API + "/branch/{branch}")
    def create_branch(
        key: RepoKey, branch: str, body: BranchRequest | None = None
    ) -> dict[str, Any]:
        repo = service.repo(*key)
        start = (body.startingPoint if body else None) or "main"
        service.create_ref(repo, "branches", slashes(branch), start)
        return {}

    @hub.delete(API + "/branch/{branch}")
    def delete_branch(key: RepoKey, branch: str) -> dict[str, Any]:
        repo = service.repo(*key)
        service.delete_ref(repo, "branches", slashes(branch))
        return {}


def _one_part_urls(hub: APIRouter) -> None:
    """Refuse ids such as `gpt2` as clients expect: every repository here has a namespace."""

    def no_such_repo(kind: TypeSegment, name: str) -> None:
        raise repo_not_found(repo_type_of(kind), name)

    def no_such_model(name: str) -> None:
        raise repo_not_found("model", name)

    one_part = HUB + "/api/{kind}/{name}"
    refused = partial(hub.api_route, methods=["GET", "HEAD", "POST"], include_in_schema=False)
    refused(one_part)(no_such_repo)
    for verb in ("revision", "tree", "paths-info", "preupload", "commit", "commits"):
        refused(f"{one_part}/{verb}/{{rest:path}}")(no_such_repo)
    refused(HUB + "/{name}/resolve/{rest:path}")(no_such_model)


def _reference(body: RepoReference) -> tuple[RepoType, str, str]:
    namespace, name = body.organization or "", body.name
    if not namespace:
        namespace, _, name = body.name.rpartition("/")
    return body.type or "model", namespace or USER, name
