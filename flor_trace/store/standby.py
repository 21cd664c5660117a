"""The writer's process before it is needed: forked off before the script starts, and idle.

Then the training process has no threads, no libraries and nobody who waits for children. Started later, the process could be seen by
the script (`os.wait`, SIGCHLD), and forking would be unsafe. See `writer_process` for what it does once it is needed.
"""

from __future__ import annotations

import _socket  # `socket` builds enums first: 3 ms at start-up
import os
import time

from flor_trace.store.files import move_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# What the process says of its parent.
_ORPHAN, _ADOPTED = b"o", b"a"


class Standby:
    """The idle process, as seen from the training process: one end of its socket."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def take(self) -> int:
        """The socket, for who uses it from now on."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def dismiss(self) -> None:
        """Let the process end unless it is in use."""
        if self._descriptor >= 0:
            os.close(self.take())


def stand_by() -> Standby | None:
    """Fork the idle process off; None where that is not to be had. Must be called before the script starts."""
    if os.environ.get("FLOR_TRACE_WRITER") == "thread" or not hasattr(os, "memfd_create"):
        return None
    mine, its = _socket.socketpair()
    trainer = os.getpid()
    try:
        child = os.fork()
    except OSError:
        mine.close()
        its.close()
        return None
    if child == 0:
        # Forked twice: what nobody waits for must not be a child of the script.
        try:
            middle = os.getpid()
            if os.fork() == 0:
                mine.close()
                _become_writer(its, middle, trainer)
        finally:
            os._exit(0)
    its.close()
    os.waitpid(child, 0)
    said = mine.recv(1)
    if said == _ORPHAN:
        return Standby(move_up(mine.detach()))
    mine.close()
    if said == _ADOPTED:
        os.wait()
    return None


def _become_writer(its: _socket.socket, middle: int, trainer: int) -> NoReturn:
    """The life of the grandchild. It is of no use where the training process adopts orphans, as the first process of a container
    does: the script would find a child that it did not make."""
    while os.getppid() == middle:
        time.sleep(0.0001)
    if os.getppid() == trainer:
        its.send(_ADOPTED)
        os._exit(0)
    its.send(_ORPHAN)
    from flor_trace.store.writer_process import serve

    serve(move_up(its.detach()))
