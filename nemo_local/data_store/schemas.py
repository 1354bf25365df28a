"""Wire types of the Hub API, for which the platform's SDK has none."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

SHA256 = "^[0-9a-f]{64}$"


class RepoReference(BaseModel):
    """The body of `repos/create` and `repos/delete`; no type means a model."""

    name: str
    organization: str | None = None
    type: Literal["dataset", "model"] | None = None


class PreuploadFile(BaseModel):
    path: str


class Preupload(BaseModel):
    files: list[PreuploadFile] = Field(max_length=10_000)
    gitIgnore: str | None = None  # noqa: N815 - the wire's own name


class TagRequest(BaseModel):
    tag: str
    message: str | None = None


class BranchRequest(BaseModel):
    startingPoint: str | None = None  # noqa: N815 - the wire's own name


class LfsObject(BaseModel):
    oid: str = Field(pattern=SHA256)
    size: int = Field(ge=0)


class LfsBatch(BaseModel):
    operation: Literal["upload", "download"]
    objects: list[LfsObject]
