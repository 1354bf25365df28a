"""All four notebooks at smoke size, in order, on a platform of their own; then once more."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.demo import NOTEBOOKS, ROOT, publish, running_platform

pytestmark = [pytest.mark.notebooks, pytest.mark.timeout(900)]
CELL_TIMEOUT_S = 600


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the notebooks find their platform and leave their data."""
    folder: Path = tmp_path_factory.mktemp("notebooks")
    with running_platform(folder / "platform", NEMO_LOCAL_DATASET_ROWS="600") as urls:
        yield {**os.environ, **urls, "SIZE": "smoke", "DATA_DIR": str(folder / "data"), "CI": "1"}


def run(notebook: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One notebook under nbval, which fails on any cell that raises."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-kernel-name", "python3"),
            *(f"--nbval-cell-timeout={CELL_TIMEOUT_S}", "-q", "-p", "no:cacheprovider"),
            # This run's own options are for our tests, not for cells.
            *("-o", "addopts=", "-o", "filterwarnings=", "-o", f"timeout={CELL_TIMEOUT_S}"),
            notebook,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("notebook", NOTEBOOKS[1:])
def test_a_notebook_run_out_of_order_names_the_one_to_run_first(
    notebook: str, environment: dict[str, str], tmp_path: Path
) -> None:
    result = run(notebook, environment | {"DATA_DIR": str(tmp_path)})
    assert result.returncode == 1
    first = NOTEBOOKS[0] if notebook == NOTEBOOKS[1] else NOTEBOOKS[1]
    assert f"Run {first} from top to bottom first" in result.stdout


def test_a_notebook_1_that_fails_leaves_no_earlier_data_to_train_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    earlier = tmp_path / "run.json"
    earlier.write_text(json.dumps({"files": {}, "rows": {}}))
    result = run(NOTEBOOKS[0], environment | {"DATA_DIR": str(tmp_path), "DATASET": "my/none"})
    assert result.returncode == 1
    assert not earlier.exists()


def test_rows_in_another_form_end_notebook_1_with_the_reason_and_their_quarantine(
    environment: dict[str, str], tmp_path: Path
) -> None:
    tool = {"name": "count", "parameters": {"type": "object", "properties": {}}}
    row = {"query": "Count the owls.", "tools": json.dumps([tool]), "answers": "[]"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join([json.dumps(row)] * 20))
    publish(environment["NDS_URL"], "my/schemas", rows)
    own = environment | {"DATASET": "my/schemas", "DATA_DIR": str(tmp_path / "data")}
    result = run(NOTEBOOKS[0], own)
    assert result.returncode == 1
    assert "None of 22 rows can be used, 20 of them" in result.stdout
    assert "parameters are JSON Schema" in result.stdout
    assert len((tmp_path / "data" / "quarantine.jsonl").read_text().splitlines()) == 22


@pytest.mark.parametrize("notebook", NOTEBOOKS[2:])
def test_a_platform_that_was_reset_since_notebook_2_is_told_at_once(
    notebook: str, environment: dict[str, str], tmp_path: Path
) -> None:
    run_json = {"custom_model": "ns/gone@v1", "dataset": {"files_url": "hf://ns/d"}, "files": {}}
    (tmp_path / "run.json").write_text(json.dumps(run_json))
    result = run(notebook, environment | {"DATA_DIR": str(tmp_path)})
    assert result.returncode == 1
    assert "ns/gone@v1 is not on the platform at" in result.stdout
    assert f"Run {NOTEBOOKS[1]} again" in result.stdout


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param("http://127.0.0.1:9", "or set DATA_STORE_URL to one that runs", id="nobody"),
        pytest.param("NIM_URL", "is DATA_STORE_URL the URL of Data Store?", id="another service"),
    ],
)
def test_notebook_1_names_the_setting_when_the_data_store_does_not_answer(
    url: str, told: str, environment: dict[str, str], tmp_path: Path
) -> None:
    there = {"DATA_STORE_URL": environment.get(url, url), "DATA_DIR": str(tmp_path)}
    result = run(NOTEBOOKS[0], environment | there)
    assert result.returncode == 1
    assert told in result.stdout


def test_notebooks_run_from_top_to_bottom_in_order_and_then_once_more(
    environment: dict[str, str],
) -> None:
    for turn in ("first run", "second run"):
        for notebook in NOTEBOOKS:
            result = run(notebook, environment)
            assert result.returncode == 0, f"{notebook}, {turn}:\n{result.stdout[-6000:]}"
    result = run(NOTEBOOKS[1], environment | {"BASE_MODEL": "my/other"})
    assert result.returncode == 1
    assert "belongs to a run with BASE_MODEL=meta/llama" in result.stdout


def test_broken_rows_of_ones_own_are_quarantined_wherever_they_stand(
    environment: dict[str, str], tmp_path: Path
) -> None:
    tools = [
        {"name": f"count_{n}", "description": "", "parameters": {"of": {"type": "str"}}}
        for n in range(200)
    ]
    sound = [
        {
            "query": f"Count the owls, please, by rule {number}.",
            "tools": json.dumps([tool]),
            "answers": json.dumps([{"name": tool["name"], "arguments": {"of": "owls"}}]),
        }
        for number, tool in enumerate(tools)
    ]
    broken = [
        sound[0] | {"tools": '[{"name": '},
        sound[1] | {"tools": '[{"name": "no_parameters"}]', "answers": "null"},
        sound[2] | {"tools": '[{"name": "f", "parameters": {"type": "object"}}]'},
        sound[3] | {"query": None},
    ]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in [*broken, *sound]))
    publish(environment["NDS_URL"], "my/rows", rows)
    own = environment | {"DATASET": "my/rows", "DATA_DIR": str(tmp_path / "data")}
    result = run(NOTEBOOKS[0], own)
    assert result.returncode == 0, result.stdout[-6000:]
    assert len((tmp_path / "data" / "quarantine.jsonl").read_text().splitlines()) == 2 + len(broken)
