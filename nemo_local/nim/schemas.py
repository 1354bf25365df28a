"""What clients may send. Fields we do not know are ignored, as NIM does.

Source: https://docs.nvidia.com/nim/large-language-models/latest/api-reference.html
"""

from typing import Any, Literal

from pydantic import BaseModel


class StreamOptions(BaseModel):
    """What a streamed reply carries besides text."""

    include_usage: bool | None = None


class ResponseFormat(BaseModel):
    """The form a reply must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class Guides(BaseModel):
    """NIM's own ways to constrain a reply; they come in `nvext` or at top level."""

    guided_json: dict[str, Any] | str | None = None
    guided_choice: list[str] | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None


class Extensions(Guides):
    """`nvext`."""

    ignore_eos: bool | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None


class SamplingFields(Guides):
    """What chat and plain completions have in common; null always means the default."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    nvext: Extensions | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(SamplingFields):
    """The body of POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class CompletionRequest(SamplingFields):
    """The body of POST /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool | None = None
    logprobs: int | None = None


class InputRequest(BaseModel):
    """The body of POST /v1/embeddings and of POST /v1/classify."""

    model: str
    input: str | list[str]
