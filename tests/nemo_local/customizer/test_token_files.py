"""Rows on their way from files to a trainer."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from nemo_local.customizer.progress import read_all
from nemo_local.customizer.rows import InvalidRow
from nemo_local.customizer.texts import UntrainableData
from nemo_local.customizer.training.batches import ROWS_AT_ONCE, make_tokens, read_rows
from nemo_local.customizer.training.preferences import make_pairs
from nemo_local.customizer.training.rendering import Renderer, Tokens
from nemo_local.customizer.training.token_files import write_tokens
from nemo_local.customizer.training.train import main, reason_of
from tests.nemo_local.customizer.tiny_llama import call_row, tokenizer, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, TASK

pytestmark = OF_THE_LIBRARIES

COUNT = 2 * ROWS_AT_ONCE + 10
CALLS = [call_row(number * 7**9 % 10 ** (number % 9 + 1)) for number in range(COUNT)]
PAIRS = [
    {"prompt": f"add {number}", "chosen": "yes" * (number % 9), "rejected": "no" * (number % 7)}
    for number in range(COUNT)
]


@pytest.fixture
def task(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 264}')
    return replace(TASK, model_path=tmp_path, max_seq_length=120)


def tokens_of(task, folder):
    rows = read_rows(task, folder / "data")
    return rows, make_tokens(task, rows, tokenizer(), folder / "tokens")


def by_length(made):
    """The columns of tokens in memory, in the order in which a trainer gets them."""
    order = sorted(range(len(made.lengths)), key=made.lengths.__getitem__)
    return {name: [rows[i] for i in order] for name, rows in made.columns().items()}


@pytest.mark.parametrize(
    ("training_type", "lines", "in_memory"),
    [("sft", CALLS, Renderer.tokens), ("dpo", PAIRS, make_pairs)],
    ids=["sequences", "pairs"],
)
def test_a_trainer_gets_the_rows_as_they_were_rendered(
    task, tmp_path, training_type, lines, in_memory
):
    write_rows(tmp_path / "data/training/a.jsonl", lines)
    write_rows(tmp_path / "data/validation/a.jsonl", lines[:20])
    task = replace(task, plan=replace(task.plan, training_type=training_type))
    for rows, stored in zip(*tokens_of(task, tmp_path), strict=True):
        expected = in_memory(Renderer(tokenizer(), [1]), list(rows), 120)
        assert stored.dataset().to_dict() == by_length(expected)
        assert list(stored.lengths) == expected.lengths


def test_what_is_dropped_or_cut_is_counted_over_all_rows(task, tmp_path):
    text = {"prompt": "a", "completion": "b" * 300}
    long_call = call_row(1)
    long_call["messages"][0]["content"] = "9" * 300
    write_rows(tmp_path / "data/training/a.jsonl", [text, *CALLS, long_call, long_call, text])
    write_rows(tmp_path / "data/validation/a.jsonl", [long_call, text])
    _, (training, validation) = tokens_of(task, tmp_path)
    assert (training.dropped, training.truncated, len(training.lengths)) == (2, 2, COUNT + 2)
    assert (validation.dropped, validation.truncated, list(validation.lengths)) == (1, 1, [120])


def test_rows_that_are_all_too_long_are_told_with_the_length(task, tmp_path):
    write_rows(tmp_path / "data/training/a.jsonl", [call_row(1)] * 3)
    with pytest.raises(InvalidRow, match="no row fits into max_seq_length 30: all 2 were dropped"):
        tokens_of(replace(task, max_seq_length=30), tmp_path)


def test_one_row_alone_has_no_validation(task, tmp_path):
    write_rows(tmp_path / "data/training/a.jsonl", [call_row(1)])
    _, (training, validation) = tokens_of(task, tmp_path)
    assert (len(training.lengths), len(validation.lengths)) == (1, 0)


def test_a_row_is_checked_wherever_it_stands(task, tmp_path):
    broken = call_row(1) | {"tools": [{"function": {"name": "hidden"}}]}
    path = write_rows(tmp_path / "data/training/a.jsonl", [*CALLS, broken])
    write_rows(tmp_path / "data/validation/a.jsonl", CALLS[:1])
    hiding = tokenizer()
    hiding.chat_template = hiding.chat_template.replace("tool.function.name", '"add sum"')
    with pytest.raises(UntrainableData, match=f"line {COUNT + 1}: tool 'hidden' does not appear"):
        make_tokens(task, read_rows(task, tmp_path / "data"), hiding, tmp_path / "tokens")
    path.write_text(path.read_text() + "{}")
    with pytest.raises(InvalidRow, match=f"training/a.jsonl line {COUNT + 2}: the row has neither"):
        read_rows(task, tmp_path / "data")


def test_tokens_of_an_earlier_run_are_not_used_again(task, tmp_path):
    for lines in (CALLS[:30], CALLS[30:50]):
        write_rows(tmp_path / "data/training/a.jsonl", lines)
        write_rows(tmp_path / "data/validation/a.jsonl", lines[:2])
        (rows, _), (training, _) = tokens_of(task, tmp_path)
        expected = Renderer(tokenizer(), [1]).tokens(list(rows), 120)
        assert training.dataset().to_dict() == by_length(expected)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_disk_that_is_full_fails_the_run_with_that_reason(tmp_path):
    path = tmp_path / "training.arrow"
    path.symlink_to("/dev/full")
    tokens = Tokens(input_ids=[[1, 2]], labels=[[-100, 2]])
    with pytest.raises(OSError) as error:
        write_tokens(path, [tokens])
    assert reason_of(error.value, tmp_path).startswith("the disk is full (")


def test_a_run_that_fails_leaves_no_tokens(job, job_dir):
    template = tokenizer().chat_template.replace("tool.function.name", '"add"')
    replace(job, chat_prompt_template=template).write(job_dir)
    assert main(job_dir, Event()) == 1
    assert "line 1: tool 'sum' does not appear" in read_all(job_dir).failure["message"]
    assert not (job_dir / "tokens").exists()


PEAKS = """
import re, sys
from pathlib import Path
from nemo_local.customizer.task import Task
from tests.nemo_local.customizer.test_token_files import tokens_of

task = Task.read(Path(sys.argv[1]))
for name in sys.argv[2:]:
    tokens_of(task, Path(name))
    print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a file of Linux")
def test_memory_does_not_grow_with_the_rows(task, tmp_path):
    folders = []
    for count in (500, 5000):
        folders.append(str(tmp_path / str(count)))
        lines = [{"prompt": f"{n} " + "word " * 60, "completion": "é" * 300} for n in range(count)]
        write_rows(Path(folders[-1]) / "data/training/a.jsonl", lines)
    replace(task, max_seq_length=1000).write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tmp_path), *folders],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    few, many = map(int, done.stdout.split())
    # Ten times the rows would be 70 MB of tokens alone.
    assert many < 1.1 * few
