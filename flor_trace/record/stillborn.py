"""Runs that hold nothing: a script that could not even be read, or whose imports failed, hides the last good run no more."""

from __future__ import annotations

import sys

from flor_trace.errors import FlorTraceError
from flor_trace.record.session import RecordSession
from flor_trace.store.deletion import delete_run
from flor_trace.store.writer import RunWriter


def why_nothing_was_run(session: RecordSession, status: int) -> str:
    """A clause that says how a script has ended before it did anything, empty if it did: it has entered no loop, printed nothing and
    written no file, and ended by an error in its text or in an import."""
    runtime = session.runtime
    if status != 1 or runtime.entries or session.printed or session.snapshots or session.files.state():
        return ""
    if not runtime.user_files:
        return "Python could not start the script"
    error = getattr(sys, "last_value", None)
    if not isinstance(error, (SyntaxError, ImportError)):
        return ""
    return f"the script ended by {type(error).__name__} before it did anything"


def discard(writer: RunWriter, store: str, why: str) -> str:
    """Delete the run of such a script, which has been closed; the sentence for the user."""
    try:
        delete_run(store, writer.run_id)
    except FlorTraceError as error:
        return f"{why}, and its run is kept only because it could not be deleted: {error}"
    return f"{why}, so no run of it is kept"
