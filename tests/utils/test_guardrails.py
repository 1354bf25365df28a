"""A verdict fails closed, and a score card needs both of its rates."""

import threading

import pytest

from tests.utils.scripted_platform import Scripted
from utils import guardrails
from utils.errors import GuardFailed
from utils.guardrails import Verdict

CHECKS = ("POST", "/v1/guardrail/checks")


def verdict(blocked):
    return Verdict(blocked=blocked, rails=(), reasons=())


@pytest.mark.parametrize(
    ("status", "blocked"), [("success", False), ("blocked", True), ("unknown", True)]
)
def test_only_a_clear_pass_lets_a_message_through(status, blocked):
    scripted = Scripted({CHECKS: {"status": status, "rails_status": {"r": {"status": status}}}})
    found = guardrails.check(scripted.client(), config_id="ns/c", model="m", text="hi")
    assert (found.blocked, found.rails) == (blocked, ("r",))


def test_reasons_are_the_categories_of_the_guard_model():
    action = {
        "action_name": "content_safety_check_input",
        "return_value": {"allowed": False, "policy_violations": ["Threat ", "Violence", "Threat"]},
    }
    log = {"activated_rails": [{"name": "r", "executed_actions": [action]}]}
    reply = {"status": "blocked", "rails_status": {}, "guardrails_data": {"log": log}}
    found = guardrails.check(
        Scripted({CHECKS: reply}).client(), config_id="ns/c", model="m", text="hi"
    )
    assert found.reasons == ("Threat", "Violence")


@pytest.mark.parametrize(
    ("outcome", "message", "failure"),
    [
        ({"policy_violations": ["Threat"]}, "blocked: Threat", None),
        (False, None, None),
        ({"policy_violations": ["JSON parsing failed"]}, "no verdict (…)", "no verdict (…)"),
        ({"policy_violations": ["JSON parsing failed"]}, None, "the guard gave no verdict"),
        (None, "the rail could not judge", "the rail could not judge"),
    ],
)
def test_a_block_without_a_verdict_is_no_catch(outcome, message, failure):
    log = {"activated_rails": [{"name": "r", "executed_actions": [{"return_value": outcome}]}]}
    status = {"status": "blocked", **({"message": message} if message else {})}
    reply = {"status": "blocked", "rails_status": {"r": status}, "guardrails_data": {"log": log}}
    found = guardrails.check(
        Scripted({CHECKS: reply}).client(), config_id="ns/c", model="m", text="hi"
    )
    assert found.blocked and found.failure == failure
    assert "JSON parsing failed" not in found.reasons


def test_prompts_that_nobody_judged_count_in_neither_rate():
    down = Verdict(blocked=True, rails=(), reasons=(), failure="the rail could not judge")
    card = guardrails.score(["unsafe", "unsafe", "safe"], [verdict(False), down, verdict(False)])
    assert card.as_dict() == {
        "catch_rate": 0.0,
        "benign_pass_rate": 1.0,
        "n_unsafe": 1,
        "n_benign": 1,
    }
    assert card.n == 2
    assert guardrails.wrong_by_category(["a"], ["safe"], [down]) == {}


@pytest.mark.parametrize(
    ("judged", "asked"),
    [
        pytest.param({}, {"unsafe": 1, "safe": 1}, id="none"),
        pytest.param({"unsafe": 3}, {"unsafe": 134, "safe": 136}, id="the first few"),
        pytest.param({"unsafe": 9}, {"unsafe": 9, "safe": 1}, id="none of one kind"),
        pytest.param({"unsafe": 94, "safe": 100}, {"unsafe": 100, "safe": 105}, id="many missing"),
    ],
)
def test_a_guard_that_died_while_it_was_scored_has_no_score_card(judged, asked):
    down = Verdict(blocked=True, rails=(), reasons=(), failure="the rail could not judge")
    labels = [label for label, n in asked.items() for _ in range(n)]
    verdicts = [
        verdict(False) if i < judged.get(label, 0) else down
        for label, n in asked.items()
        for i in range(n)
    ]
    told = f"only {sum(judged.values())} of {len(labels)} prompts: the rail could not judge"
    with pytest.raises(GuardFailed, match=told):
        guardrails.score(labels, verdicts)


