"""What grammars cost without a web server around them, for benchmarks/serve.py."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from nemo_local.catalog import DEFAULT_MODEL, load_catalog
from nemo_local.nim.checkpoint import Checkpoint, load_checkpoint
from nemo_local.nim.engine import MAX_ROWS, Engine
from nemo_local.nim.generation import Generation, Sampling, TextStream
from nemo_local.nim.grammars.constraints import Constraint, Grammars
from nemo_local.nim.metrics import Metrics
from nemo_local.settings import Settings

PAIRS = 10

Json = dict[str, Any]


def in_engine(asked: list[Json], prompts: list[list[int]], tokens: int) -> float:
    """Share of time that known call grammars add to replies of `tokens` tokens.

    In the engine alone, on one thread: the median over pairs of rounds, free and constrained.
    """
    with tempfile.TemporaryDirectory() as home:
        catalog = load_catalog(Settings.from_environment({}, home=Path(home)))
    checkpoint = load_checkpoint(catalog.models[DEFAULT_MODEL], "cpu")
    engine = Engine(Metrics(), threads=1)
    engine.start()
    engine.add(checkpoint)
    free: list[Constraint | None] = [None] * len(asked)
    held: list[Constraint | None] = [Constraint("calls", body["tools"]) for body in asked]
    shares = []
    for number in range(PAIRS + 1):
        seconds = [_round(engine, checkpoint, prompts, forms, tokens) for forms in (free, held)]
        if number:  # in the first round grammars and prompts are new
            shares.append(seconds[1] / seconds[0] - 1)
    engine.stop()
    return statistics.median(shares)


def _round(
    engine: Engine,
    checkpoint: Checkpoint,
    prompts: list[list[int]],
    forms: list[Constraint | None],
    tokens: int,
) -> float:
    """Seconds for a reply to each prompt, as many at a time as a batch holds."""
    sampling = Sampling(max_tokens=tokens, min_tokens=tokens, temperature=0)
    room = threading.Semaphore(MAX_ROWS)
    begun = time.perf_counter()
    for prompt, form in zip(prompts, forms, strict=True):
        room.acquire()
        reply = Generation(
            prompt=prompt,
            sampling=sampling,
            vocabulary=checkpoint.vocabulary,
            adapter=None,
            stream=TextStream(checkpoint.decode, ()),
            emit=lambda piece: room.release() if piece is None else None,
            matcher=checkpoint.grammars.matcher(form) if form else None,
        )
        engine.submit(checkpoint.id, [reply])
    for _ in range(MAX_ROWS):
        room.acquire()
    return time.perf_counter() - begun


def first_uses(asked: list[Json], tokenizer: Any) -> list[float]:
    """Milliseconds to compile each prompt's tools, not seen before, to a grammar."""
    grammars = Grammars(tokenizer, len(tokenizer), [tokenizer.eos_token_id])
    took = []
    for body in asked:
        begun = time.perf_counter()
        grammars.matcher(Constraint("calls", body["tools"]))
        took.append((time.perf_counter() - begun) * 1e3)
    return took
