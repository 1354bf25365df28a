"""Regular expressions in the spelling that xgrammar reads; it misreads others without a word."""

import re
import sys

_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u(?:[0-9A-Fa-f]{4}|\{[0-9A-Fa-f]+\})|.)", re.DOTALL)
_CLASS = r"\[\^?\](?:\\.|[^\]\\])*\]|\[\^?(?:\\.|[^\]\\])*\]?"
"""A class; a bracket that comes first in it is a character, as in Python, if another ends it."""
_SIGNS = re.compile(rf"{_CLASS}|{_ESCAPE.pattern}|\((?:\?:|\?<\w+>)?|.", re.DOTALL)
"""A class, an escape, the beginning of a group, or a character."""
_KNOWN = frozenset("dDwWsSnrtfvaecu")
"""Letters and digits that xgrammar takes for more than themselves after a backslash."""
_SHOWN = 80
"""Characters of an expression in an error."""
_FIRST_BRACKET = re.compile(r"^(\[\^?)\](?=.)", re.DOTALL)
_CARETS_FIRST = re.compile(r"\[(?:\\\^|\\u\{5e\})(?:\\\^|\\u\{5e\}|\^)*(.*)\]", re.DOTALL)
"""A class that begins with an escaped caret, which xgrammar would take for one that negates it."""
_EDGES = {"A": "^", "Z": "$", "z": "$"}


def readable(expression: str) -> str:
    r"""The expression as xgrammar reads it, which is from its first character to the last.

    r"\Aa\x41\Z" -> r"^a\u0041$"

    Raises:
        ValueError: it holds an escape that xgrammar would take for a letter, or that is no
            character, or looks for an edge in its middle.
    """
    signs = [_respelt(sign, expression) for sign in _SIGNS.findall(expression)]
    for anchor, from_its_edge in (("^", signs), ("$", _mirrored(signs))):
        if _stands_inside(anchor, from_its_edge):
            raise ValueError(
                f"{anchor} inside {expression[:_SHOWN]} is not supported: replies are held to an "
                "expression from end to end; leave it out, or escape it to mean the character"
            )
    return "".join(map(_caret_outside, signs))


def _respelt(sign: str, expression: str) -> str:
    if sign[0] == "\\" and sign[1:] in _EDGES:
        return _EDGES[sign[1:]]
    if sign == ".":
        return r"[^\n\r]"

    def escape(found: re.Match[str]) -> str:
        name = found[0][1:]
        if len(name) > 1:
            code = int(name[1:].strip("{}"), 16)
            if 0xD800 <= code <= 0xDFFF or code > sys.maxunicode:
                raise ValueError(
                    f"the escape \\{name} of {expression[:_SHOWN]} is not a whole character; "
                    "write the one that is meant, such as \\u{1F600}"
                )
            return f"\\u{{{code:x}}}"
        if name.isascii() and name.isalnum() and name not in _KNOWN:
            raise ValueError(
                f"the escape \\{name} of {expression[:_SHOWN]} is not supported; write the "
                "characters that it stands for, such as [0-9] or \\u0041"
            )
        return found[0]

    return _ESCAPE.sub(escape, _FIRST_BRACKET.sub(r"\1\\]", sign))


def _caret_outside(sign: str) -> str:
    r"""A class that begins with an escaped caret has it beside it: [\^-] -> (?:\^|[-])."""
    found = _CARETS_FIRST.fullmatch(sign)
    if not found:
        return sign
    rest = re.sub("^-(?=.)", "_-", found[1])  # a range from the caret: the next character is `_`
    return rf"(?:\^|[{rest}])" if rest else r"\^"


def _mirrored(signs: list[str]) -> list[str]:
    return [")" if sign[0] == "(" else "(" if sign == ")" else sign for sign in reversed(signs)]


def _stands_inside(anchor: str, signs: list[str]) -> bool:
    """Whether the anchor has anything but groups, or another anchor, before it."""
    first = [True]  # of each open group: whether nothing stands before what comes next
    for sign in signs:
        if sign[0] == "(":
            first.append(first[-1])
        elif sign == ")" and len(first) > 1:
            first.pop()
            first[-1] = False
        elif sign == "|":
            first[-1] = len(first) == 1 or first[-2]
        elif sign == anchor and not first[-1]:
            return True
        elif sign not in ("^", "$"):
            first[-1] = False
    return False
