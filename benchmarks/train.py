"""LoRA fine-tuning: ours, TRL's SFTTrainer, and a plain loop, on the same tokens.

    python benchmarks/train.py

Same model (the pocket base), rows, batches of 16, rank, rate and precision (bf16 autocast where the
processor has it). Each runs in a process of its own with one thread, so that its CPU seconds count
its work and nothing else; loading, tokenizing and saving are outside the clock. Losses are measured
by one function on rows that none has seen. Prints a table and the ratios to TRL.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BASE = Path(__file__).parents[1] / "nemo_local" / "pocket" / "weights" / "base"
BATCH, RATE, RANK, ALPHA, EPOCHS, SEED = 16, 4e-3, 32, 32, 1, 7
Clock = Callable[[Callable[[], Any]], Any]


def main() -> None:
    """Run every contender in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=640, help="training rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=CONTENDERS, help="print one result as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.rows, options.threads)))
        return
    results = {}
    for name in CONTENDERS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--only", name, "--rows", str(options.rows)]
        command += ["--threads", str(options.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr[-4000:]}")
        results[name] = json.loads(done.stdout.splitlines()[-1])
    print(table(results))


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as Markdown, with the ratio of tokens per CPU second to TRL's."""
    lines = ["| | tokens per CPU second | x TRL | seconds | peak MiB | loss on unseen rows |"]
    lines.append("|---|---|---|---|---|---|")
    for name, one in results.items():
        ratio = one["tokens_per_cpu_second"] / results["trl"]["tokens_per_cpu_second"]
        lines.append(
            f"| {name} | {one['tokens_per_cpu_second']:,.0f} | {ratio:.2f} | {one['seconds']:.1f} "
            f"| {one['peak_mib']:.0f} | {one['loss']:.4f} |"
        )
    return "\n".join(lines)


def measure(name: str, count: int, threads: int) -> dict[str, float]:
    """Train with one contender; what it took and how well it learnt."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        job_dir = Path(folder)
        job = make_job(job_dir, count, threads)
        training, held_out = tokens_of(job, job_dir)
        spent: dict[str, float] = {}

        def clock(work: Callable[[], Any]) -> Any:
            wall, cpu = time.monotonic(), time.process_time()
            result = work()
            spent.update(seconds=time.monotonic() - wall, cpu=time.process_time() - cpu)
            return result

        model = CONTENDERS[name](job, job_dir, training, clock)
        tokens = EPOCHS * sum(map(len, training.input_ids))
        return {
            "tokens": tokens,
            "seconds": spent["seconds"],
            "tokens_per_cpu_second": tokens / spent["cpu"],
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "loss": held_out_loss(model, held_out),
        }


def make_job(job_dir: Path, count: int, threads: int) -> dict[str, Any]:
    """A training job on generated rows, as the platform hands it to its training process."""
    from nemo_local.customizer.hyperparameters import make_plan
    from nemo_local.customizer.modules import linear_modules
    from nemo_local.pocket.world import rows
    from utils import jsonl, xlam

    sound = iter(xlam.prepare(islice(rows(3 * (count + 128), SEED), 3 * (count + 128))).rows)
    for part, size in (("training", count), ("validation", 64)):
        examples = (xlam.to_chat_example(row) for row in islice(sound, size))
        jsonl.write(job_dir / "data" / part / "rows.jsonl", examples)
    given = {
        "epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE, "seed": SEED,
        "lora": {"adapter_dim": RANK, "alpha": ALPHA, "adapter_dropout": 0.0},
    }  # fmt: skip
    return {
        "plan": make_plan(given, linear_modules(BASE), 1).as_json(),
        "model_path": str(BASE), "base_model": "pocket", "dataset": "generated", "limit": None,
        "tools": [], "prompt_template": "{prompt} {completion}", "chat_prompt_template": None,
        "max_seq_length": 2048, "precision": "bf16-mixed", "device": "cpu", "threads": threads,
    }  # fmt: skip


def tokens_of(job: dict[str, Any], job_dir: Path) -> tuple[Any, Any]:
    """Training and held-out rows as tokens with labels, the same for all."""
    from transformers import AutoTokenizer

    from nemo_local.customizer.batches import make_tokens, read_rows

    rows, tokenizer = read_rows(job, job_dir / "data"), AutoTokenizer.from_pretrained(BASE)
    files = make_tokens(job, rows, tokenizer, job_dir / "tokens")
    training, held_out = (SimpleNamespace(**file.dataset().to_dict()) for file in files)
    return training, held_out


def ours(job: dict[str, Any], job_dir: Path, training: Any, clock: Clock) -> Any:
    """The platform's trainer, with its validation, reports and checkpoints."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from nemo_local.customizer.batches import read_rows
    from nemo_local.customizer.progress import ProgressWriter
    from nemo_local.customizer.trainer import train

    rows = read_rows(job, job_dir / "data")
    clock(lambda: train(job, rows, job_dir, ProgressWriter(job_dir)))
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype="float32")
    return PeftModel.from_pretrained(base, job_dir / "adapter")


