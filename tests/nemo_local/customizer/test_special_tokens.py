"""Special tokens of a target: trained, stored with the output and served, everywhere the same."""

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PhiConfig

from nemo_local.core.errors import Invalid
from nemo_local.customizer.progress import TrainingFailed
from nemo_local.customizer.rows import RowReader
from nemo_local.customizer.special_tokens import (
    NO_TOKENS,
    check_tokenizer,
    load_tokenizer,
    save_tokenizer,
)
from nemo_local.customizer.texts import UntrainableData
from nemo_local.customizer.training.batches import stop_ids, unknown_ids
from nemo_local.customizer.training.rendering import Renderer
from nemo_local.nim.checkpoint import beside, load_checkpoint
from nemo_local.nim.llama.network import computes
from nemo_local.nim.lora import Adapter, read_adapter
from nemo_local.nim.sequences import PaddedSequences
from tests.nemo_local.customizer.architectures import ARCHITECTURES, SIZE, make_architecture
from tests.nemo_local.customizer.test_architectures import entry, load, prompt
from tests.nemo_local.customizer.test_robustness import AfterLogs, losses
from tests.nemo_local.customizer.tiny_llama import TEMPLATE, call_row, tokenizer, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job
from tests.tiny_checkpoint import llama_sequences

pytestmark = OF_THE_LIBRARIES
START, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    TEMPLATE.replace('"<|" + m.role + "|>"', f'"{START}" + m.role + "\\n"')
    .replace("<|eot_id|>", END)
    .replace('"<|assistant|>"', f'"{START}assistant\\n"')
)
OVERRIDES = {"additional_special_tokens": ["<|tool|>", START, END], "eos_token": END}
NEW = [263, 264]
"""The checkpoint has 264 rows and tokens up to 262: one row is free, one is added."""


def chatml_job(checkpoint, **given):
    job = make_job(checkpoint, **given)
    return replace(job, chat_prompt_template=CHATML, tokenizer=OVERRIDES)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def run(request, tmp_path_factory):
    """A checkpoint, an adapter with tokens of its own, and the model it was merged into."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint = make_architecture(request.param, folder / "base")
    write_rows(folder / "job/data/training/a.jsonl", [call_row(i) for i in range(16)])
    job = chatml_job(checkpoint, finetuning_type="lora_merged", max_steps=6, log_every_n_steps=1)
    progress = train_job(job, folder / "job")
    assert progress.train_loss[-1]["value"] < progress.train_loss[0]["value"]
    adapter, merged = folder / "job/best", folder / "job/model"
    save_tokenizer(AutoTokenizer.from_pretrained(merged), job, adapter)  # as in an adapter's output
    return checkpoint, adapter, merged


def peft_model(checkpoint, adapter):
    """The adapter as its card says that others load it."""
    from peft import PeftModel

    model, tokenizer = load(checkpoint), AutoTokenizer.from_pretrained(adapter)
    model.resize_token_embeddings(max(tokenizer.get_vocab().values()) + 1)
    return PeftModel.from_pretrained(model, adapter).eval()


def new_ids(checkpoint, tokenizer):
    """The numbers of the new tokens; Qwen's tokenizer brings one more token than the others."""
    first = len(AutoTokenizer.from_pretrained(checkpoint))
    ids = [tokenizer.convert_tokens_to_ids(token) for token in (START, END)]
    assert ids == [first, first + 1] and first in (263, 264)
    return ids


def random_adapter(checkpoint, seed):
    """An ordinary adapter, without tokens of its own."""
    generator = torch.Generator().manual_seed(seed)
    layer = checkpoint.model.get_submodule("model.layers.0.self_attn.o_proj")
    base = getattr(layer, "base", layer)
    a = torch.randn(4, base.in_features, generator=generator)
    b = torch.randn(base.out_features, 4, generator=generator)
    return Adapter({"model.layers.0.self_attn.o_proj": (a * 0.3, b * 0.3)})


