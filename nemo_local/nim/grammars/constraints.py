"""What a reply may look like, as grammars that mask the model's next token (xgrammar).

JSON is generated the way `json.dumps(..., ensure_ascii=False)` writes it (one line, ", " and ": "):
models were trained on that, and a weak one cannot run away into white space.
"""

import json
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import xgrammar
from transformers import PreTrainedTokenizerBase

from nemo_local.core.tool_formats import LLAMA_FORM, CallForm
from nemo_local.nim.chat_template import Tool
from nemo_local.nim.errors import BadValue
from nemo_local.nim.grammars.matcher import Matcher
from nemo_local.nim.grammars.regexes import readable
from nemo_local.nim.grammars.schema_grammar import Schema, literal, schema_grammar
from nemo_local.nim.grammars.schema_limits import check_schema
from nemo_local.nim.grammars.tool_parameters import arguments_schema, eased

MAX_NESTING = 100
"""Levels of a schema: compiling takes seconds for some hundred, and minutes for a thousand."""
MAX_CHARACTERS = 2**17
"""Characters of a form as JSON: these compile in seconds at worst, five times as many in 60 s."""
REMEMBERED_BYTES = 2**26
"""Compiled grammars kept, the most recently used (bytes)."""

Kind = Literal[
    "calls",  # value: tools; one or several calls of them
    "call",  # value: tools; exactly one call of one of them
    "json",  # value: None; any JSON object
    "schema",  # value: a JSON Schema
    "choice",  # value: a list of strings
    "regex",  # value: a regular expression
    "grammar",  # value: EBNF in GBNF notation with a rule `root`
]


@dataclass(frozen=True)
class Constraint:
    """One form that a reply must have."""

    kind: Kind
    value: Any

    @cached_property
    def form(self) -> Any:
        """What the reply must look like: for calls, their names and a schema of the arguments.

        Descriptions of the tools are not in it.
        """
        if self.kind in ("call", "calls"):
            names = [tool["function"]["name"] for tool in self.value]
            return names, arguments_schema(self.value)
        return self.value

    @cached_property
    def key(self) -> str:
        """The key under which its grammar is remembered; made once, as the form costs time.

        Raises:
            BadValue: the form is too large to be compiled.
        """
        if _nested_deeper(self.value, MAX_NESTING):
            raise _refusal(self, f"it is nested deeper than {MAX_NESTING} levels")
        key = json.dumps([self.kind, self.form], default=repr)
        if len(key) > MAX_CHARACTERS:
            raise _refusal(self, f"it has {len(key)} characters, more than {MAX_CHARACTERS}")
        return key


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
        # The compiler's cache has the rules that grammars share, such as that of a string: without
        # it a new grammar takes half as long again. Ours saves making the text of a known form.
        self._compiler = xgrammar.GrammarCompiler(
            info, max_threads=1, cache_limit_bytes=REMEMBERED_BYTES
        )
        self._info = info
        self._calls = calls
        self._lock = threading.Lock()
        self._compiled: OrderedDict[str, xgrammar.CompiledGrammar] = OrderedDict()
        self._bytes = 0

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """What each token stands for in UTF-8, be it a part of a character."""
        return list(self._info.decoded_vocab)

    def known(self, constraint: Constraint) -> xgrammar.CompiledGrammar | None:
        """The grammar of a form that was asked for before; else None.

        Raises:
            BadValue: the form is too large to be compiled.
        """
        key = constraint.key
        with self._lock:
            compiled = self._compiled.get(key)
            if compiled is None:
                return None
            self._compiled.move_to_end(key)
        return compiled

    def matcher(self, constraint: Constraint) -> Matcher:
        """A matcher at the start of a reply. Raises as `compiled` does."""
        return Matcher(self.compiled(constraint))

    def compiled(self, constraint: Constraint) -> xgrammar.CompiledGrammar:
        """The grammar of a form, compiled unless it is known.

        Raises:
            BadValue: the schema, expression or grammar cannot be compiled; says why.
        """
        known = self.known(constraint)
        if known is not None:
            return known
        try:
            compiled = self._compile(constraint)
        except (RuntimeError, ValueError, TypeError, KeyError, RecursionError) as error:
            # xgrammar begins its messages with its own time, file and line.
            reason = re.sub(r"\[[\d:]+\] \S+: ", "", str(error)) or repr(error)
            raise _refusal(constraint, reason) from error
        key = constraint.key
        with self._lock:
            if key not in self._compiled:
                self._bytes += compiled.memory_size_bytes
            self._compiled[key] = compiled
            while self._bytes > REMEMBERED_BYTES and len(self._compiled) > 1:
                _, oldest = self._compiled.popitem(last=False)
                self._bytes -= oldest.memory_size_bytes
        return compiled

    def _compile(self, constraint: Constraint) -> xgrammar.CompiledGrammar:
        compiler, value = self._compiler, constraint.value
        match constraint.kind:
            case "call" | "calls":
                text = _calls_grammar(constraint, self._calls)
                return compiler.compile_grammar(text, root_rule_name="calls")
            case "json":
                return compiler.compile_grammar(schema_grammar({"type": "object"}))
            case "schema":
                return compiler.compile_grammar(schema_grammar(_checked(value)))
            case "choice":
                return compiler.compile_grammar(_choice_grammar(value))
            case "regex":
                return compiler.compile_regex(readable(value))
            case "grammar":
                return compiler.compile_grammar(value)


