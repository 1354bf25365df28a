"""How models write tool calls: reading the calls from a reply, one format per model family.

    llama3_json  {"name": "f", "parameters": {...}}; {"name": ...}      the whole reply
    hermes       <tool_call>{"name": "f", "arguments": {...}}</tool_call>   after optional text
    mistral      [TOOL_CALLS][{"name": "f", "arguments": {...}}]            after optional text
                 [TOOL_CALLS]f[ARGS]{...}, [TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{...}
    pythonic     [f(a=1), g(b="x")]                                     the whole reply

A reply in any other form is text. Nothing is repaired.
Source: https://docs.vllm.ai/en/latest/features/tool_calling.html
"""

import ast
import json
import re
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PYTHON_TAG = "<|python_tag|>"


@dataclass(frozen=True)
class ToolCall:
    """One call: the tool's name and its arguments as JSON text."""

    name: str
    arguments: str


Calls = list[ToolCall]


@dataclass(frozen=True)
class Reading:
    """A finished reply, split into text and calls."""

    content: str | None
    """Text; None when there is none besides the calls."""
    calls: Calls
    """Empty when the reply is text."""
    cut: bool = False
    """Whether max_tokens cut off the last call."""


@dataclass(frozen=True)
class CallForm:
    """How a constrained reply spells its calls: JSON objects with `name` and `arguments`."""

    arguments: str
    """Key of the arguments."""
    separator: str
    """Between two calls."""
    around_each: tuple[str, str] = ("", "")
    around_all: tuple[str, str] = ("", "")


LLAMA_FORM = CallForm("parameters", "; ")
HERMES_FORM = CallForm("arguments", "\n", around_each=("<tool_call>\n", "\n</tool_call>"))
LIST_FORM = CallForm("arguments", ", ", around_all=("[", "]"))


@dataclass(frozen=True)
class ToolFormat:
    """One way to write calls."""

    name: str
    starts: tuple[str, ...]
    """What calls begin with."""
    after_text: bool
    """Whether text may stand before the calls."""
    parse: Callable[[str], Calls | None]
    """The calls of a text that begins with one of `starts`; None when it has another form."""
    form: CallForm
    """What grammars for `tool_choice` produce; for mistral and pythonic a JSON list, as in vLLM."""
    kept: tuple[str, ...] = ()
    """Control tokens that belong to the form, so that decoding must not drop them."""
    short_ids: bool = False
    """Whether the family's templates accept only call ids of nine letters and digits."""

    def new_call_id(self) -> str:
        """A fresh id: `chatcmpl-tool-` and 32 hexadecimal digits, or nine letters and digits."""
        random = uuid.uuid4().hex
        return random[:9] if self.short_ids else f"chatcmpl-tool-{random}"

    def read(self, text: str, constrained: bool) -> Reading:
        """The finished reply as text and calls; `constrained` if a grammar of `form` shaped it."""
        if constrained and self.form is LIST_FORM:
            calls = parse_json_calls(text)
            return Reading(None, calls) if calls else Reading(text, [])
        at = self.certain_text(text)
        calls = self.parse(text[at:].strip())
        return Reading(text[:at] or None, calls) if calls else Reading(text, [])

    def certain_text(self, text: str) -> int:
        """How many characters at the start of a growing reply can no longer become calls."""
        if not self.after_text:
            start = text.lstrip()
            open_ = any(start.startswith(tag) or tag.startswith(start) for tag in self.starts)
            return 0 if open_ else len(text)
        (tag,) = self.starts
        at = text.find(tag)
        if at < 0:
            at = len(text) - _overlap(text, tag)
        return len(text[:at].rstrip())


def parse_json_calls(text: str) -> Calls | None:
    """The calls in the Llama JSON form, or None when the text is anything else.

    '{"name": "add", "parameters": {"a": 1}}' -> [ToolCall("add", '{"a": 1}')]
    'Sure! {"name": "add", "parameters": {}}' -> None
    """
    rest = text.strip().removeprefix(PYTHON_TAG).strip()
    if not rest.startswith(("{", "[")):
        return None
    objects: list[Any] = []
    while rest:
        try:
            value, end = _DECODER.raw_decode(rest)
        except (ValueError, RecursionError):
            return None
        objects.append(value)
        after = rest[end:]
        rest = after.lstrip()
        if rest.startswith(";"):
            rest = rest[1:].lstrip()
            if not rest:
                return None
        elif rest and "\n" not in after[: len(after) - len(rest)]:
            return None
    if len(objects) == 1 and isinstance(objects[0], list):
        objects = objects[0]
    return _all_calls(objects)


def parse_hermes_calls(text: str) -> Calls | None:
    """The calls in `<tool_call>` tags; the last tag may be left open, as vLLM allows."""
    objects = []
    rest = text
    while rest:
        if not rest.startswith("<tool_call>"):
            return None
        inner, _, rest = rest.removeprefix("<tool_call>").partition("</tool_call>")
        try:
            objects.append(_DECODER.decode(inner.strip()))
        except (ValueError, RecursionError):
            return None
        rest = rest.strip()
    return _all_calls(objects)


