"""The verbs of the four notebooks: one module for each service, and the pure ones.

Pure:     xlam, python_types, tool_schema, splits, intervals, model_view, jsonl, run_state
Services: data_store, entity_store, customizer, inference, evaluator, guardrails, deployment
Shared:   clients, http (plain requests), jobs (the one poll loop), errors
Display:  show, plots (the only modules that print or draw)

A function takes the client and the names it needs as arguments; nothing here reads `config`.
"""

import warnings

# tqdm, which huggingface_hub imports, asks every notebook without ipywidgets to install them.
# We show progress by other means, and the first output should be the run's own.
warnings.filterwarnings("ignore", message="IProgress not found")
