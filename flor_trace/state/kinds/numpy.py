"""NumPy arrays (views of shared memory), scalars and dtypes."""

from __future__ import annotations

import mmap
import pickle
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import FILE_BACKED, READ_ONLY, SHARED, Cell, Node
from ..memory import ALIGNED_BYTES
from . import Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_TRIES = 16
_array: Any = np.ndarray.__dict__
_interface = _array["__array_interface__"].__get__
_base = _array["base"].__get__
_nbytes = _array["nbytes"].__get__
_shape = _array["shape"].__get__
_strides = _array["strides"].__get__
_dtype = _array["dtype"].__get__
_flags = _array["flags"].__get__


def address_of(obj: Any) -> int:
    """Where an array's first element lies."""
    return int(_interface(obj)["data"][0])


def _span(obj: Any) -> tuple[int, int]:
    """First address and number of bytes that an array of any strides covers."""
    first = last = address_of(obj)
    shape, strides = _shape(obj), _strides(obj)
    if 0 in shape:
        return first, 0
    for size, stride in zip(shape, strides, strict=True):
        if stride < 0:
            first += (size - 1) * stride
        else:
            last += (size - 1) * stride
    return first, last - first + int(_dtype(obj).itemsize)


def _home(w: Walker, obj: Any) -> int | None:
    """Note the memory that an array looks at; None for an empty one."""
    flags = 0
    owner = obj
    base = _base(owner)
    while isinstance(base, np.ndarray):
        owner, base = base, _base(base)
    if base is None:
        address, nbytes = _span(owner)
        return w.memory.add(address, nbytes, owner, flags) if nbytes else None
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(base, torch.Tensor):
        from .torch import home_of

        return home_of(w, base)
    kind = base
    if isinstance(kind, memoryview):
        kind = kind.obj
    if isinstance(kind, mmap.mmap):
        flags |= FILE_BACKED
    elif "shared_memory" in type(kind).__module__ or "multiprocessing" in type(kind).__module__:
        flags |= SHARED
    if not _flags(owner).writeable:
        flags |= READ_ONLY
    address, nbytes = _span(owner)
    return w.memory.add(address, nbytes, owner, flags) if nbytes else None


def _dtype_cell(dtype: Any) -> Cell:
    return dtype.str if dtype.names is None and dtype.metadata is None and dtype.kind not in "V" else pickle.dumps(dtype, 4)


def _dtype_of(cell: Cell) -> Any:
    return pickle.loads(cell) if type(cell) is bytes else np.dtype(cell)


# payload: (offset, dtype, shape, strides, writeable, owns its memory)
def _emit(w: Walker, obj: Any, token: int) -> Node:
    cls = type(obj)
    dtype = _dtype(obj)
    attrs = None if cls is np.ndarray else w.attrs(obj, cls)
    type_cell = None if cls is np.ndarray else w.type_cell(cls)
    if dtype.hasobject:
        if dtype.kind != "O":
            return ("opaque", None, ("array of records that hold objects", None), (), None)
        flat = np.ndarray.ravel(obj.view(np.ndarray) if cls is not np.ndarray else obj).tolist()
        return ("objects", type_cell, _shape(obj), tuple(w.cell(item) for item in flat), attrs)
    home = _home(w, obj)
    flags = _flags(obj)
    offset = address_of(obj) - home if home is not None else 0
    if home is not None:
        first, nbytes = _span(obj)
        w.memory.regions[home].see(first, first + nbytes)
    payload = (
        offset, _dtype_cell(dtype), _shape(obj), _strides(obj), bool(flags.writeable), bool(flags.owndata),
    )  # fmt: skip
    w.views.append(token)
    return ("ndarray", type_cell, payload, ((home,) if home is not None else None,), attrs)


