"""What cannot or must not be captured: the live object is kept, and its progress compared where it shows any.

Where an object's state is hidden in C and may change, no restore may pass it: what it would then hold is unknown.
"""

from __future__ import annotations

import functools
import gc
import io
import mmap
import socket
import sys
import threading
import types
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import Cell, Node
from ..layout import class_dict, module_of, mro, qualname_of, type_name
from ..memory import bytes_digest
from . import Handler, Kind, Registry
from .containers import identical

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


HIDDEN = "hidden"  # the signature of an object whose state cannot be seen and may change

# Objects of these do not change, or change nothing that a script computes with.
_INERT_MODULES = (
    "torch", "pyarrow", "matplotlib", "numba", "llvmlite", "_ctypes", "_cffi_backend", "_tkinter", "tkinter", "select",
    "selectors", "_asyncio", "asyncio", "_ssl", "ssl", "_socket", "_multiprocessing", "multiprocessing",
    "pybind11_builtins", "_thread", "_abc", "_sitebuiltins", "importlib",
)  # fmt: skip
_INERT = frozenset({"builtins.PyCapsule", "builtins.Token", "_contextvars.Token", "builtins.super"})
_FUNCTIONS = ("cython_function_or_method", "fused_cython_function", "instancemethod", "nb_func", "nb_method", "ufunc")


def is_inert(cls: type) -> bool:
    """Whether instances of a type that shows nothing of its state may be taken for unchanging."""
    name = type_name(cls)
    return name in _INERT or name.partition(".")[0] in _INERT_MODULES or qualname_of(cls) in _FUNCTIONS


def _node(description: str, signature: Any = None, cells: tuple[Cell, ...] = ()) -> Node:
    return ("opaque", None, (description, signature), cells, None)


def emit_inert(w: Walker, obj: Any, token: int) -> Node:
    """An object whose state is of no account."""
    return _node(type_name(type(obj)))


def emit_hidden(w: Walker, obj: Any, token: int) -> Node:
    """An object of which nothing can be seen."""
    cls = type(obj)
    return _node(type_name(cls), None if is_inert(cls) else HIDDEN)


def _module_atom(w: Walker, obj: types.ModuleType) -> Cell:
    name = types.ModuleType.__getattribute__(obj, "__dict__").get("__name__")
    return ("module", name) if type(name) is str and sys.modules.get(name) is obj else None


def _cython_function(w: Walker, obj: Any) -> Cell | None:
    return w.by_name(obj, obj.__module__, obj.__qualname__) or w.by_name(obj, obj.__module__, obj.__name__)


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


def _mmap(w: Walker, obj: mmap.mmap, token: int) -> Node:
    """Of a mapped file its place; the content of one without a file."""
    try:
        obj.size()
    except OSError:
        return _node("mmap.mmap of no file", (bytes_digest(memoryview(obj)), obj.tell()))
    except ValueError:
        return _node("closed mmap.mmap")
    return _node("mmap.mmap", obj.tell())


def _csv_writer(w: Walker, obj: Any, token: int) -> Node:
    """It keeps nothing from row to row but the way to its file."""
    held = [part.__self__ for part in gc.get_referents(obj) if type(part) in (types.BuiltinMethodType, types.MethodType)]
    return _node("_csv.writer", None, (w.cell(held[0]),)) if len(held) == 1 else emit_hidden(w, obj, token)


def _digester(w: Walker, obj: Any, token: int) -> Node:
    length = (16,) if obj.name.startswith("shake") else ()
    return _node(f"{obj.name} of hashlib", obj.copy().hexdigest(*length))


def _finalizer(w: Walker, obj: Any, token: int) -> Node:
    return _node("weakref.finalize", obj.alive)


def _ordered_iterator(w: Walker, obj: Any, token: int) -> Node:
    reduce: Any = type(obj).__reduce__
    left = reduce(obj)[1][0]
    return _node("odict_iterator", len(left), tuple([w.cell(part) for part in left]))


def _loader_iterator(w: Walker, obj: Any, token: int) -> Node:
    namespace = object.__getattribute__(obj, "__dict__")
    kind, signature = type_name(type(obj)), (namespace.get("_num_yielded"),)
    if not namespace.get("_persistent_workers"):
        return _node(kind, signature)
    # Each pass ends at the same place, but its workers keep their random numbers from pass to pass. A pass has a sampler's
    # iterator of its own; generators are told apart for good, other iterators may follow one another at one address.
    sampler = namespace.get("_sampler_iter")
    if type(sampler) is not types.GeneratorType:
        return _node(kind, HIDDEN)
    return _node(kind, signature, (w.cell(sampler),))


def _tracker_run(w: Walker, obj: Any, token: int) -> Node:
    """A run of W&B: threads, and a connection to a process that has the rest (what scripts read of that: `runtime.tracker_reads`)."""
    namespace = w.layout(type(obj)).instance_dict(obj) or {}
    return _node(type_name(type(obj)), None, tuple([w.cell(namespace.get(name)) for name in ("_config", "summary")]))


def _tracker_config(w: Walker, obj: Any, token: int) -> Node:
    """What a script has configured its run of W&B with, and nothing of what W&B notes there."""
    items = (w.layout(type(obj)).instance_dict(obj) or {}).get("_items")
    if type(items) is dict:
        w.volatile[id(items)] = frozenset({"_wandb"})
    return _node(type_name(type(obj)), None, (w.cell(items),))


