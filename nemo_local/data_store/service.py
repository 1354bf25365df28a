"""The rules of the Data Store: namespaces, repositories, references and commits."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import Conflict, NotFound, invalid_field
from nemo_local.core.ids import new_id
from nemo_local.core.query import ListQuery, Page
from nemo_local.data_store import tree
from nemo_local.data_store.blobs import Blobs
from nemo_local.data_store.commit_stream import Operation
from nemo_local.data_store.commits import Commits
from nemo_local.data_store.errors import (
    HubError,
    bad_payload,
    entry_not_found,
    repo_not_found,
    revision_not_found,
)

RepoType = Literal["dataset", "model"]
RefKind = Literal["branches", "tags"]

MAIN = "main"
USER = "admin"
"""Owner of everything, and the namespace of a repository that is created without one."""

ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
REPO_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+\-]{0,254}")
REF_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+\-/]{0,254}(?<!/)")


class DataStoreService:
    """Repositories of content-addressed files; a commit is all or nothing and never changes."""

    def __init__(self, documents: Documents, blobs_dir: Path) -> None:
        self.documents = documents
        self.blobs = Blobs(blobs_dir)
        self.commits = Commits(documents)
        self._locks: dict[str, threading.Lock] = {}
        self._namespace_locks: dict[str, threading.Lock] = {}

    def start(self) -> None:
        """Finish deletions that were interrupted, and drop contents that no commit names."""
        known = {repo["id"] for kind in _KINDS for repo in self.documents.all(kind)}
        for repo_id in self.commits.repositories() - known:
            self._forget_commits(repo_id)
        self.blobs.remove_interrupted(self._database_id(), self.commits.contents)

    # Namespaces

    def create_namespace(self, name: str) -> Document:
        """The new namespace. Raises Conflict when it exists, Invalid for a name we cannot use."""
        if not _is_repo_part(name):
            problem = "use letters, digits and . _ + - only, no '..' and no '.git' at the end"
            raise invalid_field("body", "namespace", problem, name)
        return _namespace(self.documents.create("datastore_namespace", "", name, {}))

    def namespace(self, name: str) -> Document:
        return _namespace(self.documents.get("datastore_namespace", "", name))

    def namespaces(self, query: ListQuery) -> Page:
        return self.documents.find("datastore_namespace", query).map(_namespace)

    def delete_namespace(self, name: str, force: bool) -> None:
        """Delete a namespace. Raises Conflict while it has repositories; `force` deletes them."""
        namespace = self.documents.get("datastore_namespace", "", name)
        with self._namespace_alone(name):
            repos = [repo for kind in _KINDS for repo in self.documents.all(kind, namespace=name)]
            if repos and not force:
                raise Conflict(
                    f"namespace {name!r} has {len(repos)} repositories; delete them or add "
                    "?force=true"
                )
            for repo in repos:
                self.delete_repo(repo["type"], _repo_id(repo))
            self.documents.delete("datastore_namespace", namespace["id"])

    # Repositories

    def create_repo(self, repo_type: RepoType, namespace: str, name: str) -> Document:
        """The new repository, its first commit included; its namespace is made when missing.

        Raises Conflict when it exists, HubError 400 for a name we cannot use.
        """
        for part in (namespace, name):
            if not _is_repo_part(part):
                raise bad_payload(f"not a repository name: {part!r}")
        attributes = tree.regular_entry(self.blobs.put(ATTRIBUTES))
        repo_id, files, now = new_id("repo"), {".gitattributes": attributes}, self.documents.now()
        sha = self._store_commit(repo_id, None, files, set(files), "initial commit", "")
        document = {"type": repo_type, "branches": {MAIN: sha}, "tags": {}}
        kind = f"{repo_type}_repo"
        with self._namespace_alone(namespace):
            try:
                repo = self.documents.create(
                    kind, namespace, name, document, id=repo_id, created_at=now
                )
            except Conflict:
                self._forget_commits(repo_id)
                raise
            with contextlib.suppress(Conflict):
                self.create_namespace(namespace)
        return repo

    def repo(self, repo_type: RepoType, repo_id: str) -> Document:
        """The repository. Raises HubError RepoNotFound."""
        namespace, _, name = repo_id.partition("/")
        try:
            return self.documents.get(f"{repo_type}_repo", namespace, name)
        except NotFound:
            raise repo_not_found(repo_type, repo_id) from None

    def heads(self, repo_type: RepoType) -> Iterator[tuple[Document, Document, tree.Files]]:
        """Every repository with its main branch's newest commit and that commit's files."""
        for repo in self.documents.all(f"{repo_type}_repo"):
            try:
                head, files = self.files_at(repo, MAIN)
            except HubError:
                continue  # it was deleted meanwhile
            yield repo, head, files

    def delete_repo(self, repo_type: RepoType, repo_id: str) -> None:
        """Delete the repository and its history; contents that only it had go at the next start."""
        with self._alone(self.repo(repo_type, repo_id)) as repo:
            self.documents.delete(f"{repo_type}_repo", repo["id"])
            # A kill between the two leaves the rest to the next start.
            self._forget_commits(repo["id"])
        self._locks.pop(repo["id"], None)

    # References

    def commit_at(self, repo: Document, revision: str) -> Document:
        """The commit that a branch, a tag or a full SHA names. Raises HubError RevisionNotFound."""
        sha = repo["branches"].get(revision) or repo["tags"].get(revision) or revision
        try:
            return self.commits.get(repo["id"], sha)
        except NotFound:
            raise revision_not_found(_repo_id(repo), revision) from None

    def files_at(self, repo: Document, revision: str) -> tuple[Document, tree.Files]:
        """The commit that a revision names, and its files. Raises HubError RevisionNotFound."""
        commit = self.commit_at(repo, revision)
        try:
            return commit, self.commits.files(commit)
        except NotFound:  # the repository was deleted meanwhile
            raise revision_not_found(_repo_id(repo), revision) from None

    def history(self, repo: Document, revision: str) -> list[Document]:
        """The commits up to a revision, newest first."""
        found, sha = [], self.commit_at(repo, revision)["name"]
        commits = self.commits.all(repo["id"])
        while sha in commits:
            found.append(commits[sha])
            sha = commits[sha]["parent"]
        return found

    def create_ref(self, repo: Document, kind: RefKind, name: str, revision: str) -> None:
        """A new branch or tag at a revision. Raises HubError 409 when the name is taken."""
        if not REF_NAME.fullmatch(name) or ".." in name or "//" in name:
            raise bad_payload(f"not a name for a branch or tag: {name!r}")
        sha = self.commit_at(repo, revision)["name"]
        # A branch of that name would hide the commit, and a revision never changes.
        hidden = self.documents.all("commit", namespace=repo["id"], name=name)

        def add(current: Document) -> Document:
            if hidden or name in current["branches"] or name in current["tags"]:
                raise HubError(409, f"{_repo_id(repo)!r} already has a revision {name!r}")
            return {kind: {**current[kind], name: sha}}

        with self._alone(repo):
            self._update_repo(repo, add)

    def delete_ref(self, repo: Document, kind: RefKind, name: str) -> None:
        """Remove a branch or tag. Raises HubError RevisionNotFound, or 400 for `main`."""
        if kind == "branches" and name == MAIN:
            raise bad_payload("the branch 'main' cannot be deleted")

        def remove(current: Document) -> Document:
            if name not in current[kind]:
                raise revision_not_found(_repo_id(repo), name)
            return {kind: {key: current[kind][key] for key in current[kind] if key != name}}

        with self._alone(repo):  # a commit under way to this branch would bring it back
            self._update_repo(repo, remove)

    # Commits

    def head(self, repo: Document, branch: str) -> Document:
        """The newest commit of a branch. Raises HubError RevisionNotFound."""
        if branch not in repo["branches"]:
            raise revision_not_found(_repo_id(repo), branch)
        return self.commit_at(repo, branch)

    def commit(self, repo: Document, branch: str, operations: list[Operation]) -> str:
        """The SHA of the new head of `branch`, after all operations or none of them.

        Raises:
            HubError: 404 for an unknown branch or path, 412 when the header's parentCommit (its
                first 7 characters or more) is not the head, 400 for anything else.
        """
        header = operations[0].value
        with self._alone(repo) as repo:
            head = self.head(repo, branch)
            wanted = str(header.get("parentCommit") or head["name"])
            if len(wanted) < 7 or not head["name"].startswith(wanted):
                raise HubError(
                    412,
                    f"the head of branch {branch!r} is {head['name']}; parentCommit is {wanted!r} "
                    "(it needs at least 7 characters)",
                )
            files, written = tree.apply(
                self.commits.files(head),
                operations[1:],
                _repo_id(repo),
                self.blobs.size,
                lambda revision: self.files_at(repo, revision)[1],
            )
            title, message = _title_and_message(header)
            sha = self._store_commit(repo["id"], head["name"], files, written, title, message)
            # The commit takes effect here, in one row.
            self._update_repo(
                repo, lambda current: {"branches": {**current["branches"], branch: sha}}
            )
            return sha

    def entry(self, repo: Document, revision: str, path: str) -> tuple[str, tree.Entry]:
        """The commit SHA and the entry of a file. Raises HubError EntryNotFound with the SHA."""
        commit, files = self.files_at(repo, revision)
        if path not in files:
            raise entry_not_found(_repo_id(repo), path, commit["name"])
        return commit["name"], files[path]

    def content(self, entry: tree.Entry) -> Path:
        """The path of a file's content. Raises HubError 410 when the store has lost it."""
        path = self.blobs.path(entry["sha256"])
        if not path.exists():
            raise HubError(
                410,
                f"the commit is here, its content with SHA-256 {entry['sha256']} is not: the "
                "database and the folder 'blobs' of the platform's home do not belong together. "
                "Bring both back from one copy, or upload the file again",
            )
        return path

    def ignore_rules(self, files: tree.Files) -> str:
        """The text of a commit's .gitignore; empty where there is none."""
        entry = files.get(".gitignore")
        if entry is None or self.blobs.size(entry["sha256"]) is None:
            return ""
        return self.content(entry).read_text(errors="replace")

    def _database_id(self) -> str:
        """The database's id, made at its first start, by which `blobs` tells databases apart."""
        with contextlib.suppress(Conflict):
            self.documents.create("datastore_database", "", "this", {})
        return str(self.documents.get("datastore_database", "", "this")["id"])

    @contextlib.contextmanager
    def _namespace_alone(self, name: str) -> Iterator[None]:
        """Lock a namespace against new repositories and against its deletion."""
        while True:
            lock = self._namespace_locks.setdefault(name, threading.Lock())
            with lock:
                if self._namespace_locks.get(name) is lock:
                    try:
                        yield
                    finally:
                        del self._namespace_locks[name]  # who waits for it takes the next one
                    return

    @contextlib.contextmanager
    def _alone(self, repo: Document) -> Iterator[Document]:
        """Lock a repository against other changes, and yield its current state.

        Raises HubError RepoNotFound when it was deleted, even if there is another of its name.
        """
        with self._locks.setdefault(repo["id"], threading.Lock()):
            try:
                current = self.documents.get_by_id(_kind(repo), repo["id"])
            except NotFound:
                raise repo_not_found(repo["type"], _repo_id(repo)) from None
            yield current

    def _forget_commits(self, repo_id: str) -> None:
        for sha256 in self.commits.contents(namespace=repo_id):
            self.blobs.mark_unnamed(sha256)
        self.commits.forget(repo_id)

    def _store_commit(
        self,
        repo_id: str,
        parent: str | None,
        files: tree.Files,
        written: set[str],
        title: str,
        message: str,
    ) -> str:
        sha = self.commits.create(repo_id, parent, files, written, title, message)
        for path in written:
            self.blobs.keep(files[path]["sha256"])
        return sha

    def _update_repo(self, repo: Document, change: Callable[[Document], Document]) -> None:
        self.documents.update(_kind(repo), repo["id"], change)


_KINDS = ("dataset_repo", "model_repo")


def _kind(repo: Document) -> str:
    return f"{repo['type']}_repo"


def _repo_id(repo: Document) -> str:
    return f"{repo['namespace']}/{repo['name']}"


def _title_and_message(header: Mapping[str, Any]) -> tuple[str, str]:
    """A commit's title, one line, and its message, from the summary and the description."""
    title, _, more = str(header.get("summary") or "").strip().partition("\n")
    description = str(header.get("description") or "")
    return title.strip() or "Upload files", f"{more.strip()}\n\n{description}".strip()


def _is_repo_part(name: str) -> bool:
    """Whether a repository or its namespace may have this name."""
    return bool(REPO_PART.fullmatch(name)) and ".." not in name and not name.endswith(".git")


def _namespace(entity: Document) -> dict[str, Any]:
    """A namespace as the API shows it: times in whole seconds with a Z, unlike elsewhere."""
    times = {key: entity[key].split(".")[0] + "Z" for key in ("created_at", "updated_at")}
    return {"namespace": entity["name"], **times}
