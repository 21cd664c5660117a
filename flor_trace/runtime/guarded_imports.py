"""What is done to libraries as they are imported where the script's writes are redirected (see `guard`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from flor_trace.runtime import guard
from flor_trace.runtime.native import LIBRARIES
from flor_trace.runtime.offline import USERS_OF_TEMPORARIES, lend_temporaries
from flor_trace.runtime.trackers import TRACKERS, keep_offline


def guard_imports(on_import: Callable[[str, Callable[[], None]], object], scratch: Path) -> None:
    """Redirect what libraries write by themselves, keep trackers offline, and let programs see the temporary folders they are to work in.

    Args:
        on_import: calls a function after the import of a module.
        scratch: the folder that may be written to.
    """
    for library in (*LIBRARIES, "sqlite3"):
        on_import(library, partial(guard.imported, library))
    for tracker in TRACKERS:
        on_import(tracker, partial(keep_offline, tracker, scratch))
    for library in USERS_OF_TEMPORARIES:
        on_import(library, partial(lend_temporaries, library, scratch))
