"""Settings that the clients would stumble over, or show, are told before any request."""

import os
import subprocess
import sys

import pytest

from scripts.demo import ROOT


def load(**environment):
    """What happens to `config.py` under these variables."""
    shown = f"import config; print([getattr(config, n) for n in {list(environment)}])"
    return subprocess.run(
        [sys.executable, "-c", shown],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_tokens_read_from_files_lose_the_line_break():
    loaded = load(HF_TOKEN=" one\r\n", NEMO_TOKEN="two\n", WANDB_API_KEY="three ")
    assert loaded.stdout.strip() == "['one', 'two', 'three']"


@pytest.mark.parametrize("value", ["“hunter2”", "hunter2\nhunter3"])
def test_a_token_that_no_header_takes_is_refused_and_not_shown(value):
    refused = load(NEMO_TOKEN=value)
    assert "NEMO_TOKEN has white space or non-ASCII characters" in refused.stderr
    assert "hunter" not in refused.stderr


@pytest.mark.parametrize(
    ("name", "path"), [("NIM_URL", "/v1"), ("NEMO_URL", "/v1/"), ("NDS_URL", "/v1/hf")]
)
def test_a_url_with_the_path_that_clients_add_is_refused(name, path):
    refused = load(**{name: f"http://host:8000{path}"})
    assert f"{name}='http://host:8000" in refused.stderr
    assert "leave out the /v1" in refused.stderr


def test_the_endpoint_of_the_hub_may_be_a_data_store():
    assert "http://host/v1/hf" in load(HF_ENDPOINT="http://host/v1/hf").stdout
