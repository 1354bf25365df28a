"""Waits end with the condition, with a deadline, or with the reason why a job failed."""

import pytest

from utils.errors import JobFailed, NotFound, TimedOut, Unavailable, Unreachable
from utils.jobs import Progress, fraction_of, wait_for, wait_for_job


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0
        self.naps = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds

    @property
    def hands(self):
        return {"clock": self.clock, "sleep": self.sleep}


@pytest.fixture
def time():
    return FakeTime()


def script(*steps):
    """A function that returns, or raises, one step after the other and then repeats the last."""
    queue = list(steps)

    def step():
        value = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(value, Exception):
            raise value
        return value

    return step


def job(status, percent=None, **details):
    return {"status": status, "status_details": {"percentage_done": percent, **details}}


def test_the_first_truthy_value_is_returned_without_a_nap(time):
    assert wait_for(script("ready"), timeout_s=1, what="it", **time.hands) == "ready"
    assert time.naps == []


def test_the_condition_is_asked_at_the_interval_until_it_holds(time):
    found = wait_for(script(None, [], "ok"), timeout_s=60, what="it", interval_s=5, **time.hands)
    assert (found, time.naps) == ("ok", [5, 5])


@pytest.mark.parametrize("seen", [None, []])
def test_a_deadline_raises_with_what_was_waited_for(time, seen):
    with pytest.raises(
        TimedOut, match=r"^Gave up waiting for the adapter after 10 s\. If it is only"
    ):
        wait_for(script(seen), timeout_s=10, what="the adapter", interval_s=4, **time.hands)
    assert time.naps == [4, 4, 2]


@pytest.mark.parametrize("gone", [Unreachable("Not reachable."), Unavailable("503: none", 503)])
def test_a_deadline_in_an_absence_of_the_platform_says_so(time, gone):
    last = str(gone).rstrip(".")
    with pytest.raises(TimedOut, match=rf"after 10 s\. The last try got no answer: {last}\. If it"):
        wait_for(script(gone), timeout_s=10, what="it", **time.hands)


@pytest.mark.parametrize("gone", [Unreachable("gone"), Unavailable("gone", 503)])
def test_a_short_absence_of_the_platform_is_forgiven(time, gone):
    assert wait_for(script(gone, gone, 1), timeout_s=60, what="it", **time.hands) == 1


@pytest.mark.parametrize("gone", [Unreachable("gone"), Unavailable("gone", 503)])
def test_a_long_absence_of_the_platform_is_not(time, gone):
    with pytest.raises(type(gone), match="gone"):
        wait_for(script(gone), timeout_s=600, what="it", **time.hands)
    assert time.now == 30


def test_an_answer_between_two_absences_counts(time):
    gone = [Unreachable("gone")] * 20
    assert wait_for(script(*gone, None, *gone, 1), timeout_s=600, what="it", **time.hands) == 1
    assert time.now == 41


def test_any_other_error_ends_the_wait_at_once(time):
    with pytest.raises(NotFound):
        wait_for(script(NotFound("no such job", 404)), timeout_s=60, what="it", **time.hands)
    assert time.naps == []


def test_a_job_is_returned_when_completed_and_every_look_is_reported(time):
    seen: list[Progress] = []
    done = wait_for_job(
        script(job("created"), job("running", 50.0), job("completed", 100.0)),
        what="job cust-1",
        timeout_s=60,
        on_update=seen.append,
        **time.hands,
    )
    assert done["status"] == "completed"
    assert [(p.status, p.fraction, p.elapsed_s) for p in seen] == [
        ("created", None, 0),
        ("running", 0.5, 2),
        ("completed", 1.0, 4),
    ]
    assert seen[-1].value is done


def test_progress_does_not_stand_still_while_the_platform_is_away(time):
    seen: list[Progress] = []
    gone = Unreachable("gone")
    behind_a_gateway = Unavailable("gone", 502)
    steps = script(job("running", 50.0), gone, behind_a_gateway, job("completed", 100.0))
    wait_for_job(steps, what="job", timeout_s=60, on_update=seen.append, **time.hands)
    assert [(p.status, p.fraction, p.elapsed_s) for p in seen[1:3]] == [
        ("no answer, trying again", 0.5, 2),
        ("no answer, trying again", 0.5, 4),
    ]
    seen.clear()
    wait_for(script(gone, 1), timeout_s=60, what="it", on_update=seen.append, **time.hands)
    assert [p.status for p in seen] == ["no answer, trying again"]


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("failed", "To go on, correct what the log names, then run the first cell again."),
        ("cancelled", "To go on, run the first cell again."),
        ("surprising", "To go on, correct what the log names, then run the first cell again."),
    ],
)
def test_a_job_that_ends_otherwise_raises_with_log_and_remedy(time, status, advice):
    with pytest.raises(JobFailed) as failed:
        wait_for_job(
            script(job("running", 10.0), job(status, 40.0)),
            what="job cust-1",
            timeout_s=60,
            logs=lambda: "line 1\n\nout of memory\n",
            again="run the first cell again",
            **time.hands,
        )
    message = str(failed.value)
    assert f"job cust-1 ended as {status!r} at 40%" in message
    assert "  out of memory\n" in message
    assert message.endswith(f"\n{advice}")


def test_a_job_that_is_about_to_be_cancelled_is_waited_for(time):
    steps = script(job("cancelling"), job("cancelling"), job("cancelled"))
    with pytest.raises(JobFailed, match="ended as 'cancelled'"):
        wait_for_job(steps, what="job", timeout_s=60, **time.hands)
    assert time.naps == [2, 2]


def test_without_a_log_the_job_speaks_for_itself_in_order_of_time(time):
    logs = [
        {"updated_at": "2025-06-20T04:20:24", "message": "Failed", "detail": "line 3 is broken"},
        {"updated_at": "2025-06-20T04:20:22", "message": "created"},
    ]
    with pytest.raises(JobFailed, match=r"  created\n  Failed: line 3 is broken\n"):
        wait_for_job(
            script(job("failed", status_logs=logs)), what="job", timeout_s=60, **time.hands
        )


def test_a_log_that_cannot_be_read_does_not_hide_the_failure(time):
    def logs():
        raise NotFound("no log", 404)

    with pytest.raises(JobFailed, match="cannot be read: no log"):
        wait_for_job(script(job("failed")), what="job", timeout_s=60, logs=logs, **time.hands)


def test_an_evaluation_reports_its_progress_as_well():
    assert fraction_of({"status_details": {"progress": 20.0}}) == 0.2
    assert fraction_of({"status_details": {"progress": None}}) is None
    assert fraction_of({}) is None


def test_a_job_that_outlasts_the_wait_is_told_with_where_it_stands(time):
    fetch = script(job("running", 61.0))
    with pytest.raises(TimedOut, match="for the job, which is running at 61% and goes on"):
        wait_for_job(fetch, what="the job", timeout_s=10, **time.hands)


@pytest.mark.parametrize("looks", [[], [job("running", 61.0)]], ids=["never", "at last"])
def test_a_job_that_nobody_tells_of_when_the_wait_ends_is_not_said_to_go_on(time, looks):
    fetch = script(*looks, Unavailable("503: no gateway", 503))
    with pytest.raises(TimedOut, match=r"The last try got no answer: 503: no gateway\.") as late:
        wait_for_job(fetch, what="the job", timeout_s=10, **time.hands)
    assert "goes on" not in str(late.value) and "unknown" not in str(late.value)