class ArrayKind(Kind):
    name = "ndarray"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        offset, dtype, shape, strides, _, _ = node[2]
        if _shape(live) != shape or _strides(live) != strides or _dtype(live) != _dtype_of(dtype):
            return False
        if node[3][0] is None:
            return True
        region = r.resolve(node[3][0])
        return bool(address_of(live) == region.address + offset)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        offset, dtype, shape, strides, _, _ = node[2]
        cls = r.type_of(node, np.ndarray)
        if node[3][0] is None:
            return np.ndarray.__new__(cls, shape, _dtype_of(dtype))
        region = r.resolve(node[3][0])
        whole = region.owner
        if (
            cls is np.ndarray and isinstance(whole, np.ndarray) and _shape(whole) == shape
            and _strides(whole) == strides and whole.dtype == _dtype_of(dtype) and id(whole) not in r.claimed
        ):  # fmt: skip
            r.claimed.add(id(whole))
            return whole
        return view_of(region, cls, offset, dtype, shape, strides)

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if _flags(obj).writeable != node[2][4]:
            np.ndarray.setflags(obj, write=node[2][4])


def view_of(region: Any, cls: Any, offset: int, dtype: Cell, shape: Any, strides: Any) -> Any:
    """An array over memory that is already there."""
    whole = region.owner
    while isinstance(whole, tuple):
        whole = whole[0]
    if not isinstance(whole, np.ndarray):
        from .torch_views import bytes_of

        whole = bytes_of(whole)
    start = region.address + offset - address_of(whole)
    flat = whole
    if whole.dtype != np.uint8 or whole.ndim != 1:
        flat = np.ndarray.__new__(np.ndarray, (region.nbytes,), np.uint8, _contiguous(whole))
    return np.ndarray.__new__(cls, shape, _dtype_of(dtype), flat, start, strides)


def _contiguous(whole: Any) -> Any:
    if not whole.flags.c_contiguous:
        whole = whole.T
    return memoryview(whole).cast("B") if whole.flags.c_contiguous else whole


def new_memory(nbytes: int, view: Node | None, address: int) -> Any:
    """New memory for a region; an array that covers all of it owns it, as in the record. It lies as that at `address` did, if such memory
    can be had: NumPy cannot be told where to lay an array."""
    others = []
    for _ in range(_TRIES):
        made = _new_array(nbytes, view)
        if (address_of(made) - address) % ALIGNED_BYTES == 0:
            break
        others.append(made)  # or else the same memory would be found again
    return made


def _new_array(nbytes: int, view: Node | None) -> Any:
    if view is not None and view[1] is None and view[2][5] and view[2][0] == 0:
        dtype, shape, strides = _dtype_of(view[2][1]), view[2][2], view[2][3]
        for order in ("C", "F"):
            made: Any = np.empty(shape, dtype, order=order)
            if made.strides == strides and made.nbytes == nbytes:
                return made
    return np.empty(nbytes, np.uint8)


class ObjectArrayKind(Kind):
    """An array of references."""

    name = "objects"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return bool(_shape(live) == node[2])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return np.ndarray.__new__(r.type_of(node, np.ndarray), node[2], np.dtype(object))

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        items = [r.resolve(cell) for cell in node[3]]
        flat = np.empty(len(items), object)
        for i, item in enumerate(items):
            flat[i] = item
        np.ndarray.__setitem__(obj, ..., flat.reshape(node[2]))


def _scalar(w: Walker, obj: Any) -> Cell:
    return ("np", _dtype_cell(obj.dtype), obj.tobytes())


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(np.ndarray, Handler(_emit), subclasses=True)
    for cls in set(np.sctypeDict.values()):
        if cls not in (np.object_, np.void):
            reg.add(cls, Handler(None, _scalar))
    reg.base(np.dtype, Handler(None, lambda w, obj: ("dtype", pickle.dumps(obj, 4))))
    reg.decoders["np"] = lambda cell: np.frombuffer(cell[2], _dtype_of(cell[1]))[0]
    reg.decoders["dtype"] = lambda cell: pickle.loads(cell[1])
    for kind in (ArrayKind(), ObjectArrayKind()):
        reg.kind(kind)