def test_a_few_prompts_without_a_verdict_do_not_end_the_notebook():
    down = Verdict(blocked=True, rails=(), reasons=(), failure="the rail could not judge")
    labels = ["unsafe"] * 50 + ["safe"] * 50
    assert guardrails.score(labels, [down] * 5 + [verdict(False)] * 95).n == 95


def test_verdicts_come_in_the_order_of_the_texts():
    def answer(body):
        text = body["messages"][0]["content"]
        return {"status": "blocked" if "bad" in text else "success", "rails_status": {}}

    looks = []
    found = guardrails.check_all(
        Scripted({CHECKS: answer}).client(),
        config_id="ns/c",
        model="m",
        texts=["ok", "bad", "fine", "bad too"],
        on_update=looks.append,
    )
    assert [v.blocked for v in found] == [False, True, False, True]
    assert (looks[-1].status, looks[-1].fraction) == ("completed", 1.0)


@pytest.mark.parametrize("status", [429, 503])
def test_a_request_that_was_refused_for_the_moment_costs_its_own_verdict_and_no_other(status):
    def answer(body):
        busy = body["messages"][0]["content"] == "late"
        return (status, {"detail": "too many"}) if busy else {"status": "success"}

    client = Scripted({CHECKS: answer}).client()
    texts = ["one", "late", "two"]
    found = guardrails.check_all(client, config_id="ns/c", model="m", texts=texts)
    assert [verdict.blocked for verdict in found] == [False, True, False]
    assert f"was answered {status}: too many" in (found[1].failure or "")
    assert guardrails.score(["safe", "safe", "safe"], found).passed.n == 2


def test_an_existing_configuration_is_replaced():
    path = "/v1/guardrail/configs"
    scripted = Scripted(
        {
            ("POST", path): (409, {"detail": "config 'c' already exists."}),
            ("PATCH", f"{path}/ns/c"): lambda body: {"name": "c", "namespace": "ns", **body},
        }
    )
    saved = guardrails.ensure_guardrail_config(scripted.client(), "ns", "c", {"models": []})
    assert saved.name == "c"
    assert scripted.requests[-1] == ("PATCH", f"{path}/ns/c", {"data": {"models": []}})


def test_both_rates_are_counted_on_their_own_prompts():
    labels = ["unsafe", "unsafe", "safe", "safe", "safe"]
    verdicts = [verdict(b) for b in (True, False, False, False, True)]
    assert guardrails.score(labels, verdicts).as_dict() == {
        "catch_rate": 0.5,
        "benign_pass_rate": 0.6667,
        "n_unsafe": 2,
        "n_benign": 3,
    }


def test_several_prompts_are_under_way_at_a_time():
    two, lock, under_way, most = threading.Barrier(2), threading.Lock(), 0, 0

    def answer(body):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        two.wait(20)
        with lock:
            under_way -= 1
        return {"status": "success", "rails_status": {}}

    client = Scripted({CHECKS: answer}).client()
    texts = [f"text {number}" for number in range(8)]
    found = guardrails.check_all(client, config_id="c", model="m", texts=texts, workers=2)
    assert len(found) == 8 and most == 2


def test_wrong_verdicts_are_counted_by_category_most_of_them_first():
    categories = ["one", *["one"] * 4, "two", "two", "none", "three", "three", "three"]
    labels = ["unsafe", *["safe"] * 4, "unsafe", "safe", "safe", "safe", "unsafe", "unsafe"]
    blocked = [False, *[False] * 4, False, True, False, True, False, False]
    found = guardrails.wrong_by_category(categories, labels, [verdict(b) for b in blocked])
    assert list(found.items()) == [("three", (3, 2, 1)), ("two", (2, 1, 1)), ("one", (5, 1, 0))]


def test_a_prompt_without_its_verdict_is_no_score():
    with pytest.raises(ValueError):
        guardrails.score(["unsafe", "safe"], [verdict(True)])
    with pytest.raises(ValueError):
        guardrails.wrong_by_category(["a", "b"], ["safe", "safe"], [verdict(True)])
