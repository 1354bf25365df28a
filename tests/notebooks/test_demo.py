"""The platform that `make demo` brings along, whatever the shell is set up for."""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from scripts import demo
from scripts.demo import ROOT, SCORES, URLS, publish, running_platform, table

pytestmark = [pytest.mark.notebooks, pytest.mark.timeout(300)]

ASK = """
import json
import config
from utils import clients, data_store, inference
url = {service: ("URL", config.NEMO_URL) for service in clients.PROBES} | {
    "Data Store": ("URL", config.DATA_STORE_URL),
    "Entity Store": ("URL", config.ENTITY_STORE_URL),
    "Customizer": ("URL", config.CUSTOMIZER_URL),
    "Evaluator": ("URL", config.EVALUATOR_URL),
    "Guardrails": ("URL", config.GUARDRAILS_URL),
    "NIM": ("URL", config.NIM_URL),
}
clients.require_answers(url, config.NEMO_TOKEN, config.NIM_TOKEN)
rows = data_store.load_rows(config.HF_ENDPOINT, "my/rows", config.NEMO_TOKEN)
print(json.dumps([rows[0]["id"], config.DEPLOYMENT_URL == config.NEMO_URL]))
"""

LIST = """
import config
from utils import clients, inference
urls = {"NIM": ("NIM_URL", config.NIM_URL), "Entity Store": ("NEMO_URL", config.NEMO_URL)}
clients.require_answers(urls, config.NEMO_TOKEN, config.NIM_TOKEN)
print(inference.served_models(clients.openai(config.NIM_URL, config.NIM_TOKEN))[0].id)
"""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "tiny"], "SIZE='tiny' is not one of smoke, workshop, full"),
        (["--dataset", "foo"], "DATASET='foo' is not owner/name"),
        (["--dataset", "me/rows", "--rows", "/nope.json"], "there is no file /nope.json"),
        (["--rows", "/nope.json"], "--rows needs --dataset"),
        (["--dataset", "me/rows", "--rows", "README.md"], "README.md must be a file of JSON"),
    ],
    ids=["size", "dataset", "rows", "rows-without-name", "rows-of-another-kind"],
)
def test_an_option_that_cannot_work_is_refused_before_anything_is_made(tmp_path, options, words):
    command = [sys.executable, "scripts/demo.py", "--results", str(tmp_path), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_of_results_is_named_in_one_sentence():
    command = [sys.executable, "scripts/demo.py", "--results", "README.md"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1, f"--results: {ROOT / 'README.md'} cannot hold the results (Not a directory)\n",
    )  # fmt: skip


def test_results_in_a_folder_of_another_directory_than_the_projects(tmp_path, monkeypatch):
    """All four notebooks ran, and then there was no run.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIZE", "smoke")
    monkeypatch.setattr(sys, "argv", ["demo.py", "--results", "out"])
    assert demo._options().results == tmp_path / "out"


def test_an_empty_size_is_the_default_one(monkeypatch):
    """The report said: Size ``."""
    monkeypatch.setenv("SIZE", "")
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    assert demo._options().size == "workshop"


def test_a_demo_that_is_told_to_end_stops_its_platform(tmp_path):
    command = [sys.executable, "scripts/demo.py", "--size", "smoke", "--results", str(tmp_path)]
    quiet = {**os.environ, "NEMO_LOCAL_DATASET_ROWS": "600"}
    with subprocess.Popen(
        command, cwd=ROOT, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        next(line for line in running.stdout if line.startswith("1_data_preparation"))
        running.terminate()
        rest = running.stdout.read()
    assert (running.returncode, rest) == (
        128 + signal.SIGTERM,
        "Stopped: control plane, inference.\n",
    )


def test_a_platform_that_cannot_start_has_the_last_word(tmp_path):
    done = subprocess.run(
        [sys.executable, "scripts/demo.py", "--results", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NEMO_LOCAL_DEVICE": "tpu"},
        capture_output=True,
        text=True,
    )
    refusal = "NEMO_LOCAL_DEVICE must be one of auto, cpu, cuda, not 'tpu'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", refusal)


def test_a_shell_set_up_for_a_cluster_does_not_lead_the_demo_there(monkeypatch, tmp_path):
    for name in (*URLS, "NIM_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NEMO_TOKEN", "of-the-cluster")
    monkeypatch.setenv("NIM_TOKEN", "of-the-cluster")
    monkeypatch.setenv("NEMO_LOCAL_TOKEN", "of-this-platform\n")  # as a file ends
    monkeypatch.setenv("NEMO_LOCAL_HOST", "127.0.0.2")
    monkeypatch.setenv("NEMO_LOCAL_DATABASE_URL", f"sqlite:///{tmp_path / 'shared.db'}")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": 7}))
    with running_platform(tmp_path / "platform", NEMO_LOCAL_DATASET_ROWS="0") as urls:
        publish(urls["NDS_URL"], "my/rows", rows, urls["NEMO_TOKEN"])
        asked = subprocess.run(
            [sys.executable, "-c", ASK],
            cwd=ROOT,
            env=os.environ | urls,
            capture_output=True,
            text=True,
            check=False,
        )
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == [7, True]
    assert not (tmp_path / "shared.db").exists()


def test_inference_elsewhere_gets_its_own_key_and_never_the_platforms_token(monkeypatch, tmp_path):
    sent = []

    class Elsewhere(BaseHTTPRequestHandler):
        """Serves one model and remembers who asked."""

        def do_GET(self):
            sent.append(self.headers.get("Authorization"))
            body = json.dumps({"object": "list", "data": [{"id": "meta/m", "object": "model"}]})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format, *args):
            """Tests read the headers, not a log."""

    monkeypatch.setenv("NEMO_LOCAL_TOKEN", "of-this-platform")
    monkeypatch.setenv("NEMO_LOCAL_NIM_KEY", "of-inference")
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        there = {"NEMO_LOCAL_NIM_URL": f"http://127.0.0.1:{server.server_port}"}
        home = tmp_path / "platform"
        with running_platform(home, NEMO_LOCAL_DATASET_ROWS="0", **there) as urls:
            asked = subprocess.run(
                [sys.executable, "-c", LIST],
                cwd=ROOT,
                env=os.environ | urls,
                capture_output=True,
                text=True,
                check=False,
            )
        server.shutdown()
        thread.join()
    assert (asked.stdout, set(sent)) == ("meta/m\n", {"Bearer of-inference"}), asked.stderr


def test_a_score_of_no_rows_is_a_dash_in_the_table():
    nothing = {"function_name_accuracy": None, "function_name_and_args_accuracy": None, "n": 0}
    guard = {"catch_rate": 1.0, "benign_pass_rate": None, "n_unsafe": 3, "n_benign": 0}
    summary = dict.fromkeys(SCORES, nothing) | {"guard": guard, "seconds": {"train": 1.2}}
    lines = table(summary).splitlines()
    assert lines[1].split() == ["base", "–", "–", "0"]
    assert lines[7].split() == ["1.00", "–", "3"]
