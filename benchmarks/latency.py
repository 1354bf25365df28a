"""How long a user waits: for `up`, from a job's submission to its first step, for an answer.

    python -m benchmarks.latency

Starts a platform in an empty folder, uploads generated rows, and sends the same short job through
the official SDK several times: first to a platform that starts every training process with its job,
then to one that keeps a spare. Before each job it waits until the platform computes nothing. The
first step is the first that the job's status shows, by the status's own clock. Prints medians.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from nemo_microservices import NeMoMicroservices
from openai import OpenAI

from nemo_local.pocket.world import rows as pocket_rows
from nemo_local.processes import family, wait_until
from scripts.demo import running_platform
from utils import clients, data_store, jsonl, xlam

BASE = "meta/llama-3.2-1b-instruct"
REPOSITORY = "latency/rows"
BATCH, RATE, RANK, SEED, STEPS, VALIDATION_ROWS = 16, 2e-3, 32, 42, 20, 100
POLL_S = 0.1
WAITS = ("submit -> first step", "end of training -> completed", "completed -> first answer")
Sample = dict[str, Any]


def main() -> None:
    """Measure both kinds of platform and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3200, help="training rows")
    parser.add_argument("--jobs", type=int, default=3, help="jobs for each kind of platform")
    options = parser.parse_args()
    print(f"| training process | {' | '.join(f'{wait}, s' for wait in ('up', *WAITS))} |")
    print("|---|---|" + "---|" * len(WAITS))
    for name, spare in (("started with the job", 0), ("spare", 1)):
        with tempfile.TemporaryDirectory() as folder:
            started, found = measure(Path(folder), spare, options.rows, options.jobs)
        waits = [started, *(statistics.median(values) for values in zip(*found, strict=True))]
        print(f"| {name} | {' | '.join(f'{wait:.2f}' for wait in waits)} |", flush=True)


def measure(
    folder: Path, spare: int, rows: int, jobs: int
) -> tuple[float, list[tuple[float, ...]]]:
    """How long `up` takes, and the waits of each job in the order of WAITS (s)."""
    files, sample = write_files(folder, rows)
    home, began = folder / "home", time.monotonic()
    with running_platform(home, NEMO_LOCAL_SPARE_TRAINING=str(spare)) as urls:
        started = time.monotonic() - began
        nemo = clients.nemo(urls["NEMO_URL"])
        chat = clients.openai(urls["NIM_URL"])
        hub = data_store.hub(urls["NDS_URL"])
        data_store.ensure_dataset_repo(hub, REPOSITORY)
        data_store.upload_files(hub, REPOSITORY, files)
        ask(chat, BASE, sample)  # as notebook 2 does before it trains
        found = []
        for number in range(jobs):
            wait_until(lambda: is_idle(home), 120, "the platform is idle")
            found.append(waits_of(nemo, chat, f"latency/run{number}@v1", sample))
            print(f"spare {spare}, job {number}: {found[-1]}", file=sys.stderr, flush=True)
        return started, found


def waits_of(
    nemo: NeMoMicroservices, chat: OpenAI, output: str, sample: Sample
) -> tuple[float, ...]:
    """Train one job, ask its model, and return the waits in the order of WAITS (s)."""
    job = nemo.customization.jobs.create(
        config=f"{BASE}@v1.0.0+80GB",
        dataset=f"hf://datasets/{REPOSITORY}",
        output_model=output,
        hyperparameters={
            "training_type": "sft", "finetuning_type": "lora", "max_steps": STEPS, "epochs": 2,
            "batch_size": BATCH, "learning_rate": RATE, "seed": SEED, "log_every_n_steps": 10,
            "lora": {"adapter_dim": RANK, "alpha": RANK, "adapter_dropout": 0.0},
        },
    )  # fmt: skip
    first = when(nemo, job.id, lambda status: bool(status.steps_completed)).updated_at
    end = when(nemo, job.id, lambda status: status.status == "completed")
    seen = time.monotonic()
    ask(chat, output, sample)
    answered = round(time.monotonic() - seen, 3)
    logged = {line.message: line.updated_at for line in end.status_logs}
    stored = logged["EntityHandler_1_Completed"] - logged["TrainingJobCompleted"]
    return (first - job.created_at).total_seconds(), stored.total_seconds(), answered


def when(nemo: NeMoMicroservices, job_id: str, holds: Callable[[Any], bool]) -> Any:
    """The first status of a job for which `holds` is true."""
    while True:
        status = nemo.customization.jobs.status(job_id)
        if holds(status):
            return status
        if status.status in ("failed", "cancelled"):
            sys.exit(f"the job is {status.status}: {status.status_logs[-1]}")
        time.sleep(POLL_S)


def ask(chat: OpenAI, model: str, sample: Sample) -> None:
    """Request one short answer."""
    chat.chat.completions.create(
        model=model, messages=sample["messages"][:1], tools=sample["tools"], max_tokens=16
    )


def write_files(folder: Path, rows: int) -> tuple[dict[str, Path], Sample]:
    """Training and validation files of generated rows, and one row to ask about."""
    wanted = 3 * (rows + VALIDATION_ROWS)
    sound = iter(xlam.prepare(islice(pocket_rows(wanted, SEED), wanted)).rows)
    files = {}
    for part, size in (("training", rows), ("validation", VALIDATION_ROWS)):
        examples = [xlam.to_chat_example(row) for row in islice(sound, size)]
        files[f"{part}/rows.jsonl"] = folder / part / "rows.jsonl"
        jsonl.write(folder / part / "rows.jsonl", examples)
    return files, dict(examples[0])


def is_idle(home: Path) -> bool:
    """Whether the home's processes use less than a twentieth of a core."""

    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in family(home))

    try:
        before = spent()
        time.sleep(2)
        return spent() - before < 0.1
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
