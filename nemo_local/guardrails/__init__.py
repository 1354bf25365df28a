"""Guardrails: check what users ask and models answer, with the nemoguardrails library.

Covered:     configs (create, list, retrieve, update, delete), checks, guarded chat and text
             completions, the model list; content safety, self check and topic safety rails.
Not covered: other flows of the library, Colang and Python of a configuration, config folders,
             action servers, tracing, Colang 2, reasoning traces; each is refused by name.
Differs:     a rail that cannot judge blocks, and its message says why; verdicts are not cached,
             whatever `models[].cache` says; the answer's rails judge a stream of several choices
             whole, even with `rails.output.streaming`; a prompt's template may compute for one
             second, and knows no `**`; a key of the environment goes to its own servers alone.
Source:      https://docs.nvidia.com/nemo/microservices/latest/guardrails/index.html
"""