def parse_mistral_calls(text: str) -> Calls | None:
    """The calls after `[TOOL_CALLS]`: a JSON list, or names each followed by an object."""
    rest = text.removeprefix("[TOOL_CALLS]").strip()
    if rest == text:
        return None
    if rest.startswith("["):
        try:
            return _all_calls(_DECODER.decode(rest))
        except (ValueError, RecursionError):
            return None
    calls = []
    while rest:
        head = _MISTRAL_HEAD.match(rest)
        if head is None:
            return None
        try:
            arguments, end = _DECODER.raw_decode(rest, head.end())
        except (ValueError, RecursionError):
            return None
        calls.append(_as_call({"name": head["name"], "arguments": arguments}))
        rest = rest[end:].strip().removeprefix("[TOOL_CALLS]").lstrip()
    return [call for call in calls if call] if all(calls) else None


def parse_pythonic_calls(text: str) -> Calls | None:
    """The calls in a Python list of calls with keyword arguments that are literals.

    '[weather(city="Rome", days=2)]' -> [ToolCall("weather", '{"city": "Rome", "days": 2}')]
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, about odd escapes in the reply
            tree = ast.parse(text, mode="eval").body
            nodes = tree.elts if isinstance(tree, ast.List) else []
            calls = [_python_call(node) for node in nodes]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return calls or None


def _python_call(node: ast.expr) -> ToolCall:
    """The call a node stands for. Raises ValueError or TypeError when it is none."""
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with keyword arguments only")
    name = ast.unparse(node.func)
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name} is not a name")
    arguments = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError("** is not a literal")
        arguments[keyword.arg] = ast.literal_eval(keyword.value)
    return ToolCall(name, json_text(arguments))


def json_text(value: Any) -> str:
    """The value as JSON text, with non-ASCII characters unescaped where UTF-8 can carry them.

    Raises:
        TypeError, ValueError: the value has no JSON form (a set, an infinity).
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can spell
        return json.dumps(value, allow_nan=False)
    return text


def _all_calls(objects: Any) -> Calls | None:
    calls = [_as_call(value) for value in objects] if isinstance(objects, list) else []
    return [call for call in calls if call] if calls and all(calls) else None


def _as_call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    if not value["name"] or set(value) - {"name", "parameters", "arguments", "type", "id"}:
        return None
    arguments = value.get("parameters", value.get("arguments"))
    if not isinstance(arguments, dict):
        return None
    try:
        return ToolCall(value["name"], json_text(arguments))
    except (ValueError, RecursionError):  # 1e999 is read as an infinity, which no JSON can say
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _overlap(text: str, tag: str) -> int:
    """Characters at the end of `text` that may be the beginning of `tag`."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_MISTRAL_HEAD = re.compile(
    r"(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\])?\s*(?=\{)"
)

LLAMA3_JSON = ToolFormat("llama3_json", ("{", "[", PYTHON_TAG), False, parse_json_calls, LLAMA_FORM)
HERMES = ToolFormat(
    "hermes", ("<tool_call>",), True, parse_hermes_calls, HERMES_FORM,
    kept=("<tool_call>", "</tool_call>"),
)  # fmt: skip
MISTRAL = ToolFormat(
    "mistral", ("[TOOL_CALLS]",), True, parse_mistral_calls, LIST_FORM,
    kept=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"), short_ids=True,
)  # fmt: skip
PYTHONIC = ToolFormat("pythonic", ("[",), False, parse_pythonic_calls, LIST_FORM)

TOOL_FORMATS = {one.name: one for one in (LLAMA3_JSON, HERMES, MISTRAL, PYTHONIC)}


def format_of_template(chat_template: str) -> ToolFormat:
    """The format that a chat template teaches; Llama JSON when it names no other."""
    if "<tool_call>" in chat_template:
        return HERMES
    if "[TOOL_CALLS]" in chat_template:
        return MISTRAL
    # The instruction in Meta's templates: [func_name1(params_name1=params_value1, ...), ...]
    if "func_name1(" in chat_template:
        return PYTHONIC
    return LLAMA3_JSON


def formats_by_model(text: str | None) -> dict[str, ToolFormat]:
    """The chosen format of each model id.

    "meta/llama-3.2-3b-instruct=pythonic,acme/chat=hermes" -> {...: PYTHONIC, "acme/chat": HERMES}

    Raises:
        ValueError: a part is not `model=parser`, or no such parser exists.
    """
    chosen = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        model_id, _, name = part.rpartition("=")
        if not model_id or name not in TOOL_FORMATS:
            known = ", ".join(TOOL_FORMATS)
            raise ValueError(f"{part!r} is not model=parser with a parser of {known}")
        chosen[model_id] = TOOL_FORMATS[name]
    return chosen
