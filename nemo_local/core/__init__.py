"""What the services share: of HTTP its conventions, errors and client; documents and their queries,
jobs, ids, clock, secrets; chat templates, tool formats and completions; LLVM's words for numba, and
kernels that are compiled and kept on disk."""
