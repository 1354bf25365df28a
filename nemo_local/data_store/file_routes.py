"""The URLs of files in the Hub API: trees, uploads and downloads."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from nemo_local.data_store import tree
from nemo_local.data_store.commit_stream import CommitParser
from nemo_local.data_store.errors import bad_payload, entry_not_found, repo_not_found
from nemo_local.data_store.gitignore import ignored
from nemo_local.data_store.hub import API, HUB, Download, RepoKey, form_or_json, has_it, repo_url
from nemo_local.data_store.quoted_slash import slashes
from nemo_local.data_store.schemas import Preupload
from nemo_local.data_store.service import DataStoreService, RepoType
from nemo_local.data_store.views import path_view

FEED_BYTES = 1 << 20
"""Bytes of a commit that are parsed at a time."""


def add_file_urls(hub: APIRouter, service: DataStoreService) -> None:
    """Add the routes of trees, paths, preupload, commit and resolve."""
    _tree_urls(hub, service)
    _upload_urls(hub, service)
    _download_urls(hub, service)


def _tree_urls(hub: APIRouter, service: DataStoreService) -> None:
    def list_tree(
        key: RepoKey, revision: str, path: str = "", recursive: bool = False, expand: bool = False
    ) -> list[dict[str, Any]]:
        repo = service.repo(*key)
        commit, files = service.files_at(repo, slashes(revision))
        folder = slashes(path).strip("/")
        found = tree.listing(files, folder, recursive)
        if folder and not found:
            raise entry_not_found(key[1], folder, commit["name"])
        return _described(repo, files, found, expand)

    def _described(
        repo: dict[str, Any],
        files: tree.Files,
        found: list[tuple[str, tree.Entry | None]],
        expand: bool,
    ) -> list[dict[str, Any]]:
        oids = tree.oids(files)
        if not expand:
            return [path_view(path, entry, oids[path]) for path, entry in found]
        changes = tree.changes(files)
        commits = service.commits.all(repo["id"])
        if not commits:  # the repository was deleted meanwhile
            raise repo_not_found(repo["type"], f"{repo['namespace']}/{repo['name']}")
        age = {sha: number for number, sha in enumerate(commits)}
        return [
            path_view(path, entry, oids[path], commits[max(changes[path], key=age.__getitem__)])
            for path, entry in found
        ]

    @hub.post(API + "/paths-info/{revision}")
    async def paths_info(key: RepoKey, revision: str, request: Request) -> list[dict[str, Any]]:
        fields = await form_or_json(request)
        # A form has no way to write an empty list: the client then sends `expand` alone.
        wanted = fields.get("paths", [] if "expand" in fields else None)
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(wanted, list) or not all(isinstance(path, str) for path in wanted):
            raise bad_payload("the body needs `paths`, a list of texts, as a form or as JSON")
        expand = str(fields.get("expand", "")).lower() == "true"

        def describe() -> list[dict[str, Any]]:
            repo = service.repo(*key)
            _, files = service.files_at(repo, slashes(revision))
            known = dict(tree.listing(files, "", recursive=True))
            found = [(path, known[path]) for path in wanted if path in known]
            return _described(repo, files, found, expand)

        return await run_in_threadpool(describe)

    hub.get(API + "/tree/{revision}")(list_tree)
    hub.get(API + "/tree/{revision}/{path:path}")(list_tree)


def _upload_urls(hub: APIRouter, service: DataStoreService) -> None:
    @hub.post(API + "/preupload/{revision}")
    def preupload(key: RepoKey, revision: str, body: Preupload) -> dict[str, Any]:
        repo = service.repo(*key)
        _, files = service.files_at(repo, slashes(revision))
        rules = service.ignore_rules(files) if body.gitIgnore is None else body.gitIgnore
        left_out = ignored(rules, [file.path for file in body.files])

        def answer(path: str) -> dict[str, Any]:
            # Always "regular": in mode "lfs" a client with hf_xet asks for Xet and then gives up.
            mode = {"path": path, "uploadMode": "regular", "shouldIgnore": path in left_out}
            entry = files.get(path)
            if entry is None or service.blobs.size(entry["sha256"]) is None:
                return mode
            return {**mode, "oid": entry["sha256"] if entry["lfs"] else entry["oid"]}

        return {"files": [answer(file.path) for file in body.files]}

    @hub.post(API + "/commit/{revision}")
    async def commit(key: RepoKey, revision: str, request: Request) -> dict[str, Any]:
        if request.query_params.get("create_pr") in ("1", "true"):
            raise bad_payload("create_pr is not supported: this store has no pull requests")
        repo = await run_in_threadpool(service.repo, *key)
        await run_in_threadpool(service.head, repo, slashes(revision))
        parser = CommitParser(service.blobs)
        try:
            pending = bytearray()
            async for chunk in request.stream():
                pending += chunk
                if len(pending) >= FEED_BYTES:
                    await run_in_threadpool(parser.feed, bytes(pending))
                    pending.clear()
            await run_in_threadpool(parser.feed, bytes(pending))
            operations = await run_in_threadpool(parser.finish)
        finally:
            parser.close()
        sha = await run_in_threadpool(service.commit, repo, slashes(revision), operations)
        return {
            "success": True,
            "commitOid": sha,
            "commitUrl": f"{repo_url(request, *key)}/commit/{sha}",
            "hookOutput": "",
            "pullRequestUrl": None,
        }


def _download_urls(hub: APIRouter, service: DataStoreService) -> None:
    def resolve(
        request: Request, repo_type: RepoType, repo_id: str, revision: str, path: str
    ) -> Response:
        path = slashes(path)
        sha, entry = service.entry(service.repo(repo_type, repo_id), slashes(revision), path)
        etag = f'"{entry["sha256"] if entry["lfs"] else entry["oid"]}"'
        headers = {"ETag": etag, "X-Repo-Commit": sha, "X-Content-Type-Options": "nosniff"}
        if entry["lfs"]:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(entry["size"])}
        if has_it(", ".join(request.headers.getlist("if-none-match")), etag):
            return Response(status_code=304, headers=headers)
        return Download(
            service.content(entry),
            headers=headers,
            media_type="application/octet-stream",
            filename=path.rsplit("/", 1)[-1],
        )

    def resolve_dataset(
        request: Request, namespace: str, name: str, revision: str, path: str = ""
    ) -> Response:
        return resolve(request, "dataset", f"{namespace}/{name}", revision, path)

    def resolve_model(
        request: Request, namespace: str, name: str, revision: str, path: str = ""
    ) -> Response:
        return resolve(request, "model", f"{namespace}/{name}", revision, path)

    tail = "/{namespace}/{name}/resolve/{revision}/{path:path}"
    for method in ("GET", "HEAD"):
        hub.api_route(HUB + "/datasets" + tail, methods=[method])(resolve_dataset)
        hub.api_route(HUB + tail, methods=[method])(resolve_model)
    # Without a path the answer is EntryNotFound, which clients distinguish from RepoNotFound.
    bare = partial(hub.api_route, methods=["GET", "HEAD"], include_in_schema=False)
    bare(HUB + "/datasets/{namespace}/{name}/resolve/{revision}")(resolve_dataset)
    bare(HUB + "/{namespace}/{name}/resolve/{revision}")(resolve_model)
