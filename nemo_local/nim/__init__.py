"""NIM: inference behind an OpenAI-compatible API, in a process of its own.

Covered:     /v1/models, /v1/chat/completions (tools in the Llama, Hermes, Mistral and pythonic
             forms, tool_choice, streaming, logprobs, guided decoding), /v1/completions, health,
             metadata, version, metrics; base models and any number of LoRA adapters, found by
             polling the platform; requests of different adapters share one batch; or
             any OpenAI-compatible server that computes instead (NEMO_LOCAL_ENGINE_URL).
Not covered: embeddings and classification (404: no such model is installed); images (400);
             `echo` beside `logprobs` (400); adapters with DoRA, saved modules, trained biases or
             embeddings (refused by name).
Differs:     `max_tokens` beyond the context is cut to what fits; `tools: []` counts as absent;
             model listings carry `answered_by` and `stand_in`.
Source:      https://docs.nvidia.com/nim/large-language-models/latest/api-reference.html
"""
