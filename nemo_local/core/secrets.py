"""Secrets: hidden where entities are shown, kept where a client sends back what it saw, and fit to
be sent."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from nemo_local.core.errors import Invalid

Json = TypeVar("Json")

MASK = "******"
_SECRETS = ("api_key", "hf_token", "token")


def masked(value: Json) -> Json:
    """The same JSON value with every secret hidden.

    masked({"api_key": "sk-1", "envs": {"NGC_API_KEY": "n"}})
    -> {"api_key": "******", "envs": {"NGC_API_KEY": "******"}}
    """
    if isinstance(value, dict):
        hidden = {
            key: MASK if _is_secret(key) and isinstance(item, str) and item else masked(item)
            for key, item in value.items()
        }
        return cast(Json, hidden)
    return cast(Json, [masked(item) for item in value]) if isinstance(value, list) else value


def restored(sent: Any, stored: Any) -> Any:
    """What was sent, with the stored secret in place of every mask; items of lists by position.

    restored({"api_key": "******", "url": "new"}, {"api_key": "sk-1", "url": "old"})
    -> {"api_key": "sk-1", "url": "new"}
    """
    if isinstance(sent, dict):
        known = stored if isinstance(stored, dict) else {}
        return {
            key: known.get(key)
            if item == MASK and _is_secret(key)
            else restored(item, known.get(key))
            for key, item in sent.items()
        }
    if isinstance(sent, list):
        known_items = stored if isinstance(stored, list) else []
        padded = [*known_items, *[None] * len(sent)]
        return [restored(item, known) for item, known in zip(sent, padded, strict=False)]
    return sent


def refuse_masks(sent: Any, place: tuple[str | int, ...] = ("body",)) -> None:
    """Raise Invalid, naming the field, where a mask was sent and there is no stored secret."""
    items: Any = ()
    if isinstance(sent, (dict, list)):
        items = sent.items() if isinstance(sent, dict) else enumerate(sent)
    for key, item in items:
        if item == MASK and isinstance(key, str) and _is_secret(key):
            message = f"{MASK} stands for a secret that we do not show: send the secret itself"
            loc = [*place, key]
            raise Invalid([{"type": "value_error", "loc": loc, "msg": message, "input": item}])
        refuse_masks(item, (*place, key))


def usable_key(key: object) -> str | None:
    """A key or token as a header carries it, without white space around it; None where it is empty.

    usable_key("nvapi-1\n") -> "nvapi-1"

    Raises:
        ValueError: no header can carry it; the message does not show it.
    """
    text = str(key or "").strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("the key holds characters that no HTTP header can carry; copy it again")
    return text or None


def _is_secret(key: str) -> bool:
    lower = key.lower()
    return lower in _SECRETS or lower.endswith("_api_key")
