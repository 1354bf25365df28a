"""Memory of a training over many short rows; `python -m benchmarks.data_memory --train` runs it.

What counts is anonymous memory (RssAnon): pages of mapped files are the kernel's to take back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

from nemo_local.customizer.progress import Kind, ProgressWriter
from nemo_local.customizer.task import Task

BATCH, LOOK_EVERY_S = 64, 0.05
COLUMNS = {
    "rows": "rows", "steps": "steps", "before_mb": "libraries loaded, MB",
    "start_mb": "peak until the first step, MB", "tenth_mb": "peak until a tenth, MB",
    "end_mb": "peak until the end, MB", "reports_mb": "reports on disk, MB",
    "cpu_s": "CPU s", "wall_s": "s",
}  # fmt: skip


def measure(folder: Path) -> dict[str, float]:
    """Train an epoch on the rows of a folder: MB of memory on the way, and seconds."""
    from nemo_local.customizer.training.batches import read_rows
    from nemo_local.customizer.training.trainer import train

    job = make_job(make_checkpoint(folder / "model"))
    memory = Memory()
    progress = Watched(folder, memory)
    started, started_cpu = time.monotonic(), time.process_time()
    with memory:
        train(job, read_rows(job, folder / "data"), folder, progress)
    return {
        **progress.seen,
        "end_mb": memory.peak_mb,
        "reports_mb": round((folder / "progress.jsonl").stat().st_size / 1e6, 1),
        "cpu_s": round(time.process_time() - started_cpu),
        "wall_s": round(time.monotonic() - started),
    }


class Memory:
    """Samples this process's anonymous memory within the context, and keeps the peak (MB)."""

    def __init__(self) -> None:
        self.before_mb = self.peak_mb = memory_mb("RssAnon")
        self._end = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(LOOK_EVERY_S):
            self.peak_mb = max(self.peak_mb, memory_mb("RssAnon"))


class Watched(ProgressWriter):
    """Reports as every training does, and notes the memory at the first step and at a tenth."""

    def __init__(self, folder: Path, memory: Memory) -> None:
        super().__init__(folder)
        self._memory = memory
        self.seen: dict[str, float] = {"before_mb": memory.before_mb}

    def write(self, kind: Kind, **values: Any) -> None:
        super().write(kind, **values)
        if kind == "prepared":
            self.seen |= {"rows": values["rows"], "steps": values["total_steps"]}
        elif kind == "step":
            self.seen.setdefault("start_mb", self._memory.peak_mb)
            if values["steps"] >= self.seen["steps"] / 10:
                self.seen.setdefault("tenth_mb", self._memory.peak_mb)


def memory_mb(name: str) -> int:
    """Memory of this process: VmHWM is its peak so far, RssAnon what no file backs now, and
    RssFile what is mapped from files now, which the kernel may take back at any time."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return round(int(line.split()[1]) * 1024 / 1e6)


def examples() -> Iterator[Any]:
    """An endless stream of short rows."""
    return ({"prompt": f"What follows {n}?", "completion": f"{n + 1}."} for n in count())


def make_checkpoint(folder: Path) -> Path:
    """A random Llama of one layer of width 16, with a token for every byte."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|bos|>", "<|eos|>", "<|pad|>"]
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = dict(zip(("bos_token", "eos_token", "pad_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_job(checkpoint: Path) -> Task:
    """One epoch of LoRA on one thread, as a training process receives it."""
    from nemo_local.customizer.hyperparameters import make_plan
    from nemo_local.customizer.modules import linear_modules

    asked = {
        "finetuning_type": "lora", "epochs": 1, "batch_size": BATCH, "learning_rate": 0.001,
        "lora": {"adapter_dim": 4},
    }  # fmt: skip
    return Task(
        plan=make_plan(asked, linear_modules(checkpoint), 1), base_model="random",
        model_path=checkpoint, dataset="generated", prompt_template="{prompt} {completion}",
        max_seq_length=128, precision="fp32", device="cpu", threads=1,
    )  # fmt: skip
