"""One of the threads that compute: it writes the replies of its batches, a step each in turn."""

import logging
import threading
from collections.abc import Callable

import torch

from nemo_local.nim.batch import Batch
from nemo_local.nim.errors import NimError, TimeUp
from nemo_local.nim.generation import Generation
from nemo_local.nim.metrics import Metrics

logger = logging.getLogger(__name__)

Newcomers = dict[str, list[Generation]]
"""Replies to begin, by base model."""


class Worker:
    """A thread with a batch for each of its base models."""

    def __init__(
        self,
        threads: int,
        metrics: Metrics,
        lock: threading.Lock,
        begin_turn: Callable[["Worker"], Newcomers | None],
        end_turn: Callable[[], None],
    ) -> None:
        """`threads` is how many a product is shared among.

        `begin_turn` waits until there is something to do, and gives None when there never will be;
        between it and `end_turn` nobody else touches the batches.
        """
        self.batches: dict[str, Batch] = {}
        self.wake = threading.Condition(lock)
        """Told, under the engine's `lock`, when there may be something to do."""
        self._threads = threads
        self._metrics = metrics
        self._begin_turn = begin_turn
        self._end_turn = end_turn
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nim-engine", daemon=True)

    def start(self) -> None:
        """Begin to write; the thread has settled on its share of torch's threads on return."""
        self._thread.start()
        self._started.wait()

    def join(self) -> None:
        """Wait for the end of the thread."""
        if self._thread.is_alive():
            self._thread.join()

    @property
    def busy(self) -> bool:
        """Whether replies are in writing."""
        return any(batch.rows for batch in self.batches.values())

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        # Sharp attention leaves denormal numbers, at which Intel's processors are slow.
        torch.set_flush_denormal(True)
        self._started.set()
        while (newcomers := self._begin_turn(self)) is not None:
            try:
                for base_id, batch in self.batches.items():
                    self._advance(batch, newcomers.get(base_id, []))
            except Exception:  # whatever it is, others need this thread
                logger.exception("a turn failed")
            finally:
                self._end_turn()

    def _advance(self, batch: Batch, newcomers: list[Generation]) -> None:
        """Drop, step and join; a crash ends the replies of this batch only."""
        everyone = [*batch.rows, *newcomers]
        if not everyone:
            return
        written = _tokens(everyone)
        try:
            for row in batch.drop_given_up():
                everyone.remove(row)
                written -= len(row.tokens)
                give_up(row, self._metrics)
            if batch.rows:
                batch.step()
            if newcomers:
                batch.join(newcomers)
                self._count_first_tokens(newcomers)
        except Exception as error:
            logger.exception("writing with %s failed", batch.checkpoint.id)
            failure = NimError(f"the model failed: {type(error).__name__}")
            for row in everyone:
                row.close(failure)
            batch.fail(failure)
        self._metrics.count("generation_tokens_total", _tokens(everyone) - written)
        remaining = set(batch.rows)
        for row in everyone:
            if row not in remaining:
                self._metrics.finished(row.finish_reason or "error", row.arrived)

    def _count_first_tokens(self, newcomers: list[Generation]) -> None:
        read = sum(len(row.prompt) for row in newcomers if not row.again)
        self._metrics.count("prompt_tokens_total", read)
        for row in newcomers:
            if row.tokens:
                self._metrics.observe("time_to_first_token_seconds", row.arrived)


def _tokens(rows: list[Generation]) -> int:
    return sum(len(row.tokens) for row in rows)


def give_up(row: Generation, metrics: Metrics) -> None:
    """End a reply that nobody waits for any more, or whose time is up."""
    overdue = row.overdue  # if so, cancelled when another choice of the request was given up
    if not overdue:
        row.close()
    else:
        seconds = row.deadline - row.arrived
        row.close(
            TimeUp(
                f"the reply was not finished within {seconds:.3g} s, after {len(row.tokens)} "
                "tokens; ask for fewer with max_tokens, or raise NEMO_LOCAL_REQUEST_TIMEOUT"
            )
        )
    metrics.finished("timeout" if overdue else "abort", row.arrived)
