"""rich: progress displays. How far their tasks have come is state; consoles, threads that draw, and times are not."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..graph import Node
from . import Handler, Kind, Registry
from .objects import emit_object, emit_passing
from .opaque import emit_inert

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

# Seconds since some moment of one process are worth nothing in another, but whether a task has finished is told by there being a time.
_TIMES = ("start_time", "stop_time", "finished_time", "finished_speed")
_SPEEDS = "_progress"
# A thread of `track` brings this up to date every so often, so it is restored and, with the times that go with it, not compared.
_COMPLETED = "completed"
# What was drawn last, which depends on when that was; Lightning's column of metrics keeps what it drew for each task.
_DRAWN = frozenset({"_renderable_cache", "_update_time"})
_COLUMNS = {
    "rich.progress.ProgressColumn": _DRAWN,
    **{
        f"{package}.callbacks.progress.rich_progress.MetricsTextColumn": _DRAWN | {"_tasks", "_current_task_id"}
        for package in ("lightning.pytorch", "pytorch_lightning")
    },
}


def _emit_task(w: Walker, obj: Any, token: int) -> Node:
    cls = type(obj)
    namespace = w.layout(cls).instance_dict(obj) or {}
    w.volatile[id(namespace)] = frozenset({_SPEEDS, _COMPLETED, *_TIMES})
    known = tuple([namespace.get(name) is not None for name in _TIMES])
    return ("task of rich", w.type_cell(cls), ("", namespace.get(_COMPLETED), *known), (), w.attrs(obj, cls, keep_empty=True))


class TaskKind(Kind):
    name = "task of rich"
    late = True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return r.layout(r.resolve(node[1])).make()

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[4] is not None:
            r.fill_early(node[4][0])
        namespace = obj.__dict__
        _, namespace[_COMPLETED], *times = node[2]
        namespace.setdefault(_SPEEDS, deque(maxlen=1000))
        for name, known in zip(_TIMES, times, strict=True):
            now = namespace.get(name)
            namespace[name] = (0.0 if now is None else now) if known else None


def _emit_console(w: Walker, obj: Any, token: int) -> Node:
    """What has been written is gone, unless the console keeps it to export it."""
    namespace = w.layout(type(obj)).instance_dict(obj) or {}
    return emit_object(w, obj, token) if namespace.get("record") else emit_inert(w, obj, token)


def register(reg: Registry) -> None:
    """Make this kind known."""
    reg.named["rich.progress.Task"] = Handler(_emit_task)
    for name, drawn in _COLUMNS.items():
        reg.named[name] = Handler(emit_passing(drawn))
    reg.named["rich.console.Console"] = Handler(_emit_console, serial=True)
    reg.named["rich.live.Live"] = Handler(emit_inert, serial=True)
    reg.kind(TaskKind())
