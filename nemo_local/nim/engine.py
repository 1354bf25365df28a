"""The one thread that computes: it takes replies from a bounded queue and writes them together."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import torch

from nemo_local.nim.batch import Batch
from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.errors import BadValue, Busy, NimError, TimeUp, UnknownModel
from nemo_local.nim.generation import Generation
from nemo_local.nim.lora import Adapter
from nemo_local.nim.metrics import Metrics

logger = logging.getLogger(__name__)

MAX_ROWS = 32
"""Replies of one base model written at the same time."""
MAX_WAITING = 256
"""Replies in the queue before a request is refused with 503."""


_Change = tuple[Callable[[], bool], Future[bool]]


class Engine:
    """Writes replies: a batch per base model, a step each in turn.

    `submit` returns at once. A change of the models (`add`, `remove`, `add_adapter`,
    `remove_adapter`) is made between two steps; rows whose model goes end with an error.
    """

    def __init__(
        self, metrics: Metrics, max_rows: int = MAX_ROWS, max_waiting: int = MAX_WAITING
    ) -> None:
        self._metrics = metrics
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self.cache_room: Callable[[], float] = lambda: math.inf
        """Bytes that the caches of all batches may take, asked before a reply is begun."""
        self.cache_bytes = 0
        """Bytes that the replies in writing may come to take, and what is kept of past ones."""
        self._batches: dict[str, Batch] = {}
        self._waiting: deque[tuple[str, Generation]] = deque()
        self._changes: deque[_Change] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._threads = 1
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nim-engine", daemon=True)

    def start(self) -> None:
        """Begin to write.

        From here on only the engine's thread computes with several: each thread that does so keeps
        others at hand, and when there are more of them than processors OpenMP stops to spin.
        """
        self._threads = torch.get_num_threads()
        self._thread.start()
        self._started.wait()
        torch.set_num_threads(1)  # of this thread, and of those that begin later

    def stop(self) -> None:
        """End every reply with an error and wait for the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, base_id: str, generations: list[Generation]) -> None:
        """Queue replies.

        Raises:
            Busy: the queue cannot hold them now, or the engine is stopping; none was queued.
            BadValue: the queue could never hold them.
        """
        if len(generations) > self._max_waiting:
            raise BadValue(
                f"one request may ask for {self._max_waiting} replies at most, not "
                f"{len(generations)}",
                "n",
            )
        with self._wake:
            if self._stopping:
                raise Busy("the server is stopping")
            if len(self._waiting) + len(generations) > self._max_waiting:
                raise Busy(
                    f"{len(self._waiting)} replies are waiting and the queue holds "
                    f"{self._max_waiting}; try again"
                )
            self._waiting.extend((base_id, one) for one in generations)
            self._wake.notify()

    def load(self) -> tuple[int, int]:
        """Replies in writing, and replies waiting."""
        with self._wake:
            return sum(len(batch.rows) for batch in self._batches.values()), len(self._waiting)

    def cache_use(self) -> float:
        """Cached tokens as a share of what full batches of full contexts would hold."""
        batches = list(self._batches.values())
        most = sum(self._max_rows * batch.checkpoint.context for batch in batches)
        return sum(batch.tokens for batch in batches) / most if most else 0.0

    def add(self, checkpoint: Checkpoint) -> None:
        """Serve a base model."""

        def change() -> bool:
            self._batches[checkpoint.id] = Batch(checkpoint)
            return True

        self._change(change)

    def remove(self, base_id: str, only_idle: bool = False) -> bool:
        """Stop to serve a base model, or with `only_idle` refuse while it has replies to write."""

        def change() -> bool:
            if only_idle and self._wanted(base_id):
                return False
            self._batches.pop(base_id).fail(UnknownModel(f"model {base_id} was unloaded"))
            return True

        return self._change(change)

    def add_adapter(self, base_id: str, name: str, adapter: Adapter) -> None:
        """Serve an adapter beside its base model. Raises Unservable when it does not fit."""

        def change() -> bool:
            adapters = self._batches[base_id].checkpoint.adapters
            adapters.check(adapter)
            adapters.add(name, adapter)
            return True

        self._change(change)

    def remove_adapter(self, base_id: str, name: str, only_idle: bool = False) -> bool:
        """Stop to serve an adapter, or with `only_idle` refuse while it has replies to write."""

        def change() -> bool:
            if only_idle and self._wanted(base_id, name):
                return False
            batch = self._batches[base_id]
            batch.fail(UnknownModel(f"adapter {name} was unloaded"), adapter=name)
            batch.checkpoint.adapters.remove(name)
            return True

        return self._change(change)

    def forget_caches(self) -> None:
        """Give back the memory of past replies."""

        def change() -> bool:
            self._forget()
            self.cache_bytes = self._caches({})
            return True

        self._change(change)

    def _wanted(self, base_id: str, adapter: str | None = None) -> bool:
        """Whether replies of this model, or of this adapter, are in writing or waiting."""
        with self._wake:
            waiting = [row for id_, row in self._waiting if id_ == base_id]
        rows = [*waiting, *self._batches[base_id].rows]
        return any(adapter is None or row.adapter == adapter for row in rows)

    def _change(self, change: Callable[[], bool]) -> bool:
        done: Future[bool] = Future()
        with self._wake:
            if self._stopping:
                raise Busy("the server is stopping")
            self._changes.append((change, done))
            self._wake.notify()
        return done.result()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        self._started.set()
        while True:
            with self._wake:
                while not (self._stopping or self._changes or self._waiting or self._busy()):
                    self._wake.wait()
                changes, self._changes = self._changes, deque()
                if self._stopping:
                    break
            for change, done in changes:
                _carry_out(change, done)
            with self._wake:
                newcomers = self._admit()
            for base_id, batch in list(self._batches.items()):
                self._advance(batch, newcomers.get(base_id, []))
            self._count_caches()
        self._end(changes)

    def _busy(self) -> bool:
        return any(batch.rows for batch in self._batches.values())

    def _admit(self) -> dict[str, list[Generation]]:
        """Take from the queue what the batches have room for, in order of arrival."""
        room = {base_id: self._max_rows - len(b.rows) for base_id, b in self._batches.items()}
        admitted: dict[str, list[Generation]] = {base_id: [] for base_id in room}
        left: deque[tuple[str, Generation]] = deque()
        limit, full = self.cache_room(), False
        for base_id, row in self._waiting:
            if row.cancelled or row.overdue:
                self._give_up(row)
            elif base_id not in room or not self._has_adapter(base_id, row.adapter):
                row.close(UnknownModel(f"model {row.adapter or base_id} was unloaded"))
            elif full or len(admitted[base_id]) >= room[base_id]:
                left.append((base_id, row))
            elif self._fits({**admitted, base_id: [*admitted[base_id], row]}, limit):
                admitted[base_id].append(row)
            elif self._busy() or any(admitted.values()):
                left.append((base_id, row))
                full = True  # nobody overtakes it, or a long reply would wait for ever
            else:
                row.close(Busy("the memory that this reply needs is taken; try again"))
        self._waiting = left
        return admitted

    def _fits(self, admitted: dict[str, list[Generation]], limit: float) -> bool:
        """Whether the caches stay within the limit, if need be without those of past replies."""
        if limit == math.inf or self._caches(admitted) <= limit:
            return True
        self._forget()
        return self._caches(admitted) <= limit

    def _caches(self, admitted: dict[str, list[Generation]]) -> int:
        """Bytes that the caches may come to take with these replies."""
        return sum(
            batch.kept_bytes + batch.cache_bytes(admitted.get(base_id, []))
            for base_id, batch in self._batches.items()
        )

    def _forget(self) -> None:
        for batch in self._batches.values():
            batch.forget()

    def _count_caches(self) -> None:
        limit = self.cache_room()
        if limit != math.inf:
            self._fits({}, limit)  # what is kept of prompts has grown
            self.cache_bytes = self._caches({})

    def _has_adapter(self, base_id: str, adapter: str | None) -> bool:
        return adapter is None or adapter in self._batches[base_id].checkpoint.adapters

    def _advance(self, batch: Batch, newcomers: list[Generation]) -> None:
        """Drop, step and join; a crash ends the replies of this batch only."""
        for row in batch.drop_given_up():
            self._give_up(row)
        everyone = [*batch.rows, *newcomers]
        if not everyone:
            return
        try:
            if batch.rows:
                batch.step()
            if newcomers:
                batch.join(newcomers)
                self._count_first_tokens(newcomers)
        except Exception as error:
            logger.exception("writing with %s failed", batch.checkpoint.id)
            batch.clear()
            for row in everyone:
                row.close(NimError(f"the model failed: {type(error).__name__}"))
        self._metrics.count("generation_tokens_total", len(everyone))
        remaining = set(batch.rows)
        for row in everyone:
            if row not in remaining:
                self._metrics.finished(row.finish_reason or "error", row.arrived)

    def _count_first_tokens(self, newcomers: list[Generation]) -> None:
        self._metrics.count("prompt_tokens_total", sum(len(row.prompt) for row in newcomers))
        for row in newcomers:
            self._metrics.observe("time_to_first_token_seconds", row.arrived)

    def _give_up(self, row: Generation) -> None:
        if row.cancelled:
            row.close()
        else:
            seconds = row.deadline - row.arrived
            row.close(
                TimeUp(
                    f"the reply was not finished within {seconds:.3g} s, after {len(row.tokens)} "
                    "tokens; ask for fewer with max_tokens, or raise NEMO_LOCAL_REQUEST_TIMEOUT"
                )
            )
        self._metrics.finished("abort" if row.cancelled else "timeout", row.arrived)

    def _end(self, changes: deque[_Change]) -> None:
        error = Busy("the server is stopping")
        for _, done in changes:
            done.set_exception(error)
        for _, row in self._waiting:
            row.close(error)
        for batch in self._batches.values():
            batch.fail(error)


def _carry_out(change: Callable[[], bool], done: Future[bool]) -> None:
    try:
        result = change()
    except Exception as error:
        done.set_exception(error)
    else:
        done.set_result(result)
