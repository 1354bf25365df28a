"""What a reply may look like, as grammars that mask the model's next token (xgrammar).

JSON is generated the way `json.dumps` writes it (one line, ", " and ": "): models were trained on
that, and a weak one cannot run away into white space.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import xgrammar
from transformers import PreTrainedTokenizerBase

from nemo_local.core.tool_formats import LLAMA_FORM, CallForm
from nemo_local.nim.chat_template import Tool
from nemo_local.nim.errors import BadValue

Schema = dict[str, Any]
REMEMBERED_BYTES = 2**26
"""Compiled grammars kept, the most recently used (bytes)."""


@dataclass(frozen=True)
class Constraint:
    """One form that a reply must have."""

    kind: Literal[
        "calls",  # value: tools; one or several calls of them
        "call",  # value: tools; exactly one call of one of them
        "json",  # value: None; any JSON object
        "schema",  # value: a JSON Schema
        "choice",  # value: a list of strings
        "regex",  # value: a regular expression
        "grammar",  # value: EBNF in GBNF notation with a rule `root`
    ]
    value: Any


class Grammars:
    """Compiles constraints for one tokenizer; what was compiled before is remembered."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary_size: int,
        stop_ids: list[int],
        calls: CallForm = LLAMA_FORM,
    ) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocabulary_size, stop_token_ids=stop_ids
        )
        self._compiler = xgrammar.GrammarCompiler(
            info, max_threads=1, cache_limit_bytes=REMEMBERED_BYTES
        )
        self._calls = calls
        self._lock = threading.Lock()
        self._compiled: OrderedDict[str, xgrammar.CompiledGrammar] = OrderedDict()

    def matcher(self, constraint: Constraint) -> xgrammar.GrammarMatcher:
        """A matcher at the start of a reply.

        Raises:
            BadValue: the schema, expression or grammar cannot be compiled; says why.
        """
        # Asked for again and again with the same tools: building the form anew costs more than
        # looking it up by its text.
        key = json.dumps([constraint.kind, constraint.value], default=repr)
        with self._lock:
            compiled = self._compiled.get(key)
            if compiled is not None:
                self._compiled.move_to_end(key)
                return xgrammar.GrammarMatcher(compiled)
        try:
            compiled = self._compile(constraint)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            # xgrammar begins its messages with its own time, file and line.
            reason = re.sub(r"\[[\d:]+\] \S+: ", "", str(error)) or repr(error)
            message = f"the reply cannot be held to this {constraint.kind}: {reason}"
            raise BadValue(message) from error
        with self._lock:
            self._compiled[key] = compiled
            sizes = [one.memory_size_bytes for one in self._compiled.values()]
            while sum(sizes) > REMEMBERED_BYTES:
                self._compiled.popitem(last=False)
                sizes.pop(0)
        return xgrammar.GrammarMatcher(compiled)

    def _compile(self, constraint: Constraint) -> xgrammar.CompiledGrammar:
        kind, value = constraint.kind, constraint.value
        if kind in ("call", "calls"):
            tags = _call_tags(value, self._calls, one=kind == "call")
            return self._compiler.compile_structural_tag(tags)
        return _COMPILE[kind](self._compiler, value)


def _call_tags(tools: list[Tool], form: CallForm, one: bool) -> dict[str, Any]:
    tags = []
    for tool in tools:
        function = tool["function"]
        schema = closed(function.get("parameters") or {"type": "object", "properties": {}})
        try:
            grammar = str(_schema_grammar({"type": "object", **schema}))
        except RuntimeError as error:
            raise ValueError(f"tool {function['name']!r}: {error}") from error
        begin = form.begin.format(name=json.dumps(function["name"]))
        content = {"type": "grammar", "grammar": grammar}
        tags.append({"type": "tag", "begin": begin, "content": content, "end": form.end})
    calls: dict[str, Any] = {
        "type": "tags_with_separator",
        "tags": tags,
        "separator": form.separator,
        "at_least_one": True,
        "stop_after_first": one,
    }
    if form.opening:
        ends = [{"type": "const_string", "value": end} for end in (form.opening, form.closing)]
        calls = {"type": "sequence", "elements": [ends[0], calls, ends[1]]}
    return {"type": "structural_tag", "format": calls}


def _schema_grammar(schema: Schema) -> xgrammar.Grammar:
    # Not xgrammar's strict mode: it also forbids what a schema leaves open on purpose.
    return xgrammar.Grammar.from_json_schema(
        json.dumps(schema), any_whitespace=False, strict_mode=False
    )


def closed(schema: Any) -> Any:
    """The schema with every object that names its properties limited to them.

        {"type": "object", "properties": {"a": {}}} -> {..., "additionalProperties": False}

    JSON Schema would let a model invent further arguments; an object that names none, or says
    itself what else it takes, stays open.
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: {name: closed(inner) for name, inner in value.items()}
        if key in ("properties", "$defs", "definitions") and isinstance(value, dict)
        else (value if key in ("enum", "const", "default", "examples") else closed(value))
        for key, value in schema.items()
    }
    if isinstance(result.get("properties"), dict) and result["properties"]:
        result.setdefault("additionalProperties", False)
    return result


def _json(compiler: xgrammar.GrammarCompiler, _: Any) -> xgrammar.CompiledGrammar:
    return compiler.compile_grammar(_schema_grammar({"type": "object"}))


def _schema(compiler: xgrammar.GrammarCompiler, schema: Any) -> xgrammar.CompiledGrammar:
    value = json.loads(schema) if isinstance(schema, str) else schema
    return compiler.compile_grammar(_schema_grammar(value))


def _choice(compiler: xgrammar.GrammarCompiler, choices: list[str]) -> xgrammar.CompiledGrammar:
    if not choices or not all(isinstance(choice, str) and choice for choice in choices):
        raise ValueError("it must be a list of strings that are not empty")
    return compiler.compile_grammar("root ::= " + " | ".join(json.dumps(c) for c in choices))


def _regex(compiler: xgrammar.GrammarCompiler, pattern: str) -> xgrammar.CompiledGrammar:
    return compiler.compile_regex(pattern)


def _grammar(compiler: xgrammar.GrammarCompiler, text: str) -> xgrammar.CompiledGrammar:
    return compiler.compile_grammar(text)


_COMPILE: dict[str, Callable[[xgrammar.GrammarCompiler, Any], xgrammar.CompiledGrammar]] = {
    "json": _json,
    "schema": _schema,
    "choice": _choice,
    "regex": _regex,
    "grammar": _grammar,
}
