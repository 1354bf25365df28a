"""Secrets: masked in answers, restored where a client sends the mask back, and checked before use
in an HTTP header."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar, cast

from nemo_local.core.errors import Invalid

Json = TypeVar("Json")

MASK = "******"
_SECRETS = ("api_key", "hf_token", "token")


def masked(value: Json, in_schema: bool = False) -> Json:
    """The same JSON value with every secret hidden.

    masked({"api_key": "sk-1", "envs": {"NGC_API_KEY": "n"}})
    -> {"api_key": "******", "envs": {"NGC_API_KEY": "******"}}

    Under `properties`, as in a JSON schema, an object below such a key describes a parameter and
    is not hidden.
    """
    if isinstance(value, dict):
        hidden = {
            key: MASK
            if _hides(key, item) and not (in_schema and isinstance(item, dict))
            else masked(item, key == "properties")
            for key, item in value.items()
        }
        return cast(Json, hidden)
    return cast(Json, [masked(item) for item in value]) if isinstance(value, list) else value


def restored(sent: Any, stored: Any) -> Any:
    """The value that was sent, with the stored secret in place of every mask.

    restored({"api_key": "******", "url": "new"}, {"api_key": "sk-1", "url": "old"})
    -> {"api_key": "sk-1", "url": "new"}

    List items may have moved or gone: an item is matched to the only stored one with its id, name
    and type, or to those whose masked form equals it.

    Raises:
        Invalid: no secret is stored for a mask; the field is named.
    """
    found = _restored(sent, stored)
    refuse_masks(found)
    return found


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
    """A key or token fit for an HTTP header, stripped of white space; None when it is empty.

    usable_key("nvapi-1\n") -> "nvapi-1"

    Raises:
        ValueError: no header can carry it; the message does not reveal it.
    """
    text = str(key or "").strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("the key holds characters that no HTTP header can carry; copy it again")
    return text or None


def _restored(sent: Any, stored: Any) -> Any:
    if isinstance(sent, dict):
        known = stored if isinstance(stored, dict) else {}
        return {
            key: known[key]
            if item == MASK and _hides(key, known.get(key))
            else _restored(item, known.get(key))
            for key, item in sent.items()
        }
    if isinstance(sent, list):
        known_items = _counterparts(sent, stored if isinstance(stored, list) else [])
        return [_restored(item, known) for item, known in zip(sent, known_items, strict=True)]
    return sent


def _counterparts(sent: list[Any], stored: list[Any]) -> list[Any]:
    """The stored item behind each item that was sent; None where nothing tells which it is."""
    found: list[Any] = [None] * len(sent)
    # Items that look alike keep their secrets in order, as long as none was added or removed.
    for look, most in ((_identity, 1), (masked, len(sent))):
        places = _places(stored, look)
        for key, here in _places(sent, look).items():
            there = places.get(key, [])
            if len(here) == len(there) <= most:
                for place, index in zip(here, there, strict=True):
                    found[place] = stored[index]
    return found


def _places(items: list[Any], look: Callable[[Any], Any]) -> dict[str, list[int]]:
    """The indices of a list's items, grouped by the JSON text of `look(item)`."""
    found = defaultdict[str, list[int]](list)
    for place, item in enumerate(items):
        found[json.dumps(look(item), sort_keys=True)].append(place)
    return found


def _identity(item: Any) -> Any:
    names = item if isinstance(item, dict) else {}
    return {key: names[key] for key in ("id", "name", "type") if key in names}


def _hides(key: str, value: Any) -> bool:
    """Whether a value below this key is a secret."""
    return _is_secret(key) and value not in (None, "")


def _is_secret(key: str) -> bool:
    lower = key.lower()
    return lower in _SECRETS or lower.endswith("_api_key")
