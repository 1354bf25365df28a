"""Git LFS, transfer `basic`: for clients that upload file objects, and for `git lfs`."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nemo_local.core.middleware import signature
from nemo_local.data_store.errors import HubError
from nemo_local.data_store.hub import HUB, TAGS, Download, HubRoute
from nemo_local.data_store.schemas import SHA256, LfsBatch, LfsObject
from nemo_local.data_store.service import DataStoreService, RepoType

LFS_JSON = "application/vnd.git-lfs+json"


class LfsRoute(HubRoute):
    """Refuses in the Hub's shape and with the `message` that git-lfs shows."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except HubError as error:
                error.extra["message"] = error.detail
                raise

        return handled


def lfs_router(service: DataStoreService) -> APIRouter:
    """Routes of batch requests, for datasets and models, and of objects at `/v1/hf/lfs/{oid}`."""
    urls = APIRouter(tags=TAGS, route_class=LfsRoute)

    def batch(request: Request, namespace: str, name: str, body: LfsBatch) -> JSONResponse:
        return _answer(request, "model", f"{namespace}/{name}", body)

    def dataset_batch(request: Request, namespace: str, name: str, body: LfsBatch) -> JSONResponse:
        return _answer(request, "dataset", f"{namespace}/{name}", body)

    def _answer(request: Request, kind: RepoType, repo_id: str, body: LfsBatch) -> JSONResponse:
        service.repo(kind, repo_id)
        objects = [_describe(wanted, body.operation, request) for wanted in body.objects]
        return JSONResponse({"transfer": "basic", "objects": objects}, media_type=LFS_JSON)

    def _describe(wanted: LfsObject, operation: str, request: Request) -> dict[str, Any]:
        known = {"oid": wanted.oid, "size": wanted.size, "authenticated": True}
        stored = service.blobs.size(wanted.oid)
        path = f"{HUB}/lfs/{wanted.oid}"
        href = f"{request.base_url}{path[1:]}"
        authorization = request.headers.get("authorization")
        header = {"Authorization": authorization} if authorization else {}
        if operation == "download":
            if stored is None:
                return {**known, "error": {"code": 404, "message": "object not found"}}
            return {**known, "actions": {"download": {"href": href, "header": header}}}
        if stored is not None:
            return known
        # huggingface_hub uploads without the headers it is given.
        signed = f"?signature={signature(authorization, 'PUT', path)}" if authorization else ""
        upload = {"href": href + signed, "header": header}
        verify = {"href": f"{href}/verify", "header": header}
        return {**known, "actions": {"upload": upload, "verify": verify}}

    @urls.put(HUB + "/lfs/{oid}")
    async def upload(oid: str, request: Request) -> Response:
        with service.blobs.writer() as writer:
            async for chunk in request.stream():
                await run_in_threadpool(writer.write, chunk)
            if writer.sha256 != oid:
                raise HubError(422, f"the object has SHA-256 {writer.sha256}, not {oid}")
            await run_in_threadpool(writer.commit)
        return Response(status_code=200)

    @urls.get(HUB + "/lfs/{oid}")
    def download(oid: str) -> Response:
        if not re.fullmatch(SHA256, oid) or service.blobs.size(oid) is None:
            raise HubError(404, f"LFS object {oid!r} not found", "EntryNotFound")
        return Download(service.blobs.path(oid), media_type="application/octet-stream")

    @urls.post(HUB + "/lfs/{oid}/verify")
    def verify(oid: str, body: LfsObject) -> Response:
        stored = service.blobs.size(body.oid)
        if body.oid != oid or stored != body.size:
            seen = "is not here" if stored is None else f"has {stored} bytes here, not {body.size}"
            raise HubError(422, f"object {body.oid} {seen}")
        return Response(status_code=200)

    tail = "/{namespace}/{name}.git/info/lfs/objects/batch"
    urls.post(HUB + "/datasets" + tail)(dataset_batch)
    urls.post(HUB + tail)(batch)
    return urls
