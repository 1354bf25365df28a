"""Shows a reader headings, examples, replies, tables and progress.

Progress is a bar in a terminal, one updating display in Jupyter, and plain lines elsewhere (CI).
"""

import html
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal

import pandas as pd
from tqdm import tqdm

from utils import customizer, plots
from utils.inference import ServedModel
from utils.intervals import Proportion
from utils.jobs import OnUpdate, Progress

LINE_EVERY = 0.25
"""Share of the work after which plain progress prints another line."""

Mode = Literal[
    "terminal",  # a person at a prompt: a bar that redraws itself
    "jupyter",  # a notebook: one display that is replaced
    "lines",  # a log: a line now and then
]


def where(
    services: Mapping[str, tuple[str, str]],
    models: Sequence[str],
    served: Sequence[ServedModel],
    size: str,
) -> None:
    """Print the URLs of {service: (setting, url)}, who really answers for each model, and when."""
    print(f"Platform  {', '.join(dict.fromkeys(url for _, url in services.values()))}")
    for model in models:
        found = next((line for line in served if line.id == model), None)
        if found is None:
            answer = "not served yet"
        elif found.is_stand_in:
            answer = f"answered by the stand-in {found.answered_by}"
        else:
            answer = "answered by the model itself"
        print(f"Model     {model}, {answer}")
    _size_and_date(size)


def data_source(dataset: str, endpoint: str, model: str, size: str) -> None:
    """Print which rows, from where, for which model, and when: the first output of notebook 1."""
    print(f"Platform  {endpoint}")
    print(f"Rows      {dataset}")
    print(f"Model     {model}, which notebook 2 trains on them")
    _size_and_date(size)


def versions(*packages: str) -> None:
    """Print the versions that this run used."""
    print("Python", platform.python_version())
    for package in packages:
        print(package, metadata.version(package))


def compact(value: Any) -> str:
    """A value as one line of JSON, as it travels in a message."""
    return json.dumps(value, ensure_ascii=False)


