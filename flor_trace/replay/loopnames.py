"""The names that the rewriter gave to the loops and functions of recorded source.

The rewriter itself is asked, on a tree of its own, so that there is one numbering only.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from flor_trace.instrument.rewrite import rewrite


@dataclass(frozen=True)
class SourceNames:
    """Recorded names by the line on which a loop or a function starts; two never start on one line."""

    loops: dict[int, str]
    functions: dict[int, str]


def source_names(tree: ast.Module, module: str) -> SourceNames:
    """Name the loops that are recorded and all functions of `tree`, which is consumed."""
    rewritten = rewrite(tree, module)
    return SourceNames(
        {info.lineno: info.key for info in rewritten.loops},
        {info.lineno: info.key for info in rewritten.functions},
    )