def test_trained_merged_and_served_models_compute_the_same(run):
    checkpoint, adapter, merged = run
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    new = new_ids(checkpoint, tokenizer)
    text = prompt(tokenizer) + f"x{END}\n{START}tool<|tool|>"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert {6, *new} <= set(ids)
    with torch.no_grad():
        trained = peft_model(checkpoint, adapter)(torch.tensor([ids])).logits[0, -1]
        stored = load(merged)(torch.tensor([ids])).logits[0, -1]
    assert trained.shape == stored.shape == (new[1] + 1,)

    base = load_checkpoint(entry(checkpoint), "cpu")
    found = read_adapter(adapter)
    base.adapters.check(found)
    served = beside(base, found, adapter)
    base.adapters.add("a", found)
    assert served.vocabulary.size == new[1] + 1 and served.tokenizer.chat_template == CHATML
    assert served.vocabulary.stop_ids == {1, new[1]} and served.tokenizer.eos_token == END
    assert served.encode(text, special=False) == ids and served.decode(new) == ""
    whole = load_checkpoint(entry(merged), "cpu")
    assert whole.vocabulary.stop_ids == {1, new[1]} and stop_ids(merged, whole.tokenizer) == [
        1,
        new[1],
    ]
    with torch.inference_mode():
        logits = [PaddedSequences(base).join([ids], ["a"])[0]]
        logits.append(PaddedSequences(whole).join([ids], [None])[0])
        if computes(base.model):
            logits.append(llama_sequences(base).join([ids], ["a"])[0])
    for other in (stored, *logits):
        torch.testing.assert_close(other, trained, rtol=1e-3, atol=1e-4)


def test_other_rows_of_a_batch_see_no_foreign_token(run):
    checkpoint, adapter, _ = run
    new = new_ids(checkpoint, AutoTokenizer.from_pretrained(adapter))
    base = load_checkpoint(entry(checkpoint), "cpu")
    kinds: list[Any] = [PaddedSequences, *([llama_sequences] if computes(base.model) else [])]
    base.adapters.add("plain", random_adapter(base, 1))
    text = [7, 6, 9, 10]  # 6 has another row in the adapter
    with torch.inference_mode():
        alone = [PaddedSequences(base).join([text], [name])[0] for name in (None, "plain")]
        base.adapters.add("own", read_adapter(adapter))
        own = [*text, *new, 8]
        for kind in kinds:
            sequences: Any = kind(base)
            first = sequences.join([text, own, text], [None, "own", "plain"])
            assert first.shape == (3, new[1] + 1) and not torch.allclose(first[1, :264], alone[0])
            for row, expected in ((0, alone[0]), (2, alone[1])):
                torch.testing.assert_close(first[row, :264], expected, rtol=1e-4, atol=1e-4)
                assert first[row, 264:].eq(float("-inf")).all()
            again = sequences.step([7, new[1], 7])
            expected = PaddedSequences(base).join([[*own, new[1]]], ["own"])[0]
            torch.testing.assert_close(again[1], expected, rtol=1e-3, atol=1e-4)
            assert again[[0, 2], 264:].eq(float("-inf")).all()
        for name in ("own", "plain"):
            base.adapters.remove(name)
        reference = PaddedSequences(base).join([text], [None])[0]
    torch.testing.assert_close(reference, alone[0], rtol=1e-4, atol=1e-4)
    assert {type(base.model.get_input_embeddings()), type(base.model.get_output_embeddings())} <= {
        type(load(checkpoint).get_input_embeddings()), torch.nn.Linear,
    }  # fmt: skip


@pytest.mark.parametrize("finetuning_type", ["lora", "all_weights"])
def test_an_output_carries_its_tokenizer_and_renders_what_it_was_trained_on(
    checkpoint, job_dir, finetuning_type
):
    job = chatml_job(checkpoint, finetuning_type=finetuning_type, max_steps=2)
    train_job(job, job_dir)
    output = job_dir / ("adapter" if finetuning_type == "lora" else "model")
    base = load_checkpoint(entry(checkpoint if finetuning_type == "lora" else output), "cpu")
    served = beside(base, read_adapter(output), output) if finetuning_type == "lora" else base
    tokenizer, special = load_tokenizer(job)
    assert special.new == NEW and special.ids == [6, *NEW]
    read = RowReader().read(job_dir, [write_rows(job_dir / "b.jsonl", [call_row(31)])])
    (sequence,) = Renderer(tokenizer, [264]).rendered(list[Any](read))
    trained_on = sequence.text[: sequence.spans[0].start]
    rendered = prompt(served.tokenizer)
    assert rendered.encode() == trained_on.encode() and rendered.endswith(f"{START}assistant\n")
    assert served.encode(rendered, False) == tokenizer(trained_on).input_ids
    assert served.tokenizer.pad_token == "<|pad|>" and served.vocabulary.size == 265


