"""Entity Store: namespaces, projects, datasets and models.

Covered:     create, list, retrieve, update, delete; filter, search, sort, pagination.
Not covered: PUT; versions and tags of older betas.
Differs:     what entities say of owners and of other places is stored, and never enforced.
             docs/api-coverage.md has all of it.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/entity-store.html
"""
