"""Evaluator: score a model's replies, row by row, with templates and metrics.

Covered:     configs, targets, jobs, results, live evaluation; `custom` configs.
Not covered: every other config type, the metric llm-judge: refused by name.
Differs:     jobs run on threads of the control plane; templates have limits of time and size.
             docs/api-coverage.md has all of it.
Source:      https://docs.nvidia.com/nemo/microservices/latest/evaluate/index.html
"""
