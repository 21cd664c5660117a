"""Processes that the script starts run un-instrumented and unharmed.

Only a forked child holds anything of ours: it is switched off there. `spawn` and `forkserver` children and
subprocesses begin as plain interpreters, because the launcher leaves in `sys.argv`, `__main__` and the environment what
plain Python would have there.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def guard_forks(disable: Callable[[], None]) -> None:
    """Have `disable` called in every process forked from this one, before its own code runs."""
    os.register_at_fork(after_in_child=disable)
