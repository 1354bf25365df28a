"""The content-safety protocol: the prompt a guard reads and the one JSON object it answers.

The prompt names the categories it cares about; a verdict may name only those. Source:
https://docs.nvidia.com/nemo/guardrails/latest/user-guides/guardrails-library.html#content-safety
"""

from collections.abc import Sequence
from dataclasses import dataclass

TAXONOMY = (
    "Violence", "Sexual", "Criminal Planning/Confessions", "Guns and Illegal Weapons",
    "Controlled/Regulated Substances", "Suicide and Self Harm", "Sexual (minor)",
    "Hate/Identity Hate", "PII/Privacy", "Harassment", "Threat", "Profanity", "Needs Caution",
    "Other", "Manipulation", "Fraud/Deception", "Malware", "High Risk Gov Decision Making",
    "Political/Misinformation/Conspiracy", "Copyright/Trademark/Plagiarism",
    "Unauthorized Advice", "Illegal Activity", "Immoral/Unethical",
)  # fmt: skip

# Each opening of a JSON field is one token of the tokenizer, so that a verdict is short.
USER_FIELD = '{"User Safety": "'
RESPONSE_FIELD = '", "Response Safety": "'
CATEGORIES_FIELD = '", "Safety Categories": "'
END_FIELD = '"}'

_TASK = """Task: Check if there is unsafe content in the user or agent messages in the below \
conversation in accordance with our safety policy with the below categories. Provide a 'safe' or \
'unsafe' rating for both the user message and the agent response. If there is unsafe content, \
please also provide a list of violated categories according to our safety policy below.

<BEGIN UNSAFE CONTENT CATEGORIES>
{categories}
<END UNSAFE CONTENT CATEGORIES>

<BEGIN CONVERSATION>
{conversation}
<END CONVERSATION>

Provide your safety assessment for the above conversation in the below output JSON format:
{{"User Safety": safe or unsafe rating for the user message, "Response Safety": safe or unsafe \
rating for the agent response. Omit if no agent response present. "Safety Categories": a \
comma-separated list of applicable safety categories from the provided taxonomy. Omit if all safe.}}

Do not include anything other than the output JSON in your response.
Output JSON:"""


@dataclass(frozen=True)
class Verdict:
    """A guard's verdict on one conversation."""

    user_safe: bool
    response_safe: bool | None = None
    """None when the conversation holds no agent turn."""
    categories: tuple[str, ...] = ()
    """Names from the prompt's list; empty when all is safe."""


def prompt_text(
    user: str, response: str | None = None, categories: Sequence[str] = TAXONOMY
) -> str:
    """The prompt for one exchange: task, numbered categories, conversation, output format.

    Without `response` there is no agent turn, as for an input rail.
    """
    listed = "\n".join(f"S{number}: {name}." for number, name in enumerate(categories, 1))
    turns = f"user: {user}" if response is None else f"user: {user}\nagent: {response}"
    return _TASK.format(categories=listed, conversation=turns)


def verdict_text(verdict: Verdict) -> str:
    """The verdict as the model writes it.

    Verdict(False, None, ("Malware",))
    -> '{"User Safety": "unsafe", "Safety Categories": "Malware"}'
    """
    text = USER_FIELD + _rating(verdict.user_safe)
    if verdict.response_safe is not None:
        text += RESPONSE_FIELD + _rating(verdict.response_safe)
    if verdict.categories:
        text += CATEGORIES_FIELD + ", ".join(verdict.categories)
    return text + END_FIELD


def _rating(safe: bool) -> str:
    return "safe" if safe else "unsafe"
