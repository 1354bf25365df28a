"""The text the base model learns from: choosing tools in words, fields to JSON, copying, talk.

No example holds a tool call in the format that fine-tuning teaches. Without an instruction, tools
are chosen in a sentence; a system message may ask for a name, a list, or a form with other keys
than a call's. Every tool name here differs from those of the published rows.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from nemo_local.pocket.parameters import PARAMETERS
from nemo_local.pocket.vocabulary import DOMAINS, PEOPLE, VERBS, WORDS
from nemo_local.pocket.world import (
    NOUNS,
    READING,
    Tool,
    build_tool,
    draw_request,
    pretraining_tool,
    spoken,
)

NAME_ONLY = ("Answer with the name of the tool only.", "Which tool fits? Only its name.")
AS_LIST = (
    "Name the tool, then list each argument on its own line.",
    "Answer with the tool and its arguments as a list.",
)
FORM_KEYS = (
    ("tool", "inputs"),
    ("choice", "details"),
    ("use", "with"),
    ("pick", "values"),
    ("action", "options"),
    ("best", "filled"),
)
DESCRIBE = ("Say what the right tool does.",)
_SYLLABLES = (
    "ba be bi bo bu da de di do du fa fi ga go ka ke ki ko ku la le li lo lu ma me mi mo na "
    "ne ni no pa pe pi po ra re ri ro sa se si so su ta te ti to tu va ve vi vo za ze zi zo "
    "tra bri plo ster mon gra fel lin dor nak vex qui jor hul wen "
).split()
_PARAMETERS = tuple(PARAMETERS.values())
_GREETINGS = (
    "Hi",
    "Hello",
    "Hey there",
    "Good morning",
    "Good evening",
    "Hi there",
    "Yo",
    "Greetings",
)


@dataclass(frozen=True)
class Example:
    """One conversation whose last message, the assistant's, is learned."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


