"""Weights under a memory limit: loaded when asked for, the least recently used unloaded."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_local.nim.checkpoint import weight_bytes
from nemo_local.nim.engine import Engine
from nemo_local.nim.errors import BadValue, Busy, UnknownModel
from nemo_local.nim.generation import Generation
from nemo_local.nim.lora import Unservable, read_adapter
from nemo_local.nim.metrics import Metrics
from nemo_local.nim.models import Lease, Models
from tests.nemo_local.nim.conftest import Writer
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
            self.models.load_base(entry(model_id, make_checkpoint(folder / model_id, seed)))

    def load_adapter(self, name: str, seed: int, base_id: str = A) -> None:
        folder = make_adapter(self.folder / name, seed)
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

    def write(self, lease: Lease, generation: Generation) -> None:
        done = Writer(lease.checkpoint, self.engine)
        done.model_id = lease.checkpoint.id
        done.write(generation)


BASE = weight_bytes(entry(A, None))


@pytest.fixture
def adapter_bytes(tmp_path: Path) -> int:
    return sum(
        4 * (a.numel() + b.numel())
        for a, b in read_adapter(make_adapter(tmp_path / "probe", 1)).pairs.values()
    )


@pytest.fixture
def one_base(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, BASE)
    yield served
    served.engine.stop()


def test_a_model_that_does_not_fit_is_served_and_loaded_when_asked_for(one_base: Served) -> None:
    assert one_base.models.ids() == [A, B] and one_base.in_memory() == {A}
    first, other = one_base.ask(A), one_base.ask(B)
    assert one_base.in_memory() == {B}
    assert one_base.ask(A) == first != other and one_base.in_memory() == {A}


def test_a_model_that_is_answering_is_not_unloaded(one_base: Served) -> None:
    lease = one_base.models.load(A)
    with pytest.raises(Busy, match="MB for weights") as caught:
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
    served = Served(tmp_path, BASE + 2 * adapter_bytes)
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


def test_what_is_unloaded_for_good_cannot_be_loaded_again(one_base: Served) -> None:
    one_base.models.unload(B)  # not in memory
    with pytest.raises(UnknownModel):
        one_base.models.load(B)
    one_base.models.unload(A)
    assert one_base.models.ids() == [] and one_base.in_memory() == set()


def test_files_that_went_bad_are_a_400_with_the_reason(one_base: Served) -> None:
    (one_base.folder / B / "config.json").write_text("{")
    with pytest.raises(BadValue, match=f"{B} cannot be loaded"):
        one_base.models.load(B)


def test_what_exceeds_the_limit_alone_is_refused_with_the_setting(
    tmp_path: Path, adapter_bytes: int
) -> None:
    models = Models(Engine(Metrics()), "cpu", memory_bytes=BASE - 1)
    with pytest.raises(ValueError, match="NEMO_LOCAL_NIM_MEMORY"):
        models.load_base(entry(A, make_checkpoint(tmp_path / "a")))
    served = Served(tmp_path, BASE + adapter_bytes - 1)
    with pytest.raises(Unservable, match="NEMO_LOCAL_NIM_MEMORY"):
        served.load_adapter("ns/x", 1)
    assert "ns/x" not in served.models.ids()
    served.engine.stop()
