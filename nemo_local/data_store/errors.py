"""Hub errors: `{"error": text}`, and headers from which huggingface_hub makes exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nemo_local.core.errors import NO_RETRY, PlatformError


class HubError(PlatformError):
    """A refusal in the Hub's shape; `code` selects the client's exception."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        # Header values are printable, latin-1 and short; a path may be anything.
        ascii_only = message.encode("ascii", "replace").decode()
        shown = "".join(sign if sign.isprintable() else " " for sign in ascii_only[:1000])
        own = {"X-Error-Message": shown, **({"X-Error-Code": code} if code else {})}
        super().__init__(message, {**own, **(NO_RETRY if status == 409 else {}), **(headers or {})})
        self.status = status
        self.extra = extra

    def body(self) -> dict[str, Any]:
        return {"error": self.detail, **self.extra}


def repo_not_found(repo_type: str, repo_id: str) -> HubError:
    return HubError(404, f"{repo_type} repository {repo_id!r} not found", "RepoNotFound")


def revision_not_found(repo_id: str, revision: str) -> HubError:
    return HubError(404, f"{repo_id!r} has no revision {revision!r}", "RevisionNotFound")


def entry_not_found(repo_id: str, path: str, commit: str | None = None) -> HubError:
    # With the commit, a client may cache that the file does not exist.
    headers = {"X-Repo-Commit": commit} if commit else None
    return HubError(404, f"{repo_id!r} has no entry {path!r}", "EntryNotFound", headers)


def bad_payload(message: str) -> HubError:
    return HubError(400, message)
