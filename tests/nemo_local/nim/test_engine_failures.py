"""What breaks one reply, and no other with it."""

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from nemo_local.nim.errors import BadValue
from nemo_local.nim.generation import TextStream
from nemo_local.nim.grammars.constraints import Constraint
from nemo_local.nim.llama.sequences import LlamaSequences
from nemo_local.nim.lora import Unservable, read_adapter
from tests.nemo_local.nim.conftest import MODEL, Writer
from tests.nemo_local.nim.test_engine import alone, prompts
from tests.tiny_checkpoint import make_adapter


def test_a_reader_that_fails_ends_its_own_reply_only(writer: Writer) -> None:
    def broken(text: str | None) -> None:
        if text is not None:
            raise ValueError("cannot read this")

    asked = prompts(3, seed=4)
    failed, *others = writer.write(
        writer.generation(asked[0], emit=broken, pieces=True),
        *(writer.generation(prompt, pieces=True) for prompt in asked[1:]),
    )
    assert "cannot read this" in str(failed.error) and len(failed.tokens) < 12
    for prompt, reply in zip(asked[1:], others, strict=True):
        assert reply.error is None and reply.tokens == alone(writer.checkpoint, prompt, 12)


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "streamed"])
def test_a_reply_whose_text_cannot_be_decoded_ends_and_no_other_with_it(
    writer: Writer, pieces: bool
) -> None:
    def broken(ids: list[int]) -> str:
        raise ValueError(f"cannot decode {len(ids)} tokens")

    asked = prompts(3, seed=4)
    hung = writer.generation(asked[0], pieces=pieces)
    hung.stream = TextStream(broken, ())
    failed, *others = writer.write(hung, *(writer.generation(prompt) for prompt in asked[1:]))
    assert "cannot decode" in str(failed.error)
    for prompt, reply in zip(asked[1:], others, strict=True):
        assert reply.error is None and reply.tokens == alone(writer.checkpoint, prompt, 12)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_without_a_way_on_ends_its_own_reply_only(
    writer: Writer, temperature: float
) -> None:
    stuck = writer.generation("Hello", temperature=temperature, ignore_eos=False, max_tokens=20)
    stuck.matcher = writer.checkpoint.grammars.matcher(Constraint("grammar", 'root ::= root "a"'))
    rules = {"temperature": temperature, "seed": 3}
    wanted = writer.write(writer.generation("Hello", **rules))[0].tokens
    _, neighbour = writer.write(stuck, writer.generation("Hello", **rules))
    assert isinstance(stuck.error, BadValue) and stuck.tokens == []
    assert neighbour.error is None and neighbour.tokens == wanted


def test_broken_weights_of_an_adapter_end_its_own_replies_only(
    writer: Writer, tmp_path: Path
) -> None:
    adapter = read_adapter(make_adapter(tmp_path / "a", 1))
    for _, b in adapter.pairs.values():
        b.fill_(float("nan"))
    writer.engine.add_adapter(MODEL, "a", adapter)
    rules = {"temperature": 1.0, "seed": 3}
    wanted = writer.write(writer.generation("Hello", **rules))[0].tokens
    broken = writer.generation("Hello", adapter="a", **rules)
    _, neighbour = writer.write(broken, writer.generation("Hello", **rules))
    assert isinstance(broken.error, BadValue)
    assert "adapter a produced NaN or infinity" in str(broken.error)
    assert neighbour.error is None and neighbour.tokens == wanted


def test_a_repetition_penalty_next_to_nothing_breaks_no_number(writer: Writer) -> None:
    rules = {"repetition_penalty": 1e-44, "temperature": 1e-5, "seed": 1}
    reply = writer.write(writer.generation("Hello", **rules))[0]
    assert reply.error is None and len(reply.tokens) == 12


def test_a_bad_adapter_leaves_the_engine_at_work(writer: Writer, tmp_path: Path) -> None:
    adapter = read_adapter(make_adapter(tmp_path / "a", 1))
    adapter.pairs["model.layers.9.mlp.up_proj"] = next(iter(adapter.pairs.values()))
    with pytest.raises(Unservable):
        writer.engine.add_adapter(MODEL, "a", adapter)
    assert writer.write(writer.generation("Hello"))[0].error is None


def test_a_crash_of_the_model_ends_its_replies_and_nothing_else(writer: Writer) -> None:
    broken = writer.write(writer.generation([999_999]))[0]
    assert broken.error is not None and "the model failed" in str(broken.error)
    assert writer.write(writer.generation("Hello"))[0].error is None


def test_a_reader_that_is_gone_leaves_the_engine_at_work(writer: Writer) -> None:
    asked: SimpleQueue[str | None] = SimpleQueue()

    def gone(text: str | None) -> None:
        asked.put(text)
        raise RuntimeError("Event loop is closed")

    writer.engine.submit(MODEL, [writer.generation("Hello", emit=gone) for _ in range(4)])
    replies = writer.write(*(writer.generation(prompt, max_tokens=40) for prompt in prompts(4)))
    assert all(reply.error is None for reply in replies)
    assert [asked.get(timeout=60) for _ in range(4)] == [None] * 4 and asked.empty()


def test_no_memory_to_drop_a_reply_ends_those_beside_it_and_not_the_engine(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(sequences: LlamaSequences, indices: list[int]) -> list[int]:
        if indices:
            raise MemoryError
        return keep(sequences, indices)

    keep = LlamaSequences.keep
    monkeypatch.setattr(LlamaSequences, "keep", no_memory)
    cancelled = writer.generation("Hello", max_tokens=200, pieces=True)
    cancelled.emit = lambda text: setattr(cancelled, "cancelled", True)
    neighbours = [writer.generation(prompt, max_tokens=200) for prompt in prompts(3)]
    replies = writer.write(cancelled, *neighbours)
    assert all(reply.closed for reply in replies)
    assert "MemoryError" in {str(reply.error).rpartition(" ")[2] for reply in neighbours}
    monkeypatch.undo()
    assert writer.write(writer.generation("Hello"))[0].error is None


@pytest.mark.parametrize(
    ("kind", "form"),
    [("regex", "((.*)*)*x"), ("grammar", "root ::= s\ns ::= s s | [a-z ]")],
    ids=["expression", "grammar"],
)
def test_a_form_that_can_be_read_in_ever_more_ways_ends_its_own_reply_only(
    writer: Writer, kind: Any, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nemo_local.nim.grammars.matcher.TOKEN_S", 0.02)  # sooner
    slow = writer.generation("Hello", max_tokens=400)
    slow.matcher = writer.checkpoint.grammars.matcher(Constraint(kind, form))
    wanted = writer.write(writer.generation("Hello", max_tokens=99))[0].tokens
    _, neighbour = writer.write(slow, writer.generation("Hello", max_tokens=99))
    assert isinstance(slow.error, BadValue) and "read in so many ways" in str(slow.error)
    assert 0 < len(slow.tokens) < 400
    assert neighbour.error is None and neighbour.tokens == wanted
