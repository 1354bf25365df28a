"""Data Store: namespaces, and a Hugging Face Hub-compatible API for dataset and model repositories.

Covered:     repositories, commits, trees, tags, branches, history, downloads with ranges, LFS
             (basic): what huggingface_hub, datasets, the hf command line and fsspec call for files.
Not covered: spaces, discussions, pull requests, moving a repository, settings, Xet, multipart LFS;
             Dataset.push_to_hub of `datasets`, which deletes a file before its commit unless it
             went through Xet or LFS: write the file and upload it instead.
Differs:     no Git underneath: contents by SHA-256, commits that point at them; contents that no
             commit names any more are removed at the next start; a client's Hub token is not read.
Source:      https://docs.nvidia.com/nemo/microservices/latest/api/datastore.html
             https://huggingface.co/docs/hub/api
"""
