"""Publishes the pocket data set on the Data Store, where `datasets.load_dataset` reads it."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from itertools import islice

from nemo_local.core.client import Client, UpstreamError

logger = logging.getLogger(__name__)

NAMESPACE, NAME = "nemo-local", "pocket-function-calling"
REPO = f"{NAMESPACE}/{NAME}"
ROWS_PATH = "data/train.jsonl"
SEED = 0

CARD = """---
license: apache-2.0
task_categories:
- text-generation
configs:
- config_name: default
  data_files: data/train.jsonl
---
# Pocket function calling

Rows in the format of the xLAM function-calling set (columns id, query, tools, answers; the last
two are JSON text), made by the seeded generator `nemo_local/pocket/world.py`. No person wrote them
and no model did; the tools do not exist.
"""


def publish(platform: Client, rows: int, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Publish the data set unless it exists or `rows` is 0; returns whether it was published."""
    if not rows or _is_there(platform):
        return False
    from nemo_local.pocket.world import rows as generate

    lines = []
    for row in islice(generate(rows, SEED), rows):
        if stopping():
            return False
        lines.append(json.dumps(row, ensure_ascii=False))
    _create_repo(platform)
    content = "\n".join(lines) + "\n"
    platform.post(
        f"/v1/hf/api/datasets/{REPO}/commit/main",
        content=b"".join(_commit({"README.md": CARD, ROWS_PATH: content}, rows)),
        headers={"content-type": "application/x-ndjson"},
    )
    logger.info("published %d rows as %s", rows, REPO)
    return True


def _is_there(platform: Client) -> bool:
    try:
        platform.raw("HEAD", f"/v1/hf/datasets/{REPO}/resolve/main/{ROWS_PATH}")
    except UpstreamError as error:
        if error.status == 404:
            return False
        raise
    return True


def _create_repo(platform: Client) -> None:
    """Create the repository; it may exist, if an earlier publication was interrupted."""
    body = {"type": "dataset", "organization": NAMESPACE, "name": NAME}
    try:
        platform.post("/v1/hf/api/repos/create", json=body)
    except UpstreamError as error:
        if error.status != 409:
            raise


def _commit(files: dict[str, str], rows: int) -> Iterator[bytes]:
    header = {"summary": f"Publish {rows} generated rows", "description": ""}
    yield json.dumps({"key": "header", "value": header}).encode() + b"\n"
    for path, text in files.items():
        value = {
            "content": base64.b64encode(text.encode()).decode(),
            "path": path,
            "encoding": "base64",
        }
        yield json.dumps({"key": "file", "value": value}).encode() + b"\n"
