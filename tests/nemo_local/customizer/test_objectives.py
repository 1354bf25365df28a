"""The losses, against sums by hand; and runs that make them smaller."""

import math
import shutil
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_local.customizer.hyperparameters import make_plan
from nemo_local.customizer.progress import TrainingFailed
from nemo_local.customizer.rows import RowReader
from nemo_local.customizer.texts import UntrainableData
from nemo_local.customizer.training.preferences import make_pairs
from nemo_local.customizer.training.rendering import IGNORED, Renderer
from tests.nemo_local.customizer.architectures import HEADS, SIZE
from tests.nemo_local.customizer.tiny_llama import call_row, make_checkpoint, tokenizer, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES


def pair_row(number):
    """Yes is preferred, whatever was asked."""
    return {"prompt": f"add {number}", "chosen": "yes" * (1 + number % 2), "rejected": "no"}


@pytest.fixture
def pairs(tmp_path):
    write_rows(tmp_path / "data/training/a.jsonl", [pair_row(i) for i in range(24)])
    write_rows(tmp_path / "data/validation/a.jsonl", [pair_row(i) for i in range(24, 30)])
    return tmp_path


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def read_pairs(folder, tokenizer):
    reader = RowReader(preferences=True)
    rows = reader.read(folder, [folder / "data/training/a.jsonl"])
    return make_pairs(Renderer(tokenizer, [tokenizer.eos_token_id]), list(rows), 256)


def answer_log_probs(model, prompt, answer):
    """Log-probability of every token of the answer [T]."""
    with torch.no_grad():
        logits = model.eval()(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[range(len(answer)), answer]


def preference_loss(checkpoint, folder, model=None, **dpo):
    """The trainer's loss on the first four pairs, and the pairs."""
    from nemo_local.customizer.training.objectives import make_trainer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    found = read_pairs(folder, tokenizer)
    plan = make_plan({"training_type": "dpo", "finetuning_type": "all_weights", "dpo": dpo}, [], 1)
    trainer = make_trainer(
        plan,
        arguments=dict(output_dir=str(folder), use_cpu=True, report_to=[], bf16=False),
        padded_to=64,
        model=load(checkpoint),
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict(found.columns()).select(range(4)),
    )
    trainer.remember_reference()
    if model is not None:
        trainer.model.load_state_dict(model.state_dict())
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model.eval(), inputs)), found


def test_the_preference_loss_is_that_of_the_paper_and_nemo_s_sft_term(checkpoint, pairs, tmp_path):
    moved = load(checkpoint)
    with torch.no_grad():
        for weight in moved.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    base = load(checkpoint)

    def by_hand(found, beta, average, weight, sft_weight, sft_average):
        losses = []
        for prompt, chosen, rejected in zip(
            found.prompt_ids[:4], found.chosen_ids[:4], found.rejected_ids[:4], strict=True
        ):
            rewards = []
            for answer in (chosen, rejected):
                reward = answer_log_probs(moved, prompt, answer) - answer_log_probs(
                    base, prompt, answer
                )
                rewards.append(reward.mean() if average else reward.sum())
            nll = -answer_log_probs(moved, prompt, chosen)
            nll = nll.mean() if sft_average else nll.sum()
            margin = torch.tensor(beta) * (rewards[0] - rewards[1])
            losses.append(-weight * functional.logsigmoid(margin) + sft_weight * nll)
        return float(sum(losses) / 4)

    for average, sft_average in ((False, False), (True, True)):
        loss, found = preference_loss(
            checkpoint, pairs, moved, ref_policy_kl_penalty=0.3, preference_loss_weight=2.0,
            sft_loss_weight=0.1, preference_average_log_probs=average,
            sft_average_log_probs=sft_average,
        )  # fmt: skip
        assert loss == pytest.approx(by_hand(found, 0.3, average, 2.0, 0.1, sft_average), rel=1e-4)
    assert preference_loss(checkpoint, pairs)[0] == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("average", [False, True], ids=["sums", "means"])
