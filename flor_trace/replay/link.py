"""The line of messages between the coordinator and one worker: JSON, one message a line, over a socket."""

from __future__ import annotations

import json
import socket
from typing import Any

from flor_trace.store.files import move_up


class Link:
    """A worker's end: asks and tells, and waits for answers."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=move_up(descriptor))
        self._socket.set_inheritable(False)
        self._reader = self._socket.makefile("r", encoding="utf-8")

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a message; the coordinator does not answer it."""
        self._socket.sendall(json.dumps({"kind": kind, **fields}).encode() + b"\n")

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a message and wait for the answer.

        Raises:
            ConnectionError: the coordinator is gone.
        """
        self.tell(kind, **fields)
        line = self._reader.readline()
        if not line:
            raise ConnectionError("the replay's coordinator is gone")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Inbox:
    """The coordinator's end: collects complete messages without blocking."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._partial = b""

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived since; None when the worker has closed its end."""
        try:
            data = self.connection.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            return None
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def answer(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.connection.sendall(json.dumps(message).encode() + b"\n")
