"""A tiny checkpoint, loaded once, an engine to write with it, and a server for each module."""

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from openai import OpenAI

from nemo_local.core.client import Client
from nemo_local.nim.checkpoint import Checkpoint, load_checkpoint
from nemo_local.nim.engine import Engine
from nemo_local.nim.generation import Generation, Sampling, TextStream
from nemo_local.nim.metrics import Metrics
from nemo_local.settings import Settings
from tests.conftest import free_port
from tests.running_nim import make_models_dir, running_nim
from tests.tiny_checkpoint import entry, make_checkpoint

MODEL = "meta/tiny"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def checkpoint(tiny_folder: Path) -> Checkpoint:
    return load_checkpoint(entry(MODEL, tiny_folder), "cpu")


@pytest.fixture
def engine(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = Engine(Metrics(), threads=2)
    engine.start()
    engine.add(checkpoint)
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("nim")
    return Settings.from_environment(
        {},
        home=folder / "home",
        port=free_port(),
        nim_port=free_port(),
        models_dir=make_models_dir(folder / "models"),
        threads=1,
    )


@pytest.fixture(scope="module")
def nim(settings: Settings) -> Iterator[Client]:
    with running_nim(settings) as client:
        yield client


@pytest.fixture(scope="module")
def openai(settings: Settings, nim: Client) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{settings.nim_url}/v1", api_key="None", max_retries=0) as client:
        yield client


class Writer:
    """Asks the engine for replies and waits for them."""

    def __init__(self, checkpoint: Checkpoint, engine: Engine) -> None:
        self.checkpoint = checkpoint
        self.engine = engine

    def generation(
        self,
        prompt: str | list[int],
        adapter: str | None = None,
        emit: Callable[[str | None], None] = lambda text: None,
        pieces: bool = False,
        **rules: object,
    ) -> Generation:
        rules = {"max_tokens": 12, "temperature": 0.0, "ignore_eos": True, **rules}
        sampling = Sampling(**rules)  # type: ignore[arg-type]
        ids = self.checkpoint.encode(prompt, False) if isinstance(prompt, str) else prompt
        stream = TextStream(self.checkpoint.decode, sampling.stop)
        vocabulary = self.checkpoint.vocabulary
        return Generation(ids, sampling, vocabulary, adapter, stream, emit, pieces=pieces)

    def write(self, *generations: Generation) -> list[Generation]:
        """Submit all at once and wait until each is closed."""
        ended: SimpleQueue[None] = SimpleQueue()
        for generation in generations:
            before = generation.emit

            def emit(text: str | None, before: Callable = before) -> None:
                before(text)
                if text is None:
                    ended.put(None)

            generation.emit = emit
        self.engine.submit(self.checkpoint.id, list(generations))
        for _ in generations:
            ended.get(timeout=30)
        return list(generations)


@pytest.fixture
def writer(checkpoint: Checkpoint, engine: Engine) -> Writer:
    return Writer(checkpoint, engine)
