"""The pocket data set, published once."""

import json
from urllib.parse import quote

from nemo_local.pocket_dataset import NAME, NAMESPACE, REPO, ROWS_PATH, publish

FILE = f"/v1/hf/datasets/{REPO}/resolve/main/{quote(ROWS_PATH)}"


def test_rows_are_published_once(control_plane):
    client = control_plane.client()
    assert publish(client, 5)
    assert not publish(client, 7)
    rows = [json.loads(line) for line in client.raw("GET", FILE).text.splitlines()]
    assert [row["id"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(isinstance(row[key], str) for row in rows for key in ("query", "tools", "answers"))


def test_an_interrupted_publication_is_made_good(control_plane):
    client = control_plane.client()
    repo = {"type": "dataset", "organization": NAMESPACE, "name": NAME}
    client.post("/v1/hf/api/repos/create", json=repo)
    assert publish(client, 2)


def test_no_rows_and_no_time_publish_nothing(control_plane):
    client = control_plane.client()
    assert not publish(client, 0)
    assert not publish(client, 5, stopping=lambda: True)
    assert client.get("/v1/hf/api/datasets") == []
