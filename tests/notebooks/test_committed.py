"""The committed notebooks: cells that parse, and outputs of one clean run or none at all."""

import ast
import json
import re
from itertools import islice

import nbformat
import pytest
from starlette.responses import HTMLResponse

import config
from scripts.demo import NOTEBOOKS, ROOT
from tests.scripted_model import scripted_model, serving
from utils import clients, inference, show, xlam
from utils.errors import OutOfOrder, Unreachable
from utils.run_state import RunState

LEAKS = re.compile(r"/home/|/Users/|hf_[A-Za-z0-9]{20,}|nvapi-|" + re.escape(str(ROOT)))


@pytest.fixture(params=NOTEBOOKS)
def cells(request):
    notebook = nbformat.read(ROOT / request.param, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_cell_is_python(cells):
    for cell in cells:
        ast.parse(cell.source)


def test_nothing_knows_the_embedded_platform(cells):
    assert [cell.source for cell in cells if "nemo_local" in cell.source] == []


def test_execution_counts_are_those_of_one_run(cells):
    counts = [cell.execution_count for cell in cells]
    assert counts in ([None] * len(cells), list(range(1, len(cells) + 1)))


def test_outputs_hold_no_error_no_path_and_no_secret(cells):
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert LEAKS.search(str(output.get("text", "")) + str(output.get("data", ""))) is None


def test_the_seconds_in_the_readme_are_those_of_the_committed_notebooks():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("<!-- numbers: begin")[2].partition("<!-- numbers: end")[0]
    told = re.findall(r"\d+ min \d+ s|\d+\.\d s", block)
    texts = [
        output.get("text", "")
        for name in NOTEBOOKS[1:]
        for cell in nbformat.read(ROOT / name, as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    last = [text for text in texts if re.search(r"^(training|evaluations|\d+ checks) took ", text)]
    assert told == re.findall(r"\d+ min \d+ s|\d+\.\d s", "".join(last)) != []


def test_a_long_cell_is_the_exception(cells):
    assert sum(len(cell.source.splitlines()) > 30 for cell in cells) <= 1


def test_data_that_notebook_1_prepared_under_other_settings_are_told(tmp_path, monkeypatch, capsys):
    notebook = nbformat.read(ROOT / NOTEBOOKS[1], as_version=4)
    (cell,) = [cell for cell in notebook.cells if "Notebook 1 prepared" in cell.source]
    monkeypatch.setattr(config, "DATA_DIR", tmp_path)
    settings = {"dataset": "my/rows", "size": config.SIZE.name, "seed": config.SEED + 1}
    RunState(tmp_path / "run.json").save(files={}, rows={}, run=settings)
    exec(cell.source, {"config": config, "RunState": RunState, "show": show})
    assert capsys.readouterr().out.splitlines() == [
        f"Notebook 1 prepared this data with DATASET=my/rows, not {config.DATASET}.",
        f"Notebook 1 prepared this data with SEED={config.SEED + 1}, not {config.SEED}.",
    ]


@pytest.mark.parametrize("name", NOTEBOOKS[1:])
def test_data_of_a_run_under_another_name_are_not_used(name, tmp_path, monkeypatch):
    """Two runs in one folder used each other's data and model."""
    notebook = nbformat.read(ROOT / name, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "require_settings" in cell.source]
    monkeypatch.setattr(config, "DATA_DIR", tmp_path)
    run = {"dataset": config.DATASET, "size": config.SIZE.name, "seed": config.SEED}
    run |= {"namespace": "theirs", "base_model": config.BASE_MODEL}
    saved = {"files": {}, "rows": {}, "run": run, "custom_model": "theirs/m@v1", "dataset": {}}
    RunState(tmp_path / "run.json").save(**saved)
    with pytest.raises(OutOfOrder, match="belongs to a run with NAMESPACE=theirs, not"):
        exec(cell.source, {"config": config, "RunState": RunState, "show": show})


def test_a_page_to_sign_in_at_the_deployment_service_is_told_before_it_is_asked(monkeypatch):
    notebook = nbformat.read(ROOT / NOTEBOOKS[1], as_version=4)
    (cell,) = [cell for cell in notebook.cells if "deployment.ensure_deployed" in cell.source]
    page = HTMLResponse("<html>sign in</html>")
    with scripted_model() as nim, serving(page) as url:
        monkeypatch.setattr(config, "DEPLOYMENT_URL", url)
        names = {"config": config, "clients": clients, "inference": inference}
        with pytest.raises(Unreachable, match="is DEPLOYMENT_URL the right URL"):
            exec(cell.source, names | {"nim": clients.openai(nim.url)})


def test_the_first_sound_row_is_shown_wherever_it_stands(capsys):
    notebook = nbformat.read(ROOT / NOTEBOOKS[0], as_version=4)
    (cell,) = [cell for cell in notebook.cells if "show.example(xlam.to_chat" in cell.source]
    tools, call = json.dumps([{"name": "count"}]), {"name": "count", "arguments": {}}
    several = {"id": 0, "query": "Both.", "tools": tools, "answers": json.dumps([call, call])}
    sound = {"id": 1, "query": "Count the owls.", "tools": tools, "answers": json.dumps([call])}
    names = {"xlam": xlam, "show": show, "islice": islice}
    exec(cell.source, names | {"raw_rows": [*[several] * 200, sound]})
    assert "Count the owls." in capsys.readouterr().out
