"""LoRA fine-tuning: ours, TRL's SFTTrainer, and a plain loop, on the same tokens.

    python benchmarks/train.py

On a CPU the pocket base; where a GPU is at hand the shape of Llama 3.2 1B with random weights, on
3,500 rows as long as those of the xLAM set, two epochs (see train_tasks.py). Same model, rows,
batches of 16, rank, rate and precision (bf16 autocast where the processor has it). Each runs in a
process of its own, on a CPU with one thread, so that its CPU seconds count its work and nothing
else. The clock of the steps runs while `Trainer.train` does, or the plain loop: loading and
tokenizing are outside; validation and checkpoints are inside, and only ours has them (the table of
a GPU leaves them out of the steps, since its whole job has them). The whole job is from
the rows' text (ours), or from their tokens, to the end. Losses are measured by one function on rows
that none has seen. Prints a table and the ratios to TRL.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":  # as a script, too
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.train_tasks import SEED, Task, llama_task, make_job, pocket_task, tokens_of
from nemo_local.customizer.task import Task as Job

Result = dict[str, float]


@dataclass
class Clock:
    """Adds up the time that parts of a training take."""

    gpu: bool
    spent: Result = field(default_factory=dict)

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Count the block towards the part: seconds, and processor seconds as "part cpu"."""
        self._wait()
        began, began_cpu = time.monotonic(), time.process_time()
        yield
        self._wait()
        for name, took in (
            (part, time.monotonic() - began),
            (f"{part} cpu", time.process_time() - began_cpu),
        ):
            self.spent[name] = self.spent.get(name, 0.0) + took

    def within(self, kind: Any, method: str, part: str) -> Any:
        """A patch after which every call of the method counts towards the part."""
        inner = getattr(kind, method)

        def timed(*args: Any, **given: Any) -> Any:
            with self.running(part):
                return inner(*args, **given)

        return patch.object(kind, method, timed)

    def _wait(self) -> None:
        if self.gpu:
            import torch

            torch.cuda.synchronize()


