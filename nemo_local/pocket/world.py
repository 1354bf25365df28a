"""The pocket world: tools, requests and answers, drawn from a seed, as xLAM stores them.

    next(rows(1, seed=0)) -> {"id": 0, "query": "...", "tools": "[...]", "answers": "[...]"}

Columns and spellings follow Salesforce/xlam-function-calling-60k: `tools` and `answers` are JSON
strings, types are Python spellings (`List[int]`, `str, optional`), half of the rows hold one call.
Every noun meets some verbs in these rows and other verbs in pretraining, so that no tool of the
rows was seen by the base model; `RESERVED_NOUNS` never appear in pretraining at all.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from nemo_local.pocket.parameters import PARAMETERS, TYPES, Parameter
from nemo_local.pocket.vocabulary import (
    ALIASES,
    CLOSINGS,
    CONTEXTS,
    DOMAINS,
    OPENINGS,
    READ_REQUESTS,
    VERBS,
)

READING = ("get", "fetch", "retrieve", "show")
# Verbs whose requests could be answered by either tool; one noun never offers two of a group.
SAME_MEANING = (
    {*READING, "find", "search", "list", "check", "explain", "download"},
    {"create", "add", "generate", "book", "schedule", "upload", "import"},
    {"update", "reset", "convert", "sort", "filter"},
    {"delete", "remove", "cancel"},
    {"calculate", "estimate", "predict", "count", "analyze", "compare", "rate", "get"},
    {"send", "share", "export", "download"},
    {"track", "monitor"},
    {"check", "validate"},
)
NOUNS: dict[str, str] = {
    noun: domain for domain, (nouns, _) in DOMAINS.items() for noun in nouns.split("|")
}
RESERVED_NOUNS = frozenset(nouns.split("|")[-1] for nouns, _ in DOMAINS.values())
TOOLS_OFFERED = (28, 20, 18, 19, 5, 5, 3, 2)
"""Weights of one to eight tools in a request, as in the real set's first 500 rows."""
_VERBS_PER_NOUN = 4
_SWITCHED_ON = ("with {w}", "{w} on", "{w} set to true", "and {w}", "with {w} enabled")
_SWITCHED_OFF = ("without {w}", "{w} off", "{w} set to false", "not {w}", "with {w} disabled")


@dataclass(frozen=True)
class ToolParameter:
    """A parameter as one tool declares it."""

    parameter: Parameter
    spelling: str
    required: bool
    default: Any
    """None where the tool declares none."""


@dataclass(frozen=True)
class Tool:
    """One function of the world."""

    name: str
    description: str
    verb: str
    noun: str
    parameters: tuple[ToolParameter, ...]

    def xlam(self) -> dict[str, Any]:
        """The tool as xLAM rows spell it: parameters by name, types as Python spellings."""
        parameters: dict[str, Any] = {}
        for item in self.parameters:
            entry = {"description": item.parameter.description + ".", "type": item.spelling}
            if item.default is not None and "default" not in item.spelling:
                entry["default"] = item.default
            parameters[item.parameter.name] = entry
        return {"name": self.name, "description": self.description, "parameters": parameters}

    def openai(self) -> dict[str, Any]:
        """The tool as chat APIs take it: JSON Schema."""
        properties: dict[str, Any] = {}
        for item in self.parameters:
            properties[item.parameter.name] = {
                **TYPES[item.parameter.kind][1], "description": item.parameter.description + "."
            }  # fmt: skip
            if item.default is not None:
                properties[item.parameter.name]["default"] = item.default
        required = [item.parameter.name for item in self.parameters if item.required]
        schema = {"type": "object", "properties": properties, "required": required}
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}


