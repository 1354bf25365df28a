"""The proof in one command: the four notebooks, in order, on a platform of their own.

    .venv/bin/python scripts/demo.py --size workshop
    .venv/bin/python scripts/demo.py --dataset me/rows --rows rows.jsonl

The second form first publishes a file of rows on the platform's Data Store under that name.

Leaves in results/<time>/: the executed notebooks, report.md with its plots, summary.json. Exits
with 1 and the failing cell's error when a notebook fails; the platform is stopped either way, and
when the command itself is told to end (SIGTERM, SIGHUP, Ctrl-C).
"""

import argparse
import base64
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for `python scripts/demo.py` from anywhere

from utils import data_store  # noqa: E402

NOTEBOOKS = (
    "1_data_preparation.ipynb",
    "2_finetuning_and_inference.ipynb",
    "3_model_evaluation.ipynb",
    "4_adding_safety_guardrails.ipynb",
)
URLS = (
    "NEMO_URL",
    "NDS_URL",
    "DATA_STORE_URL",
    "ENTITY_STORE_URL",
    "CUSTOMIZER_URL",
    "EVALUATOR_URL",
    "GUARDRAILS_URL",
    "DEPLOYMENT_URL",
)
"""Settings of config.py that all name the control plane."""
SECONDS = ("prepare", "train", "evaluate_base", "evaluate_custom", "guard", "total")
SCORES = ("base", "custom", "base_unseen_tools", "custom_unseen_tools")


def main() -> int:
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _leave)
    folder = options.results / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        sys.exit(f"--results: {options.results} cannot hold the results ({error.strerror})")
    data = folder / "data"
    begin = time.perf_counter()
    with running_platform(folder / "platform") as urls:
        os.environ.update(urls, DATA_DIR=str(data))
        if options.rows:
            os.environ.pop("HF_ENDPOINT", None)  # they are on this platform's Data Store
            publish(urls["NDS_URL"], options.dataset, options.rows, urls["NEMO_TOKEN"])
        for name in NOTEBOOKS:
            print(f"\n{name}", flush=True)
            try:
                execute(ROOT / name, folder / name)
            except PapermillExecutionError as error:
                print(f"\n{_failure(name, error)}", file=sys.stderr)
                print(f"The platform's state and logs: {folder / 'platform'}", file=sys.stderr)
                return 1
    summary = summarise(json.loads((data / "run.json").read_text()), time.perf_counter() - begin)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    figures = save_figures(folder)
    (folder / "report.md").write_text(report(summary, figures, options.size))
    if not options.keep:
        shutil.rmtree(folder / "platform")
    print(f"\n{table(summary)}\n\nIn {folder}: report.md, summary.json and the executed notebooks.")
    return 0