def test_the_preference_loss_is_that_of_trl(checkpoint, pairs, average):
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    moved = load(checkpoint)
    with torch.no_grad():
        for weight in moved.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    ours, found = preference_loss(
        checkpoint, pairs, moved, ref_policy_kl_penalty=0.3, preference_average_log_probs=average
    )

    class OnTokens(DPOTrainer):
        def _prepare_dataset(self, dataset, *_):
            return dataset

    theirs = OnTokens(
        model=moved,
        ref_model=load(checkpoint),
        args=DPOConfig(
            output_dir=str(pairs), use_cpu=True, report_to=[], bf16=False, beta=0.3,
            loss_type=["sigmoid_norm" if average else "sigmoid"],
        ),
        processing_class=AutoTokenizer.from_pretrained(checkpoint),
        train_dataset=Dataset.from_dict(found.columns()).select(range(4)),
    )  # fmt: skip
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(4)])
    with torch.no_grad():
        assert ours == pytest.approx(float(theirs.compute_loss(moved.eval(), batch)), rel=1e-4)


def test_every_pair_of_a_step_weighs_the_same_whatever_passes_it_is_in(
    checkpoint, pairs, tmp_path, monkeypatch
):
    from nemo_local.customizer.training import passes

    write_rows(pairs / "data/training/a.jsonl", [pair_row(i) for i in range(14)])
    whole = tmp_path / "whole"
    shutil.copytree(pairs / "data", whole / "data")
    # Steps of 8 pairs and of 6; in passes of 4 the second has one of 4 and one of 2.
    job = make_job(
        checkpoint, training_type="dpo", batch_size=8, epochs=6, log_every_n_steps=1,
        dpo={"ref_policy_kl_penalty": 0.5},
    )  # fmt: skip
    expected = train_job(job, whole)
    monkeypatch.setattr(passes, "TOKENS_PER_PASS", {"cpu": 200})
    progress = train_job(job, pairs)
    assert "8 x 1 rows a step" in expected.prepared["note"]
    assert "4 x 2 rows a step" in progress.prepared["note"]
    for name in ("train_loss", "val_loss"):
        ours, theirs = ([p["value"] for p in getattr(run, name)] for run in (progress, expected))
        assert ours == pytest.approx(theirs, abs=2e-5) != []


@pytest.mark.parametrize("finetuning_type", ["lora", "all_weights"])
def test_preference_training_prefers_the_chosen_answers(checkpoint, pairs, finetuning_type):
    job = make_job(
        checkpoint, training_type="dpo", finetuning_type=finetuning_type, epochs=4, batch_size=8,
        dpo={"ref_policy_kl_penalty": 0.5},
    )  # fmt: skip
    progress = train_job(job, pairs)
    assert progress.finished and progress.steps == 12
    assert progress.val_loss[-1]["value"] < progress.val_loss[0]["value"] < math.log(2)
    assert progress.train_loss[-1]["value"] < 0.5


def test_a_distilled_model_comes_close_to_its_teacher(checkpoint, job_dir, tmp_path):
    teacher = make_checkpoint(tmp_path / "teacher")
    taught = load(teacher)
    with torch.no_grad():
        for weight in taught.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    taught.save_pretrained(teacher)
    job = make_job(
        checkpoint, training_type="distillation", finetuning_type="all_weights", epochs=4,
        distillation={"teacher": "ns/teacher@v1"},
    )  # fmt: skip
    job = replace(job, teacher="ns/teacher@v1", teacher_path=teacher)
    progress = train_job(job, job_dir)
    assert progress.val_loss[-1]["value"] < 0.5 * progress.val_loss[0]["value"]

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    row = call_row(31)
    ids = tokenizer.apply_chat_template(row["messages"], tools=row["tools"], return_tensors="pt")
    ids = ids["input_ids"] if hasattr(ids, "keys") else ids

    def distance(folder):
        with torch.no_grad():
            student, wanted = (load(path).eval()(ids).logits for path in (folder, teacher))
        target = wanted[0, -20:].log_softmax(-1)
        return functional.kl_div(
            student[0, -20:].log_softmax(-1), target, log_target=True, reduction="batchmean"
        )

    assert distance(job_dir / "model") < 0.5 * distance(checkpoint)


