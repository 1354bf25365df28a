"""The time, passed in so that tests choose it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present moment as a naive UTC datetime."""


def utc_now() -> datetime:
    """The present moment, naive UTC, as the platform writes it."""
    return datetime.now(UTC).replace(tzinfo=None)


def timestamp(moment: datetime) -> str:
    """A moment on the wire: `2025-06-20T03:58:16.182000`."""
    return moment.isoformat(timespec="microseconds")


def parse_timestamp(text: str) -> datetime:
    """A naive UTC datetime from ISO text with or without an offset; else ValueError."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