def file_node(obj: Any) -> Node:
    """An open file."""
    return _node(type_name(type(obj)))


def _file(w: Walker, obj: Any, token: int) -> Node:
    return file_node(obj)


_PICKLING = ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs_ex__", "__getnewargs__", "__setstate__")


def _pickled_by_user(w: Walker, cls: type) -> bool:
    """Whether pickling an instance would run a user's code."""
    for base in mro(cls):
        namespace = class_dict(base)
        if any(name in namespace for name in _PICKLING) and w.is_user(module_of(base)):
            return True
    return w.is_user(module_of(cls))


def emit_c_object(w: Walker, obj: Any, token: int) -> Node:
    """An object with a C layout of its own: what its library's own `__reduce__` gives, if that is all there is."""
    cls = type(obj)
    if _pickled_by_user(w, cls) or is_inert(cls):
        return emit_hidden(w, obj, token)
    try:
        parts = getattr(cls, "__reduce_ex__")(obj, 4)  # noqa: B009 - typed as the instance's method
    except Exception:
        return emit_hidden(w, obj, token)
    if type(parts) is str:
        return ("reduced", None, False, (w.by_name(obj, module_of(cls), parts) or w.cell(cls), None, None), None)
    if type(parts) is not tuple or len(parts) < 2 or type(parts[1]) is not tuple or any(p for p in parts[3:]):
        return emit_hidden(w, obj, token)
    state = parts[2] if len(parts) > 2 else None
    if state is not None and not hasattr(cls, "__setstate__"):
        return emit_hidden(w, obj, token)
    return ("reduced", w.type_cell(cls), state is not None, (w.cell(parts[0]), w.cell(parts[1]), w.cell(state)), None)


class ReducedKind(Kind):
    name = "reduced"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        if known is None or known[0] != node[0] or known[2] != node[2]:
            return False
        return all(map(r.same_value, node[3], known[3]))

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        make, args, state = (r.resolve(cell) for cell in node[3])
        if args is None:
            return make
        for cell in node[3][1:]:
            r.fill_early(cell)
        try:
            made = make(*args)
            if node[2]:
                type(made).__setstate__(made, state)
        except Exception as error:
            raise NotRestorable(r.path(token), f"it cannot be made again ({type(error).__name__}: {error})") from error
        return made


class OpaqueKind(Kind):
    name = "opaque"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        raise NotRestorable(r.path(token), f"{node[2][0]} did not exist at the point restored from")

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if r.runs_on(obj):
            return
        if node[2][1] == HIDDEN and not r.may_pass(token):
            raise NotRestorable(r.path(token), f"a {node[2][0]} keeps its state where it cannot be seen, so nothing may jump over it")
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
    opaque = Handler(emit_inert, serial=True)
    reg.add(mmap.mmap, Handler(_mmap, serial=True))
    reg.add(weakref.finalize, Handler(_finalizer, serial=True))
    reg.add(type(iter(OrderedDict())), Handler(_ordered_iterator))
    for name in ("_hashlib.HASH", "_hashlib.HASHXOF", "_blake2.blake2b", "_blake2.blake2s", "xxhash.xxh64", "xxhash.xxh3_64"):
        reg.named[name] = Handler(_digester, serial=True)
    reg.named["_csv.writer"] = Handler(_csv_writer, serial=True)
    reg.named["?"] = Handler(emit_c_object, serial=True)
    reg.named["C"] = Handler(emit_c_object, serial=True)
    closed: tuple[type, ...] = (threading.Thread, io.IOBase, io.StringIO, io.BytesIO, socket.socket, types.FrameType,
                                types.TracebackType)  # fmt: skip
    for cls in closed:
        reg.base(cls, opaque)
    reg.base(io.IOBase, Handler(_file, serial=True))
    from .wrappers import _emit_module

    for module in ("?", "builtins", "_cyutility"):
        reg.named[f"{module}.cython_function_or_method"] = Handler(emit_inert, _cython_function, serial=True)
    reg.add(types.ModuleType, Handler(_emit_module, _module_atom, serial=True), subclasses=True)
    reg.add(types.CodeType, Handler(emit_inert, serial=True))
    for cls in (types.CoroutineType, types.AsyncGeneratorType):
        reg.add(cls, Handler(emit_running, serial=True))
    reg.add(functools._lru_cache_wrapper, Handler(_lru_cache, serial=True))
    reg.named["torch.utils.data.dataloader._BaseDataLoaderIter"] = Handler(_loader_iterator, serial=True)
    reg.named["wandb.sdk.wandb_run.Run"] = Handler(_tracker_run, serial=True)
    reg.named["wandb.sdk.wandb_config.Config"] = Handler(_tracker_config, serial=True)
    for name in ("subprocess.Popen", "multiprocessing.process.BaseProcess", "concurrent.futures._base.Executor",
                 "torch.utils.tensorboard.writer.SummaryWriter", "multiprocessing.context.BaseContext",
                 "mlflow.tracking.fluent.ActiveRun", "mlflow.tracking.client.MlflowClient"):  # fmt: skip
        reg.named[name] = opaque
    reg.decoders["module"] = _import
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
