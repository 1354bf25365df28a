"""One batch of our trainer against TRL's SFTTrainer, which computes everything everywhere."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from nemo_local.customizer.hyperparameters import make_plan
from nemo_local.customizer.layers.answers_only import ends_at_answers, rows_end_to_end
from nemo_local.customizer.modules import linear_modules
from nemo_local.customizer.rows import RowReader
from nemo_local.customizer.training.batches import LengthBuckets
from nemo_local.customizer.training.choices import choose
from nemo_local.customizer.training.gather import gather
from nemo_local.customizer.training.networks import load_model
from nemo_local.customizer.training.objectives import answer_logits, make_trainer
from nemo_local.customizer.training.ranks import Ranks
from nemo_local.customizer.training.rendering import Renderer
from tests.nemo_local.customizer.architectures import ARCHITECTURES, make_architecture
from tests.nemo_local.customizer.tiny_llama import call_row, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES

pytestmark = OF_THE_LIBRARIES
ROWS = 4


@pytest.fixture(params=ARCHITECTURES)
def checkpoint(request, tmp_path):
    return make_architecture(request.param, tmp_path / "base")


@pytest.fixture
def tokenizer(checkpoint):
    found = AutoTokenizer.from_pretrained(checkpoint)
    found.pad_token = "<|pad|>"
    return found


@pytest.fixture
def data(tokenizer, tmp_path):
    """Four rows of different lengths, as tokens with labels."""
    write_rows(tmp_path / "a.jsonl", [call_row(7 * 10**i) for i in range(ROWS)])
    rows = list(RowReader().read(tmp_path, [tmp_path / "a.jsonl"]))
    tokens = Renderer(tokenizer, [tokenizer.eos_token_id]).tokens(rows, 256)
    assert len(set(map(len, tokens.input_ids))) > 1
    return Dataset.from_dict({"input_ids": tokens.input_ids, "labels": tokens.labels})


def loaded(checkpoint, plan):
    """The model as a job trains it."""
    return load_model(checkpoint, plan, Ranks(), choose(gather(checkpoint, plan, Ranks(), [64], 9)))


def loss_and_gradients(trainer):
    """Of the first batch; both start with the same matrices."""
    torch.manual_seed(3)
    trained = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
    for _, weight in sorted(trained, key=lambda pair: pair[0]):
        torch.nn.init.normal_(weight, std=0.2)
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(ROWS)])
    learnt = (inputs["labels"] != -100).sum()
    loss = trainer.compute_loss(trainer.model.train(), dict(inputs), num_items_in_batch=learnt)
    loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in trained}


def test_loss_and_gradients_of_a_batch_are_those_of_trl(checkpoint, tokenizer, data, tmp_path):
    options = dict(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[],
        per_device_train_batch_size=ROWS, gradient_checkpointing=False,
    )  # fmt: skip
    modules = linear_modules(checkpoint)
    given = {"finetuning_type": "lora", "batch_size": ROWS, "lora": {"adapter_dim": 4, "alpha": 8}}
    plan = make_plan(given, modules, 1)
    ours = make_trainer(
        plan,
        arguments=options,
        padded_to=64,
        model=loaded(checkpoint, plan),
        processing_class=tokenizer,
        train_dataset=data,
    )
    ours.order, ours.plan, ours.ranks = LengthBuckets([1] * ROWS, ROWS, 1), plan, Ranks()
    theirs = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32),
        args=SFTConfig(**options, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
        processing_class=tokenizer,
        train_dataset=data,
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=list(plan.target_modules)),
    )
    widths = [one.data_collator(list(data))["input_ids"].shape[1] for one in (ours, theirs)]
    assert widths[0] % 64 == 0 and widths[0] > widths[1]
    expected_loss, expected = loss_and_gradients(theirs)
    loss, gradients = loss_and_gradients(ours)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-5)
    assert len(gradients) == 2 * len(plan.target_modules) * 2  # A and B in both layers


def three_rows():
    """Tokens of three rows, and what is learnt of them: the last five tokens of two."""
    learnt = functional.pad(torch.ones(3, 5, dtype=torch.bool), (15, 0))
    learnt[1] = False
    return torch.arange(3, 63).reshape(3, 20), learnt


def test_logits_of_answers_are_those_of_the_whole_pass(checkpoint):
    plan = make_plan({"finetuning_type": "lora", "lora": {"adapter_dim": 4}}, ["q_proj"], 1)
    model = loaded(checkpoint, plan).eval()
    ids, learnt = three_rows()
    places = learnt.flatten().nonzero().squeeze(1)
    with torch.no_grad():
        whole = model(ids).logits[learnt]
        torch.testing.assert_close(answer_logits(model, {"input_ids": ids}, places), whole)
        with rows_end_to_end(model):
            torch.testing.assert_close(model(ids, logits_to_keep=places).logits[0], whole)
        assert model(ids).logits.shape[:2] == ids.shape
        if ends_at_answers(model):
            torch.testing.assert_close(model(ids, answers=places).logits[0], whole)
        else:
            assert model.config.model_type == "gemma2"  # whose layers have another form


def test_rows_end_to_end_are_compiled_once_for_any_number_of_answers(checkpoint):
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=counted)
    ids, learnt = three_rows()
    for left in range(6):
        learnt[0, :left] = True
        places = learnt.flatten().nonzero().squeeze(1)
        with torch.no_grad(), rows_end_to_end(model):
            logits = compiled(input_ids=ids, logits_to_keep=places, use_cache=False).logits[0]
        torch.testing.assert_close(logits, model(ids).logits[learnt])
    assert len(graphs) <= 2  # one of the first number, one of any
