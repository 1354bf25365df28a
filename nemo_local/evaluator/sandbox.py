"""The Jinja sandbox of evaluation templates: no way out, and limits on time and memory.

A template's output, its repeats and its processor time are limited. Functions that could fill the
memory from one small argument (padding, formats, translation tables), or compute for minutes
(codecs), do not exist here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, Undefined, nodes, pass_context, pass_environment
from jinja2.exceptions import FilterArgumentError, SecurityError, UndefinedError
from jinja2.filters import do_int, do_round, do_sum, make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from nemo_local.core.searching import SLOW_METHODS, bounded_trim, check_search

MAX_CHARACTERS = 10_000_000
"""Characters or elements that one template may write, or that one operator may produce."""
MAX_SECONDS = 1.0
"""Processor time of one rendering."""
MAX_COMPARISONS = 100_000_000
"""Limit on (characters of a text) * (characters searched for), where Python searches naively."""
MAX_INDENT = 16
MAX_DECIMALS = 300
MAX_DIGITS = 4300
"""Python's own limit on digits of a decimal number: dividing longer ones takes too long."""
_GROWING_FILTERS = (
    "batch", "center", "format", "indent", "pprint", "slice", "urlize", "wordwrap", "xmlattr",
)  # fmt: skip
_REFUSED_METHODS = (
    *SLOW_METHODS, "center", "expandtabs", "format", "format_map", "ljust", "rjust", "to_bytes",
    "translate", "zfill",
)  # fmt: skip
_BUDGET = "_budget"


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja without unsafe attributes; `item.items` means the row's own key of that name.

    The context of a rendering must come from `with_budget`.
    """

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            keep_trailing_newline=True,
            finalize=_finalized,
        )
        self.globals = {"range": self.globals["range"], "namespace": _Namespace}
        for name in _GROWING_FILTERS:
            del self.filters[name]
        self.filters |= {
            "tojson": json_text, "join": _join, "replace": _replaced, "counted": _counted,
            "measured": _measured, "int": _whole, "round": _rounded, "sum": _sum,
            "trim": bounded_trim(MAX_COMPARISONS),
        }  # fmt: skip

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _REFUSED_METHODS and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Wrap nothing, so that `str.format` is refused by name like every other unsafe method."""

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        context.parent[_BUDGET]._spend(0)
        text, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(text, (str, bytes)) and name in _SIZED_METHODS:
            function = _SIZED_METHODS[name]
            args = (text, *args)
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, (str, bytes))):
            raise SecurityError(f"the operator {operator} is not allowed in templates")
        if (
            operator == "+"
            and isinstance(left, (str, list, tuple))
            and isinstance(right, type(left))
        ):
            _check_size(_weight(left) + _weight(right))
        for text, times in ((left, right), (right, left)) if operator == "*" else ():
            if isinstance(text, (str, bytes, list, tuple)) and isinstance(times, int):
                _check_size(_weight(text) * times)
        if operator == "*" and isinstance(left, int) and isinstance(right, int):
            _check_size(left.bit_length() * right.bit_length())
        return super().call_binop(context, operator, left, right)

    def _generate(self, source: nodes.Template, *args: Any, **options: Any) -> str:
        counting = _Counting().visit(source).set_environment(self)
        return super()._generate(counting, *args, **options)


def with_budget(context: Mapping[str, Any]) -> dict[str, Any]:
    """The context of one rendering, with its budget of time and characters."""
    return {**context, _BUDGET: _Budget()}


def value_of(result: Any) -> Any:
    """An expression's result. Raises UndefinedError for a missing variable or a method."""
    if isinstance(result, Undefined):
        str(result)  # raises UndefinedError with the variable's name
    if callable(result):
        name = getattr(result, "__name__", type(result).__name__)
        raise UndefinedError(f"{name!r} is undefined (there is only a method of that name)")
    return result


def json_text(value: Any, indent: int | None = None) -> str:
    """Plain JSON: no HTML escapes, non-ASCII kept."""
    if indent is not None and indent not in range(MAX_INDENT + 1):
        raise FilterArgumentError(f"tojson takes an indent of 0 to {MAX_INDENT}, not {indent!r}")
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_not_json)


