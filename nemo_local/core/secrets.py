"""Secrets: masked in answers, restored where a client sends the mask back, and checked before use
in an HTTP header."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from nemo_local.core.errors import Invalid

Json = TypeVar("Json")

MASK = "******"
_SECRETS = ("api_key", "hf_token", "token")
_ENVIRONMENT = "additional_envs"
"""The field of environment variables, where more names are those of secrets."""
_SECRET_VARIABLES = ("_token", "_key", "secret", "password", "passwd")
_NAMED: dict[str, type] = {
    # an evaluation's
    "tasks": dict,
    "metrics": dict,
    "scores": dict,
    "groups": dict,
    "task_status": str,
    # a JSON schema's
    "properties": dict,
    "patternProperties": dict,
    "$defs": dict,
    "definitions": dict,
    "dependentRequired": list,
}
"""Fields whose keys are names that users choose, for values of this type: any may be `token`."""


def masked(value: Json, field: str = "", secret: bool = False) -> Json:
    """The same JSON value, below this field, with every secret hidden.

    masked({"api_key": "sk-1", "envs": {"NGC_API_KEY": ["a", "b"]}})
    -> {"api_key": "******", "envs": {"NGC_API_KEY": ["******", "******"]}}

    Objects and lists keep their shape; what is empty, zero or false is shown.
    """
    if isinstance(value, dict):
        shown = {
            key: masked(item, key, secret or _is_secret(key, item, field))
            for key, item in value.items()
        }
        return cast(Json, shown)
    if isinstance(value, list):
        return cast(Json, [masked(item, secret=secret) for item in value])
    return cast(Json, MASK) if secret and value else value


def restored(sent: Any, stored: Any) -> Any:
    """The value that was sent, with the stored secret in place of every mask.

    restored({"api_key": "******", "url": "new"}, {"api_key": "sk-1", "url": "old"})
    -> {"api_key": "sk-1", "url": "new"}

    List items may have moved or gone: an item is matched to the only stored one with its id, name
    and type, or to those whose masked form equals it; the last without a match to the last stored.

    Raises:
        Invalid: no secret is stored for a mask; the field is named.
    """
    found = _restored(sent, stored)
    refuse_masks(found)
    return found


def refuse_masks(
    sent: Any, place: tuple[str | int, ...] = ("body",), field: str = "", secret: bool = False
) -> None:
    """Raise Invalid, naming the field, where a mask was sent and there is no stored secret."""
    if isinstance(sent, dict):
        for key, item in sent.items():
            refuse_masks(item, (*place, key), key, secret or _is_secret(key, item, field))
    elif isinstance(sent, list):
        for index, item in enumerate(sent):
            refuse_masks(item, (*place, index), secret=secret)
    elif secret and sent == MASK:
        message = f"{MASK} stands for a secret that we do not show: send the secret itself"
        raise Invalid([{"type": "value_error", "loc": [*place], "msg": message, "input": sent}])


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


def _restored(sent: Any, stored: Any, field: str = "", secret: bool = False) -> Any:
    if isinstance(sent, dict):
        known = stored if isinstance(stored, dict) else {}
        return {
            key: _restored(item, known.get(key), key, secret or _is_secret(key, item, field))
            for key, item in sent.items()
        }
    if isinstance(sent, list):
        items = _counterparts(sent, stored if isinstance(stored, list) else [], secret)
        return [_restored(item, known, secret=secret) for item, known in items]
    return stored if secret and stored and sent == MASK else sent


def _counterparts(sent: list[Any], stored: list[Any], secret: bool) -> Iterator[tuple[Any, Any]]:
    """Each item that was sent with the stored one behind it; None where nothing tells which."""

    def look(item: Any) -> Any:
        return masked(item, secret=secret)

    found: dict[int, int] = {}
    # Items that look alike keep their secrets in order, as long as none was added or removed.
    for sign, most in ((_identity, 1), (look, len(sent))):
        places = _places(stored, sign)
        for key, here in _places(sent, sign).items():
            there = places.get(key, [])
            if len(here) == len(there) <= most:
                found |= zip(here, there, strict=True)
    new = set(range(len(sent))) - found.keys()
    old = set(range(len(stored))) - set(found.values())
    if len(new) == len(old) == 1:  # it was renamed
        found |= zip(new, old, strict=True)
    for place, item in enumerate(sent):
        yield item, stored[found[place]] if place in found else None


def _places(items: list[Any], look: Callable[[Any], Any]) -> dict[str, list[int]]:
    """The indices of a list's items, grouped by the JSON text of `look(item)`."""
    found = defaultdict[str, list[int]](list)
    for place, item in enumerate(items):
        found[json.dumps(look(item), sort_keys=True)].append(place)
    return found


def _identity(item: Any) -> Any:
    names = item if isinstance(item, dict) else {}
    return {key: names[key] for key in ("id", "name", "type") if key in names}


def _is_secret(key: str, value: Any, field: str) -> bool:
    """Whether all below this key of a field is secret."""
    lower = key.lower()
    named = isinstance(value, _NAMED.get(field, ()))
    endings = _SECRET_VARIABLES if field == _ENVIRONMENT else "_api_key"
    return not named and (lower in _SECRETS or lower.endswith(endings))
