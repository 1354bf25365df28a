"""A memory limit: weights are loaded when asked for, and replies wait for room for their cache."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nemo_local.nim.answers import chat_body
from nemo_local.nim.checkpoint import Checkpoint, load_checkpoint
from nemo_local.nim.engine import Engine
from nemo_local.nim.errors import BadValue, Busy, NimError, TimeUp, UnknownModel
from nemo_local.nim.generation import Generation
from nemo_local.nim.lora import Unservable, read_adapter
from nemo_local.nim.metrics import Metrics
from nemo_local.nim.models import Lease, Models
from nemo_local.nim.schemas import ChatRequest
from nemo_local.nim.service import NimService
from tests.nemo_local.nim.conftest import Writer
from tests.running_nim import HELLO, eventually
from tests.tiny_checkpoint import entry, make_adapter, make_checkpoint

A, B = "acme/a", "acme/b"


class Served:
    """Two base models and adapters under one limit, and the engine that writes."""

    def __init__(self, folder: Path, limit: int | None) -> None:
        self.engine = Engine(Metrics())
        self.engine.start()
        self.models = Models(self.engine, "cpu", memory_bytes=limit)
        self.folder = folder
        for seed, model_id in enumerate((A, B)):
            path = make_checkpoint(folder / model_id, seed)
            self.models.load_base(replace(entry(model_id, path), num_parameters=PARAMETERS))

    def load_adapter(self, name: str, seed: int, base_id: str = A) -> None:
        folder = make_adapter(self.folder / name, seed, rank=64)
        self.models.load_adapter(name, base_id, folder, f"hf://{name}")

    def in_memory(self) -> set[str]:
        found = set()
        for model_id in self.models.ids():
            lease = self.models.lease(model_id)
            if lease is not None:
                self.models.release(lease)
                found.add(model_id)
        return found

    def generation(self, lease: Lease, **rules: object) -> Generation:
        writer = Writer(lease.checkpoint, self.engine)
        return writer.generation("Hello", adapter=lease.adapter, **rules)

    def ask(self, model_id: str) -> str:
        lease = self.models.load(model_id)
        generation = self.generation(lease)
        self.write(lease, generation)
        self.models.release(lease)
        assert generation.error is None
        return generation.text

    def write(self, lease: Lease, *generations: Generation) -> None:
        Writer(lease.checkpoint, self.engine).write(*generations)


PARAMETERS = 300_000
"""What the entries say, ten times the truth, so that a base outweighs the cache of a reply."""
BASE = 4 * PARAMETERS
CACHE = 256 * 256
"""Bytes of the keys and values of a reply of up to 256 tokens: 2 layers, 2 heads of 8 numbers."""


@pytest.fixture
def adapter_bytes(tmp_path: Path) -> int:
    return sum(
        4 * (a.numel() + b.numel())
        for a, b in read_adapter(make_adapter(tmp_path / "probe", 1, rank=64)).pairs.values()
    )


@pytest.fixture
def one_base(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, BASE + 2 * CACHE)
    yield served
    served.engine.stop()


def test_a_model_that_does_not_fit_is_served_and_loaded_when_asked_for(one_base: Served) -> None:
    assert one_base.models.ids() == [A, B] and one_base.in_memory() == {A}
    first, other = one_base.ask(A), one_base.ask(B)
    assert one_base.in_memory() == {B}
    assert one_base.ask(A) == first != other and one_base.in_memory() == {A}


def test_a_model_that_is_answering_is_not_unloaded(one_base: Served) -> None:
    lease = one_base.models.load(A)
    with pytest.raises(Busy, match="MB for models") as caught:
        one_base.models.load(B)
    assert caught.value.headers["Retry-After"]
    started = threading.Event()
    long = one_base.generation(
        lease, max_tokens=450, pieces=True, emit=lambda text: started.set() if text else None
    )
    thread = threading.Thread(target=one_base.write, args=(lease, long))
    thread.start()
    assert started.wait(30)
    one_base.models.release(lease)  # queued: now only the reply itself keeps the model
    with pytest.raises(Busy):
        one_base.models.load(B)
    thread.join(60)
    assert long.error is None and len(long.tokens) == 450
    assert one_base.ask(B)


def test_the_adapter_not_used_for_longest_goes_first(tmp_path: Path, adapter_bytes: int) -> None:
    served = Served(tmp_path, BASE + 2 * adapter_bytes + CACHE)
    assert adapter_bytes > CACHE
    served.load_adapter("ns/x", 1)
    served.load_adapter("ns/y", 2)
    assert served.in_memory() == {A, "ns/x", "ns/y"}
    first = served.ask("ns/x")
    served.load_adapter("ns/z", 3)
    assert served.in_memory() == {A, "ns/x", "ns/z"}
    replies = {name: served.ask(name) for name in ("ns/y", "ns/z", "ns/x")}
    assert replies["ns/x"] == first and len(set(replies.values())) == 3
    served.ask(B)
    assert served.in_memory() == {B}
    assert served.ask("ns/x") == first
    served.engine.stop()


def test_replies_begun_with_a_version_of_an_adapter_are_finished_with_it(tmp_path: Path) -> None:
    served = Served(tmp_path, None)
    served.load_adapter("ns/x", 1)
    first = served.ask("ns/x")
    begun, started = served.models.load("ns/x"), threading.Event()
    rules = {"max_tokens": 450, "pieces": True}
    long = served.generation(begun, emit=lambda text: started.set() if text else None, **rules)
    thread = threading.Thread(target=served.write, args=(begun, long))
    thread.start()
    assert started.wait(30)
    second = make_adapter(tmp_path / "second", 2, rank=64)
    served.models.load_adapter("ns/x", A, second, "hf://second")
    assert served.ask("ns/x") != first
    not_yet_queued = served.generation(begun)
    served.write(begun, not_yet_queued)
    served.models.release(begun)
    thread.join(60)
    assert (long.error, len(long.tokens), not_yet_queued.text) == (None, 450, first)
    assert long.text.startswith(first)
    adapters = begun.checkpoint.adapters
    assert len(adapters.pairs_of("ns/x")) > 0
    served.models.forget_replaced()
    assert adapters.pairs_of("ns/x") == {} and served.ask("ns/x") != first
    served.engine.stop()


def test_a_version_of_an_adapter_answers_until_memory_has_room_for_the_next(
    tmp_path: Path, adapter_bytes: int
) -> None:
    served = Served(tmp_path, BASE + adapter_bytes + CACHE)
    served.load_adapter("ns/x", 1)
    first, answering = served.ask("ns/x"), served.models.load("ns/x")
    second = make_adapter(tmp_path / "second", 2, rank=64)
    with pytest.raises(Busy):
        served.models.load_adapter("ns/x", A, second, "hf://second")
    assert served.ask("ns/x") == first
    served.models.release(answering)
    served.models.load_adapter("ns/x", A, second, "hf://second")
    assert served.ask("ns/x") != first
    served.engine.stop()


def test_what_is_unloaded_for_good_cannot_be_loaded_again(one_base: Served) -> None:
    one_base.models.unload(B)  # not in memory
    with pytest.raises(UnknownModel):
        one_base.models.load(B)
    one_base.models.unload(A)
    assert one_base.models.ids() == [] and one_base.in_memory() == set()


def test_a_bug_of_ours_in_loading_a_model_is_a_500_and_logged_not_the_clients_fault(
    one_base: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: Any) -> Checkpoint:
        return None.of_ours  # type: ignore[attr-defined, no-any-return]

    monkeypatch.setattr("nemo_local.nim.models.load_checkpoint", broken)
    with pytest.raises(
        NimError, match=f"{B} cannot be loaded: AttributeError: .*of_ours"
    ) as caught:
        one_base.models.load(B)
    assert caught.value.status == 500
    (logged,) = [record for record in caplog.records if B in record.getMessage()]
    assert logged.exc_info is not None


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_cut_off_is_told_to_whoever_asks_and_not_logged_as_a_crash(
    one_base: Served, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = one_base.folder / B / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadValue, match=f"{B} cannot be loaded: .+"):
        one_base.models.load(B)
    assert not [record for record in caplog.records if record.exc_info]


def test_what_exceeds_the_limit_alone_is_refused_with_the_setting(
    tmp_path: Path, adapter_bytes: int
) -> None:
    models = Models(Engine(Metrics()), "cpu", memory_bytes=BASE - 1)
    with pytest.raises(Unservable, match="NEMO_LOCAL_NIM_MEMORY"):
        path = make_checkpoint(tmp_path / "a")
        models.load_base(replace(entry(A, path), num_parameters=PARAMETERS))
    served = Served(tmp_path, BASE + adapter_bytes - 1)
    with pytest.raises(Unservable, match="NEMO_LOCAL_NIM_MEMORY"):
        served.load_adapter("ns/x", 1)
    assert "ns/x" not in served.models.ids()
    served.engine.stop()


def test_replies_wait_until_their_cache_fits(one_base: Served) -> None:
    lease = one_base.models.load(A)
    assert lease.checkpoint.token_bytes * 256 == CACHE
    batch = one_base.engine._batches(A)[0]
    most, together = [0], [0]

    def watch(text: str | None) -> None:
        cache = batch._sequences._cache  # type: ignore[attr-defined]
        most[0] = max(most[0], cache.kv.nbytes)
        together[0] = max(together[0], one_base.engine.load()[0])

    rules = {"max_tokens": 100, "pieces": True, "emit": watch}
    six = [one_base.generation(lease, **rules) for _ in range(6)]
    one_base.write(lease, *six)
    assert [one.error for one in six] == [None] * 6
    assert len({one.text for one in six}) == 1 and len(six[0].tokens) == 100
    assert together == [2] and most == [2 * CACHE]
    # One that needs all of the memory waits for the others, and those behind it do not overtake it.
    lengths, begun = (60, 450, 61, 62), []

    def long(tokens: int) -> Generation:
        rules = {"max_tokens": tokens, "pieces": True}
        return one_base.generation(lease, emit=lambda _: begun.append(tokens), **rules)

    mixed = [long(tokens) for tokens in lengths]
    one_base.write(lease, *mixed)
    assert tuple(dict.fromkeys(begun)) == lengths
    assert tuple(len(one.tokens) for one in mixed) == lengths


def test_a_reply_that_memory_cannot_hold_is_refused_or_cut(one_base: Served) -> None:
    lease = one_base.models.load(A)
    assert one_base.models.longest(lease) == 512
    one_base.models.make_cache_room(lease, 512)
    with pytest.raises(BadValue, match="513 tokens do not fit .* 512 do. Lower max_tokens"):
        one_base.models.make_cache_room(lease, 513)
    one_base.models.release(lease)


def test_idle_weights_make_room_for_a_long_reply(tmp_path: Path) -> None:
    served = Served(tmp_path, 2 * BASE + CACHE)
    assert served.in_memory() == {A, B}
    lease = served.models.load(A)
    served.models.make_cache_room(lease, 200)
    assert served.in_memory() == {A, B}
    served.models.make_cache_room(lease, 300)
    assert served.in_memory() == {A}
    served.models.release(lease)
    # Without that room a reply is refused, and the queue goes on.
    served.models.release(served.models.load(B))
    lease = served.models.load(A)
    long, short = (served.generation(lease, max_tokens=tokens) for tokens in (300, 20))
    served.write(lease, long)
    served.write(lease, short)
    assert isinstance(long.error, Busy) and long.error.headers["Retry-After"]
    assert short.error is None and len(short.tokens) == 20
    served.engine.stop()


def test_the_cache_of_past_replies_goes_before_a_model_does(tmp_path: Path) -> None:
    served = Served(tmp_path, 2 * BASE + 2 * CACHE)
    text = served.ask(A)
    assert served.engine.cache_bytes == CACHE
    long = served.models.load(B)
    served.models.make_cache_room(long, 512)
    reply = served.generation(long, max_tokens=450)
    served.write(long, reply)
    assert reply.error is None and served.engine.cache_bytes == 2 * CACHE  # of B alone
    assert served.ask(A) == text and served.in_memory() == {A, B}
    served.engine.stop()


def test_beginnings_that_prompts_share_are_kept_only_where_there_is_room(tmp_path: Path) -> None:
    counted, texts = [], []
    for more in (0, CACHE):
        served = Served(tmp_path / str(more), BASE + CACHE + more)
        lease = served.models.load(A)
        for number in range(3):
            prompt = [*range(20, 120), number + 5]
            reply = Writer(lease.checkpoint, served.engine).generation(prompt)
            served.write(lease, reply)
            assert reply.error is None
            texts.append(reply.text)
        served.engine.stop()
        counted.append(served.engine.cache_bytes)
    assert counted[0] == CACHE < counted[1] <= 2 * CACHE and texts[:3] == texts[3:]


def chat(served: Served, model_id: str, limit_s: float) -> str:
    """The reply to a chat that may take so long."""

    async def ask() -> str:
        service = NimService(served.models, served.engine, Metrics(), limit_s)
        request = ChatRequest(model=model_id, messages=HELLO, max_tokens=3, temperature=0)
        body = await chat_body(await service.begin_chat(request))
        return str(body["choices"][0]["message"]["content"])

    return asyncio.run(ask())


@pytest.fixture
def slow_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Loading a checkpoint sets the first event and waits for the second."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(*given: Any) -> Checkpoint:
        begun.set()
        go_on.wait(60)
        return load_checkpoint(*given)

    monkeypatch.setattr("nemo_local.nim.models.load_checkpoint", slow)
    yield begun, go_on
    go_on.set()


def test_a_loading_model_keeps_those_in_memory_from_nothing(
    tmp_path: Path, slow_load: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow_load
    go_on.set()
    served = Served(tmp_path, 3 * BASE + 4 * CACHE)
    before = chat(served, A, 60)
    begun.clear()
    go_on.clear()
    path = make_checkpoint(tmp_path / "cold", 3)
    cold = replace(entry("cold", path), num_parameters=PARAMETERS)
    loading = threading.Thread(target=served.models.load_base, args=(cold,))
    loading.start()
    assert begun.wait(30)
    assert chat(served, A, 60) == before
    assert loading.is_alive()
    go_on.set()
    loading.join()
    served.engine.stop()


def test_a_request_waits_for_its_model_no_longer_than_it_may_take(
    one_base: Served, slow_load: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow_load
    go_on.set()
    one_base.ask(A)
    go_on.clear()
    with pytest.raises(TimeUp, match="to load the model took longer than a request may"):
        chat(one_base, B, 0.2)
    go_on.set()
    eventually(lambda: one_base.in_memory() == {B}, "the model is loaded, late")
    one_base.ask(A)  # nobody holds the other any more, or it could not go
