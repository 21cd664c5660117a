"""The files that a run has written, as it has left them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from flor_trace.replay.history import History
from flor_trace.runtime.files import FileState
from flor_trace.runtime.position import END_OF_RUN
from flor_trace.store.reader import Run

_BLOCK = 1 << 20
_TEARDOWN_SECONDS = 10.0
"""How long the interpreter may take to close files after the script's end."""


def last_content(run: Run, history: History, path: str) -> Iterator[bytes] | str | None:
    """The content of a file at the end of a run, in parts; None if there was no file then.

    What was still in a file object at the end has reached the disk only when the interpreter closed it. So the file on disk is asked for
    more, if it begins with what was recorded and has not been written since.

    Returns:
        A clause that says why, where the content is not known.
    """
    ref = history.snapshots.get(history.last or END_OF_RUN)
    fields = None if ref is None else ref.files.get(path)
    if fields is None:
        return "what the file held at the end of the run is not known"
    state = FileState.from_json(fields)
    if state.kind != "file":
        return None
    if state.lost is not None:
        return f"the content of the file at the end of the run was not kept: {state.lost}"
    digests = [digest for digest, _ in state.chunks]
    if history.last is None and _holds_more(run, path, state.size) and _begins_with((run.blob(d) for d in digests), path):
        return _read(path)
    return (run.blob(digest) for digest in digests)


def _holds_more(run: Run, path: str, size: int) -> bool:
    """Whether a file on disk is as the run has left it, and larger than it was recorded."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    seconds = max((event["seconds"] for event in run.events("end")), default=0.0)
    ended = run.manifest["created"] + seconds + _TEARDOWN_SECONDS
    return stat.S_ISREG(found.st_mode) and found.st_size > size and found.st_mtime <= ended


def _begins_with(parts: Iterator[bytes], path: str) -> bool:
    with open(path, "rb") as file:
        return all(file.read(len(part)) == part for part in parts)


def _read(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while data := file.read(_BLOCK):
            yield data
