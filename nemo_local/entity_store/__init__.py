"""Entity Store: namespaces, projects, datasets and models.

Covered:     create, list, retrieve, update, delete; filter, search, sort, pagination.
Not covered: PUT; versions and tags of older betas.
Differs:     ownership and hf_endpoint are stored and echoed, never enforced; deleting a namespace
             leaves its entities; entities are rows of the platform's one document store.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/entity-store.html
"""
