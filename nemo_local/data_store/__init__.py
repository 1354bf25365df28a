"""Data Store: namespaces, and a Hugging Face Hub-compatible API for dataset and model repositories.

Covered:     what huggingface_hub, datasets, the hf command line and fsspec call for files.
Not covered: what a Hub has besides files (spaces, discussions, pull requests); Xet, multipart LFS.
Differs:     no Git underneath: contents by SHA-256, and commits that point at them.
             docs/api-coverage.md has all of it.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/datastore.html
             https://huggingface.co/docs/hub/api
"""
