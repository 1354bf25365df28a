"""Guardrails: check what users ask and models answer, with the nemoguardrails library.

Covered:     configs, checks, guarded completions, the model list; content safety, self check and
             topic safety rails.
Not covered: other flows of the library, Colang and Python in a configuration: refused by name.
Differs:     a rail that cannot judge blocks; a key in the environment is sent to its vendor's
             servers only. docs/api-coverage.md has all of it.
Source:      https://docs.nvidia.com/nemo/microservices/latest/guardrails/index.html
"""