def test_a_model_teaches_itself_nothing(checkpoint, job_dir):
    job = make_job(
        checkpoint, training_type="distillation", max_steps=1, log_every_n_steps=1,
        distillation={"teacher": "x/y@1"},
    )  # fmt: skip
    job = replace(job, teacher="x/y@1", teacher_path=checkpoint)
    assert train_job(job, job_dir).train_loss[0]["value"] == pytest.approx(0, abs=1e-5)


def test_a_teacher_with_other_tokens_is_refused(checkpoint, job_dir, tmp_path):
    teacher = make_checkpoint(tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(teacher)
    job = make_job(
        checkpoint, training_type="distillation", distillation={"teacher": "ns/other@v1"}
    )
    job = replace(job, teacher="ns/other@v1", teacher_path=teacher)
    with pytest.raises(TrainingFailed, match="the teacher ns/other@v1 does not have the tok"):
        train_job(job, job_dir)


def longrope(folder, seed):
    """A model with other positions for rows of more than 40 tokens, as Phi-3.5 has beyond 4,096."""
    from transformers import Phi3Config, Phi3ForCausalLM

    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4}
    rope |= {"long_factor": [4.0, 5.0, 6.0, 8.0], "original_max_position_embeddings": 40}
    torch.manual_seed(seed)
    config = Phi3Config(
        **SIZE, **HEADS, pad_token_id=2, original_max_position_embeddings=40, rope_parameters=rope
    )
    Phi3ForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("training_type", ["sft", "dpo", "distillation"])
def test_a_longrope_model_learns_from_a_row_the_same_beside_a_longer_one(
    tmp_path, monkeypatch, training_type
):
    from nemo_local.customizer.training import passes

    found = []
    checkpoint, teacher = (longrope(tmp_path / str(seed), seed) for seed in (0, 1))
    keys = ("prompt", "chosen", "rejected") if training_type == "dpo" else ("prompt", "completion")
    rows = [{key: key[:6] * (1 + 3 * (number % 2)) for key in keys} for number in range(8)]
    given = {"distillation": {"teacher": "a/b@c"}} if training_type == "distillation" else {}
    job = make_job(
        checkpoint, training_type=training_type, max_steps=2, log_every_n_steps=1, **given
    )
    job = replace(job, teacher="a/b@c", teacher_path=teacher)
    for name, tokens in (("together", 8192), ("alone", 1)):
        folder = tmp_path / name
        for part in ("training", "validation"):
            write_rows(folder / "data" / part / "a.jsonl", rows)
        monkeypatch.setitem(passes.TOKENS_PER_PASS, "cpu", tokens)
        progress = train_job(job, folder)
        found.append([p["value"] for p in (*progress.train_loss, *progress.val_loss)])
        assert ("4 x 1 rows" if tokens > 1 else "1 x 4 rows") in progress.prepared["note"]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_pairs_share_their_prompt_and_one_answer_that_does_not_fit_drops_both(tmp_path):
    from tests.nemo_local.customizer.tiny_llama import tokenizer

    tools = call_row(1)["tools"]
    call = call_row(1)["messages"][1]
    lines = [
        {"prompt": "a", "chosen_response": "b", "rejected_response": "c"},
        {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"},
                    {"role": "user", "content": "d"}],
         "chosen": call, "rejected": [{"role": "assistant", "content": "no"}], "tools": tools},
        {"prompt": "a", "chosen": call, "rejected": "c", "tools": tools * 9},
    ]  # fmt: skip
    write_rows(tmp_path / "data/training/a.jsonl", lines)
    tok = tokenizer()
    found = read_pairs(tmp_path, tok)
    assert [tok.decode(ids) for ids in found.prompt_ids[:2]] == [
        "<|bos|><|user|>a<|eot_id|><|assistant|>",
        "<|bos|><|user|>a<|eot_id|><|assistant|>x<|eot_id|><|user|>d<|eot_id|>[add][sum]"
        "<|assistant|>",
    ]
    assert [tok.decode(ids) for ids in found.chosen_ids[:2]] == [
        "b<|eot_id|>", '{"name": "sum", "parameters": {"a": 1}}<|eot_id|>',
    ]  # fmt: skip
    assert [tok.decode(ids) for ids in found.rejected_ids[:2]] == ["c<|eot_id|>", "no<|eot_id|>"]
    rows = RowReader(preferences=True).read(tmp_path, [tmp_path / "data/training/a.jsonl"])
    short = make_pairs(Renderer(tok, [1]), list(rows), 100)
    assert (len(short.prompt_ids), short.dropped) == (2, 1)
    assert short.lengths == [len(p) + max(len(c), len(r)) for p, c, r in zip(
        short.prompt_ids, short.chosen_ids, short.rejected_ids, strict=True
    )]  # fmt: skip