def as_json(value: Any, limit: int = 2000) -> None:
    """Print a value as indented JSON, cut after `limit` characters."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    print(
        text if len(text) <= limit else f"{text[:limit]}\n... {len(text) - limit} more characters"
    )


def example(row: Mapping[str, Any]) -> None:
    """Print one training example turn by turn: the question, the tools, the call."""
    for message in row["messages"]:
        text = message.get("content") or ""
        if text:
            print(f"{message['role']:>10}: {text}")
        for call in message.get("tool_calls") or []:
            print(f"{message['role']:>10}: {call_text(call['function'])}")
    for tool in row.get("tools") or []:
        print(f"{'tool':>10}: {signature(tool['function'])}")
    for call in row.get("tool_calls") or []:
        print(f"{'expected':>10}: {call_text(call['function'])}")


def reply(message: Any) -> None:
    """Print an assistant message of the OpenAI client: its text and its calls."""
    if message.content:
        print(f"text: {shorten(message.content)}")
    for call in message.tool_calls or []:
        print(f"call: {call.function.name}({call.function.arguments})")
    if not message.content and not message.tool_calls:
        print("(an empty reply)")


def shorten(text: str, limit: int = 200) -> str:
    """The text on one line, cut after `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]} ..."


def signature(function: Mapping[str, Any]) -> str:
    """`get_weather(city: string, days?: integer)`: a tool as a reader would write it."""
    parameters = function.get("parameters") or {}
    required = parameters.get("required") or []
    shown = [
        f"{name}{'' if name in required else '?'}: {schema.get('type', 'any')}"
        for name, schema in (parameters.get("properties") or {}).items()
    ]
    return f"{function['name']}({', '.join(shown)})"


def call_text(call: Mapping[str, Any]) -> str:
    """`get_weather(city="Oslo")`: a call as a reader would write it."""
    arguments = call.get("arguments")
    if not isinstance(arguments, Mapping):
        return f"{call['name']}({arguments})"
    shown = [f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in arguments.items()]
    return f"{call['name']}({', '.join(shown)})"


def table(rows: Iterable[Mapping[str, Any]]) -> "Table":
    """Rows as a table that a notebook renders: one column for each key of the first row."""
    return Table(pd.DataFrame(list(rows)))


@dataclass(frozen=True)
class Table:
    """A data frame without its index: HTML in a notebook, aligned text elsewhere."""

    frame: pd.DataFrame

    def __repr__(self) -> str:
        if self.frame.empty:
            return "(no rows)"
        return str(self.frame.to_string(index=False))

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return "(no rows)"
        head = "".join(_cell("th", name) for name in self.frame.columns)
        body = "".join(
            f"<tr>{''.join(_cell('td', row[name]) for name in row)}</tr>"
            for row in self.frame.to_dict("records")
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def share(rate: Proportion) -> str:
    """`0.92 [0.88, 0.95]`: a rate with its 95 % interval."""
    low, high = rate.interval
    return f"{rate.value:.2f} [{low:.2f}, {high:.2f}]"


def progress() -> OnUpdate:
    """A callback for one wait: `wait_for(..., on_update=show.progress())`."""
    mode = _mode()
    if mode == "terminal":
        return _Bar()
    return _Display() if mode == "jupyter" else _Lines()


def training() -> OnUpdate:
    """A callback for one training job: progress, and in Jupyter the loss curve as it grows."""
    return _LossDisplay() if _mode() == "jupyter" else progress()


def duration(seconds: float) -> str:
    """`2 min 41 s`, or `8.4 s` below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _size_and_date(size: str) -> None:
    print(f"Size      {size}")
    print(f"Date      {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")


class _Lines:
    """A line when the status changes and for each quarter of the work."""

    def __init__(self) -> None:
        self._last: tuple[str, int] | None = None

    def __call__(self, now: Progress) -> None:
        mark = (now.status, int((now.fraction or 0.0) / LINE_EVERY))
        if mark != self._last:
            self._last = mark
            print(_line(now), flush=True)


class _Bar:
    """A tqdm bar in hundredths of the work."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __call__(self, now: Progress) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=100, desc=now.what, bar_format="{desc}: {n:.0f}%|{bar}| {postfix}"
            )
        self._bar.set_postfix_str(f"{now.status}, {duration(now.elapsed_s)}{_loss(now)}")
        self._bar.update(100 * (now.fraction or 0.0) - self._bar.n)
        if _is_over(now):
            self._bar.close()


class _Display:
    """One line of the notebook, replaced at each look; the last one stays as plain text."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, now: Progress) -> None:
        line = _Line(now)
        if self._handle is None:
            self._handle = _display(line)
        else:
            self._handle.update(line)


class _LossDisplay(_Display):
    """The line, and below it the loss curve, redrawn when the job has logged another loss.

    Once the job is over the curve goes; the notebook's next cell draws the final one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._figure: Any = None
        self._points = 0

    def __call__(self, now: Progress) -> None:
        super().__call__(now)
        if _is_over(now):
            if self._figure is not None:
                self._figure.update({"text/plain": ""}, raw=True)
            return
        if now.value is None:
            return
        series = customizer.losses(now.value.status_details)
        points = sum(len(values) for values in series.values())
        if points <= self._points:
            return
        self._points = points
        picture = plots.loss_curve(series)
        if self._figure is None:
            self._figure = _display(picture)
        else:
            self._figure.update(picture)


class _Line:
    """A look at a job: HTML with a bar while it lasts, a sentence once it is over."""

    def __init__(self, now: Progress) -> None:
        self._now = now

    def __repr__(self) -> str:
        return _line(self._now)

    def _repr_html_(self) -> str:
        text = f"<code>{html.escape(_line(self._now))}</code>"
        if _is_over(self._now) or self._now.fraction is None:
            return text
        return f'<progress max="1" value="{self._now.fraction:.3f}"></progress> {text}'


def _line(now: Progress) -> str:
    share = "" if now.fraction is None or _is_over(now) else f" {now.fraction:.0%}"
    return f"{now.what}: {now.status}{share} after {duration(now.elapsed_s)}{_loss(now)}"


def _loss(now: Progress) -> str:
    """`, loss 0.412` where the thing looked at is a training job that has logged one."""
    details = getattr(now.value, "status_details", None)
    if getattr(details, "metrics", None) is None:
        return ""
    values = customizer.losses(now.value.status_details)["train_loss"]
    return f", loss {values[-1][1]:.3f}" if values else ""


def _is_over(now: Progress) -> bool:
    return now.status in ("completed", "failed", "cancelled")


def _cell(tag: str, value: Any) -> str:
    """A left-aligned HTML cell; line breaks stay."""
    text = html.escape(str(value)).replace("\n", "<br>")
    return f'<{tag} align="left" style="text-align: left">{text}</{tag}>'


def _display(thing: Any) -> Any:
    """A handle whose `update` replaces what the notebook shows."""
    from IPython.display import DisplayHandle  # there wherever a notebook is

    handle: Any = DisplayHandle()  # type: ignore[no-untyped-call]
    handle.display(thing)
    return handle


def _mode() -> Mode:
    if os.environ.get("CI"):
        return "lines"
    if "ipykernel" in sys.modules:
        return "jupyter"
    return "terminal" if sys.stderr.isatty() else "lines"
