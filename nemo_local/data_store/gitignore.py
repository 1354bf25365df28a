"""Which paths a .gitignore leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern


def ignored(rules: str, paths: Iterable[str]) -> set[str]:
    """The paths that a .gitignore with these rules, at the root, leaves out.

    ignored("*.log\\n!keep.log", ["a/b.log", "keep.log"]) -> {"a/b.log"}

    An invalid pattern matches nothing, as in Git.
    """
    patterns = []
    for line in rules.splitlines():
        try:
            patterns.append(GitIgnoreSpecPattern(line))
        except (GitIgnorePatternError, re.error):
            continue
    return set(GitIgnoreSpec(patterns).match_files(paths))