def test_a_resumed_training_keeps_the_tokens(checkpoint, job_dir, tmp_path):
    job, whole = chatml_job(checkpoint), tmp_path / "whole"
    shutil.copytree(job_dir / "data", whole / "data")
    expected = train_job(job, whole)
    from nemo_local.customizer.progress import Stopped

    with pytest.raises(Stopped):
        train_job(job, job_dir, AfterLogs(job_dir, 2))
    progress = train_job(job, job_dir)
    assert progress.prepared["resumed_from"] == 7
    assert losses(expected.train_loss) == [(p["step"], p["value"]) for p in progress.train_loss]
    one, other = read_adapter(whole / "adapter"), read_adapter(job_dir / "adapter")
    for name, rows in one.token_rows.items():
        torch.testing.assert_close(other.token_rows[name], rows, rtol=0, atol=1e-5)


def test_a_distillation_from_a_teacher_without_the_tokens_is_refused(checkpoint, job_dir):
    from nemo_local.customizer.progress import TrainingFailed

    given = {"training_type": "distillation", "distillation": {"teacher": "ns/t@1"}}
    job = replace(chatml_job(checkpoint, **given), teacher="ns/t@1", teacher_path=checkpoint)
    with pytest.raises(TrainingFailed, match="does not have the tokenizer of the base"):
        train_job(job, job_dir)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bos_token": "<s>"}, "tokenizer.bos_token is not supported here"),
        ({"additional_special_tokens": "<a>"}, "must be a list"),
        ({"additional_special_tokens": ["<a>", "<a>"]}, "names a token twice"),
        ({"additional_special_tokens": [" <a>"]}, "' <a>' cannot be a token"),
        ({"additional_special_tokens": [7]}, "7 cannot be a token"),
        ({"eos_token": ""}, "'' cannot be a token"),
    ],
)
def test_overrides_that_cannot_be_carried_out_are_named(given, words):
    with pytest.raises(Invalid) as error:
        check_tokenizer(given)
    assert words in str(error.value)


def test_an_end_that_is_no_token_is_named(checkpoint):
    job = replace(make_job(checkpoint), tokenizer={"eos_token": "<|nowhere|>"})
    with pytest.raises(UntrainableData, match="'<|nowhere|>' is not a token of its checkpoint"):
        load_tokenizer(job)
    tokenizer, special = load_tokenizer(replace(job, tokenizer={"eos_token": "<|tool|>"}))
    assert tokenizer.eos_token_id == 6 and special.ids == special.new == []


def test_new_rows_begin_at_the_mean_and_the_others_stay(checkpoint):
    from nemo_local.customizer.layers.token_rows import add_rows

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    before = model.get_input_embeddings().weight.detach().clone()
    add_rows(model, load_tokenizer(chatml_job(checkpoint))[1])
    after = model.get_input_embeddings().weight.detach()
    assert after.shape[0] == 265 and torch.equal(after[:263], before[:263])
    for token in NEW:
        torch.testing.assert_close(after[token], before[:263].mean(0))


def test_a_row_with_a_token_that_the_model_has_no_row_for_is_named(checkpoint, job_dir, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<x0>", "<x1>", "<x2>"], special_tokens=True)  # 263 has a row
    tokenizer.pad_token = "<x1>"  # not one to pad with
    tokenizer.save_pretrained(folder)
    train_job(make_job(folder, max_steps=1), job_dir)
    row = call_row(1)
    row["messages"][0]["content"] += " <x2>"
    write_rows(job_dir / "data/training/b.jsonl", [row])
    named = r"b\.jsonl line 1: the tokenizer has a token 265 \('<x2>'\), for which the base model"
    with pytest.raises(UntrainableData, match=named):
        train_job(make_job(folder, max_steps=1), job_dir)
    # New tokens of a target get rows, and so do those before them.
    assert unknown_ids(folder, tokenizer, NO_TOKENS) == {264, 265}
    assert unknown_ids(folder, *load_tokenizer(chatml_job(folder))) == frozenset()


def test_special_tokens_beside_a_head_with_a_bias_are_refused_for_an_adapter(job_dir, tmp_path):
    folder = tmp_path / "phi"
    config = PhiConfig(**SIZE, hidden_size=32, num_attention_heads=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    with pytest.raises(TrainingFailed, match=r"the output head of the base model \(phi\) adds a b"):
        train_job(chatml_job(folder, max_steps=1), job_dir)
