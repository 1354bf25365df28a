"""What uploads and repositories leave behind when they end in the middle."""

import hashlib
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nemo_local.core.documents import Documents
from nemo_local.core.errors import NotFound
from nemo_local.data_store.blobs import Blobs
from nemo_local.data_store.commit_stream import Operation
from nemo_local.data_store.errors import HubError
from nemo_local.data_store.service import DataStoreService
from nemo_local.processes import wait_until

HEADER = Operation("header", {"summary": "s"})


@pytest.fixture
def service(documents, settings):
    service = DataStoreService(documents, settings.home / "blobs")
    service.start()
    service.create_repo("dataset", "ns", "d")
    return service


def commit(service, path, content, repo="ns/d"):
    operation = Operation("file", {"path": path}, service.blobs.put(content))
    service.commit(service.repo("dataset", repo), "main", [HEADER, operation])


def contents(service):
    paths = (path for path in service.blobs.folder.rglob("*") if path.is_file())
    return {path.read_bytes() for path in paths if path.name != "databases"}


def test_contents_of_refused_commits_do_not_stay_for_ever(service):
    commit(service, "kept", b"kept")
    kept = contents(service)
    with pytest.raises(HubError):
        commit(service, "../refused", b"refused")
    with pytest.raises(HubError):
        commit(service, "../refused", b"kept")
    service.blobs.put(b"of a killed process, before its commit")
    assert b"refused" in contents(service)
    service.start()
    assert contents(service) == kept


def test_a_content_that_was_refused_and_then_committed_stays(service):
    with pytest.raises(HubError):
        commit(service, "../refused", b"wanted")
    commit(service, "wanted", b"wanted")
    service.start()
    assert b"wanted" in contents(service)


def test_contents_of_a_deleted_repository_go_unless_another_one_has_them(service):
    commit(service, "own", b"own")
    commit(service, "own", b"newer")
    commit(service, "shared", b"shared")
    before = contents(service)
    service.create_repo("dataset", "ns", "other")
    other = Operation("file", {"path": "same"}, service.blobs.put(b"shared"))
    service.commit(service.repo("dataset", "ns/other"), "main", [HEADER, other])
    service.delete_repo("dataset", "ns/d")
    service.start()
    assert contents(service) == before - {b"own", b"newer"}


def test_a_content_of_a_deleted_repository_that_is_committed_again_stays(service):
    commit(service, "kept", b"kept")
    service.delete_repo("dataset", "ns/d")
    service.create_repo("dataset", "ns", "d")
    commit(service, "kept", b"kept")
    service.start()
    assert b"kept" in contents(service)


def start_with_other_database(settings, tmp_path):
    documents = Documents(f"sqlite:///{tmp_path / 'other.db'}")
    service = DataStoreService(documents, settings.home / "blobs")
    service.start()
    return service


def have_and_delete(service, content):
    """Have a content in a repository that stays and in one that is deleted, which marks it."""
    for repo in ("kept", "gone"):
        service.create_repo("dataset", "ns", repo)
        commit(service, "own", content, f"ns/{repo}")
    service.delete_repo("dataset", "ns/gone")


def test_contents_survive_a_start_with_another_database(service, settings, tmp_path):
    have_and_delete(service, b"own")
    before = contents(service)
    for _ in range(2):
        start_with_other_database(settings, tmp_path).documents.close()
    service.start()
    assert before <= contents(service)


def test_contents_survive_a_start_with_the_database_of_before(service, settings, tmp_path):
    newer = start_with_other_database(settings, tmp_path)
    have_and_delete(newer, b"own")
    newer.documents.close()
    for _ in range(2):
        service.start()
    assert b"own" in contents(service)