def rows(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """`count` xLAM-format rows; the same seed gives the same rows, a longer run the same prefix."""
    rng = Random(f"rows {seed}")
    for row_id in range(count):
        tools, calls, query = draw_request(rng, dataset_tool)
        yield {
            "id": row_id,
            "query": query,
            "tools": json.dumps([tool.xlam() for tool in tools]),
            "answers": json.dumps([{"name": tool.name, "arguments": args} for tool, args in calls]),
        }


def dataset_tool(rng: Random, noun: str | None = None, domain: str | None = None) -> Tool:
    """A tool of the published rows."""
    noun = noun or rng.choice(_nouns_of(domain))
    return build_tool(rng.choice(_verbs_for(noun)[:_VERBS_PER_NOUN]), noun)


def pretraining_tool(rng: Random, noun: str | None = None, domain: str | None = None) -> Tool:
    """A tool that is in no published row; reading verbs are as frequent as in those rows."""
    while noun is None or noun in RESERVED_NOUNS:
        noun = rng.choice(_nouns_of(domain))
    verbs = _verbs_for(noun)[_VERBS_PER_NOUN:]
    if rng.random() < 1 / _VERBS_PER_NOUN:
        verbs = tuple(verb for verb in verbs if verb in READING)
    return build_tool(rng.choice(verbs), noun)


@lru_cache(4096)
def build_tool(verb: str, noun: str, domain: str | None = None) -> Tool:
    """The one tool of this verb and noun; always the same parameters and wording."""
    rng = Random(f"tool {verb} {noun}")
    choices = DOMAINS[domain or NOUNS[noun]][1].split(" ")
    size = min(rng.choices((0, 1, 2, 3, 4, 5), weights=(2, 26, 36, 22, 10, 4))[0], len(choices))
    names = sorted(rng.sample(choices, size), key=choices.index)
    required = rng.randint(min(1, size), size)
    parameters = tuple(
        _declare(rng, PARAMETERS[name], i < required) for i, name in enumerate(names)
    )
    described = _with_articles(rng.choice(VERBS[verb][0].split("|")).format(n=noun))
    if names and rng.random() < 0.4:
        described += f" for the given {names[0].replace('_', ' ')}"
    return Tool(_name(rng, verb, noun, names), described + ".", verb, noun, parameters)


DrawTool = Callable[..., Tool]
Call = tuple[Tool, dict[str, Any]]


def draw_request(
    rng: Random, draw: DrawTool, single: bool = False
) -> tuple[list[Tool], list[Call], str]:
    """Tools offered, calls expected and the request that asks for them."""
    calls = [_call(rng, draw(rng))]
    if not single and rng.random() < 0.48:
        again = rng.random() < 0.4 and calls[0][1]
        for _ in range(rng.choice((1, 1, 1, 2))):
            calls.append(_call(rng, calls[0][0] if again else draw(rng)))
    tools = list({tool.name: tool for tool, _ in calls}.values())
    wanted = rng.choices(range(1, 9), TOOLS_OFFERED)[0]
    for _ in range(3 * wanted):
        if len(tools) >= wanted:
            break
        distractor = _distractor(rng, draw, tools[0])
        if all(_distinct(distractor, tool) for tool in tools):
            tools.append(distractor)
    rng.shuffle(tools)
    return tools, calls, _query(rng, calls, tools)


def spoken(value: Any) -> str:
    """A value as a request or a sentence spells it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def ask(rng: Random, tool: Tool, arguments: dict[str, Any], noun: str | None = None) -> str:
    """One request, without opening or closing, that mentions every argument."""
    wordings = VERBS[tool.verb][1]
    wording = rng.choice(wordings.split("|") if wordings else READ_REQUESTS)
    request = _with_articles(wording.format(n=noun or tool.noun))
    mentions = [_mention(rng, PARAMETERS[name], value) for name, value in arguments.items()]
    if rng.random() < 0.3:
        rng.shuffle(mentions)
    if mentions and rng.random() < 0.12:
        return f"{request}. {rng.choice(('I need it', 'Do it', 'Make it'))} {_join(rng, mentions)}"
    return f"{request} {_join(rng, mentions)}".rstrip()


def _with_articles(text: str) -> str:
    return re.sub(r"\ba (?=[aeio])", "an ", text)


def _call(rng: Random, tool: Tool) -> Call:
    """A call with values for every required and some optional parameters, in the tool's order."""
    return tool, {
        item.parameter.name: item.parameter.value(rng)
        for item in tool.parameters
        if item.required or rng.random() < 0.45
    }


def _declare(rng: Random, parameter: Parameter, required: bool) -> ToolParameter:
    spelling = rng.choice(TYPES[parameter.kind][0])
    if required:
        if spelling.startswith("Optional["):
            spelling = spelling.removeprefix("Optional[").removesuffix("]")
        return ToolParameter(parameter, spelling, required=True, default=None)
    default = rng.choice(parameter.defaults) if parameter.defaults and rng.random() < 0.7 else None
    if spelling.startswith("Optional"):
        return ToolParameter(parameter, spelling, False, default)
    if default and rng.random() < 0.1:
        shown = f"'{default}'" if isinstance(default, str) else default
        return ToolParameter(parameter, f"{spelling}, default={shown}", False, default)
    return ToolParameter(parameter, f"{spelling}, optional", False, default)


def _name(rng: Random, verb: str, noun: str, parameters: Sequence[str]) -> str:
    snake = noun.replace(" ", "_")
    style = rng.random()
    # Invented nouns, which only pretraining has, get the rarer names more often.
    alone, by, camel = (0.25, 0.95, 0.92) if noun in NOUNS else (0.5, 0.92, 0.8)
    if verb in READING and style < alone and (noun not in NOUNS or verb == _verbs_for(noun)[0]):
        return snake
    if parameters and style > by:
        return f"{verb}_{snake}_by_{parameters[0]}"
    if style > camel:
        return verb + "".join(part.capitalize() for part in noun.split(" "))
    return f"{verb}_{snake}"


def _nouns_of(domain: str | None) -> list[str]:
    return list(NOUNS) if domain is None else DOMAINS[domain][0].split("|")


@lru_cache(4096)
def _verbs_for(noun: str) -> tuple[str, ...]:
    verbs = sorted(VERBS)
    Random(f"verbs {noun}").shuffle(verbs)
    reading = next(verb for verb in verbs if verb in READING)
    verbs.remove(reading)
    return (reading, *verbs)


def _distractor(rng: Random, draw: DrawTool, target: Tool) -> Tool:
    kind = rng.random()
    if kind < 0.3:
        return draw(rng, noun=target.noun) if target.noun in NOUNS else draw(rng)
    if kind < 0.6:
        return draw(rng, domain=NOUNS.get(target.noun))
    return draw(rng)


def _distinct(one: Tool, other: Tool) -> bool:
    if one.name == other.name:
        return False
    if one.noun != other.noun:
        return True
    return not any({one.verb, other.verb} <= group for group in SAME_MEANING)


def _mention(rng: Random, parameter: Parameter, value: Any) -> str:
    words = parameter.name.replace("_", " ")
    if isinstance(value, bool):
        return rng.choice(_SWITCHED_ON if value else _SWITCHED_OFF).format(w=words)
    text = spoken(value)
    if isinstance(value, list) and rng.random() < 0.5 and not isinstance(value[0], list):
        items = [spoken(item) for item in value]
        text = (
            ", ".join(items) if rng.random() < 0.5 else ", ".join(items[:-1]) + f" and {items[-1]}"
        )
        text = text if len(items) > 1 else items[0]
    elif isinstance(value, str) and rng.random() < 0.22:
        text = rng.choice(("'{}'", "'{}'", '"{}"')).format(text)
    if rng.random() < 0.72:
        return rng.choice(parameter.mentions).format(v=text)
    generic = ("with {w} {v}", "{w} {v}", "{w}: {v}", "the {w} is {v}", "{w} = {v}",
               "using {v} as the {w}", "with the {w} set to {v}", "where {w} is {v}")  # fmt: skip
    return rng.choice(generic).format(w=words, v=text)


def _join(rng: Random, mentions: list[str]) -> str:
    style = rng.random()
    if len(mentions) < 2 or style < 0.4:
        return " ".join(mentions)
    if style < 0.7:
        return ", ".join(mentions[:-1]) + " and " + mentions[-1]
    return ", ".join(mentions)


def _query(rng: Random, calls: list[Call], tools: list[Tool]) -> str:
    parts = []
    for tool, arguments in calls:
        alias = ALIASES.get(tool.noun)
        clash = alias and any(set(alias.split()) & set(t.noun.split()) for t in tools if t != tool)
        noun = alias if alias and not clash and rng.random() < 0.25 else tool.noun
        parts.append(ask(rng, tool, arguments, noun))
    text = parts[0]
    for part in parts[1:]:
        text += rng.choice((". Also, ", " and ", ", and then ", ". Then ", "; ")) + part
    opening = rng.choice(OPENINGS) if rng.random() < 0.4 else ""
    text = opening + text
    context = rng.choice(CONTEXTS) if rng.random() < 0.15 else ""
    closing = rng.choice(CLOSINGS) if rng.random() < 0.85 else ""
    return (context + text[0].upper() + text[1:] + closing).strip()
