"""What the import of a library in a hindsight statement leaves behind: variables of the environment, warning filters, loggers.

None of it is the recorded program's, which has not imported the library there. Environment and filters are put back behind the
statement; loggers and tables of hooks that came with the library are passed over by the comparison.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any, NamedTuple

from flor_trace.state import library, loghandlers, torch_hooks


class Before(NamedTuple):
    """What there was before a hindsight statement: how many modules, the environment, the filters, and how many loggers."""

    modules: int
    environment: dict[Any, Any]
    filters: list[Any]
    loggers: int


class Imported:
    """Follows what hindsight statements import.

    Attributes:
        roots: the names of the roots of a walk that have come with libraries that only hindsight statements have imported so far.
    """

    def __init__(self) -> None:
        self.roots: set[str] = set()

    def before(self) -> Before:
        """A hindsight statement begins."""
        environment: Any = os.environ
        return Before(len(sys.modules), environment._data.copy(), list(warnings.filters), len(logging.Logger.manager.loggerDict))

    def after(self, before: Before) -> None:
        """It has ended: where it has imported something, put back what that has set."""
        if len(sys.modules) == before.modules:
            return
        environment: Any = os.environ
        if environment._data != before.environment:
            wanted = {environment.decodekey(key): environment.decodevalue(value) for key, value in before.environment.items()}
            library.set_environment(wanted)
        if list(warnings.filters) != before.filters:
            library.set_filters(before.filters)
        new = list(logging.Logger.manager.loggerDict)[before.loggers :]
        self.roots.update(loghandlers.root_of(name) for name in new)
        self.roots.update(torch_hooks.capture())
