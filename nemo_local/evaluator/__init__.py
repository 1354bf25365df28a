"""Evaluator: score a model's replies, row by row, with templates and metrics.

Covered:     configs, targets, jobs, results, live evaluation; `custom` configs with
             chat-completion, completion and data tasks; targets model, cached_outputs, rows,
             dataset; metrics tool-calling, string-check, number-check, em, f1, bleu, rouge.
Not covered: the metric llm-judge, groups, retriever and rag targets, prompt optimisation and
             every other config type; each is refused by name.
Differs:     jobs run on threads of the control plane, and begin again after it stopped; a
             template has a second and 10 million characters, and no filter or method that pads or
             formats; a result names the model that really answered.
Source:      https://docs.nvidia.com/nemo/microservices/latest/evaluate/index.html
"""