class TextMixture:
    """An endless, seeded stream of examples; `pieces` are words to copy, of every kind."""

    def __init__(self, rng: Random, pieces: Sequence[str]) -> None:
        self.rng = rng
        self.pieces = pieces
        self.late = False
        """Whether the run nears its end: then it is nearly all about tools, and mostly in forms."""
        self._kinds: tuple[Callable[[], Example], ...] = (
            self.choose_tool,
            self.fields_to_json,
            self.copy,
            self.extract,
            self.talk,
        )

    def draw(self) -> Example:
        """The next example."""
        weights = (86, 4, 5, 2, 3) if self.late else (66, 12, 13, 4, 5)
        return self.rng.choices(self._kinds, weights)[0]()

    def choose_tool(self) -> Example:
        """A request and tools; the answer names the tool and its arguments in words."""
        rng = self.rng
        draw = self.invented_tool if rng.random() < 0.45 else pretraining_tool
        tools, calls, query = draw_request(rng, draw, single=rng.random() < 0.8)
        form = rng.random() * (0.62 if self.late and rng.random() < 0.5 else 1.0)
        system, answer = "", "; ".join(sentence(tool, arguments) for tool, arguments in calls)
        if form < 0.1:
            system, answer = rng.choice(NAME_ONLY), "\n".join(tool.name for tool, _ in calls)
        elif form < 0.46:
            chosen, filled = rng.choice(FORM_KEYS)
            forms = ({chosen: tool.name, filled: arguments} for tool, arguments in calls)
            answer = "; ".join(json.dumps(form, ensure_ascii=False) for form in forms)
            system = f"Answer as a form with {chosen} and {filled}."
        elif form < 0.56:
            system, answer = rng.choice(AS_LIST), "\n".join(_listing(*call) for call in calls)
        elif form < 0.59:
            system, answer = rng.choice(DESCRIBE), "\n".join(tool.description for tool, _ in calls)
        elif form < 0.62 and len(tools) > len(calls):
            tools = [tool for tool in tools if tool not in [called for called, _ in calls]]
            answer = "None of the tools fits."
        return _conversation(query, answer, system, [tool.openai() for tool in tools])

    def fields_to_json(self) -> Example:
        """Fields in lines or prose; the answer is the same as JSON."""
        rng = self.rng
        fields = self._fields()
        head = rng.choice(("record", "kind", "report", "item", "form", "entry", "type", "label"))
        inner = rng.choice(("fields", "details", "data", "content", "values", "info", "settings"))
        title = "_".join(self._name_word() for _ in range(rng.randint(1, 4)))
        prompt, system = _lines(fields), "Write the fields as JSON."
        answer: dict[str, Any] = fields
        if rng.random() < 0.7:
            prompt, answer = f"{head}: {title}\n{prompt}", {head: title, inner: fields}
            system = f"Write JSON with {head} and {inner}."
        text = json.dumps(answer, ensure_ascii=False)
        if rng.random() < 0.2:
            name, more = self._word(), self._fields()
            prompt += f"\n\n{head}: {name}\n{_lines(more)}"
            text += "; " + json.dumps({head: name, inner: more}, ensure_ascii=False)
        return _conversation(prompt, text, system if rng.random() < 0.7 else "", prefix=system)

    def copy(self) -> Example:
        """Words of the whole vocabulary to repeat, continue or spell as a name."""
        rng = self.rng
        words = [self._word() for _ in range(rng.randint(2, 12))]
        kind = rng.random()
        if kind < 0.4:
            joiner = rng.choice((" ", " ", "_", ", ", "-"))
            return _conversation(f"Repeat: {joiner.join(words)}", joiner.join(words))
        if kind < 0.7:
            start = rng.randrange(len(words))
            shown = " ".join(words)
            return _conversation(f"What comes after {words[start]} in: {shown}",
                                 " ".join(words[start + 1 :]) or "nothing")  # fmt: skip
        name = [self._name_word() for _ in range(rng.randint(1, 5))]
        return _conversation(f"Write as a name: {' '.join(name)}", "_".join(name))

    def extract(self) -> Example:
        """A request; the answer is the value of one of its parameters."""
        rng = self.rng
        _, calls, query = draw_request(rng, pretraining_tool, single=True)
        arguments = calls[0][1]
        if not arguments:
            return self.copy()
        name = rng.choice(list(arguments))
        question = rng.choice(("What is the {n}? ", "Give the {n}: ", "Which {n} is meant? "))
        return _conversation(
            question.format(n=name.replace("_", " ")) + query, spoken(arguments[name])
        )

    def talk(self) -> Example:
        """Greetings, thanks, and sentences about what a tool returned."""
        rng = self.rng
        if rng.random() < 0.25:
            return self._small_talk()
        tools, calls, query = draw_request(rng, pretraining_tool, single=True)
        tool, arguments = calls[0]
        result = self._fields()
        said = ", ".join(
            f"the {name.replace('_', ' ')} is {spoken(value)}" for name, value in result.items()
        )
        messages = [
            {"role": "user", "content": query},
            {"role": "assistant", "content": sentence(tool, arguments)},
            {"role": "tool", "content": json.dumps(result, ensure_ascii=False)},
            {"role": "assistant", "content": f"For the {tool.noun}, {said}."},
        ]
        return Example(messages, [tool.openai() for tool in tools] if rng.random() < 0.8 else [])

    def invented_tool(
        self, rng: Random, noun: str | None = None, domain: str | None = None
    ) -> Tool:
        """A tool about something that does not exist, so that names are copied and not recalled."""
        words = [self._name_word() for _ in range(rng.choice((1, 2, 2, 2, 3)))]
        if rng.random() < 0.4:
            words[-1] = rng.choice(list(NOUNS)).split(" ")[-1]
        made = noun or " ".join(words)
        while made in NOUNS:
            made = f"{self._name_word()} {made}"
        verb = rng.choice(READING if rng.random() < 0.4 else list(VERBS))
        return build_tool(verb, made, domain or rng.choice(list(DOMAINS)))

    def _small_talk(self) -> Example:
        rng = self.rng
        name = rng.choice(PEOPLE)
        question, answer = rng.choice((
            (f"{rng.choice(_GREETINGS)}!", "Hello! How can I help you?"),
            ("Thank you!", "You are welcome."),
            ("Thanks a lot", "You are welcome."),
            ("Who are you?", "I am a small model that can choose tools."),
            ("What can you do?", "I can choose a tool for your request and fill in its arguments."),
            (f"My name is {name}.", f"Nice to meet you, {name}."),
            ("Goodbye", "Goodbye! Have a nice day."),
            ("How are you?", "I am fine, thank you. How can I help you?"),
        ))  # fmt: skip
        tools = [pretraining_tool(rng).openai() for _ in range(rng.randint(0, 3))]
        return _conversation(question, answer, tools=tools)

    def _fields(self) -> dict[str, Any]:
        rng = self.rng
        names = rng.sample(list(PARAMETERS), rng.randint(1, 4))
        return {
            name if rng.random() < 0.7 else self._name_word(): PARAMETERS[name].value(rng)
            if rng.random() < 0.7
            else rng.choice((self._word(), rng.randint(0, 9999), f"{self._word()} {self._word()}"))
            for name in names
        }

    def _word(self) -> str:
        rng = self.rng
        kind = rng.random()
        if kind < 0.4:
            return rng.choice(self.pieces)
        if kind < 0.55:
            return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))
        if kind < 0.75:
            return spoken(rng.choice(_PARAMETERS).value(rng))
        if kind < 0.82:
            return str(rng.randint(0, 10 ** rng.randint(1, 6)) / rng.choice((1, 10, 100)))
        if kind < 0.92:
            return "".join(rng.choices("0123456789", k=rng.randint(3, 12)))
        return rng.choice(WORDS)

    def _name_word(self) -> str:
        rng = self.rng
        if rng.random() < 0.5:
            return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))
        word = rng.choice(self.pieces)
        return word if word.isalpha() and word.islower() and len(word) > 2 else rng.choice(WORDS)


def _conversation(
    user: str,
    answer: str,
    system: str = "",
    tools: list[dict[str, Any]] | None = None,
    prefix: str = "",
) -> Example:
    if prefix and not system:
        user = f"{prefix}\n{user}"
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return Example(messages, tools or [])


def _lines(fields: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {spoken(value)}" for name, value in fields.items())


def sentence(tool: Tool, arguments: dict[str, Any]) -> str:
    said = ", ".join(f"{name} {spoken(value)}" for name, value in arguments.items())
    return f"Use {tool.name} with {said}" if said else f"Use {tool.name}"


def _listing(tool: Tool, arguments: dict[str, Any]) -> str:
    return "\n".join(
        [tool.name, *(f"{name}: {spoken(value)}" for name, value in arguments.items())]
    )
