"""Message texts and stream events, in the form OpenAI-compatible servers give them."""

from __future__ import annotations

import json
from typing import Any

LAST_EVENT = "data: [DONE]\n\n"
"""The event that ends a stream."""


def event(body: Any) -> str:
    """One server-sent event of a stream."""
    return f"data: {json.dumps(body)}\n\n"


def content_text(content: Any) -> str | None:
    """The text of a message's content, parts joined; None if it is neither text nor text parts.

    content_text([{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}]) -> "Paris"
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    return None
