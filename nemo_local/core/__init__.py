"""What the services share: HTTP conventions, errors and client; documents and their queries; jobs,
ids, clock and secrets; chat templates, tool formats and completions; positions of longrope;
LLVM intrinsics for numba, and a disk cache of compiled kernels."""
