"""Where workers run. An engine starts a worker and gives back the connection to it; nothing else knows processes.

What every engine has to do is written down as tests: `tests/replay/engines/contract.py`, which a test of an engine subclasses.
Coordinator and workers see the same file system, under the same paths.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Protocol

WORKER = "flor_trace.replay.worker"
"""The module whose `main(spec, descriptor)` a worker runs."""


class WorkerHandle(Protocol):
    """A started worker.

    `connection` is a stream to the worker's end of the line (see `replay.link`). It can be waited for by `selectors`, and gives no more
    bytes once the worker has ended, however it did.
    """

    connection: socket.socket

    def wait(self) -> int:
        """Wait for its end, and end every process that it has left behind; the exit status, negative for a signal."""

    def kill(self) -> None:
        """End it at once, with every process that it started; nothing happens if it has ended already."""

    def errors(self) -> str:
        """The end (some 2,000 characters) of what it wrote to its standard error past Python's streams."""


class Engine(Protocol):
    """Starts workers: each a fresh interpreter with the recorded flags, environment and working directory, in which no module of the
    working directory can stand in for one of ours, whose standard streams lead nowhere near the replay's own, and which does not
    outlive the replay."""

    def start(self, spec: Path, number: int) -> WorkerHandle:
        """Start worker `number` as described by the JSON file `spec`."""