class _Namespace(Namespace):
    """Jinja's `namespace()`, shown without contents, which are not counted and may be cyclic."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Budget:
    def __init__(self) -> None:
        self._characters = MAX_CHARACTERS
        self._until = time.thread_time() + MAX_SECONDS

    def _spend(self, characters: int) -> None:
        self._characters -= characters
        if self._characters < 0:
            raise SecurityError(f"a template may write at most {MAX_CHARACTERS} characters")
        if time.thread_time() > self._until:
            raise SecurityError(f"a template may compute for at most {MAX_SECONDS:.0f} s")


class _Counting(NodeTransformer):
    """Rewrites templates so that loops check the budget, and `~`, lists and dicts their size."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "join", [], [], None, None, lineno=node.lineno)

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(node, "measured", [], [], None, None, lineno=node.lineno)

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        if node.ctx != "load":  # the targets of a `for` or a `set`
            return node
        return nodes.Filter(node, "measured", [], [], None, None, lineno=node.lineno)


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        context.parent[_BUDGET]._spend(0)
        yield value


def _measured(value: Any) -> Any:
    _check_size(_weight(value))
    return value


def _whole(value: Any, default: int = 0, base: int = 10) -> int:
    if isinstance(value, (str, bytes)) and len(value) > MAX_DIGITS:
        return default
    return do_int(value, default, base)


def _rounded(value: float, precision: int = 0, method: Any = "common") -> float:
    if precision not in range(-MAX_DECIMALS, MAX_DECIMALS + 1):
        raise FilterArgumentError(f"round takes up to {MAX_DECIMALS} decimals, not {precision!r}")
    return do_round(value, precision, method)


@pass_context
def _sum(context: Context, values: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    def spent() -> Iterator[Any]:
        for value in values:
            context.parent[_BUDGET]._spend(_weight(value))
            yield value

    return do_sum(context.environment, spent(), attribute, start)


@pass_context
def _finalized(context: Context, value: Any) -> Any:
    text = str(value_of(value))
    context.parent[_BUDGET]._spend(len(text))
    return text


@pass_environment
def _join(
    environment: Sandbox, values: Iterable[Any], separator: str = "", attribute: Any = None
) -> str:
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    return _joined(str(separator), values)


def _joined(separator: str, values: Iterable[Any]) -> str:
    texts = [str(value) for value in values]
    _check_size(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _replaced(text: Any, old: str, new: str, count: int | None = None) -> str:
    source, old, new = str(text), str(old), str(new)
    _check_size(len(source) + source.count(old) * len(new))
    return source.replace(old, new, -1 if count is None else count)


def _from_the_end(name: str) -> Callable[..., Any]:
    def sought(text: str | bytes, *args: Any, **options: Any) -> Any:
        check_search(MAX_COMPARISONS, text, *args, *options.values())
        return getattr(text, name)(*args, **options)

    return sought


_SEEKING = ("lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip")
_SIZED_METHODS: dict[str, Callable[..., Any]] = {
    "join": _joined,
    "replace": _replaced,
    **{name: _from_the_end(name) for name in _SEEKING},
}


def _weight(value: Any) -> int:
    """Characters and elements in a value; a part that occurs several times counts each time."""
    known: dict[int, int] = {}

    def weigh(part: Any) -> int:
        if isinstance(part, (str, bytes)):
            return len(part)
        if not isinstance(part, (list, tuple, dict)):
            return 1
        if id(part) not in known:
            inside = [*part, *part.values()] if isinstance(part, dict) else part
            known[id(part)] = 1 + sum(map(weigh, inside))
        return known[id(part)]

    return weigh(value)


def _check_size(size: int) -> None:
    if size > MAX_CHARACTERS:
        raise SecurityError(f"a template may not build a value of {size} characters or elements")


def _not_json(value: Any) -> Any:
    raise TypeError(f"a {type(value_of(value)).__name__} is not JSON; end it in '| list'?")
