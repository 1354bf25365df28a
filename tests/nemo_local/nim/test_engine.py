"""Writing replies together: every row as if it were alone."""

import random
import threading
from pathlib import Path

import pytest
import torch

from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.engine import Engine
from nemo_local.nim.errors import BadValue, Busy, TimeUp, UnknownModel
from nemo_local.nim.generation import Generation
from nemo_local.nim.grammars.constraints import Constraint
from nemo_local.nim.lora import read_adapter
from nemo_local.nim.metrics import Metrics
from tests.nemo_local.nim.conftest import MODEL, Writer
from tests.tiny_checkpoint import make_adapter


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(5, 290) for _ in range(dice.randrange(1, 90))] for _ in range(count)]


def alone(checkpoint: Checkpoint, prompt: list[int], tokens: int) -> list[int]:
    """The reference: transformers' own greedy generation, one prompt, no padding."""
    output = checkpoint.model.generate(  # type: ignore[operator]
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


def test_greedy_replies_equal_those_written_alone(writer: Writer) -> None:
    asked = prompts(40)
    dice = random.Random(1)
    wanted = [dice.randrange(1, 30) for _ in asked]
    replies = writer.write(
        *(writer.generation(p, max_tokens=n) for p, n in zip(asked, wanted, strict=True))
    )
    for prompt, count, reply in zip(asked, wanted, replies, strict=True):
        assert reply.tokens == alone(writer.checkpoint, prompt, count)
        assert reply.finish_reason == "length"


def test_a_thread_of_the_engine_takes_denormal_numbers_for_zero(writer: Writer) -> None:
    found: list[float] = []

    def multiply(_: str | None) -> None:  # in the thread that computes
        found.append((torch.tensor([1e-30]) * 1e-10).item())

    writer.write(writer.generation(prompts(1, seed=4)[0], emit=multiply))
    assert set(found) == {0.0}


def test_adapters_share_a_batch_without_touching_each_other(writer: Writer, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        writer.engine.add_adapter(MODEL, name, read_adapter(make_adapter(tmp_path / name, seed)))
    asked = prompts(12, seed=2)
    names = [(None, "a", "b")[i % 3] for i in range(12)]
    single = [
        writer.write(writer.generation(p, adapter=a))[0].tokens
        for p, a in zip(asked, names, strict=True)
    ]
    together = writer.write(
        *(writer.generation(p, adapter=a) for p, a in zip(asked, names, strict=True))
    )
    assert [reply.tokens for reply in together] == single
    base = writer.write(*(writer.generation(p) for p in asked))
    assert [r.tokens for r in base] != single


def test_a_seed_repeats_a_sampled_reply_whoever_its_neighbours_are(writer: Writer) -> None:
    rules = {"temperature": 1.5, "top_p": 0.9, "top_k": 50, "min_p": 0.01, "seed": 7}
    first = writer.write(writer.generation("What time is it?", **rules))[0]
    crowd = [writer.generation(p, temperature=2.0) for p in prompts(9)]
    again = writer.write(*crowd, writer.generation("What time is it?", **rules))[-1]
    other = writer.write(writer.generation("What time is it?", **{**rules, "seed": 8}))[0]
    assert first.tokens == again.tokens != other.tokens


def test_a_tiny_temperature_is_greedy(writer: Writer) -> None:
    reply = writer.write(writer.generation("Hello", temperature=1e-20))[0]
    assert reply.tokens == alone(writer.checkpoint, reply.prompt, 12)


def test_a_stop_string_ends_the_reply_before_itself(writer: Writer) -> None:
    full = writer.write(writer.generation("Hello", max_tokens=40))[0]
    stop = full.text[8:11]
    pieces: list[str] = []
    reply = writer.generation(
        "Hello", max_tokens=40, stop=(stop,), pieces=True,
        emit=lambda text: pieces.append(text) if text else None,
    )  # fmt: skip
    writer.write(reply)
    assert reply.finish_reason == "stop" and reply.stop_reason == stop
    assert reply.text == full.text[: full.text.index(stop)] == "".join(pieces)
    assert len(reply.tokens) < len(full.tokens)


def test_pieces_of_a_stream_add_up_to_the_text(writer: Writer) -> None:
    collected: dict[int, list[str]] = {i: [] for i in range(6)}
    rows = [
        writer.generation(
            p, pieces=True, max_tokens=30, temperature=1.0, seed=i,
            emit=lambda text, i=i: collected[i].append(text) if text else None,
        )
        for i, p in enumerate(prompts(6))
    ]  # fmt: skip
    for i, reply in enumerate(writer.write(*rows)):
        assert "".join(collected[i]) == reply.text == writer.checkpoint.decode(reply.tokens)


def test_constrained_rows_obey_while_their_neighbours_are_free(writer: Writer) -> None:
    free = writer.generation("Hello")
    held = writer.generation("Hello", ignore_eos=False, max_tokens=60)
    held.matcher = writer.checkpoint.grammars.matcher(Constraint("choice", ["yes", "no"]))
    writer.write(free, held)
    assert held.text in ("yes", "no") and held.finish_reason == "stop"
    assert free.tokens == alone(writer.checkpoint, free.prompt, 12)


def test_logprobs_are_those_of_the_model(writer: Writer) -> None:
    reply = writer.write(writer.generation("Hello", max_tokens=3, logprobs=4))[0]
    with torch.inference_mode():
        logits = writer.checkpoint.model(input_ids=torch.tensor([reply.prompt])).logits[0, -1]
    expected = torch.log_softmax(logits, -1)
    first = reply.logprobs[0]
    assert len(reply.logprobs) == 3 and first.token_id == reply.tokens[0] == first.top[0][0]
    assert first.logprob == pytest.approx(float(expected.max()), abs=1e-4)
    assert [i for i, _ in first.top] == expected.topk(4).indices.tolist()


def test_penalties_and_min_tokens_change_the_choice(writer: Writer) -> None:
    plain = writer.write(writer.generation("Hello", max_tokens=60))[0]
    repeated = writer.write(
        writer.generation("Hello", max_tokens=60, frequency_penalty=2.0, presence_penalty=2.0)
    )[0]
    assert len(set(repeated.tokens)) > len(set(plain.tokens))
    unlike = writer.write(writer.generation("Hello", max_tokens=60, repetition_penalty=1.9))[0]
    assert len(set(unlike.tokens)) > len(set(plain.tokens))
    rules = {"max_tokens": 50, "ignore_eos": False, "temperature": 3.0, "seed": 3}
    long = writer.write(writer.generation("Hello", min_tokens=40, **rules))[0]
    assert len(long.tokens) >= 40
    assert 4 not in long.tokens[:40]


def test_a_cancelled_reply_stops(writer: Writer) -> None:
    started = threading.Event()
    reply = writer.generation(
        "Hello", max_tokens=400, pieces=True, emit=lambda text: started.set() if text else None
    )
    thread = threading.Thread(target=writer.write, args=(reply,))
    thread.start()
    assert started.wait(30)
    reply.cancelled = True
    thread.join(30)
    assert reply.closed and reply.finish_reason is None and len(reply.tokens) < 400


def test_a_reply_that_takes_too_long_is_given_up(writer: Writer) -> None:
    late = writer.generation("Hello")
    late.deadline = late.arrived
    writing = writer.generation("Hello", max_tokens=400, pieces=True)
    writing.emit = lambda text: setattr(writing, "deadline", writing.arrived)
    writer.write(late, writing)
    assert isinstance(late.error, TimeUp) and late.tokens == []
    assert isinstance(writing.error, TimeUp) and 0 < len(writing.tokens) < 400
    assert "max_tokens" in str(writing.error)
    assert writer.write(writer.generation("Hello"))[0].error is None


def test_a_reply_whose_time_is_up_counts_so_when_another_of_its_request_ended_first(
    checkpoint: Checkpoint,
) -> None:
    metrics = Metrics()
    engine = Engine(metrics, threads=1)
    engine.start()
    engine.add(checkpoint)
    writer = Writer(checkpoint, engine)
    late = [writer.generation("Hello") for _ in range(2)]
    for reply in late:
        reply.deadline = reply.arrived
    late[1].cancelled = True
    writer.write(*late)
    engine.stop()
    assert 'request_success_total{finished_reason="timeout"} 2' in metrics.text(0, 0, 0.0)


def test_a_full_queue_refuses_and_asks_to_retry(checkpoint: Checkpoint) -> None:
    engine = Engine(Metrics(), max_waiting=2)
    writer = Writer(checkpoint, engine)
    engine.submit(MODEL, [writer.generation("a"), writer.generation("b")])
    with pytest.raises(Busy, match="2 replies are waiting") as caught:
        engine.submit(MODEL, [writer.generation("c")])
    assert caught.value.headers["Retry-After"]
    with pytest.raises(BadValue, match="2 replies at most"):
        engine.submit(MODEL, [writer.generation("d") for _ in range(3)])


def test_the_use_of_the_cache_follows_the_replies_in_writing(writer: Writer) -> None:
    seen: list[float] = []
    reply = writer.generation(
        [7] * 100, max_tokens=4, pieces=True, emit=lambda _: seen.append(writer.engine.cache_use())
    )
    writer.write(reply)
    assert max(seen) == pytest.approx((100 + 4) / (32 * 512), abs=4 / (32 * 512))
    assert writer.engine.cache_use() == 0.0


def test_more_replies_than_rows_are_all_written(checkpoint: Checkpoint) -> None:
    engine = Engine(Metrics(), max_rows=2)
    engine.start()
    engine.add(checkpoint)
    writer = Writer(checkpoint, engine)
    replies = writer.write(*(writer.generation(p) for p in prompts(7)))
    engine.stop()
    assert all(len(reply.tokens) == 12 for reply in replies)


def test_replies_of_a_small_model_are_shared_among_threads(writer: Writer) -> None:
    batches, seen = writer.engine._batches(MODEL), set[tuple[int, ...]]()
    threads = set[int]()

    def look(text: str | None) -> None:
        seen.add(tuple(len(batch.rows) for batch in batches))
        threads.add(threading.get_ident())

    writer.write(*(writer.generation(p, max_tokens=60, pieces=True, emit=look) for p in prompts(6)))
    assert (3, 3) in seen and len(threads) == 2


def test_models_come_and_go_while_both_threads_write(writer: Writer, tmp_path: Path) -> None:
    adapter = read_adapter(make_adapter(tmp_path / "a", 1))
    alone = [writer.write(writer.generation(p, max_tokens=200))[0].tokens for p in prompts(4)]
    replies = [writer.generation(p, max_tokens=200) for p in prompts(4)]
    thread = threading.Thread(target=writer.write, args=replies)
    thread.start()
    for number in range(20):
        writer.engine.add_adapter(MODEL, f"a{number}", adapter)
        assert writer.engine.remove_adapter(MODEL, f"a{number}", only_idle=True)
    thread.join(60)
    assert [reply.tokens for reply in replies] == alone


def test_unloading_ends_replies_with_an_error(writer: Writer, tmp_path: Path) -> None:
    writer.engine.add_adapter(MODEL, "a", read_adapter(make_adapter(tmp_path / "a", 1)))
    started = threading.Event()

    def slow(adapter: str | None) -> Generation:
        return writer.generation(
            "Hello", adapter=adapter, max_tokens=450, pieces=True,
            emit=lambda text: started.set() if text else None,
        )  # fmt: skip

    gone, stays = slow("a"), slow(None)
    thread = threading.Thread(target=writer.write, args=(gone, stays))
    thread.start()
    assert started.wait(30)
    writer.engine.remove_adapter(MODEL, "a")
    thread.join(60)
    assert isinstance(gone.error, UnknownModel)
    assert stays.error is None and len(stays.tokens) == 450
    late = writer.write(writer.generation("Hello", adapter="a"))[0]
    assert isinstance(late.error, UnknownModel)
    writer.engine.remove(MODEL)
    assert isinstance(writer.write(writer.generation("Hello"))[0].error, UnknownModel)


def test_replies_that_an_unload_ends_are_counted_once_as_errors(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    metrics = Metrics()
    engine = Engine(metrics, max_rows=2, threads=1)
    engine.start()
    engine.add(checkpoint)
    engine.add_adapter(MODEL, "a", read_adapter(make_adapter(tmp_path / "a", 1)))
    writer, started = Writer(checkpoint, engine), threading.Event()
    rules = {"max_tokens": 450, "pieces": True, "emit": lambda text: started.set()}
    replies = [writer.generation("Hello", adapter, **rules) for adapter in ("a", None, "a", None)]
    thread = threading.Thread(target=writer.write, args=replies)
    thread.start()
    assert started.wait(30)
    engine.remove_adapter(MODEL, "a")
    engine.remove(MODEL)
    thread.join(60)
    late = writer.write(writer.generation("Hello"))
    engine.stop()
    assert all(isinstance(reply.error, UnknownModel) for reply in (*replies, *late))
    text = metrics.text(0, 0, 0.0)
    assert 'request_success_total{finished_reason="error"} 5' in text
    assert "e2e_request_latency_seconds_count 5" in text


def test_stopping_ends_waiting_replies(checkpoint: Checkpoint) -> None:
    engine = Engine(Metrics())
    ended: list[str | None] = []
    reply = Writer(checkpoint, engine).generation("a", emit=ended.append)
    engine.submit("nowhere", [reply])
    engine.start()
    engine.stop()
    assert ended == [None] and reply.error is not None
    with pytest.raises(Busy):
        engine.submit(MODEL, [reply])


def test_a_reply_that_fails_before_its_first_token_counts_as_none_written(
    checkpoint: Checkpoint,
) -> None:
    metrics = Metrics()
    engine = Engine(metrics, threads=1)
    engine.start()
    engine.add(checkpoint)
    writer = Writer(checkpoint, engine)
    stuck, good = writer.generation([5]), writer.generation([5, 6], max_tokens=3)
    stuck.matcher = checkpoint.grammars.matcher(Constraint("grammar", 'root ::= root "a"'))
    writer.write(stuck, good)
    engine.stop()
    text = metrics.text(0, 0, 0.0)
    assert "generation_tokens_total 3\n" in text and "prompt_tokens_total 3\n" in text
    assert "time_to_first_token_seconds_count 1\n" in text
