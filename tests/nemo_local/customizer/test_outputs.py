"""What a run leaves: an adapter, or a whole checkpoint."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_local.customizer.training.batches import stop_ids
from nemo_local.nim.checkpoint import load_checkpoint
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job
from tests.tiny_checkpoint import entry

pytestmark = OF_THE_LIBRARIES


def logits(model, tokenizer, text="<|bos|><|user|>add 3<|eot_id|>"):
    with torch.no_grad():
        return model.eval()(tokenizer(text, return_tensors="pt").input_ids).logits


def load(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)


def test_a_merged_output_computes_what_base_and_adapter_compute(checkpoint, job_dir):
    from peft import PeftModel

    train_job(make_job(checkpoint, finetuning_type="lora_merged"), job_dir)
    tokenizer = AutoTokenizer.from_pretrained(job_dir / "model")
    adapted = logits(PeftModel.from_pretrained(load(checkpoint), job_dir / "best"), tokenizer)
    merged = logits(load(job_dir / "model"), tokenizer)
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
    assert (merged - logits(load(checkpoint), tokenizer)).abs().max() > 0.1
    assert not (job_dir / "adapter").exists()
    names = {path.name for path in (job_dir / "model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.startswith("adapter")]


def test_all_weights_are_trained_and_stored_whole(checkpoint, job_dir):
    job = make_job(checkpoint, finetuning_type="all_weights", lora={"adapter_dim": 4})
    progress = train_job(job, job_dir)
    assert progress.val_loss[1]["value"] < progress.val_loss[0]["value"]
    before, after = load(checkpoint).state_dict(), load(job_dir / "model").state_dict()
    assert before.keys() == after.keys()
    unchanged = [name for name in before if torch.equal(before[name], after[name])]
    assert unchanged == []
    stored = json.loads((job_dir / "model/config.json").read_text())
    base = json.loads((checkpoint / "config.json").read_text())
    for key in ("architectures", "dtype", "tie_word_embeddings", "vocab_size"):
        assert stored[key] == base[key]


@pytest.mark.parametrize("finetuning_type", ["lora_merged", "all_weights"])
def test_a_whole_output_keeps_the_precision(checkpoint, job_dir, tmp_path, finetuning_type):
    from safetensors.torch import load_file

    base = tmp_path / "half"
    load(checkpoint).to(torch.bfloat16).save_pretrained(base)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(base)
    train_job(make_job(base, finetuning_type=finetuning_type, max_steps=2), job_dir)
    kinds = {tensor.dtype for tensor in load_file(job_dir / "model/model.safetensors").values()}
    assert kinds == {torch.bfloat16}


def test_answers_end_at_the_tokens_of_config_json_where_no_other_file_names_them(
    checkpoint, job_dir, tmp_path
):
    folder = shutil.copytree(checkpoint, tmp_path / "base")
    (folder / "generation_config.json").unlink()
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [1, 6]}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "<|tool|>"  # and turns end with another
    tokenizer.save_pretrained(folder)
    train_job(make_job(folder, finetuning_type="all_weights", max_steps=1), job_dir)
    for stored in (folder, job_dir / "model"):
        assert stop_ids(stored, AutoTokenizer.from_pretrained(stored)) == [1, 6]
        served = load_checkpoint(entry("meta/tiny", stored), "cpu")
        assert served.vocabulary.stop_ids == {1, 6}
