"""What a model sees of a training example, and which of its tokens it learns. Needs no endpoint.

The example is rendered with the model's own chat template, as training and inference render it.
The answer is what the whole text adds to the prompt before it; only the answer has a loss.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

ROLES = {"developer": "system", "function": "tool"}
"""Roles for which training and inference use another name."""


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens that all count in the loss (`learnt`), or all do not."""

    text: str
    learnt: bool


@dataclass(frozen=True)
class View:
    """One sequence of tokens, as training takes it."""

    pieces: tuple[Piece, ...]
    tokens: int
    learnt: int
    """Tokens that count in the loss."""

    @property
    def text(self) -> str:
        """The whole text, without marks."""
        return "".join(piece.text for piece in self.pieces)

    def marked(self, before: str = "⟦", after: str = "⟧") -> str:
        """The text, with each part that counts in the loss between two marks.

        View(...).marked() -> '<|user|>add 3<|assistant|>⟦{"name": "add"}<|eot_id|>⟧'
        """
        return "".join(
            f"{before}{piece.text}{after}" if piece.learnt else piece.text for piece in self.pieces
        )


def model_views(example: Mapping[str, Any], tokenizer: Any) -> list[View]:
    """The sequences that a chat or tool-calling example becomes: one for most examples.

        tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-3.2-1B-Instruct")
        model_views({"messages": [user, assistant], "tools": [...]}, tokenizer)[0].marked()

    A template may move text as the conversation goes on, such as the tools to the last user
    message. Then an earlier answer followed another prompt, and gets a sequence of its own. A
    template may also render a question differently once it is answered, as Mistral's does with a
    system message. Then the answer is the part that changes with its words, put after its prompt.

    Raises:
        ValueError: no assistant message follows another, or the template does not show an answer.
        Exception: whatever the template raises.
    """
    messages = [_normal(message) for message in example["messages"]]
    tools = _decoded(example.get("tools")) or None
    if "[TOOL_CALLS]" in tokenizer.get_chat_template(tools=tools):
        _give_short_ids(messages)

    def render(shown: list[dict[str, Any]], prompt: bool = False) -> str:
        return str(
            tokenizer.apply_chat_template(
                shown, tools=tools, add_generation_prompt=prompt, tokenize=False
            )
        )

    def answer(number: int, prompt: str, full: str) -> str:
        if full.startswith(prompt):
            return full[len(prompt) :]
        others = [
            render([*messages[:number], {"role": "assistant", "content": content}])
            for content in ("0", "1")  # two, as the answer itself may begin with one of them
        ]
        head = commonprefix([full, *others])
        asked = head.rstrip() + prompt[len(prompt.rstrip()) :]
        return full[len(asked if head.startswith(asked) else head) :]

    texts: list[tuple[str, list[tuple[int, int]]]] = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant" or number == 0:  # a greeting answers nothing
            continue
        prompt = render(messages[:number], prompt=True)
        said = answer(number, prompt, render(messages[: number + 1]))
        if not said.strip():
            raise ValueError(f"message {number + 1} cannot be found in what the template shows")
        full = (prompt + said).rstrip()
        span = (len(prompt), len(full))
        if texts and prompt.startswith(texts[-1][0]):
            texts[-1] = (full, [*texts[-1][1], span])
        else:
            texts.append((full, [span]))
    if not texts:
        raise ValueError("no assistant message follows another, so there is nothing to learn")
    return [_view(text, spans, tokenizer) for text, spans in texts]


def _view(text: str, spans: Sequence[tuple[int, int]], tokenizer: Any) -> View:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    # A token with `rstrip` includes the white space after it, which does not count as its text.
    wide = {number for number, token in tokenizer.added_tokens_decoder.items() if token.rstrip}
    offsets = [
        (start, start + len(text[start:end].rstrip())) if token in wide else (start, end)
        for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
    learnt = [any(start <= first < last <= end for start, end in spans) for first, last in offsets]
    # A piece begins where its first token does, so that together they are the text.
    begins = [i for i in range(len(offsets)) if i == 0 or learnt[i] != learnt[i - 1]]
    places = [0, *(offsets[i][0] for i in begins[1:]), len(text)]
    pieces = tuple(Piece(text[places[n] : places[n + 1]], learnt[i]) for n, i in enumerate(begins))
    return View(pieces, len(offsets), sum(learnt))


def _normal(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as templates expect it: text content, arguments as an object."""
    content = message.get("content")
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    normal = {
        "role": ROLES.get(message["role"], message["role"]),
        "content": content or "",
    }
    calls = _decoded(message.get("tool_calls"))
    function = None if calls else _decoded(message.get("function_call"))
    if function:  # the older form of tool calls
        calls = [{"function": function}]
    if calls:
        normal["tool_calls"] = [_call(call) for call in calls]
    for key in ("name", "tool_call_id"):
        if message.get(key) is not None:
            normal[key] = message[key]
    return normal


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = _decoded(function.get("arguments")) or {}
    normal = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return {**normal, "id": call["id"]} if call.get("id") is not None else normal


def _give_short_ids(messages: list[dict[str, Any]]) -> None:
    """Give calls the ids Mistral's templates accept: nine letters or digits, else their number."""
    short: dict[str | None, str] = {}
    unanswered: list[str] = []
    count = 0
    for message in messages:
        if calls := message.get("tool_calls"):
            unanswered = []
            for call in calls:
                given = call.get("id")
                if given is None or not re.fullmatch("[A-Za-z0-9]{9}", given):
                    call["id"] = f"{count:09}"
                short[given] = call["id"]
                unanswered.append(call["id"])
                count += 1
        elif message["role"] == "tool":
            given = message.get("tool_call_id")
            if given is not None and given in short:
                message["tool_call_id"] = short[given]
            elif unanswered:
                message["tool_call_id"] = unanswered.pop(0)


def _decoded(value: Any) -> Any:
    """A value that may be stored as JSON text, which is how Arrow keeps mixed objects."""
    return json.loads(value or "null") if isinstance(value, str) else value