def main() -> None:
    """Run every contender in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--rows", type=int, help="training rows (640 on a CPU, 3500 on a GPU)")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--only", choices=CONTENDERS, nargs="+", default=list(CONTENDERS))
    parser.add_argument("--folder", type=Path, help="to keep a GPU's checkpoint and rows for more")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measure(options.only[0], Task.from_json(options.task))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if on_gpu(options.device):
            task = llama_task(folder, options.rows or 3500)
            print(gpu_table(compare(task, options.only), task))
        else:
            task = pocket_task(folder, options.rows or 640, options.threads)
            print(table(compare(task, options.only)))


def on_gpu(device: str) -> bool:
    """Whether a GPU is asked for, or there."""
    import torch

    return device == "cuda" or (device == "auto" and torch.cuda.is_available())


def compare(task: Task, names: list[str]) -> dict[str, Result]:
    """Each contender's measurements, made in a process of its own."""
    results = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--only", name, "--task", task.as_json()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_one_gpu())
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr[-4000:]}")
        results[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    return results


def _one_gpu() -> dict[str, str]:
    """The environment of a contender: one GPU, whose memory is allocated as in a training."""
    from nemo_local.customizer.processes import TRAINING_PROFILE

    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    name = "PYTORCH_ALLOC_CONF"
    return {**os.environ, "CUDA_VISIBLE_DEVICES": first, name: TRAINING_PROFILE[name]}


def table(results: dict[str, Result]) -> str:
    """The results as Markdown, with the ratio of tokens per CPU second to TRL's."""
    lines = ["| | tokens per CPU second | x TRL | seconds | peak MiB | loss on unseen rows |"]
    lines.append("|---|---|---|---|---|---|")
    for name, one in results.items():
        times = _times(one, results.get("trl"), "tokens_per_cpu_second")
        lines.append(
            f"| {name} | {one['tokens_per_cpu_second']:,.0f} | {times} | {one['seconds']:.1f} "
            f"| {one['peak_mib']:.0f} | {one['loss']:.4f} |"
        )
    return "\n".join(lines)


def _times(one: Result, other: Result | None, name: str) -> str:
    return f"{one[name] / other[name]:.2f}" if other else "–"


def gpu_table(results: dict[str, Result], task: Task) -> str:
    """The results on a GPU as Markdown, with the share of its bf16 rate by the 4N rule.

    A step of LoRA multiplies every weight of the base twice forward and twice on the way back for a
    token: 4 N operations, of which an embedding that is also the output head counts once.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(task.base, dtype="bfloat16")
    operations, rate = 4 * model.num_parameters(), bf16_rate()
    lines = [f"{torch.cuda.get_device_name()}, {rate / 1e12:.0f} TFLOP/s in bf16 products", ""]
    lines.append("| | tokens/s | x TRL | bf16 rate | steps, s | job, s | peak GiB | loss |")
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, one in results.items():
        speed = one["tokens_per_second"]
        times = _times(one, results.get("trl"), "tokens_per_second")
        lines.append(
            f"| {name} | {speed:,.0f} | {times} | {speed * operations / rate:.0%} "
            f"| {one['steps']:.1f} | {one['job']:.1f} | {one['peak_mib'] / 1024:.1f} "
            f"| {one['loss']:.4f} |"
        )
    return "\n".join(lines)


def bf16_rate() -> float:
    """Operations a second of large products in bf16."""
    import torch

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for count in (5, 50):
        torch.cuda.synchronize()
        began = time.monotonic()
        for _ in range(count):
            a @ a
        torch.cuda.synchronize()
    return count * 2 * 8192**3 / (time.monotonic() - began)


def measure(name: str, task: Task) -> Result:
    """Train with one contender; returns its speed, memory and held-out loss."""
    os.environ["OMP_NUM_THREADS"] = str(task.threads)
    import torch

    torch.set_num_threads(task.threads)
    gpu = task.device == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        job_dir = Path(folder)
        job = make_job(task, job_dir)
        training, held_out = tokens_of(task, job, job_dir)
        clock = Clock(gpu)
        model = CONTENDERS[name](task, job, job_dir, training, clock)
        spent, tokens = clock.spent, task.epochs * sum(map(len, training.input_ids))
        peak = torch.cuda.max_memory_allocated() / 2**20 if gpu else 0.0
        return {
            "tokens": tokens,
            "seconds": spent["training"],
            "steps": spent["training"] - spent.get("between", 0.0),
            "job": spent["job"],
            "tokens_per_second": tokens / (spent["training"] - spent.get("between", 0.0)),
            "tokens_per_cpu_second": tokens / spent["training cpu"],
            "peak_mib": peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "loss": held_out_loss(model, held_out),
        }


def ours(task: Task, job: Job, job_dir: Path, training: Any, clock: Clock) -> Any:
    """The platform's trainer, with its validation, reports and checkpoints."""
    from peft import PeftModel
    from transformers import Trainer

    from nemo_local.customizer.progress import ProgressWriter
    from nemo_local.customizer.training.batches import read_rows
    from nemo_local.customizer.training.trainer import train

    with (
        clock.within(Trainer, "train", "training"),
        clock.within(Trainer, "evaluate", "between"),
        clock.within(Trainer, "_save_checkpoint", "between"),
        clock.running("job"),
    ):
        train(job, read_rows(job, job_dir / "data"), job_dir, ProgressWriter(job_dir))
    return PeftModel.from_pretrained(frozen(task), job_dir / "adapter")


def trl(task: Task, job: Job, job_dir: Path, training: Any, clock: Clock) -> Any:
    """TRL's SFTTrainer with its defaults, given tokens and labels."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    with clock.running("job"):
        trainer = SFTTrainer(
            model=frozen(task),
            processing_class=AutoTokenizer.from_pretrained(task.base),
            args=SFTConfig(
                output_dir=str(job_dir / "trl"), per_device_train_batch_size=task.batch,
                num_train_epochs=task.epochs, learning_rate=task.rate, lr_scheduler_type="cosine",
                warmup_steps=0.1, bf16=has_bf16(task), use_cpu=task.device == "cpu",
                save_strategy="no", report_to=[], disable_tqdm=True, max_length=None,
                seed=SEED,
            ),
            train_dataset=Dataset.from_dict(
                {"input_ids": training.input_ids, "labels": training.labels}
            ),
            peft_config=lora(task),
        )  # fmt: skip
        with clock.running("training"):
            trainer.train()
    return trainer.model


def plain(task: Task, job: Job, job_dir: Path, training: Any, clock: Clock) -> Any:
    """What a user writes by hand with PyTorch and PEFT."""
    import torch
    from peft import get_peft_model
    from transformers import get_cosine_schedule_with_warmup

    torch.manual_seed(SEED)
    with clock.running("job"):
        model = get_peft_model(frozen(task), lora(task))
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=task.rate
        )
        steps = task.epochs * -(-len(training.input_ids) // task.batch)
        schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
        with clock.running("training"):
            for _ in range(task.epochs):
                order = torch.randperm(len(training.input_ids)).tolist()
                for first in range(0, len(order), task.batch):
                    batch = padded(training, order[first : first + task.batch], task.device)
                    with torch.autocast(task.device, torch.bfloat16, enabled=has_bf16(task)):
                        loss = model(**batch).loss
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
    return model


def frozen(task: Task) -> Any:
    """The base as the contenders load it: on a GPU in bf16, as the platform does."""
    from transformers import AutoModelForCausalLM

    dtype = "float32" if task.device == "cpu" else "bfloat16"
    return AutoModelForCausalLM.from_pretrained(task.base, dtype=dtype).to(task.device)


def padded(tokens: Any, chosen: list[int], device: Any) -> dict[str, Any]:
    """Rows as one batch, padded on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def of(values: list[list[int]], filler: int) -> torch.Tensor:
        rows = [torch.tensor(values[i]) for i in chosen]
        return pad_sequence(rows, batch_first=True, padding_value=filler)

    ids = of(tokens.input_ids, -1)
    batch = {
        "input_ids": ids.clamp(min=0),
        "attention_mask": (ids >= 0).long(),
        "labels": of(tokens.labels, -100),
    }
    return {name: values.to(device) for name, values in batch.items()}


def held_out_loss(model: Any, tokens: Any) -> float:
    """Mean cross entropy of the answers' tokens, in the type of the weights."""
    import torch

    total = count = 0.0
    model.eval()
    with torch.inference_mode():
        for row in range(len(tokens.input_ids)):
            batch = padded(tokens, [row], model.device)
            learnt = int((batch["labels"][:, 1:] != -100).sum())
            total += float(model(**batch).loss) * learnt
            count += learnt
    return total / count


def lora(task: Task) -> Any:
    """The LoRA configuration of the two peers."""
    from peft import LoraConfig

    return LoraConfig(
        r=task.rank, lora_alpha=task.alpha, lora_dropout=0.0, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip


def has_bf16(task: Task) -> bool:
    """Whether bf16 is fast here, as the platform decides it."""
    import torch

    if task.device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported())


CONTENDERS: dict[str, Callable[[Task, Job, Path, Any, Clock], Any]] = {
    "ours": ours,
    "trl": trl,
    "plain loop": plain,
}

if __name__ == "__main__":
    main()
