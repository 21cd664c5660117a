"""The writer's process before it is needed: forked off before the script's first large library is imported, and idle.

Then the training process is small and has no threads: those of its libraries would make forking unsafe later. Nobody can see the process
(`os.wait`, SIGCHLD), for it is forked twice. See `writer_process` for what it does once it is needed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as the next
import _socket  # `socket` builds enums first: 3 ms at start-up
import os
import time

from flor_trace.store.files import move_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# What the process says of its parent.
_ORPHAN, _ADOPTED = b"o", b"a"
_IGNORED = tuple(getattr(_signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "QUIT", "PIPE", "USR1", "USR2"))


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
    """Fork the idle process off; None where that is not to be had, or could be noticed."""
    if os.environ.get("FLOR_TRACE_WRITER") in ("thread", "foreground") or not hasattr(os, "memfd_create") or not _would_go_unnoticed():
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


def _would_go_unnoticed() -> bool:
    """Whether the script has no other thread, that could wait for children, and no handler for their ends; and whether this is not the
    first process of a container, which adopts orphans."""
    try:
        alone = len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False
    return alone and os.getpid() != 1 and _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_DFL


def _become_writer(its: _socket.socket, middle: int, trainer: int) -> NoReturn:
    """The life of the grandchild. It is of no use where the training process adopts orphans, for the script would find a child that it
    did not make."""
    while os.getppid() == middle:
        time.sleep(0.0001)
    if os.getppid() == trainer:
        its.send(_ADOPTED)
        os._exit(0)
    its.send(_ORPHAN)
    descriptor = move_up(its.detach())
    _detach(descriptor)
    # Until something comes it has imported nothing: then it costs a short script nothing.
    waiting = _socket.socket(fileno=descriptor)
    if not waiting.recv(1, _socket.MSG_PEEK):
        os._exit(0)
    from flor_trace.store.writer_process import serve

    serve(waiting.detach())


def _detach(descriptor: int) -> None:
    """Take nothing of the training process's along but this socket: not its terminal, its pipes, its signals."""
    os.setsid()
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_IGN)  # it ends when its work is done, and not before
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
