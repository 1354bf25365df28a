"""Rows of a pass that threads share have the loss and the gradients of one thread."""

import threading

import pytest
import torch
from torch.nn import functional

from nemo_local.customizer.layers.fused_compiled import Compiled
from nemo_local.customizer.layers.fused_layers import built_once, fuse_layers
from nemo_local.customizer.training import row_threads
from nemo_local.customizer.training.objectives import answer_logits, places_before, shared_by
from nemo_local.customizer.training.row_threads import RowThreads
from tests.nemo_local.customizer.architectures import make_architecture
from tests.nemo_local.customizer.test_fused_layers import adapted

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # transformers and PEFT
ROWS, TOKENS, IGNORED = 5, 12, -100


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    model = adapted(make_architecture("llama 3", tmp_path_factory.mktemp("base")))
    fuse_layers(model, torch.float32, Compiled())
    return model


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 260, (ROWS, TOKENS), generator=generator)
    labels = ids.where(torch.rand(ids.shape, generator=generator) < 0.4, IGNORED)
    labels[1] = labels[4] = IGNORED  # one thread of three has nothing to learn
    return {"input_ids": ids, "labels": labels, "places": places_before(labels != IGNORED)}


def loss_of(model):
    def computed(part):
        logits = answer_logits(model, part, part["places"])
        targets = part["labels"].flatten()[part["places"] + 1]
        return functional.cross_entropy(logits, targets, reduction="sum")

    return computed


@pytest.mark.parametrize("count", [2, 3, 5])
def test_loss_and_gradients_are_those_of_one_thread(model, inputs, count):
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    found = []
    for parts in (1, count):
        loss = RowThreads(parts).sum(loss_of(model), shared_by(inputs, parts), trained)
        found.append((loss.detach(), *torch.autograd.grad(loss / 7, trained)))
    assert found[0][0] > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_matrices_that_parts_share_are_built_once_and_anew_when_adapters_changed(model, inputs):
    groups = model.merged_groups
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01, fused=True)  # counts no versions
    before, seen = [weight.detach().clone() for weight in trained], []

    def noted(part):
        seen.append([group.built for group in groups])
        return loss_of(model)(part)

    losses = []
    for _ in range(2):
        with built_once(model):
            loss = RowThreads(2).sum(noted, shared_by(inputs, 2), trained)
        losses.append(loss.item())
        assert losses[-1] == pytest.approx(loss_of(model)(inputs).item(), rel=1e-5)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    first, second, third, fourth = (each[0] for each in seen)
    assert first is second and third is fourth and not torch.equal(first, third)
    assert [group.built for group in groups] == [None] * len(groups) != []
    assert losses[1] < losses[0]
    with torch.no_grad():
        for weight, value in zip(trained, before, strict=True):
            weight.copy_(value)


def test_threads_compute_in_the_types_of_the_one_that_asks_and_each_alone(model, inputs):
    seen = []

    def noted(part):
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_num_threads()))
        threads.add(threading.get_ident())
        return loss_of(model)(part)

    before, threads = torch.get_num_threads(), set()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        halved = RowThreads(2).sum(noted, shared_by(inputs, 2), [])
    assert seen == [(True, 1), (True, 1)] and len(threads) == 2
    assert torch.get_num_threads() == before
    assert not halved.requires_grad
    torch.testing.assert_close(halved, loss_of(model)(inputs).detach(), rtol=0.02, atol=0)


@pytest.mark.parametrize("failing", [0, 1], ids=["of the caller", "of another"])
def test_an_error_in_a_thread_is_the_caller_s_once_all_have_ended(inputs, failing):
    ended, failed = [], threading.Event()

    def fails(part):
        if torch.equal(part["input_ids"], inputs["input_ids"][failing::2]):
            failed.set()
            raise MemoryError("no room")
        assert failed.wait(30)
        for _ in range(20):  # some work after the failure, for which the caller has to wait
            torch.ones(500, 500) @ torch.ones(500, 500)
        ended.append(part)
        return torch.zeros(())

    with torch.no_grad(), pytest.raises(MemoryError, match="no room"):
        RowThreads(2).sum(fails, shared_by(inputs, 2), [])
    assert len(ended) == 1


@pytest.mark.parametrize(
    ("threads", "rows", "length", "parts"),
    [(1, 16, 500, 1), (2, 16, 500, 2), (8, 4, 1000, 4), (8, 2, 100, 1), (2, 1, 4000, 1)],
    ids=["one-thread", "two", "fewer-rows", "few-tokens", "one-row"],
)
def test_threads_have_rows_of_their_own_and_not_too_few_tokens(threads, rows, length, parts):
    assert row_threads.LEAST_TOKENS == 500
    assert RowThreads(threads).parts(rows, length) == parts


def test_every_row_goes_to_one_part_with_the_places_of_its_answers(inputs):
    parts = shared_by(inputs, 3)
    assert [len(part["input_ids"]) for part in parts] == [2, 2, 1]
    assert sum(len(part["places"]) for part in parts) == len(inputs["places"]) > 0
    for first, part in enumerate(parts):
        targets = part["labels"].flatten()[part["places"] + 1]
        expected = inputs["labels"][first::3]
        assert targets.tolist() == expected[:, 1:][expected[:, 1:] != IGNORED].tolist()
    assert shared_by(inputs, 1) == [inputs]
