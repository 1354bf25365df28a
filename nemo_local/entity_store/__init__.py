"""Entity Store: namespaces, projects, datasets and models.

Covered:     create, list, retrieve, update, delete; filter, search, sort, pagination.
Not covered: PUT; versions and tags of older betas.
Differs:     fields of entities that name owners or other places are stored, never enforced.
             docs/api-coverage.md has all of it.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/entity-store.html
"""
