"""Judges one request and its answers with one configuration's rails."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from nemo_local.guardrails.answers import Outcome
from nemo_local.guardrails.configs import Data
from nemo_local.guardrails.engine import Engine
from nemo_local.guardrails.requests import Conversation, Options
from nemo_local.guardrails.rules import Direction
from nemo_local.guardrails.verdicts import Verdict


@dataclass(frozen=True)
class Guard:
    """The rails of one request; later changes of the configuration affect only later requests."""

    engine: Engine
    data: Data
    rails: Any
    """The library's object for `data`."""
    options: Options
    flows: dict[Direction, list[str]]
    """The flows of each direction that this request runs."""

    @property
    def streaming(self) -> dict[str, Any]:
        """`rails.output.streaming`, defaults filled in."""
        settings: dict[str, Any] = self.data["rails"]["output"]["streaming"]
        return settings

    async def judge(self, talk: Conversation, *directions: Direction) -> Outcome:
        """The verdicts on a conversation, direction by direction, up to the first block."""
        started = time.perf_counter()
        verdicts: list[Verdict] = []
        for direction in directions:
            if any(verdict.blocked for verdict in verdicts):
                break
            if (talk.user if direction == "input" else talk.answer) is not None:
                verdicts += await self.engine.run(self._direction(direction, talk))
        return Outcome(verdicts, time.perf_counter() - started, self.options.config_ids)

    async def _direction(self, direction: Direction, talk: Conversation) -> list[Verdict]:
        """The verdicts of one direction: in order up to the first block, or all in parallel."""
        options = self.options

        async def judge(flow: str) -> Verdict:
            messages = talk.messages(direction, flow)
            logs = {key: options.logs(key) for key in ("internal_events", "colang_history")}
            return await self.engine.judge(
                self.rails, direction, flow, messages, options.context, options.output_vars, logs
            )

        if self.data["rails"][direction].get("parallel"):
            return list(await asyncio.gather(*(judge(flow) for flow in self.flows[direction])))
        verdicts: list[Verdict] = []
        for flow in self.flows[direction]:
            verdicts.append(await judge(flow))
            if verdicts[-1].blocked:
                break
        return verdicts
