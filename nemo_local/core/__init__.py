"""What the services share: HTTP conventions, errors, documents, jobs, ids, clock, client."""
