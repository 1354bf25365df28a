"""Tool calls that are asked for at each validation."""

import json

import pytest
import torch

from nemo_local.customizer.rows import ChatRow
from nemo_local.customizer.training.batches import read_rows, stop_ids
from nemo_local.customizer.training.call_accuracy import ROWS, CallAccuracy, Reader
from nemo_local.customizer.training.facts import ROW_BY_ROW
from tests.nemo_local.customizer.test_lora_forward import adapted
from tests.nemo_local.customizer.tiny_llama import call_row, tool, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES


@pytest.fixture
def tokenizer(checkpoint):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)


def chat_rows(count):
    return [ChatRow(**call_row(number), where=f"line {number}") for number in range(count)]


def asking(rows, checkpoint, tokenizer):
    made = CallAccuracy.of(rows, tokenizer, checkpoint, 256)
    assert made is not None
    return made


def measured(progress):
    return [(event["step"], event["names"], event["calls"]) for event in progress.tool_calls]


def test_a_model_that_learnt_its_rows_answers_all_of_them_right(checkpoint, tmp_path, capsys):
    rows = [call_row(number) for number in (1, 2)]
    write_rows(tmp_path / "data/training/a.jsonl", rows * 4)
    write_rows(tmp_path / "data/validation/a.jsonl", rows)
    progress = train_job(make_job(checkpoint, epochs=40, finetuning_type="all_weights"), tmp_path)
    assert measured(progress)[0] == (1, 0.0, 0.0)
    assert measured(progress)[-1] == (79, 1.0, 1.0)
    assert "tool calls: 2 right tool, 2 right tool and arguments, of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [{}, {"sequence_packing_enabled": True, "lora": {"adapter_dropout": 0.1}}],
    ids=["row-by-row attention", "packed with dropout"],
)
def test_a_training_goes_on_as_if_it_had_not_been_asked(
    checkpoint, job_dir, tmp_path, monkeypatch, changed
):
    job = make_job(checkpoint, val_check_interval=3, **changed)
    asked = train_job(job, job_dir)
    assert [step for step, _, _ in measured(asked)] == [2, 5, 8, 11, 14, 15]
    monkeypatch.setattr(CallAccuracy, "of", lambda *_: None)
    (tmp_path / "silent").mkdir()
    (job_dir / "data").rename(tmp_path / "silent/data")
    silent = train_job(job, tmp_path / "silent")
    assert measured(silent) == []
    for series in ("train_loss", "val_loss"):
        values = [[p["value"] for p in getattr(run, series)] for run in (asked, silent)]
        assert values[0] == values[1]


def greedy(model, prompt, count):
    """The tokens a model writes, one full pass for each."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_replies_are_those_of_the_model_asked_alone_and_it_stays_as_it_was(checkpoint, tokenizer):
    import nemo_local.customizer.layers.attention  # noqa: F401 - registers ROW_BY_ROW
    from nemo_local.customizer.layers.lora_forward import shorten_forward
    from nemo_local.customizer.training.call_accuracy import _answering

    rows = [*chat_rows(3), ChatRow(**call_row(12345678), where="a longer one")]
    asked = asking(rows, checkpoint, tokenizer)
    model = adapted(checkpoint)
    model.get_base_model().set_attn_implementation(ROW_BY_ROW)
    shorten_forward(model)
    before, drawn = model.training, torch.get_rng_state()
    with _answering(model) as answering:
        (questions,) = asked._batches
        replies = asked._replies(answering, questions)
    assert (model.training, model.config._attn_implementation) == (before, ROW_BY_ROW)
    assert torch.equal(torch.get_rng_state(), drawn)
    for question, reply in zip(questions, replies, strict=True):
        alone = greedy(model.eval(), question.prompt, len(reply))
        end = next((i for i, token in enumerate(alone) if token == 1), len(alone))
        assert reply[:end] == alone[:end]


def test_rows_without_tools_or_with_answers_that_do_not_fit_are_not_asked(checkpoint, tokenizer):
    row = call_row(1)
    text = {"messages": [*row["messages"][:1], {"role": "assistant", "content": "no"}]}
    rows = [
        ChatRow(**{**row, **text}, where="answers with text"),
        ChatRow(row["messages"], [], where="offers nothing"),
    ]
    assert CallAccuracy.of(rows, tokenizer, checkpoint, 256) is None
    assert CallAccuracy.of(chat_rows(2), tokenizer, checkpoint, 20) is None
    assert CallAccuracy.of([], tokenizer, checkpoint, 256) is None


def test_the_same_rows_are_asked_every_time(checkpoint, tokenizer):
    first, second = (asking(chat_rows(40), checkpoint, tokenizer)._batches for _ in range(2))
    assert first == second and sum(map(len, first)) == ROWS


def test_a_call_is_read_up_to_the_end_of_the_answer(checkpoint, tokenizer):
    reader = Reader(tokenizer, stop_ids(checkpoint, tokenizer))

    def calls(text):
        return reader.calls(tokenizer(text, add_special_tokens=False).input_ids)

    text = json.dumps({"name": "add", "parameters": {"a": 1}})
    assert calls(text + "<|eot_id|>" + text) == {"add": {"a": 1}}
    assert calls("Sure! " + text) == {} and calls(text[:-1]) == {}
    question = reader.question(chat_rows(2)[1], 256)
    assert question is not None and question.calls == {"sum": {"a": 1}}
    assert tokenizer.decode(question.prompt).endswith("<|assistant|>")


def test_an_error_ends_the_asking_and_not_the_training(job, job_dir, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(CallAccuracy, "_replies", fail)
    progress = train_job(job, job_dir)
    assert progress.finished and progress.tool_calls == []
    assert capsys.readouterr().out.count("tool calls are not counted from here on") == 1


def test_preference_rows_are_not_asked(checkpoint, tmp_path):
    rows = [
        {"prompt": f"add {i}", "chosen": "yes", "rejected": "no", "tools": [tool("add")]}
        for i in range(8)
    ]
    write_rows(tmp_path / "data/training/a.jsonl", rows)
    job = make_job(checkpoint, training_type="dpo", max_steps=2)
    assert train_job(job, tmp_path).tool_calls == []


def test_validation_rows_that_were_split_off_are_asked(checkpoint, tmp_path):
    write_rows(tmp_path / "data/training/a.jsonl", [call_row(i) for i in range(20)])
    job = make_job(checkpoint, max_steps=2)
    assert len(list(read_rows(job, tmp_path / "data")[1])) == 2
    progress = train_job(job, tmp_path)
    steps = [point["step"] for point in progress.val_loss]
    assert [step for step, _, _ in measured(progress)] == steps
