"""Deployment Management: which models the local NIM has loaded.

Covered:     model deployments and their configurations; creating loads, deleting unloads.
Not covered: `external_endpoint`; fields about a NIM's container have no effect.
Differs:     one deployment per served base model exists from the start.
             docs/api-coverage.md has all of it.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/deployment-management.html
"""