def _refusal(constraint: Constraint, reason: str) -> BadValue:
    return BadValue(f"the reply cannot be held to this {constraint.kind}: {reason}")


def _nested_deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value has lists and objects inside each other to more than so many levels."""
    inner = [value]
    for _ in range(levels + 1):
        inner = [
            item
            for one in inner
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        if not inner:
            return False
    return any(isinstance(one, dict | list) for one in inner)


def _calls_grammar(calls: Constraint, form: CallForm) -> str:
    """EBNF whose rule `calls` is the whole reply.

    What all calls share stands in it once: compiling takes 4 microseconds for each character.
    """
    tools, schema = calls.form
    try:
        text = schema_grammar(schema, eased)
    except (RuntimeError, ValueError):
        for tool in calls.value:
            _check_alone(tool)
        raise
    opening, closing = map(literal, form.around_all)
    before, after = map(literal, form.around_each)
    names = [literal(literal(name)) for name in tools]
    # xgrammar calls the alternatives of a schema root_case_0, root_case_1 and so on.
    either = " | ".join(f"{name} arguments root_case_{i}" for i, name in enumerate(names))
    more = "" if calls.kind == "call" else f"({literal(form.separator)} call)*"
    name, arguments = literal('{"name": '), literal(f', "{form.arguments}": ')
    return (
        f"calls ::= {opening} call {more} {closing}\n"
        f'call ::= {before} {name} ({either}) "}}" {after}\n'
        f"arguments ::= {arguments}\n{text}"
    )


def _check_alone(tool: Tool) -> None:
    """Raises ValueError, with the tool's name, when its parameters cannot be compiled."""
    try:
        schema_grammar(arguments_schema([tool]), eased)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"tool {tool['function']['name']!r}: {error}") from error


def _checked(schema: Schema | str) -> Schema:
    """The schema, as it is or from JSON text. Raises ValueError where no grammar can keep it."""
    value = json.loads(schema) if isinstance(schema, str) else schema
    if _nested_deeper(value, MAX_NESTING):
        raise ValueError(f"it is nested deeper than {MAX_NESTING} levels")
    check_schema(value)
    return value


def _choice_grammar(choices: list[str]) -> str:
    if not choices or not all(isinstance(choice, str) and choice for choice in choices):
        raise ValueError("it must be a list of strings that are not empty")
    return "root ::= " + " | ".join(map(literal, choices))
