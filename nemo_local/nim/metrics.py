"""What the engine did, counted, as Prometheus text.

Source: https://docs.nvidia.com/nim/large-language-models/latest/observability.html
"""

import threading
import time
from collections import Counter

_COUNTERS = {
    "prompt_tokens_total": "Prompt tokens read.",
    "generation_tokens_total": "Tokens written.",
}
_SUMMARIES = {
    "time_to_first_token_seconds": "From arrival to the first token.",
    "e2e_request_latency_seconds": "From arrival to the last token.",
}


class Metrics:
    """Counters and sums, safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._finished: Counter[str] = Counter()
        self._sums: dict[str, float] = dict.fromkeys(_SUMMARIES, 0.0)
        self._counts: Counter[str] = Counter()

    def count(self, name: str, amount: int) -> None:
        """Add to one of the counters."""
        with self._lock:
            self._totals[name] += amount

    def finished(self, reason: str, arrived: float) -> None:
        """One reply ended; `arrived` is its time.monotonic() (seconds)."""
        with self._lock:
            self._finished[reason] += 1
        self.observe("e2e_request_latency_seconds", arrived)

    def observe(self, name: str, since: float) -> None:
        """Record the time since `since` (time.monotonic() seconds) in one of the summaries."""
        with self._lock:
            self._sums[name] += time.monotonic() - since
            self._counts[name] += 1

    def text(self, running: int, waiting: int, cache_use: float) -> str:
        """Everything in the Prometheus text format; `cache_use` is a share between 0 and 1."""
        lines = [
            *_block("num_requests_running", "gauge", "Replies in writing.", [("", running)]),
            *_block("num_requests_waiting", "gauge", "Replies not begun.", [("", waiting)]),
            # NIM's name for it, on any device.
            *_block("gpu_cache_usage_perc", "gauge", "Share of the KV cache.", [("", cache_use)]),
        ]
        with self._lock:
            for name, about in _COUNTERS.items():
                lines += _block(name, "counter", about, [("", self._totals[name])])
            samples = [
                (f'{{finished_reason="{reason}"}}', number)
                for reason, number in sorted(self._finished.items())
            ]
            lines += _block("request_success_total", "counter", "Replies that ended.", samples)
            for name, about in _SUMMARIES.items():
                values = [("_sum", self._sums[name]), ("_count", self._counts[name])]
                lines += _block(name, "summary", about, values)
        return "\n".join(lines) + "\n"


def _block(
    name: str, kind: str, about: str, samples: list[tuple[str, int]] | list[tuple[str, float]]
) -> list[str]:
    head = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    return [*head, *(f"{name}{suffix} {value}" for suffix, value in samples)]
