"""What is done to libraries as they are imported where the script's writes are redirected (see `guard`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from flor_trace.runtime import guard
from flor_trace.runtime.native import LIBRARIES
from flor_trace.runtime.offline import COMPILERS, lend_temporaries
from flor_trace.runtime.trackers import TRACKERS, keep_offline


def guard_imports(on_import: Callable[[str, Callable[[], None]], object], scratch: Path) -> None:
    """Redirect what libraries write by themselves, keep trackers offline, and let compilers have temporary folders.

    Args:
        on_import: calls a function after the import of a module.
        scratch: the folder that may be written to.
    """
    for library in (*LIBRARIES, "sqlite3"):
        on_import(library, partial(guard.imported, library))
    for tracker in TRACKERS:
        on_import(tracker, partial(keep_offline, tracker, scratch))
    for compiler in COMPILERS:
        on_import(compiler, partial(lend_temporaries, compiler, scratch))
