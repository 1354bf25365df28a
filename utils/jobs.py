"""Waiting: `wait_for` is the one poll loop, `wait_for_job` knows how jobs end."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from utils.errors import JobFailed, NemoError, TimedOut, Unavailable, Unreachable

T = TypeVar("T")

ACTIVE = frozenset({"created", "pending", "running", "cancelling"})
UNDER_WAY = ACTIVE - {"cancelling"}
"""Statuses of a job that may still succeed."""
SUCCEEDED = frozenset({"completed", "ready"})
RECIPE = "recipe"
"""Custom field of a job under which the same work is found again: its `fingerprint`."""
NO_ANSWER = "no answer, trying again"
"""The status that Progress shows while the platform does not answer."""
LAST_LINES = 8
"""Lines of a failed job's log that its error shows."""


@dataclass(frozen=True)
class Progress:
    """A snapshot of something that takes time."""

    what: str
    """What we wait for, as a reader would say it."""
    status: str
    """The job's status; `waiting` where there is no job; NO_ANSWER."""
    fraction: float | None
    """Share done, 0 to 1; None when unknown."""
    elapsed_s: float
    """Time since the wait began (s)."""
    value: Any
    """The job itself, or the condition's value; None without an answer."""


OnUpdate = Callable[[Progress], None]


def wait_for(
    condition: Callable[[], T],
    *,
    timeout_s: float,
    what: str,
    interval_s: float = 1.0,
    on_update: OnUpdate | None = None,
    otherwise: str = "read the platform's log",
    forgive_s: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The first truthy value of `condition`, which is called every `interval_s` seconds.

        wait_for(lambda: is_served(nim, model), timeout_s=120, what="the adapter at NIM")

    `on_update` is called after every attempt but the successful one. A platform that does not
    answer for less than `forgive_s` seconds, as during a restart, is tried again, even if a gateway
    says so for it. `otherwise` is the error's advice in case the platform is not merely slow.

    Raises:
        TimedOut: `timeout_s` seconds passed; the message says if the last look got no answer.
        Unreachable, Unavailable: the platform stayed away for longer than `forgive_s`.
    """
    start = last_answer = clock()
    while True:
        value: T | None = None
        status, error = "waiting", ""
        try:
            value = condition()
            last_answer = clock()
            if value:
                return value
        except (Unreachable, Unavailable) as gone:
            if clock() - last_answer >= forgive_s:
                raise
            status, error = NO_ANSWER, f" The last try got no answer: {str(gone).rstrip('.')}."
        elapsed = clock() - start
        if on_update is not None:
            on_update(Progress(what, status, None, elapsed, value))
        if elapsed >= timeout_s:
            raise TimedOut(
                f"Gave up waiting for {what} after {elapsed:.0f} s.{error} If it is only slow, "
                f"wait longer with timeout_s; otherwise {otherwise}."
            )
        sleep(min(interval_s, max(0.0, timeout_s - elapsed)))


def wait_for_job(
    fetch: Callable[[], T],
    *,
    what: str,
    timeout_s: float,
    interval_s: float = 2.0,
    on_update: OnUpdate | None = None,
    logs: Callable[[], str] | None = None,
    again: str = "run this cell again",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The completed job; `fetch` returns it as it is now (an SDK object or a dict).

        wait_for_job(lambda: client.customization.jobs.retrieve(job_id), what=f"job {job_id}",
                     timeout_s=3600, on_update=show.progress())

    `on_update` sees every look, the last one too. `logs` returns the job's log text; it is
    asked only when the job has failed. `again` says how to start another job.

    Raises:
        JobFailed: the job ended other than completed; with its last log lines and what to do.
        TimedOut: it still ran after `timeout_s` seconds, and goes on running; or the last look
            got no answer, as the message says.
    """
    start = clock()
    status, answered = "unknown", False
    done: float | None = None

    def at() -> str:
        return "" if done is None else f" at {done:.0%}"

    def tell(status: str, job: T | None) -> None:
        if on_update is not None:
            on_update(Progress(what, status, done, clock() - start, job))

    def ended() -> T | None:
        nonlocal status, answered, done
        try:
            job = fetch()
        except (Unreachable, Unavailable):
            answered = False
            tell(NO_ANSWER, None)
            raise
        answered = True
        status, done = status_of(job), fraction_of(job)
        tell(status, job)
        return None if status in ACTIVE else job

    try:
        job = wait_for(
            ended, timeout_s=timeout_s, what=what, interval_s=interval_s, clock=clock, sleep=sleep
        )
    except TimedOut:
        if not answered:
            raise
        raise TimedOut(
            f"Waited {clock() - start:.0f} s for {what}, which is {status}{at()} and goes on. "
            "If it is only slow, run this cell again or wait longer with timeout_s."
        ) from None
    assert job is not None
    if status not in SUCCEEDED:
        lines = "\n".join(f"  {line}" for line in _last_lines(job, logs))
        first = "" if status == "cancelled" else "correct what the log names, then "
        advice = f"To go on, {first}{again}."
        raise JobFailed(f"{what} ended as {status!r}{at()}. Its last log lines:\n{lines}\n{advice}")
    return job


def fingerprint(*parts: object) -> str:
    """Sixteen hex digits, the same for the same parts: fingerprint("ns/d", {"epochs": 2})."""
    text = json.dumps(parts, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def status_of(job: object) -> str:
    """The status of a customization or evaluation job, `unknown` when it has none."""
    return str(_field(job, "status") or "unknown")


def fraction_of(job: object) -> float | None:
    """The share of a job that is done, 0 to 1; None before the first report."""
    details = _field(job, "status_details")
    percent = _field(details, "percentage_done")  # customization
    if percent is None:
        percent = _field(details, "progress")  # evaluation
    return None if percent is None else float(percent) / 100


def _last_lines(job: object, logs: Callable[[], str] | None) -> Sequence[str]:
    """The last lines of the log, followed by the job's own status log and message."""
    text = ""
    if logs is not None:
        try:
            text = logs()
        except NemoError as error:
            text = f"(the log itself cannot be read: {error})"
    details = _field(job, "status_details")
    lines = [line for line in text.splitlines() if line.strip()]
    entries = _field(details, "status_logs") or []
    for entry in sorted(entries, key=lambda e: str(_field(e, "updated_at"))):
        parts = (_field(entry, "message"), _field(entry, "detail"))
        lines.append(": ".join(str(part) for part in parts if part))
    message = _field(details, "message")
    if message:
        lines.append(str(message))
    return lines[-LAST_LINES:] or ["(none)"]


def _field(thing: object, name: str) -> Any:
    """A field of an SDK object or of a dict; None when absent."""
    return thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)
