"""Where workers run. An engine starts a worker and gives back the connection to it; nothing else knows processes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Protocol


class WorkerHandle(Protocol):
    """A started worker."""

    connection: socket.socket

    def wait(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""

    def kill(self) -> None:
        """End it at once, with every process that it started."""

    def errors(self) -> str:
        """The end of what it wrote to its standard error past Python's streams."""


class Engine(Protocol):
    """Starts workers."""

    def start(self, spec: Path, number: int) -> WorkerHandle:
        """Start worker `number` as described by the JSON file `spec`."""
