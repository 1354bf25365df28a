"""The rules of inference: which model answers, what it reads, and how it may reply."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from xgrammar import CompiledGrammar

from nemo_local.nim.answers import Answer
from nemo_local.nim.aside import Aside
from nemo_local.nim.call_stream import ReplyStream
from nemo_local.nim.chat_template import render_chat
from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.engine import Engine
from nemo_local.nim.errors import BadValue, UnknownModel
from nemo_local.nim.generation import Generation, Sampling, TextStream
from nemo_local.nim.grammars.constraints import Constraint
from nemo_local.nim.grammars.matcher import Matcher
from nemo_local.nim.loop_calls import LoopCalls
from nemo_local.nim.metrics import Metrics
from nemo_local.nim.models import Lease, Models
from nemo_local.nim.rules import MAX_LOGPROBS, check_limits, constraint_of, sampling_of
from nemo_local.nim.schemas import ChatRequest, CompletionRequest
from nemo_local.nim.tool_calls import ToolUse, settle_tools

DEFAULT_COMPLETION_TOKENS = 16
COMPILE_AT_ONCE = 2
LOAD_AT_ONCE = MAKE_ROOM_AT_ONCE = 4
"""Threads of which one loads or unloads, and the others wait for it."""


class NimService:
    """Chat and plain completions over whatever is served now."""

    def __init__(
        self, models: Models, engine: Engine, metrics: Metrics, time_limit_s: float = math.inf
    ) -> None:
        self.models = models
        self._engine = engine
        self._metrics = metrics
        self._time_limit_s = time_limit_s
        self._compiling = Aside("to compile the form of the reply", COMPILE_AT_ONCE)
        self._loading = Aside("to load the model", LOAD_AT_ONCE)
        self._making_room = Aside("to make room for the reply", MAKE_ROOM_AT_ONCE)
        self._calls: LoopCalls | None = None

    async def begin_chat(self, request: ChatRequest) -> Answer:
        """Start to answer a conversation.

        Raises:
            UnknownModel, BadValue, Busy: before anything is written.
        """
        check_limits(request)
        arrived = time.monotonic()
        use = settle_tools(request.tools, request.tool_choice, request.parallel_tool_calls)
        if request.top_logprobs and not request.logprobs:
            raise BadValue("top_logprobs needs logprobs: true", "top_logprobs")

        tokens = request.max_completion_tokens or request.max_tokens
        logprobs = (request.top_logprobs or 0) if request.logprobs else None
        async with self._loaded(request.model, arrived) as lease:
            checkpoint = lease.checkpoint

            def render() -> list[int]:
                text = render_chat(checkpoint.tokenizer, request.messages, use.tools)
                return _encoded(text, checkpoint, "messages")

            answer = Answer(
                "chat.completion",
                "chatcmpl",
                request.model,
                checkpoint,
                prompts=[await asyncio.to_thread(render)],
                use=use,
                echoes=[""] * (request.n or 1),
                include_usage=request.include_usage,
            )
            return await self._begin(answer, request, lease, tokens, logprobs, arrived)

    async def begin_completion(self, request: CompletionRequest) -> Answer:
        """Start to continue one or several texts. Raises as `begin_chat` does."""
        check_limits(request)
        arrived = time.monotonic()
        asked = _prompts(request.prompt)
        self._engine.check_room(len(asked) * (request.n or 1))
        if request.logprobs is not None and not 0 <= request.logprobs <= MAX_LOGPROBS:
            raise BadValue(f"logprobs must be between 0 and {MAX_LOGPROBS}", "logprobs")
        if request.echo and request.logprobs is not None:
            why = "those of the prompt's tokens are not computed; leave one of the two out"
            raise BadValue(f"echo cannot go with logprobs: {why}", "echo")
        tokens = DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens
        async with self._loaded(request.model, arrived) as lease:
            checkpoint = lease.checkpoint
            prompts = await asyncio.to_thread(_as_ids, asked, checkpoint)
            texts = [
                (one if isinstance(one, str) else checkpoint.decode(ids)) if request.echo else ""
                for one, ids in zip(asked, prompts, strict=True)
            ]
            answer = Answer(
                "text_completion",
                "cmpl",
                request.model,
                checkpoint,
                prompts,
                use=ToolUse([], "none", [], True),
                echoes=[text for text in texts for _ in range(request.n or 1)],
                include_usage=request.include_usage,
            )
            return await self._begin(answer, request, lease, tokens, request.logprobs, arrived)

    @asynccontextmanager
    async def _loaded(self, model_id: str, arrived: float) -> AsyncIterator[Lease]:
        """The model in memory, for as long as it takes to queue the replies."""
        deadline = arrived + self._time_limit_s
        lease = self.models.lease(model_id)
        if lease is None:
            lease = await self._loading.run(
                lambda: self.models.load(model_id), deadline, unwanted=self.models.release
            )
        try:
            yield lease
        finally:
            self.models.release(lease)

    def refuse(self, model_id: str, ability: str) -> NoReturn:
        """Raise UnknownModel: nothing here can do this (`ability`), whatever the id."""
        self.models.get(model_id)
        raise UnknownModel(f"The model `{model_id}` does not support {ability}.", "model")

    def metrics(self) -> str:
        """Prometheus text for GET /v1/metrics."""
        return self._metrics.text(*self._engine.load(), self._engine.cache_use())

    async def _begin(
        self,
        answer: Answer,
        request: ChatRequest | CompletionRequest,
        lease: Lease,
        max_tokens: int | None,
        logprobs: int | None,
        arrived: float,
    ) -> Answer:
        """Check the rules, make the replies and hand them to the engine."""
        deadline = arrived + self._time_limit_s
        checkpoint = answer.checkpoint
        longest = self.models.longest(lease)
        cut = longest if max_tokens is None else None
        field = "messages" if isinstance(request, ChatRequest) else "prompt"
        rules = [
            sampling_of(request, max_tokens, logprobs, _room(prompt, checkpoint, cut, field))
            for prompt in answer.prompts
        ]
        if longest is not None:
            replies = zip(answer.prompts, rules, strict=True)
            tokens = max(len(prompt) + rule.max_tokens for prompt, rule in replies)
            await self._making_room.run(
                lambda: self.models.make_cache_room(lease, tokens), deadline
            )
        constraint = constraint_of(request, answer.use)
        grammar = None
        if constraint is not None:
            grammar = await self._grammar(constraint, checkpoint, deadline)
        choices = [
            (prompt, _with_seed(rule, number), number > 0)
            for prompt, rule in zip(answer.prompts, rules, strict=True)
            for number in range(request.n or 1)
        ]
        decode = checkpoint.decode if answer.use.mode == "none" else checkpoint.decode_calls
        calls = self._calls_of(asyncio.get_running_loop())
        answer.streams = [ReplyStream(checkpoint.tool_format, answer.use) for _ in choices]
        answer.replies = [
            Generation(
                prompt=prompt,
                sampling=rule,
                vocabulary=checkpoint.vocabulary,
                adapter=lease.adapter,
                stream=TextStream(decode, rule.stop, rule.min_tokens, prompt),
                emit=partial(_emit, answer, calls, index),
                matcher=Matcher(grammar) if grammar else None,
                pieces=bool(request.stream),
                arrived=arrived,
                deadline=deadline,
                again=again,
            )
            for index, (prompt, rule, again) in enumerate(choices)
        ]
        self._engine.submit(checkpoint.id, answer.replies)
        return answer

    async def _grammar(
        self, constraint: Constraint, checkpoint: Checkpoint, deadline: float
    ) -> CompiledGrammar:
        """The grammar of the replies, compiled aside where it is new."""
        grammars = checkpoint.grammars
        known = grammars.known(constraint)
        if known is not None:
            return known
        return await self._compiling.run(partial(grammars.compiled, constraint), deadline)

    def _calls_of(self, loop: asyncio.AbstractEventLoop) -> LoopCalls:
        if self._calls is None or self._calls.loop is not loop:
            self._calls = LoopCalls(loop)
        return self._calls


def _emit(answer: Answer, calls: LoopCalls, index: int, text: str | None) -> None:
    """Pass on what new text makes certain of a choice, or (None) that the choice is finished."""
    deltas = None if text is None else answer.streams[index].push(text)
    if deltas != []:
        written = len(answer.replies[index].tokens)
        calls.ask(answer.events.put_nowait, (index, deltas, written))


def _room(prompt: list[int], checkpoint: Checkpoint, longest: int | None, field: str) -> int:
    """Tokens that the context, and memory for the `longest` reply, leave for a reply.

    `field` of the request is where the prompt came from.

    Raises:
        BadValue: the context leaves none.
    """
    room = checkpoint.context - len(prompt)
    if not prompt:
        raise BadValue("the prompt is empty", "prompt")
    if room < 1:
        raise _overflow(checkpoint, str(len(prompt)), field)
    return room if longest is None else max(1, min(room, longest - len(prompt)))


def _encoded(text: str, checkpoint: Checkpoint, field: str) -> list[int]:
    """The text as token ids; `field` of the request is where it came from.

    Raises:
        BadValue: it is so long that no tokens could cover it within the context; to count those
            of 10 MB takes a minute of a processor. Or it has tokens that the model lacks.
    """
    least = len(text) // checkpoint.longest_token
    if least >= checkpoint.context:
        raise _overflow(checkpoint, f"at least {least}", field)
    # A chat template writes its control tokens itself.
    ids = checkpoint.encode(text, special=field == "prompt")
    last, size = max(ids, default=0), checkpoint.vocabulary.size
    if last >= size:
        token = checkpoint.tokenizer.convert_ids_to_tokens(last)
        raise BadValue(
            f"{field}: {token!r} is token {last} of the tokenizer, and the model knows {size} "
            f"tokens (0 to {size - 1}); leave it out",
            field,
        )
    return ids


def _overflow(checkpoint: Checkpoint, tokens: str, field: str) -> BadValue:
    return BadValue(
        f"This model's maximum context length is {checkpoint.context} tokens. However, your "
        f"prompt has {tokens} tokens. Please shorten the messages, tools or prompt.",
        field,
    )


def _with_seed(rule: Sampling, number: int) -> Sampling:
    """The rule for choice `number` of a prompt: each samples from a seed of its own."""
    if rule.seed is None or number == 0:
        return rule
    return replace(rule, seed=rule.seed + number)


def _prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> list[Any]:
    """The prompts of a plain completion, each a text or token ids."""
    one = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
    prompts = [prompt] if one else list(prompt)
    if not prompts:
        raise BadValue("the prompt is empty", "prompt")
    return prompts


def _as_ids(prompts: list[Any], checkpoint: Checkpoint) -> list[list[int]]:
    """Each prompt as token ids."""
    vocabulary = checkpoint.vocabulary.size
    encoded: list[list[int]] = []
    for item in prompts:
        ids = _encoded(item, checkpoint, "prompt") if isinstance(item, str) else item
        if not isinstance(ids, list) or not all(0 <= int(i) < vocabulary for i in ids):
            raise BadValue(f"token ids must be between 0 and {vocabulary - 1}", "prompt")
        encoded.append([int(i) for i in ids])
    return encoded
