"""Job states and runners."""

import threading

import pytest

from nemo_local.core.jobs import FINISHED, TRANSITIONS, JobRunner, can_move


def test_a_finished_job_stays_finished():
    assert all(not can_move(state, other) for state in FINISHED for other in TRANSITIONS)


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("created", "pending", True),
        ("running", "completed", True),
        ("running", "cancelling", True),
        ("created", "completed", False),
        ("nonsense", "running", False),
    ],
)
def test_a_job_moves_only_from_a_state_to_one_that_may_follow_it(old, new, allowed):
    assert can_move(old, new) is allowed


def test_a_runner_runs_in_order_and_waits():
    runner, done = JobRunner(workers=1), []
    futures = [runner.submit(str(n), lambda _: done.append(len(done))) for n in range(3)]
    for future in futures:
        future.result(timeout=5)
    runner.shutdown()
    assert done == [0, 1, 2]


def test_a_running_job_hears_that_it_is_cancelled():
    runner, started = JobRunner(), threading.Event()
    heard = []

    def work(cancelled):
        started.set()
        heard.append(cancelled.wait(timeout=5))

    future = runner.submit("job", work)
    assert started.wait(timeout=5)
    assert runner.cancel("job")
    future.result(timeout=5)
    assert heard == [True] and not runner.cancel("job")
    runner.shutdown()


def test_shutdown_forgets_the_queue():
    runner, done = JobRunner(workers=1), []
    started = threading.Event()

    def first(cancelled):
        started.set()
        cancelled.wait(timeout=5)

    runner.submit("first", first)
    runner.submit("second", lambda _: done.append(1))
    assert started.wait(timeout=5)
    runner.shutdown()
    assert done == []


def test_a_crash_does_not_end_the_runner(caplog):
    runner = JobRunner()

    def crash(_):
        raise RuntimeError("no")

    runner.submit("bad", crash).result(timeout=5)
    assert "job bad crashed" in caplog.text
    done = []
    runner.submit("good", lambda _: done.append(1)).result(timeout=5)
    assert done == [1]
    runner.shutdown()
