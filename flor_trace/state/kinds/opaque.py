"""What cannot or must not be captured: the live object is kept, and its progress compared where it shows any."""

from __future__ import annotations

import functools
import gc
import io
import logging
import mmap
import socket
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import Cell, Node
from ..layout import has_python_method, type_name
from . import Handler, Kind, Registry
from .containers import identical

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


def _node(description: str, signature: Any = None, cells: tuple[Cell, ...] = ()) -> Node:
    return ("opaque", None, (description, signature), cells, None)


def _emit(w: Walker, obj: Any, token: int) -> Node:
    return _node(type_name(type(obj)))


def _module_atom(w: Walker, obj: types.ModuleType) -> Cell:
    name = types.ModuleType.__getattribute__(obj, "__dict__").get("__name__")
    return ("module", name) if type(name) is str and sys.modules.get(name) is obj else None


def _logger_atom(w: Walker, obj: logging.Logger) -> Cell:
    name = obj.__dict__.get("name")
    known = logging.Logger.manager.loggerDict.get(name) if type(name) is str else None
    if obj is logging.Logger.root:
        return ("logger", "")
    return ("logger", name) if known is obj else None


def emit_running(w: Walker, obj: Any, token: int) -> Node:
    """Where it stands, and what it holds (`f_locals` would keep rebound objects alive on 3.11 and 3.12)."""
    kind = type(obj).__name__
    prefix = {"generator": "gi", "coroutine": "cr", "async_generator": "ag"}[kind]
    frame = getattr(obj, f"{prefix}_frame")
    code = getattr(obj, f"{prefix}_code")
    signature = (code.co_qualname, frame.f_lasti if frame is not None else None)
    held = [] if frame is None else gc.get_referents(obj)
    cells = [w.cell(inner) for inner in held if inner is not obj.__name__ and inner is not obj.__qualname__
             and type(inner) is not types.CodeType and type(inner) is not types.FrameType]  # fmt: skip
    return _node(f"{kind} {code.co_qualname}", signature, tuple(cells))


def _lru_cache(w: Walker, obj: Any, token: int) -> Node:
    info = functools._lru_cache_wrapper.cache_info(obj)
    held = gc.get_referents(obj)
    namespace = w.layout(type(obj)).instance_dict(obj)
    cells = [w.cell(inner) for inner in held if inner is not namespace and type(inner) is not type]
    # An unbounded cache is one plain dict, restored like any; a bounded one keeps its order in hidden links.
    # How often it was hit cannot be set, so a difference there is refused rather than passed over.
    return _node(f"lru_cache of {obj.__wrapped__.__qualname__}", tuple(info), tuple(cells))


def _loader_iterator(w: Walker, obj: Any, token: int) -> Node:
    namespace = object.__getattribute__(obj, "__dict__")
    return _node(type_name(type(obj)), (namespace.get("_num_yielded"),))


def file_node(obj: Any) -> Node:
    """An open file."""
    return _node(type_name(type(obj)))


def _file(w: Walker, obj: Any, token: int) -> Node:
    return file_node(obj)


def _emit_c_object(w: Walker, obj: Any, token: int) -> Node:
    """An object with a C layout of its own: what the type's own C `__reduce__` gives, if that is all there is."""
    cls = type(obj)
    if any(has_python_method(cls, name) for name in ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs_ex__",
                                                     "__getnewargs__", "__setstate__")):  # fmt: skip
        return _emit(w, obj, token)
    if w.is_user(cls.__module__):
        return _emit(w, obj, token)
    try:
        parts = getattr(cls, "__reduce_ex__")(obj, 4)  # noqa: B009 - typed as the instance's method
    except Exception:
        return _emit(w, obj, token)
    if type(parts) is not tuple or len(parts) < 2 or type(parts[1]) is not tuple or any(p for p in parts[3:]):
        return _emit(w, obj, token)
    state = parts[2] if len(parts) > 2 else None
    if state is not None and not hasattr(cls, "__setstate__"):
        return _emit(w, obj, token)
    return ("reduced", w.type_cell(cls), state is not None, (w.cell(parts[0]), w.cell(parts[1]), w.cell(state)), None)


class ReducedKind(Kind):
    name = "reduced"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return r.same_cells(known, node)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        make, args, state = (r.resolve(cell) for cell in node[3])
        for cell in node[3][1:]:
            r.fill_early(cell)
        made = make(*args)
        if node[2]:
            type(made).__setstate__(made, state)
        return made


class OpaqueKind(Kind):
    name = "opaque"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        raise NotRestorable(r.path(token), f"{node[2][0]} did not exist at the point restored from")

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        known = r.live.graph.nodes.get(r.live_token(obj))
        if known is None or known[0] != "opaque" or known[2] != node[2]:
            now = known[2] if known is not None else None
            raise NotRestorable(r.path(token), f"{node[2][0]} stands elsewhere than recorded ({now} for {node[2]})")
        for cell, old in zip(node[3], known[3], strict=False):
            if not identical(r.resolve(cell), r.resolve_live(old)):
                raise NotRestorable(r.path(token), f"what {node[2][0]} holds has changed")
        if len(node[3]) != len(known[3]):
            raise NotRestorable(r.path(token), f"what {node[2][0]} holds has changed")


def register(reg: Registry) -> None:
    """Make these kinds known."""
    opaque = Handler(_emit, serial=True)
    reg.named["?"] = opaque
    reg.named["C"] = Handler(_emit_c_object, serial=True)
    closed: tuple[type, ...] = (threading.Thread, io.IOBase, io.StringIO, io.BytesIO, socket.socket, mmap.mmap, type(threading.Lock()),
                type(threading.RLock()), types.FrameType, types.TracebackType, types.ModuleType,
                memoryview, threading.local)  # fmt: skip
    for cls in closed:
        reg.bases[cls] = opaque
    reg.bases[io.IOBase] = Handler(_file, serial=True)
    reg.bases[types.ModuleType] = Handler(_emit, _module_atom, serial=True)
    reg.exact[types.ModuleType] = reg.bases[types.ModuleType]
    reg.add(types.CodeType, Handler(_emit, serial=True))
    reg.bases[logging.Logger] = Handler(_emit, _logger_atom, serial=True)
    for cls in (types.CoroutineType, types.AsyncGeneratorType):
        reg.add(cls, Handler(emit_running, serial=True))
    reg.add(functools._lru_cache_wrapper, Handler(_lru_cache, serial=True))
    reg.named["torch.utils.data.dataloader._BaseDataLoaderIter"] = Handler(_loader_iterator, serial=True)
    for name in ("subprocess.Popen", "multiprocessing.process.BaseProcess", "concurrent.futures._base.Executor",
                 "torch.utils.tensorboard.writer.SummaryWriter", "logging.Handler", "_thread._local",
                 "multiprocessing.context.BaseContext", "contextvars.ContextVar", "contextvars.Context"):  # fmt: skip
        reg.named[name] = opaque
    reg.decoders["module"] = _import
    reg.decoders["logger"] = lambda cell: logging.getLogger(cell[1])
    reg.kind(OpaqueKind())
    reg.kind(ReducedKind())


def _import(cell: tuple[Any, ...]) -> Any:
    import importlib

    found = sys.modules.get(cell[1])
    if found is not None:
        return found
    try:
        return importlib.import_module(cell[1])
    except ImportError as error:
        raise NotRestorable(cell[1], f"the module cannot be imported ({error})") from error
