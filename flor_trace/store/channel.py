"""Messages between the training process and the writer's: marshalled tuples over a Unix socket, each behind its length.

File descriptors travel with the message that names them. Both ends are of the same interpreter and version.
"""

from __future__ import annotations

import _socket as socket  # see `process_sink`
import array
import marshal
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LENGTH = struct.Struct("<Q")
_AT_ONCE = 1 << 18
_BUFFER = 1 << 20


class ChannelClosed(Exception):
    """The other end is gone."""


class Channel:
    """One end of the socket.

    Args:
        descriptor: the socket, owned by this object from now on.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._received = bytearray()
        self._descriptors: list[int] = []
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def send(self, message: tuple[Any, ...], descriptor: int | None = None) -> None:
        """Send a message, waiting until the other end has taken it; raises ChannelClosed."""
        payload = marshal.dumps(message)
        data = memoryview(_LENGTH.pack(len(payload)) + payload)
        try:
            sent = 0
            if descriptor is not None:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
                sent = self._socket.sendmsg([data[:_AT_ONCE]], rights)
            self._socket.sendall(data[sent:])
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self, *, wait: bool = True) -> tuple[tuple[Any, ...], int | None] | None:
        """The next message and the descriptor that came with it; None if `wait` is false and there is none. Raises ChannelClosed."""
        while (message := self._next()) is None:
            flags = 0 if wait else socket.MSG_DONTWAIT
            try:
                data, rights, _, _ = self._socket.recvmsg(_AT_ONCE, socket.CMSG_SPACE(4), flags | socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return None
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not data:
                raise ChannelClosed("the other end has closed")
            self._received += data
            for _, kind, body in rights:
                if kind == socket.SCM_RIGHTS:
                    self._descriptors += array.array("i", body)
        return message

    def close(self) -> None:
        """Close this end and descriptors that nobody asked for."""
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _next(self) -> tuple[tuple[Any, ...], int | None] | None:
        have = len(self._received)
        if have < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        end = _LENGTH.size + length
        if have < end:
            return None
        message = marshal.loads(memoryview(self._received)[_LENGTH.size : end])
        del self._received[:end]
        # Only the messages that name a slot bring a descriptor.
        return message, self._descriptors.pop(0) if message[0] == "slot" else None
