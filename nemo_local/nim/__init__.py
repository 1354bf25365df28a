"""NIM: inference behind an OpenAI-compatible API, in a process of its own.

Covered:     models, chat and text completions, health, metadata, metrics; base models and LoRA
             adapters, computed here or by another OpenAI-compatible server.
Not covered: embeddings, classification, images; some of JSON Schema; adapters of other kinds.
Differs:     `max_tokens` beyond the context is cut; listings say who answers.
             docs/api-coverage.md has all of it.
Source:      https://docs.nvidia.com/nim/large-language-models/latest/api-reference.html
"""
