"""Identifiers in the platform's own form."""

import uuid

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def new_id(prefix: str) -> str:
    """A fresh id: the prefix and a random UUID in base 58.

    new_id("cust") -> "cust-FarcM8gwhL1XFDXQ57qGLL"
    """
    number, digits = uuid.uuid4().int, ""
    while number:
        number, remainder = divmod(number, len(ALPHABET))
        digits = ALPHABET[remainder] + digits
    return f"{prefix}-{digits}"
