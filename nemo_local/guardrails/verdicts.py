"""Verdicts of flows, read from the library's responses and logs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from nemo_local.guardrails.prompts import UNREADABLE
from nemo_local.guardrails.rules import Direction, flow_name

REFUSAL = "I'm sorry, I can't respond to that."


@dataclass
class Verdict:
    """One flow's decision on a conversation."""

    flow: str
    blocked: bool
    reason: str | None = None
    """Why it blocked; None when it let pass."""
    answer: dict[str, Any] = field(
        default_factory=lambda: {"role": "assistant", "content": REFUSAL}
    )
    """The message that replaces a blocked one."""
    rails: list[dict[str, Any]] = field(default_factory=list)
    """The library's log of this flow, one entry per activated rail."""
    stats: dict[str, float] = field(default_factory=dict)
    history: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    output_data: dict[str, Any] = field(default_factory=dict)


def verdict_of(response: Any, direction: Direction, flow: str, judged: bool = True) -> Verdict:
    """The verdict in the library's response to a flow; `judged` unless a reply was unreadable."""
    log = response.log
    rails = [_plain_rail(rail, judged) for rail in log.activated_rails]
    ran = [rail for rail in rails if rail["type"] == direction]
    message = dict(response.response[-1])
    blocked = not ran or any(rail["stop"] for rail in ran) or message["role"] == "exception"
    verdict = Verdict(
        flow,
        blocked,
        rails=rails,
        stats={k: v for k, v in log.stats.model_dump().items() if isinstance(v, (int, float))},
        history=log.colang_history,
        events=_plain(log.internal_events or []),
        output_data=_plain(response.output_data or {}),
    )
    if blocked:
        verdict.reason = _reason(flow, ran)
        if message["role"] == "exception" or message.get("content"):
            verdict.answer = _plain(message)
    return verdict


def _reason(flow: str, ran: list[dict[str, Any]]) -> str:
    if not ran:
        return "the rail did not run, so it blocks"
    actions = [action for rail in ran for action in rail["executed_actions"]]
    outcome = actions[0]["return_value"] if actions else None
    named = outcome.get("policy_violations") if isinstance(outcome, dict) else [UNREADABLE]
    categories = named or []
    if UNREADABLE in categories:
        asked = any(action["llm_calls"] for action in actions)
        what = "the guard model gave no verdict" if asked else "no guard model was asked"
        return f"the rail could not judge: {what}, so it blocks"
    return f"{flow_name(flow)} blocked" + (f": {', '.join(categories)}" if categories else "")


def _plain_rail(rail: Any, judged: bool) -> dict[str, Any]:
    """One activated rail as JSON, without the library's internal actions and decisions."""
    plain: dict[str, Any] = rail.model_dump(exclude={"executed_actions"})
    internal = ("retrieve_relevant_chunks", "generate_bot_message")
    plain["decisions"] = [
        d for d in plain["decisions"] if d not in [f"execute {name}" for name in internal]
    ]
    plain["executed_actions"] = []
    for action in rail.executed_actions:
        if action.action_name in internal:
            continue
        shown = action.model_dump(exclude={"return_value"})
        shown["return_value"] = _outcome(action.return_value, judged)
        plain["executed_actions"].append(shown)
    return dict(_plain(plain))


def _outcome(value: Any, judged: bool) -> Any:
    """A rail action's outcome: `{"allowed": false, "policy_violations": ["Malware"]}`."""
    if not hasattr(value, "is_blocked"):
        return value
    violations = dict(value.metadata or {}).get("policy_violations") or []
    named = list(violations) if judged else [UNREADABLE]
    return {"allowed": not value.is_blocked, "policy_violations": named}


def _plain(value: Any) -> Any:
    """The value as JSON: objects without a JSON form become text, lone surrogates become "?"."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return json.loads(text.encode("utf-8", "replace"))
