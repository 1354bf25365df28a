"""The verbs of the four notebooks: one module for each service, and the pure ones.

Pure:     xlam, tool_schema, jsonl, errors, run_state
Services: data_store, entity_store, customizer, inference, evaluator, guardrails, deployment
Shared:   http (the one HTTP client), jobs (the one poll loop)
To look:  show, plots (the only modules that print or draw)

A function takes the client and the names it needs as arguments; nothing here reads `config`.
"""
