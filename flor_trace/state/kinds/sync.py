"""Locks, thread-local values, and queues in C: held or free, they can be built anew."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import Node
from . import Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_local: Any = threading.local


def _emit_lock(w: Walker, obj: Any, token: int) -> Node:
    return ("lock", None, ("Lock", int(obj.locked())), (), None)


def _emit_rlock(w: Walker, obj: Any, token: int) -> Node:
    return ("lock", None, ("RLock", _depth(obj)), (), None)


def _depth(lock: Any) -> int:
    """How often this thread has taken a reentrant lock; what another thread holds is that thread's."""
    if not lock._is_owned():
        return 0
    return int(repr(lock).partition("count=")[2].split()[0])


class LockKind(Kind):
    """Whether a lock is held is restored but not compared: at a boundary another thread may hold it for a moment."""

    name = "lock"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return type(live) is (_LOCK if node[2][0] == "Lock" else _RLOCK)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return threading.Lock() if node[2][0] == "Lock" else threading.RLock()

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[2][0] == "RLock" and node[2][1] and not obj.acquire(blocking=False):
            raise NotRestorable(r.path(token), "another thread holds this lock")
        if node[2][0] == "RLock" and node[2][1]:
            obj.release()

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        form, wanted = node[2]
        if form == "Lock":
            if wanted and not obj.locked():
                obj.acquire(blocking=False)
            elif not wanted and obj.locked() and threading.active_count() == 1:
                obj.release()
            return
        while _depth(obj) > wanted:
            obj.release()
        while _depth(obj) < wanted:
            obj.acquire(blocking=False)


def _own(obj: Any) -> dict[str, Any]:
    """This thread's namespace of a `threading.local`, which is in no slot of its type."""
    namespace: dict[str, Any] = _local.__getattribute__(obj, "__dict__")
    return namespace


def _emit_local(w: Walker, obj: Any, token: int) -> Node:
    return ("thread-local", None, None, (w.cell(_own(obj)),), None)


class LocalKind(Kind):
    """What the main thread sees of a `threading.local`."""

    name = "thread-local"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return threading.local()

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        r.fill_early(node[3][0])
        present, wanted = _own(obj), r.resolve(node[3][0])
        if present is not wanted:
            present.clear()
            present.update(wanted)


def _emit_simple_queue(w: Walker, obj: Any, token: int) -> Node:
    return ("simple queue", None, obj.qsize(), (), None)


class SimpleQueueKind(Kind):
    """One that is empty; what lies in another cannot be seen without taking it out."""

    name = "simple queue"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return queue.SimpleQueue()

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[2] or obj.qsize():
            raise NotRestorable(r.path(token), "what waits in a SimpleQueue cannot be seen")


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(_LOCK, Handler(_emit_lock))
    reg.add(_RLOCK, Handler(_emit_rlock))
    reg.add(_local, Handler(_emit_local))
    reg.add(queue.SimpleQueue, Handler(_emit_simple_queue))
    for kind in (LockKind(), LocalKind(), SimpleQueueKind()):
        reg.kind(kind)
