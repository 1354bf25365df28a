"""Which paths a .gitignore leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern


def ignored(rules: str, paths: Iterable[str]) -> set[str]:
    """Those of the paths that the rules of a .gitignore at the root leave out.

    ignored("*.log\\n!keep.log", ["a/b.log", "keep.log"]) -> {"a/b.log"}

    A line that is no pattern matches nothing, as in Git.
    """
    patterns = []
    for line in rules.splitlines():
        try:
            patterns.append(GitIgnoreSpecPattern(line))
        except (GitIgnorePatternError, re.error):
            continue
    return set(GitIgnoreSpec(patterns).match_files(paths))
