"""Builds the bodies that answer guarded requests: statuses, logs, refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nemo_local.core.completions import content_text
from nemo_local.guardrails.main_model import blank_completion
from nemo_local.guardrails.requests import Options
from nemo_local.guardrails.verdicts import Verdict


@dataclass
class Outcome:
    """What the rails of a configuration decided."""

    verdicts: list[Verdict]
    seconds: float
    config_ids: list[str] | None

    @property
    def blocked(self) -> Verdict | None:
        """The first verdict that blocks."""
        return next((verdict for verdict in self.verdicts if verdict.blocked), None)


def status(verdict: Verdict) -> dict[str, Any]:
    """One entry of `rails_status`; a block says why."""
    if not verdict.blocked:
        return {"status": "success"}
    return {"status": "blocked", "message": verdict.reason}


def guardrails_data(outcome: Outcome, options: Options) -> dict[str, Any]:
    """The `guardrails_data` of an answer; after a block, its `message` is the reason."""
    verdicts, blocked = outcome.verdicts, outcome.blocked
    output = {key: value for verdict in verdicts for key, value in verdict.output_data.items()}
    data = {
        "llm_output": None,
        "config_ids": outcome.config_ids,
        "output_data": output or None,
        "log": _log(outcome, options),
    }
    return {**data, "message": blocked.reason} if blocked else data


def _log(outcome: Outcome, options: Options) -> dict[str, Any]:
    verdicts = outcome.verdicts
    rails = [rail for verdict in verdicts for rail in verdict.rails]
    calls = [call for r in rails for a in r["executed_actions"] for call in a["llm_calls"]]
    stats: dict[str, float] = {}
    for verdict in verdicts:
        for key, value in verdict.stats.items():
            stats[key] = stats.get(key, 0) + value
    stats["total_duration"] = outcome.seconds
    history = "\n".join(verdict.history or "" for verdict in verdicts)
    return {
        "activated_rails": rails if options.logs("activated_rails") else [],
        "stats": stats,
        "llm_calls": calls if options.logs("llm_calls") else None,
        "internal_events": [event for verdict in verdicts for event in verdict.events]
        if options.logs("internal_events")
        else None,
        "colang_history": history if options.logs("colang_history") else None,
    }


def refusal(outcome: Outcome, options: Options, path: str) -> dict[str, Any]:
    """The completion that replaces a blocked one."""
    assert outcome.blocked is not None
    response = {
        **blank_completion(path, "-"),
        "choices": [_refused(outcome.blocked, 0, path == "/chat/completions")],
        "usage": {"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0},
    }
    return options.placed(response, guardrails_data(outcome, options))


def answer_texts(response: dict[str, Any]) -> list[str | None]:
    """The text of each choice; None where it has none, as with tool calls."""
    messages = [c.get("message") or {"content": c.get("text")} for c in response["choices"]]
    return [judged_text(message.get("content")) for message in messages]


def judged_text(content: Any) -> str | None:
    """A message's content as a rail reads it; anything but text or text parts becomes JSON."""
    if not content:
        return None
    text = content_text(content)
    return json.dumps(content) if text is None else text or None


def without_blocked(
    response: dict[str, Any], judged: list[Verdict | None], path: str
) -> dict[str, Any]:
    """The response with a refusal for each choice that has a blocking verdict."""
    is_chat = path == "/chat/completions"
    choices = [
        _refused(verdict, number, is_chat) if verdict else choice
        for number, (choice, verdict) in enumerate(zip(response["choices"], judged, strict=True))
    ]
    return {**response, "choices": choices}


def _refused(verdict: Verdict, index: int, is_chat: bool) -> dict[str, Any]:
    """A choice with the blocking rail's answer and nothing from the model."""
    content = verdict.answer.get("content")
    text = content if isinstance(content, str) else json.dumps(content)
    choice: dict[str, Any] = {"index": index, "finish_reason": "content_filter"}
    if is_chat:
        message = {"role": verdict.answer.get("role", "assistant"), "content": text}
        return {**choice, "message": message}
    return {**choice, "text": text, "logprobs": None}
