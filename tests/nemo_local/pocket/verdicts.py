"""What a guard wrote, read strictly: the tests ask for more than the rails do."""

import json

from nemo_local.pocket.guard_prompt import Verdict


def parse_verdict(text: str) -> Verdict:
    """The verdict a model wrote.

    Raises:
        ValueError: the text is not one JSON object with "User Safety" safe or unsafe.
    """
    found = json.loads(text)
    ratings = [found.get(field) for field in ("User Safety", "Response Safety")]
    if ratings[0] not in ("safe", "unsafe") or ratings[1] not in ("safe", "unsafe", None):
        raise ValueError(f"not a safety verdict: {text!r}; expected safe or unsafe ratings")
    named = str(found.get("Safety Categories", ""))
    return Verdict(
        user_safe=ratings[0] == "safe",
        response_safe=None if ratings[1] is None else ratings[1] == "safe",
        categories=tuple(name.strip() for name in named.split(",") if name.strip()),
    )
