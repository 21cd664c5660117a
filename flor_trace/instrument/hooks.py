"""What a recording or replaying session gives to instrumentation. Not imported at start-up, for its types only."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Protocol

from .infos import RewrittenInfo


class Hooks(Protocol):
    """A session, as instrumentation sees it."""

    def resolver(self, rewritten: RewrittenInfo, filename: str, source: bytes) -> Callable[[str], object]:
        """Give the live probes of one module, by placeholder. Called once per module that is executed, also for one that
        had to be left as it is (`rewritten.plain_because`)."""

    def annotate(self, tree: ast.Module, module: str, filename: str, source: bytes) -> bool:
        """Mark `tree` for replay and say whether anything was marked; recording returns False.

        Hooks that never mark may set the attribute `annotates = False`, so that cached code needs no parsing.
        """
