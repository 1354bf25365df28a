"""Each architecture: train, save, load again, serve; the same numbers everywhere."""

import json
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from nemo_local.catalog import CatalogModel, context_length, count_parameters
from nemo_local.customizer.modules import why_not_packed
from nemo_local.customizer.rows import RowReader
from nemo_local.customizer.training.batches import stop_ids
from nemo_local.customizer.training.packing import PackingCollator
from nemo_local.customizer.training.rendering import IGNORED, Renderer
from nemo_local.nim.chat_template import render_chat
from nemo_local.nim.checkpoint import load_checkpoint
from nemo_local.nim.lora import read_adapter
from tests.nemo_local.customizer.architectures import ARCHITECTURES, make_architecture
from tests.nemo_local.customizer.tiny_llama import call_row, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES
ROW = call_row(31)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def run(request, tmp_path_factory):
    """A checkpoint, and the folder of a job that trained and merged an adapter on it."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint = make_architecture(request.param, folder / "base")
    write_rows(folder / "job/data/training/a.jsonl", [call_row(i) for i in range(16)])
    given = {"finetuning_type": "lora_merged", "max_steps": 6, "log_every_n_steps": 1}
    progress = train_job(make_job(checkpoint, **given), folder / "job")
    assert progress.train_loss[-1]["value"] < progress.train_loss[0]["value"]
    return checkpoint, folder / "job"


def load(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


def prompt(tokenizer):
    return render_chat(tokenizer, ROW["messages"][:1], ROW["tools"])


def entry(folder):
    return CatalogModel(
        "ns/m", folder, "ns/m", False, context_length(folder), count_parameters(folder), "chat", ""
    )


def served_logits(folder, ids, adapter=None):
    """What inference computes [V] after a prompt, with an adapter beside the model or without."""
    served = load_checkpoint(entry(folder), "cpu")
    if adapter is not None:
        found = read_adapter(adapter)
        served.adapters.check(found)
        served.adapters.add("a", found)
    count = ids.shape[1]
    with torch.no_grad():
        return served.forward(
            ids,
            torch.ones(1, count, dtype=torch.long),
            torch.arange(count)[None],
            DynamicCache(),
            ["a" if adapter else None],
        )[0]


def test_adapter_merged_and_served_models_compute_the_same(run):
    from peft import PeftModel

    checkpoint, job_dir = run
    tokenizer = AutoTokenizer.from_pretrained(job_dir / "model")
    ids = tokenizer(prompt(tokenizer), add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        base = load(checkpoint)(ids).logits[0, -1]
        adapted = PeftModel.from_pretrained(load(checkpoint), job_dir / "best")(ids).logits[0, -1]
        merged = load(job_dir / "model")(ids).logits[0, -1]
    assert (adapted - base).abs().max() > 0.05
    for other in (
        merged,
        served_logits(job_dir / "model", ids),
        served_logits(checkpoint, ids, job_dir / "best"),
    ):
        torch.testing.assert_close(other, adapted, rtol=1e-3, atol=1e-4)


def test_the_stored_model_keeps_the_form_of_its_base(run):
    checkpoint, job_dir = run
    base, stored = (
        json.loads((folder / "config.json").read_text())
        for folder in (checkpoint, job_dir / "model")
    )
    for key in ("model_type", "architectures", "tie_word_embeddings", "dtype", "vocab_size"):
        assert stored[key] == base[key], key
    assert count_parameters(job_dir / "model") == count_parameters(checkpoint)
    assert stop_ids(job_dir / "model", AutoTokenizer.from_pretrained(job_dir / "model")) == [1]


def test_training_and_inference_render_the_same_bytes_and_pad_is_not_the_end(run, tmp_path):
    checkpoint, job_dir = run
    reader = RowReader()
    rows = list[Any](reader.read(tmp_path, [write_rows(tmp_path / "a.jsonl", [ROW])]))
    for folder in (checkpoint, job_dir / "model"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        renderer = Renderer(tokenizer, [1])
        (sequence,) = renderer.rendered(rows)
        trained_on = sequence.text[: sequence.spans[0].start]
        assert trained_on.encode() == prompt(AutoTokenizer.from_pretrained(checkpoint)).encode()
        assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert AutoTokenizer.from_pretrained(job_dir / "model").pad_token == "<|pad|>"


@pytest.mark.parametrize("options", [{}, {"attn_implementation": "eager"}], ids=["own", "eager"])
def test_packed_sequences_do_not_see_each_other(run, options):
    checkpoint, _ = run
    assert why_not_packed(checkpoint, "sft") == ""
    model = load(checkpoint, **options)
    generator = torch.Generator().manual_seed(0)
    sequences = [
        torch.randint(7, 264, (length,), generator=generator).tolist() for length in (40, 25, 9)
    ]
    rows = [{"input_ids": ids, "labels": [IGNORED] * len(ids)} for ids in sequences]
    batch = PackingCollator(pad_id=2, capacity=49)(rows)
    assert batch["input_ids"].shape == (2, 49)
    with torch.no_grad():
        packed = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
        alone = [model(torch.tensor([ids]), use_cache=False).logits[0] for ids in sequences]
    torch.testing.assert_close(packed[0, :40], alone[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(packed[0, 40:49], alone[2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(packed[1, :25], alone[1], rtol=1e-3, atol=1e-4)