@contextmanager
def running_platform(home: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Run an embedded platform on free ports for this block; yields the notebooks' settings.

    with running_platform(tmp / "platform") as urls:   # {"NEMO_URL": ..., "NDS_URL": ..., ...}

    These include every URL, so that none from the shell points a notebook at another platform.
    """
    port, nim_port = _free_ports(2)
    environment = os.environ | {"NEMO_LOCAL_DATABASE_URL": ""} | settings | {
        "NEMO_LOCAL_HOME": str(home.resolve()),
        "NEMO_LOCAL_HOST": "127.0.0.1",
        "NEMO_LOCAL_PORT": str(port),
        "NEMO_LOCAL_NIM_PORT": str(nim_port),
    }  # fmt: skip
    command = [sys.executable, "-m", "nemo_local"]
    failed = 0
    try:
        up = [*command, "up", "--detach"]
        failed = subprocess.run(up, cwd=ROOT, env=environment, check=False).returncode
        if failed:
            sys.exit(failed)  # it has said why, and left nothing behind
        url = f"http://127.0.0.1:{port}"
        # A file ends in a line break; the platform takes it away, too.
        token = environment.get("NEMO_LOCAL_TOKEN", "").strip()
        nim_url, nim_token = f"http://127.0.0.1:{nim_port}", token
        if environment.get("NEMO_LOCAL_NIM_URL"):  # not ours: it gets its own key or none
            nim_url = environment["NEMO_LOCAL_NIM_URL"]
            nim_token = environment.get("NEMO_LOCAL_NIM_KEY", "").strip() or "none"
        yield {
            **{name: url for name in URLS},
            "NEMO_TOKEN": token,
            "NIM_URL": nim_url,
            "NIM_TOKEN": nim_token,
        }
    finally:
        if not failed:
            subprocess.run([*command, "down"], cwd=ROOT, env=environment, check=False)


def publish(nds_url: str, dataset: str, rows: Path, token: str | None = None) -> None:
    """Put a file of rows on the Data Store as the data set `owner/name`."""
    hub = data_store.hub(nds_url, token)
    data_store.ensure_dataset_repo(hub, dataset)
    data_store.upload_files(hub, dataset, {f"data/train{rows.suffix}": rows})


def execute(source: Path, target: Path) -> None:
    """Run one notebook from top to bottom in the project's folder and keep it with its outputs."""
    # Other users of the machine could read along, and every kernel would warn of that.
    encrypted = Config({"KernelManager": {"transport_encryption": "auto"}})
    papermill.execute_notebook(
        source, target, cwd=str(ROOT), kernel_name="python3", progress_bar=True, config=encrypted
    )


def summarise(run: Mapping[str, Any], total_s: float) -> dict[str, Any]:
    """summary.json from what the notebooks left in run.json."""
    seconds = run["seconds"] | {"total": round(total_s, 1)}
    return {
        "models": run["models"],
        "rows": run["rows"],
        **{name: run[name] for name in SCORES},
        "guard": run["guard"],
        "seconds": {name: seconds[name] for name in SECONDS},
        "run": run["run"] | {
            "date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
            "python": platform.python_version(),
        },
    }  # fmt: skip


def save_figures(folder: Path) -> dict[str, str]:
    """Pictures of the cells tagged `figure:<name>` as files: {name: file name}."""
    figures = {}
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        for cell in notebook.cells:
            tag = next((t for t in cell.metadata.get("tags", []) if t.startswith("figure:")), None)
            pictures = [
                output.data["image/png"]
                for output in cell.get("outputs", [])
                if "image/png" in output.get("data", {})
            ]
            if tag and pictures:
                name = tag.removeprefix("figure:")
                figures[name] = f"{name}.png"
                (folder / figures[name]).write_bytes(base64.b64decode(pictures[-1]))
    return figures


def report(summary: Mapping[str, Any], figures: Mapping[str, str], size: str) -> str:
    """report.md: the table, who answered, and the plots."""
    models, run = summary["models"], summary["run"]
    lines = [
        f"# Run of {run['date']}",
        "",
        f"Size `{size}`, data set `{run['dataset']}`, {run['machine']}, Python {run['python']}.",
        f"Base model `{models['base']}`, answered by `{models['answered_by']}`; "
        f"guard `{models['guard']}`, answered by `{models['guard_answered_by']}`; "
        f"adapter `{models['custom']}`.",
        "",
        "```",
        table(summary),
        "```",
    ]
    for name, file in figures.items():
        lines += ["", f"![{name.replace('_', ' ')}]({file})"]
    return "\n".join(lines) + "\n"


def table(summary: Mapping[str, Any]) -> str:
    """The summary as text."""
    lines = [f"{'':<22}{'right tool':>12}{'and arguments':>15}{'rows':>7}"]
    for name in SCORES:
        scores = summary[name]
        lines.append(
            f"{name.replace('_', ' '):<22}{_rate(scores['function_name_accuracy']):>12}"
            f"{_rate(scores['function_name_and_args_accuracy']):>15}{scores['n']:>7}"
        )
    guard = summary["guard"]
    lines += [
        "",
        f"{'guard':<22}{'caught':>12}{'benign passed':>15}{'prompts':>9}",
        f"{'':<22}{_rate(guard['catch_rate']):>12}{_rate(guard['benign_pass_rate']):>15}"
        f"{guard['n_unsafe'] + guard['n_benign']:>9}",
        "",
        "seconds  " + "  ".join(f"{k} {v:.0f}" for k, v in summary["seconds"].items()),
    ]
    return "\n".join(lines)


def _rate(value: float | None) -> str:
    """Two digits; a dash where there was nothing to count."""
    return "–" if value is None else f"{value:.2f}"


def _leave(number: int, frame: object) -> None:
    """End on a signal by raising an exception, so that what runs is stopped on the way out."""
    sys.exit(128 + number)


def _failure(name: str, error: PapermillExecutionError) -> str:
    return (
        f"{name} failed in cell {error.exec_count}:\n\n{error.source}\n\n"
        f"{error.ename}: {error.evalue}"
    )


def _free_ports(count: int) -> list[int]:
    """Free ports outside the range from which the system assigns ports to connections.

    One of that range could be taken by any program while the platform starts.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 12_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--size", default=os.environ.get("SIZE") or "workshop", help="smoke, workshop or full"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where to leave it")
    parser.add_argument("--dataset", help="owner/name of other rows than the pocket world's")
    parser.add_argument("--rows", type=Path, help="file to publish as --dataset: .json or .jsonl")
    parser.add_argument("--keep", action="store_true", help="keep the platform's state as well")
    options = parser.parse_args()
    options.results = options.results.resolve()  # the notebooks run in the project's folder
    if options.rows and not options.dataset:
        parser.error("--rows needs --dataset, the name under which to publish them")
    if options.rows and not options.rows.is_file():
        parser.error(f"--rows: there is no file {options.rows}")
    if options.rows and options.rows.suffix not in (".json", ".jsonl"):
        parser.error(f"--rows: {options.rows} must be a file of JSON, named .json or .jsonl")
    os.environ["SIZE"] = options.size
    if options.dataset:
        os.environ["DATASET"] = options.dataset
    try:
        import config  # noqa: F401  # it checks every setting that the notebooks will read
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