def test_a_full_disk_leaves_no_temporary_file(tmp_path):
    blobs = Blobs(tmp_path / "blobs")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError), blobs.writer() as writer:
            for _ in range(700):
                writer.write(b"x" * 3000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((blobs.folder / "incoming").iterdir()) == []


def test_repositories_are_listed_while_one_of_them_is_deleted(service):
    service.create_repo("dataset", "ns", "gone")
    service.create_repo("dataset", "ns", "last")
    listing = service.heads("dataset")
    names = [next(listing)[0]["name"]]
    service.delete_repo("dataset", "ns/gone")
    assert names + [repo["name"] for repo, *_ in listing] == ["d", "last"]


class Meeting(Documents):
    """A database in which `other` begins while the first commit of a file is under way."""

    other = threading.Thread()

    def create(self, kind, *arguments, **more):
        made = super().create(kind, *arguments, **more)
        if kind == "commit" and made["parent"] and self.other.ident is None:
            self.other.start()
            self.other.join(timeout=0.5)  # ends here only when nothing holds it back
        return made


@pytest.fixture
def meeting(settings, clock):
    store = Meeting(settings.database_url, clock)
    service = DataStoreService(store, settings.home / "blobs")
    service.create_repo("dataset", "ns", "d")
    yield service
    store.close()


def test_a_commit_that_meets_a_delete_leaves_no_commit_without_a_repository(meeting):
    store = meeting.documents
    store.other = threading.Thread(target=meeting.delete_repo, args=("dataset", "ns/d"))
    commit(meeting, "a", b"a")
    store.other.join(timeout=10)
    assert store.all("dataset_repo") == store.all("commit") == []


def test_a_branch_does_not_come_back_after_its_deletion_met_a_commit(meeting):
    repo = meeting.repo("dataset", "ns/d")
    meeting.create_ref(repo, "branches", "next", "main")
    repo = meeting.repo("dataset", "ns/d")
    deletion = (repo, "branches", "next")
    meeting.documents.other = threading.Thread(target=meeting.delete_ref, args=deletion)
    meeting.commit(repo, "next", [HEADER])
    meeting.documents.other.join(timeout=10)
    assert list(meeting.repo("dataset", "ns/d")["branches"]) == ["main"]
    with pytest.raises(HubError) as refused:
        meeting.commit(repo, "next", [HEADER])
    assert refused.value.headers["X-Error-Code"] == "RevisionNotFound"


def test_a_commit_does_not_wait_for_one_of_another_repository(meeting):
    meeting.create_repo("dataset", "ns", "quick")
    quick = (meeting, "b", b"b", "ns/quick")
    other = meeting.documents.other = threading.Thread(target=commit, args=quick)
    ended = []
    meeting.blobs.keep = lambda sha256: ended.append(sha256)
    commit(meeting, "a", b"a")
    assert ended == [hashlib.sha256(content).hexdigest() for content in (b"b", b"a")]
    other.join()


def test_a_commit_to_a_repository_that_was_deleted_and_made_again_is_refused(service):
    before = service.repo("dataset", "ns/d")
    service.delete_repo("dataset", "ns/d")
    service.create_repo("dataset", "ns", "d")
    with pytest.raises(HubError) as refused:
        service.commit(before, "main", [HEADER])
    assert refused.value.headers["X-Error-Code"] == "RepoNotFound"


def rows(service):
    return {kind: len(service.documents.all(kind)) for kind in ("commit", "commit_files")}


@pytest.mark.parametrize("kind", ["commit", "commit_files"])
def test_the_history_of_a_repository_whose_deletion_was_killed_goes_at_the_next_start(
    service, documents, monkeypatch, kind
):
    kept, before = rows(service), contents(service)
    service.create_repo("dataset", "ns", "gone")
    commit(service, "own", b"own", "ns/gone")

    def killed_at(some, namespace):
        if some == kind:
            raise KeyboardInterrupt
        Documents.delete_all(documents, some, namespace)

    monkeypatch.setattr(documents, "delete_all", killed_at)
    with pytest.raises(KeyboardInterrupt):
        service.delete_repo("dataset", "ns/gone")
    monkeypatch.undo()
    assert rows(service) != kept and b"own" in contents(service)
    service.start()
    assert rows(service) == kept and contents(service) == before


def test_a_home_in_which_one_row_held_all_of_a_commit_goes_on(service, documents):
    commit(service, "a", b"a")
    commit(service, "a", b"newer")
    for row in documents.all("commit"):
        files = documents.get("commit_files", row["namespace"], row["name"])
        documents.delete("commit_files", files["id"])
        documents.delete("commit", row["id"])
        del row["contents"]
        old = {**row, "files": files["files"]}
        documents.create("commit", row["namespace"], row["name"], old)
    service.blobs.mark_unnamed(hashlib.sha256(b"a").hexdigest())
    service.start()
    commit(service, "b", b"b")
    repo = service.repo("dataset", "ns/d")
    _, files = service.files_at(repo, "main")
    assert sorted(files) == [".gitattributes", "a", "b"]
    assert len(service.history(repo, "main")) == 4 and b"a" in contents(service)
    service.delete_repo("dataset", "ns/d")
    service.start()
    assert contents(service) == set() and rows(service) == {"commit": 0, "commit_files": 0}


class Emptying(Documents):
    """A database in which `other` begins just before a namespace goes."""

    other = threading.Thread()

    def delete(self, kind, id):
        if kind == "datastore_namespace":
            self.other.start()
            self.other.join(timeout=0.5)  # ends here only when nothing holds it back
        return super().delete(kind, id)


def test_no_other_namespace_waits_for_one_that_is_being_deleted(service):
    service.create_repo("model", "ns", "m")
    with ThreadPoolExecutor() as threads:
        with service._alone(service.repo("model", "ns/m")):  # as long as a commit takes
            deletion = threads.submit(service.delete_namespace, "ns", force=True)
            wait_until(
                lambda: not list(service.heads("dataset")),
                10,
                "ns/d is deleted, and ns/m is waited for",
            )
            threads.submit(service.create_repo, "dataset", "other", "d").result(timeout=10)
            assert not deletion.done()
        deletion.result(timeout=10)
    with pytest.raises(NotFound):
        service.namespace("ns")


@pytest.mark.parametrize("force", [False, True])
def test_a_repository_that_is_created_while_its_namespace_goes_has_one(settings, force):
    store = Emptying(settings.database_url)
    service = DataStoreService(store, settings.home / "blobs")
    service.create_namespace("ns")
    store.other = threading.Thread(target=service.create_repo, args=("dataset", "ns", "d"))
    service.delete_namespace("ns", force)
    store.other.join(timeout=10)
    assert service.repo("dataset", "ns/d")["namespace"] == service.namespace("ns")["namespace"]
    store.close()
