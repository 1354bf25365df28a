"""Deployment Management: which models the local NIM has loaded.

Covered:     model deployments and their configurations: create, list, retrieve, update, delete;
             creating loads a model into NIM, deleting unloads it and the adapters on it.
Not covered: `external_endpoint` (422; point NEMO_LOCAL_NIM_URL at such an endpoint instead);
             image, GPU count, volume and environment of a NIM are kept and change nothing.
Differs:     a duplicate is 409, not 500, with the same text; one deployment per served base model
             exists from the start.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/deployment-management.html
"""