def test_pairs_are_counted_once_and_two_answers_that_a_cut_made_equal_are_no_pair(tmp_path):
    from tests.nemo_local.customizer.tiny_llama import tokenizer

    lines = [
        {"prompt": "a", "chosen": "b" * 99, "rejected": "c" * 99},
        {"prompt": "a", "chosen": "b" * 99 + "x", "rejected": "b" * 99 + "y"},
        {"prompt": "a", "chosen": "b" * 99, "rejected": call_row(1)["messages"][1],
         "tools": call_row(1)["tools"]},
    ]  # fmt: skip
    write_rows(tmp_path / "data/training/a.jsonl", lines)
    rows = RowReader(preferences=True).read(tmp_path, [tmp_path / "data/training/a.jsonl"])
    found = make_pairs(Renderer(tokenizer(), [1]), list(rows), 60)
    assert (len(found.prompt_ids), found.truncated, found.dropped) == (2, 2, 1)


def test_a_rejected_answer_may_call_a_tool_that_was_not_offered_and_a_chosen_one_may_not(tmp_path):
    from tests.nemo_local.customizer.tiny_llama import tokenizer

    call, tools = call_row(1)["messages"][1], call_row(1)["tools"]
    invented = {**call, "tool_calls": [{"type": "function", "function": {
        "name": "plus", "arguments": {"a": 1}}}]}  # fmt: skip
    row = {"prompt": "a", "chosen": call, "rejected": invented, "tools": tools}
    path = tmp_path / "data/training/a.jsonl"
    write_rows(path, [row])
    tok = tokenizer()
    (answer,) = read_pairs(tmp_path, tok).rejected_ids
    assert "plus" in tok.decode(answer)
    write_rows(path, [{**row, "chosen": invented, "rejected": call}])
    with pytest.raises(UntrainableData, match="an answer calls 'plus', which is not among its"):
        read_pairs(tmp_path, tok)


def test_the_loss_of_no_tokens_is_nothing_and_no_division_by_zero(checkpoint, tmp_path):
    from nemo_local.customizer.training.objectives import make_trainer

    nothing = Dataset.from_dict({"input_ids": [[5, 6, 7]], "labels": [[IGNORED] * 3]})
    trainer = make_trainer(
        make_plan({"finetuning_type": "all_weights"}, [], 1),
        arguments=dict(output_dir=str(tmp_path), use_cpu=True, report_to=[], bf16=False),
        model=load(checkpoint),
        processing_class=AutoTokenizer.from_pretrained(checkpoint),
        train_dataset=nothing,
        eval_dataset=nothing,
    )
    inputs = trainer.data_collator([nothing[0]])
    assert trainer.compute_loss(trainer.model, inputs) == 0
    assert trainer.compute_loss(trainer.model, inputs, num_items_in_batch=torch.tensor(0)) == 0
    assert trainer.evaluate()["eval_loss"] == 0
