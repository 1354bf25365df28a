"""What `train.py` trains: the pocket base on a CPU, the shape of Llama 3.2 1B on a GPU."""

import json
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nemo_local.catalog import POCKET_WEIGHTS
from nemo_local.customizer.task import Task as Job
from nemo_local.pocket.world import rows as pocket_rows
from utils import jsonl, xlam

POCKET = POCKET_WEIGHTS / "base"
SEED, VALIDATION_ROWS = 7, 64
LLAMA_32_1B = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "max_position_embeddings": 131_072, "rope_theta": 500_000.0, "tie_word_embeddings": True,
}  # fmt: skip
MEDIAN_TOKENS, LOG_DEVIATION, SHORTEST, LONGEST = 350, 0.59, 100, 1100
"""Row lengths of the xLAM set in Llama 3's tokens: log-normal, 410 on average. Estimated from the
characters of 227 rows, at 4.2 per token."""
TOOL_TOKENS = 35
"""Approximate tokens per tool in the generated rows."""


@dataclass(frozen=True)
class Task:
    """One training, the same for all contenders."""

    base: str
    """Folder of the checkpoint."""
    data: str
    """Folder of the rows."""
    device: str
    epochs: int
    rate: float
    threads: int
    batch: int = 16
    rank: int = 32
    alpha: int = 32

    @classmethod
    def from_json(cls, text: str) -> "Task":
        return cls(**json.loads(text))

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def pocket_task(folder: Path, rows: int, threads: int) -> Task:
    """The pocket base on a CPU, one epoch; the rows are written to the folder."""
    _write_rows(folder / "data", _examples(rows), rows)
    return Task(str(POCKET), str(folder / "data"), "cpu", 1, 4e-3, threads)


def llama_task(folder: Path, rows: int) -> Task:
    """A random Llama 3.2 1B on a GPU, two epochs, on rows as long as those of xLAM.

    Checkpoint and rows are written to the folder, or found there.
    """
    base, data = folder / "base", folder / f"data-{rows}"
    if not base.exists():
        _make_llama(base)
    if not data.exists():
        _write_rows(data, _lengthened(_examples(rows)), rows)
    return Task(str(base), str(data), "cuda", 2, 1e-4, threads=1)


def _make_llama(base: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = json.loads((POCKET / "config.json").read_text(encoding="utf-8"))
    ids = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(1)
    # Not on the GPU, whose memory this process would hold while the contenders run.
    model = LlamaForCausalLM(LlamaConfig(**LLAMA_32_1B, **ids, dtype="bfloat16")).bfloat16()
    model.save_pretrained(base)
    for path in POCKET.iterdir():
        if path.name.startswith(("tokenizer", "chat_template")):
            shutil.copy(path, base)


def make_job(task: Task, job_dir: Path) -> Job:
    """The training job as the platform hands it to its training process."""
    from nemo_local.customizer.hyperparameters import make_plan
    from nemo_local.customizer.modules import linear_modules

    shutil.copytree(task.data, job_dir / "data")
    given = {
        "epochs": task.epochs, "batch_size": task.batch, "learning_rate": task.rate, "seed": SEED,
        "lora": {"adapter_dim": task.rank, "alpha": task.alpha, "adapter_dropout": 0.0},
    }  # fmt: skip
    base = Path(task.base)
    return Job(
        plan=make_plan(given, linear_modules(base), 1), base_model="base", model_path=base,
        dataset="generated", prompt_template="{prompt} {completion}", max_seq_length=2048,
        precision="bf16-mixed", device=task.device, threads=task.threads,
    )  # fmt: skip


def tokens_of(task: Task, job: Job, job_dir: Path) -> tuple[Any, Any]:
    """Training and held-out rows as tokens with labels, the same for all."""
    from transformers import AutoTokenizer

    from nemo_local.customizer.training.batches import make_tokens, read_rows

    rows, tokenizer = read_rows(job, job_dir / "data"), AutoTokenizer.from_pretrained(task.base)
    files = make_tokens(job, rows, tokenizer, job_dir / "tokens")
    training, held_out = (SimpleNamespace(**file.dataset().to_dict()) for file in files)
    return training, held_out


def _write_rows(folder: Path, examples: list[dict[str, Any]], rows: int) -> None:
    for part, chosen in (("training", examples[:rows]), ("validation", examples[rows:])):
        jsonl.write(folder / part / "rows.jsonl", chosen)


def _examples(rows: int) -> list[dict[str, Any]]:
    """Generated chat examples, those of the validation last."""
    wanted = rows + VALIDATION_ROWS
    sound = xlam.prepare(pocket_rows(3 * (wanted + VALIDATION_ROWS), SEED)).rows
    return [xlam.to_chat_example(row) for row in sound[:wanted]]


def _lengthened(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The examples with tools added until they are as long as those of xLAM."""
    from transformers import AutoTokenizer

    tokenizer, dice, longer = AutoTokenizer.from_pretrained(POCKET), random.Random(SEED), []

    def tokens(example: dict[str, Any], tools: list[Any]) -> int:
        text = tokenizer.apply_chat_template(example["messages"], tools=tools, tokenize=False)
        return len(tokenizer(text)["input_ids"])

    firsts = [example["tools"][0] for example in examples]
    costs = [
        tokens(example, example["tools"]) - tokens(example, example["tools"][1:])
        for example in examples
    ]
    for example in examples:
        target = MEDIAN_TOKENS * dice.lognormvariate(0, LOG_DEVIATION)
        target = min(max(target, SHORTEST), LONGEST)
        tools = {tool["function"]["name"]: tool for tool in example["tools"]}
        missing = target - tokens(example, example["tools"])
        while missing > TOOL_TOKENS / 2:
            other = dice.randrange(len(firsts))
            if firsts[other]["function"]["name"] not in tools:
                tools[firsts[other]["function"]["name"]] = firsts[other]
                missing -= costs[other]
        longer.append({**example, "tools": list(tools.values())})
    return longer
