"""Memory and time of a job's data: rows in files, tokens in files, batches drawn from them.

    python -m benchmarks.data_memory --rows 200000
    python -m benchmarks.data_memory --rows 200000 --train

Prepares data as a training process does before its first step, then draws one epoch of batches of
16 without computing on them: for 20,000 rows and for `--rows`, each in its own process. Rows are
those of the pocket world, 2,000 different ones repeated with changing numbers. With `--train`, a
random one-layer Llama really trains an epoch of short rows, in batches of 64; see
training_memory.py. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

from benchmarks import training_memory
from benchmarks.training_memory import memory_mb
from nemo_local.catalog import POCKET_WEIGHTS
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.task import Task

BASE = POCKET_WEIGHTS / "base"
FEW, DIFFERENT, BATCH, SEED = 20_000, 2_000, 16, 7
COLUMNS = {
    "rows": "rows", "files_mb": "files, MB", "tokens": "tokens", "tokens_mb": "tokens, MB",
    "check_s": "check, CPU s", "tokenize_s": "tokenize, CPU s", "draw_s": "draw, CPU s",
    "before_mb": "before, MB", "peak_mb": "peak, MB", "drawn_mb": "peak after drawing, MB",
    "mapped_mb": "of that mapped, MB",
}  # fmt: skip


def main() -> None:
    """Measure both sizes, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--train", action="store_true", help="train an epoch on short rows")
    parser.add_argument("--measure", type=Path, help="a folder with rows; print JSON")
    options = parser.parse_args()
    if options.measure:
        how = training_memory.measure if options.train else measure
        print(json.dumps(how(options.measure)))
        return
    columns = training_memory.COLUMNS if options.train else COLUMNS
    print("| " + " | ".join(columns.values()) + " |\n" + "|---" * len(columns) + "|")
    for count in (FEW, options.rows):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), count, training_memory.examples if options.train else examples)
            command = [sys.executable, "-m", "benchmarks.data_memory", "--measure", folder]
            command += ["--train"] if options.train else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        print("| " + " | ".join(f"{result[name]:,}" for name in columns) + " |", flush=True)


def measure(folder: Path) -> dict[str, float]:
    """CPU seconds and MB of memory that the rows of a folder take."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    from nemo_local.customizer.training.batches import LengthBuckets, make_tokens, read_rows

    Dataset.from_dict({"a": [[1]]}).select([0])[:]  # loads the libraries
    tokenizer, before = AutoTokenizer.from_pretrained(BASE), memory_mb("VmHWM")
    clock = [time.process_time()]
    rows = read_rows(JOB, folder / "data")
    clock.append(time.process_time())
    training, _ = make_tokens(JOB, rows, tokenizer, folder / "tokens")
    clock.append(time.process_time())
    peak, dataset = memory_mb("VmHWM"), training.dataset()
    order = iter(LengthBuckets(sorted(training.lengths), BATCH, SEED))
    while batch := list(islice(order, BATCH)):
        dataset[batch]
    clock.append(time.process_time())
    check, tokenize, draw = (round(end - start, 1) for start, end in pairwise(clock))
    return {
        "rows": len(training.lengths),
        "files_mb": size_mb(folder / "data"),
        "tokens": sum(training.lengths),
        "tokens_mb": size_mb(folder / "tokens"),
        "check_s": check,
        "tokenize_s": tokenize,
        "draw_s": draw,
        "before_mb": before,
        "peak_mb": peak,
        "drawn_mb": memory_mb("VmHWM"),
        "mapped_mb": memory_mb("RssFile"),
    }


JOB = Task(
    plan=Plan(target_modules=()), base_model="base", model_path=BASE, dataset="generated",
    prompt_template="{prompt} {completion}", max_seq_length=2048, precision="fp32",
)  # fmt: skip


def write(folder: Path, count: int, made: Callable[[], Iterator[Any]]) -> None:
    """Write `count` rows of `made` for training, and 64 for validation, as in a job's folder."""
    from utils import jsonl

    for part, size in (("training", count), ("validation", 64)):
        jsonl.write(folder / "data" / part / "rows.jsonl", islice(made(), size))


def examples() -> Iterator[Any]:
    """An endless stream of pocket-world rows."""
    from nemo_local.pocket.world import rows
    from utils import xlam

    sound = xlam.prepare(islice(rows(4 * DIFFERENT, SEED), 4 * DIFFERENT)).rows[:DIFFERENT]
    for number, row in enumerate(cycle(sound)):
        example = xlam.to_chat_example(row)
        assert example is not None, "such rows are left out above"
        first, *others = example["messages"]
        asked = {**first, "content": f"{first['content']} (request {number})"}
        yield {**example, "messages": [asked, *others]}


def size_mb(folder: Path) -> int:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


if __name__ == "__main__":
    main()