def trl(job: dict[str, Any], job_dir: Path, training: Any, clock: Clock) -> Any:
    """SFTTrainer as it comes, given tokens and labels."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(BASE, dtype="float32"),
        processing_class=AutoTokenizer.from_pretrained(BASE),
        args=SFTConfig(
            output_dir=str(job_dir / "trl"), per_device_train_batch_size=BATCH,
            num_train_epochs=EPOCHS, learning_rate=RATE, lr_scheduler_type="cosine",
            warmup_steps=0.1, bf16=has_bf16(), use_cpu=True, save_strategy="no", report_to=[],
            disable_tqdm=True, max_length=None, seed=SEED,
        ),
        train_dataset=Dataset.from_dict(
            {"input_ids": training.input_ids, "labels": training.labels}
        ),
        peft_config=lora(),
    )  # fmt: skip
    clock(trainer.train)
    return trainer.model


def plain(job: dict[str, Any], job_dir: Path, training: Any, clock: Clock) -> Any:
    """What a user writes by hand with PyTorch and PEFT."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

    torch.manual_seed(SEED)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(BASE, dtype="float32"), lora())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    steps = EPOCHS * -(-len(training.input_ids) // BATCH)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)

    def run() -> None:
        for _ in range(EPOCHS):
            order = torch.randperm(len(training.input_ids)).tolist()
            for first in range(0, len(order), BATCH):
                batch = padded(training, order[first : first + BATCH])
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16()):
                    loss = model(**batch).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

    clock(run)
    return model


def padded(tokens: Any, chosen: list[int]) -> dict[str, Any]:
    """Rows as one batch, padded on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def of(values: list[list[int]], filler: int) -> torch.Tensor:
        rows = [torch.tensor(values[i]) for i in chosen]
        return pad_sequence(rows, batch_first=True, padding_value=filler)

    ids = of(tokens.input_ids, -1)
    mask = (ids >= 0).long()
    return {
        "input_ids": ids.clamp(min=0),
        "attention_mask": mask,
        "labels": of(tokens.labels, -100),
    }


def held_out_loss(model: Any, tokens: Any) -> float:
    """Mean cross entropy of the answers' tokens, in fp32."""
    import torch

    total = count = 0.0
    model.eval()
    with torch.inference_mode():
        for row in range(len(tokens.input_ids)):
            batch = padded(tokens, [row])
            learnt = int((batch["labels"][:, 1:] != -100).sum())
            total += float(model(**batch).loss) * learnt
            count += learnt
    return total / count


def lora() -> Any:
    """The same adapter for the two peers."""
    from peft import LoraConfig

    return LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip


def has_bf16() -> bool:
    """Whether bf16 is fast here, as the platform decides it."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())


CONTENDERS: dict[str, Callable[[dict[str, Any], Path, Any, Clock], Any]] = {
    "ours": ours,
    "trl": trl,
    "plain loop": plain,
}

if __name__ == "__main__":
    main()
