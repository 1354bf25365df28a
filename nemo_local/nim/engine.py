"""Replies in a bounded queue, and the threads that take them from it and write them together."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from nemo_local.nim.batch import Batch, batches_of
from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.errors import BadValue, Busy, UnknownModel
from nemo_local.nim.generation import Generation
from nemo_local.nim.lora import Adapter
from nemo_local.nim.metrics import Metrics
from nemo_local.nim.worker import Newcomers, Worker, give_up

MAX_ROWS = 32
"""Replies of one base model written at the same time."""
MAX_WAITING = 256
"""Replies in the queue before a request is refused with 503."""
SIDE_BY_SIDE = 4
"""Batches of a small model, at most: the Python part of a step runs in one thread at a time."""


class Engine:
    """Writes replies: small base models in a batch for each thread, others in one on all threads.

    `submit` returns at once. A change of the models (`add`, `remove`, `add_adapter`,
    `remove_adapter`) is made while nobody computes, between two steps; rows whose model goes end
    with an error.
    """

    def __init__(
        self,
        metrics: Metrics,
        max_rows: int = MAX_ROWS,
        max_waiting: int = MAX_WAITING,
        threads: int | None = None,
    ) -> None:
        """`threads` compute; None is as many as torch uses."""
        self._metrics = metrics
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self.cache_room: Callable[[], float] = lambda: math.inf
        """Bytes that the caches of all batches may take, asked before a reply is begun."""
        self.cache_bytes = 0
        """Bytes that the replies in writing may come to take, and what is kept of past ones."""
        count = threads or torch.get_num_threads()
        self._lock = threading.Lock()
        """Guards the fields below, and the beginning of a worker's turn."""
        self._nobody_computes = threading.Condition(self._lock)
        turn = self._lock, self._begin_turn, self._end_turn
        self._together = Worker(count, metrics, *turn)
        self._side_by_side = [Worker(1, metrics, *turn) for _ in range(min(count, SIDE_BY_SIDE))]
        self._workers = [self._together, *self._side_by_side]
        self._waiting: deque[tuple[str, Generation]] = deque()
        self._one_change = threading.Lock()
        self._changing = False
        self._turns = 0
        """Workers that compute now."""
        self._stopping = False

    def start(self) -> None:
        """Begin to write.

        From here on only one worker computes with several threads: each thread that does so keeps
        others at hand, and when there are more of them than processors, OpenMP stops spinning.
        """
        for worker in self._workers:
            worker.start()
        torch.set_num_threads(1)  # for this thread and those that begin later

    def stop(self) -> None:
        """End every reply with an error and wait for the workers."""
        with self._lock:
            self._stopping = True
            self._wake_all()
        error = Busy("the server is stopping")
        for worker in self._workers:
            worker.join()
            for batch in worker.batches.values():
                batch.fail(error)
        for _, row in self._waiting:
            row.close(error)

    def check_room(self, replies: int) -> None:
        """Raise BadValue for more replies than the queue could ever hold."""
        if replies > self._max_waiting:
            raise BadValue(
                f"one request may ask for {self._max_waiting} replies at most, not {replies}", "n"
            )

    def submit(self, base_id: str, generations: list[Generation]) -> None:
        """Queue replies.

        Raises:
            Busy: the queue cannot hold them now, or the engine is stopping; none was queued.
            BadValue: the queue could never hold them.
        """
        self.check_room(len(generations))
        with self._lock:
            if self._stopping:
                raise Busy("the server is stopping")
            if len(self._waiting) + len(generations) > self._max_waiting:
                raise Busy(
                    f"{len(self._waiting)} replies are waiting and the queue holds "
                    f"{self._max_waiting}; try again"
                )
            self._waiting.extend((base_id, one) for one in generations)
            serving = [worker for worker in self._workers if base_id in worker.batches]
            for worker in serving or [self._together]:  # who says that a model is gone
                worker.wake.notify()

    def load(self) -> tuple[int, int]:
        """Replies in writing, and replies waiting."""
        with self._lock:
            return sum(len(batch.rows) for batch in self._batches()), len(self._waiting)

    def cache_use(self) -> float:
        """Cached tokens as a share of what full batches of full contexts would hold."""
        checkpoints = {batch.checkpoint.id: batch.checkpoint for batch in self._batches()}
        most = sum(self._max_rows * checkpoint.context for checkpoint in checkpoints.values())
        return sum(batch.tokens for batch in self._batches()) / most if most else 0.0

    def add(self, checkpoint: Checkpoint) -> None:
        """Serve a base model."""
        limited = self.cache_room() != math.inf
        batches = batches_of(checkpoint, len(self._side_by_side), limited)
        workers = [self._together] if len(batches) == 1 else self._side_by_side
        with self._paused():
            for worker, batch in zip(workers, batches, strict=True):
                worker.batches[checkpoint.id] = batch

    def remove(self, base_id: str, only_idle: bool = False) -> bool:
        """Stop serving a base model; with `only_idle`, refuse while it has replies to write."""
        with self._paused():
            if only_idle and self._wanted(base_id):
                return False
            for worker in self._workers:
                if base_id in worker.batches:
                    gone = worker.batches.pop(base_id)
                    failed = gone.fail(UnknownModel(f"model {base_id} was unloaded"))
                    self._count_failed(failed)
            return True

    def add_adapter(self, base_id: str, name: str, adapter: Adapter) -> None:
        """Serve an adapter beside its base model. Raises Unservable when it does not fit."""
        with self._paused():
            adapters = self._batches(base_id)[0].checkpoint.adapters
            adapters.check(adapter)
            adapters.add(name, adapter)

    def remove_adapter(self, base_id: str, name: str, only_idle: bool = False) -> bool:
        """Stop serving an adapter; with `only_idle`, refuse while it has replies to write."""
        with self._paused():
            if only_idle and self._wanted(base_id, name):
                return False
            batches = self._batches(base_id)
            for batch in batches:
                error = UnknownModel(f"adapter {name} was unloaded")
                self._count_failed(batch.fail(error, adapter=name))
            batches[0].checkpoint.adapters.remove(name)
            return True

    def forget_caches(self) -> None:
        """Give back the memory of past replies."""
        with self._paused():
            self._forget()
            self.cache_bytes = self._caches({})

    def _batches(self, base_id: str | None = None) -> list[Batch]:
        """The batches of a base model; without its id all there are."""
        return [
            batch
            for worker in self._workers
            for id_, batch in list(worker.batches.items())
            if base_id in (None, id_)
        ]

    def _wanted(self, base_id: str, adapter: str | None = None) -> bool:
        """Whether replies of this model, or of this adapter, are in writing or waiting."""
        with self._lock:
            waiting = [row for id_, row in self._waiting if id_ == base_id]
        rows = [*waiting, *(row for batch in self._batches(base_id) for row in batch.rows)]
        return any(adapter is None or row.adapter == adapter for row in rows)

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """No worker computes within, and no other change is made. Raises Busy once stopping."""
        with self._one_change:
            with self._lock:
                if self._stopping:
                    raise Busy("the server is stopping")
                self._changing = True
                self._nobody_computes.wait_for(lambda: not self._turns)
            try:
                yield
            finally:
                with self._lock:
                    self._changing = False
                    self._wake_all()

    def _begin_turn(self, worker: Worker) -> Newcomers | None:
        """What a worker has to begin, once it has something to do; None when the engine stops."""
        with self._lock:
            while not self._stopping:
                newcomers = {} if self._changing else self._admit(worker)
                if not self._changing and (worker.busy or any(newcomers.values())):
                    self._turns += 1
                    if self.cache_room() != math.inf:  # for whoever loads a model meanwhile
                        self.cache_bytes = self._caches(newcomers)
                    return newcomers
                worker.wake.wait()
        return None

    def _wake_all(self) -> None:
        for worker in self._workers:
            worker.wake.notify()

    def _end_turn(self) -> None:
        try:
            self._count_caches()
        finally:
            with self._lock:
                self._turns -= 1
                if not self._turns:
                    self._nobody_computes.notify_all()

    def _admit(self, worker: Worker) -> Newcomers:
        """Take from the queue what a worker has room for, in order of arrival."""
        room = {base_id: self._share(base_id, batch) for base_id, batch in worker.batches.items()}
        admitted: Newcomers = {base_id: [] for base_id in room}
        served = {batch.checkpoint.id: batch.checkpoint.adapters for batch in self._batches()}
        left: deque[tuple[str, Generation]] = deque()
        limit, full = self.cache_room(), False
        for base_id, row in self._waiting:
            if row.cancelled or row.overdue:
                give_up(row, self._metrics)
            elif base_id not in served or not (
                row.adapter is None or row.adapter in served[base_id]
            ):
                row.close(UnknownModel(f"model {row.adapter or base_id} was unloaded"))
                self._count_failed([row])
            elif full or len(admitted.get(base_id, [])) >= room.get(base_id, 0):
                left.append((base_id, row))
            elif self._fits({**admitted, base_id: [*admitted[base_id], row]}, limit):
                admitted[base_id].append(row)
            elif worker.busy or any(admitted.values()):
                left.append((base_id, row))
                full = True  # nobody overtakes it, or a long reply would wait for ever
            else:
                row.close(Busy("the memory that this reply needs is taken; try again"))
                self._count_failed([row])
        self._waiting = left
        return admitted

    def _count_failed(self, rows: list[Generation]) -> None:
        for row in rows:
            self._metrics.finished("error", row.arrived)

    def _share(self, base_id: str, batch: Batch) -> int:
        """How many replies a batch may begin, so that those of a model have about as many each."""
        batches = self._batches(base_id)
        waiting = sum(id_ == base_id for id_, _ in self._waiting)
        wanted = waiting + sum(len(one.rows) for one in batches)
        return math.ceil(min(self._max_rows, wanted) / len(batches)) - len(batch.rows)

    # Where memory is limited, one worker has all models; so what follows touches no batch in which
    # another computes.

    def _fits(self, admitted: Newcomers, limit: float) -> bool:
        """Whether the caches stay within the limit, if need be without those of past replies."""
        if limit == math.inf or self._caches(admitted) <= limit:
            return True
        self._forget()
        return self._caches(admitted) <= limit

    def _caches(self, admitted: Newcomers) -> int:
        """Bytes that the caches may come to take with these replies."""
        return sum(
            batch.cache_bytes(admitted.get(batch.checkpoint.id, [])) for batch in self._batches()
        )

    def _forget(self) -> None:
        for batch in self._batches():
            batch.forget()

    def _count_caches(self) -> None:
        limit = self.cache_room()
        if limit != math.inf:
            self._fits({}, limit)  # what is kept of prompts has grown
            self.cache_bytes = self._caches({})
