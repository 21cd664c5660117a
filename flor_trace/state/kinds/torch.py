"""Torch tensors (views of a storage), generators, and the small values of the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ...errors import AutogradAcrossBoundary, NotRestorable
from ..graph import FILE_BACKED, SHARED, Cell, Node
from ..layout import mro
from . import Handler, Kind, Registry
from .torch_core import core, grad_fn_of, grad_of, opaque, quiet, set_grad
from .torch_sparse import SparseKind, emit_sparse

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


_hooks = core["_backward_hooks"].__get__
_set_data = core["data"].__set__
_plain_dispatch = torch._C._disabled_torch_dispatch_impl


def home_of(w: Walker, obj: Any) -> int | None:
    """Note the storage that a tensor looks at; None where there are no bytes."""
    storage = torch.Tensor.untyped_storage(obj)
    address = storage.data_ptr()
    nbytes = storage.nbytes()
    if not nbytes or not address:
        return None
    flags = 0
    if storage.device.type == "cpu":
        if storage.is_shared():
            flags |= SHARED
        if storage.filename is not None:
            flags |= FILE_BACKED
        return w.memory.add(address, nbytes, storage, flags)
    whole = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    return w.memory.add(address, nbytes, whole, flags, str(storage.device))


def grad_fn_name(obj: Any) -> str | None:
    """The name that a tensor's repr shows for its grad_fn."""
    fn = grad_fn_of(obj)
    if fn is None:
        return None
    name = type(fn).__name__
    return str(fn.name().rsplit("::", 1)[-1]) if name == "CppFunction" else name


# payload: (offset, dtype, shape, strides in elements, requires_grad, device, grad_fn's name, conj/neg bits, inference)
def _emit(w: Walker, obj: Any, token: int) -> Node:
    cls = type(obj)
    plain = cls is torch.Tensor
    if not plain and _dispatches(cls):
        return opaque(f"tensor subclass {cls.__name__} with __torch_dispatch__")
    if obj.layout is not torch.strided:
        return emit_sparse(w, obj)
    if obj.is_quantized or obj.is_mkldnn or obj.device.type == "meta":
        return opaque(f"{'quantized' if obj.is_quantized else obj.device.type} tensor")
    try:
        home = home_of(w, obj)
    except (RuntimeError, NotImplementedError):
        return opaque("tensor without a storage")
    offset = obj.data_ptr() - home if home is not None else 0
    if home is not None and obj.numel() == 0:
        offset = obj.storage_offset() * obj.element_size()
    if home is not None and obj.numel():
        last = sum((size - 1) * stride for size, stride in zip(obj.shape, obj.stride(), strict=True))
        w.memory.regions[home].see(home + offset, home + offset + (last + 1) * obj.element_size())
    hooks = _hooks(obj)
    payload = (
        offset, str(obj.dtype)[6:], tuple(obj.shape), obj.stride(), obj.requires_grad, str(obj.device),
        grad_fn_name(obj), (obj.is_conj(), obj.is_neg()), obj.is_inference(),
    )  # fmt: skip
    w.views.append(token)
    # asking a tensor that has none for its gradient warns
    grad = grad_of(obj) if obj.is_leaf or obj.retains_grad else None
    cells = ((home,) if home is not None else None, w.cell(grad), w.cell(hooks) if hooks else None)
    return ("tensor", None if plain else w.type_cell(cls), payload, cells, w.attrs(obj, cls))


def _dispatches(cls: type) -> bool:
    for base in mro(cls):
        found = base.__dict__.get("__torch_dispatch__")
        if found is not None:
            return found is not _plain_dispatch
    return False


class TensorKind(Kind):
    name = "tensor"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][:1]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        if live.layout is not torch.strided:
            return False
        if live.is_inference() != node[2][8]:
            return False
        if grad_fn_of(live) is None and node[2][6] is None:
            return bool(str(live.device) == node[2][5])
        # A live autograd graph is kept only with the very tensor that carries it, unchanged.
        return bool(
            grad_fn_name(live) == node[2][6]
            and same_view(r, live, node)
            and (node[3][0] is None or r.unchanged(node[3][0][0]))
        )

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        payload = node[2]
        cls = r.type_of(node, torch.Tensor)
        with quiet():
            if payload[8]:
                raise NotRestorable(r.path(token), "an inference tensor cannot be built anew")
            view = _view(r, node)
            if payload[6] is not None:
                if cls is not torch.Tensor:
                    raise NotRestorable(r.path(token), f"a {cls.__name__} on an autograd graph cannot be built anew")
                return tripwire(view, payload[6], r.graph_needed)
            if cls is torch.Tensor:
                view.requires_grad_(payload[4])
                return view
            return torch._C.TensorBase._make_subclass(cls, view, payload[4])

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        payload = node[2]
        with quiet():
            if payload[6] is None and id(obj) not in r.fresh:
                if not same_view(r, obj, node):
                    _set_data(obj, _view(r, node))
                if obj.requires_grad != payload[4]:
                    obj.requires_grad_(payload[4])
            grad = r.resolve(node[3][1])
            present_grad = grad_of(obj) if obj.is_leaf or obj.retains_grad else None
            if present_grad is not grad:
                if grad is not None:
                    r.fill_early(node[3][1])
                set_grad(obj, None)
                set_grad(obj, grad)
            hooks = r.resolve(node[3][2])
            present = _hooks(obj)
            if hooks is not None and present is not hooks:
                core["_backward_hooks"].__set__(obj, hooks)
            elif hooks is None and present:
                present.clear()


def same_view(r: Restorer, obj: Any, node: Node) -> bool:
    """Whether a live tensor already looks where the node says."""
    payload = node[2]
    if tuple(obj.shape) != payload[2] or obj.stride() != payload[3] or str(obj.dtype)[6:] != payload[1]:
        return False
    if (obj.is_conj(), obj.is_neg()) != payload[7]:
        return False
    if node[3][0] is None:
        return bool(obj.untyped_storage().nbytes() == 0)
    region = r.resolve(node[3][0])
    at = obj.untyped_storage().data_ptr() + obj.storage_offset() * obj.element_size()
    return bool(at == region.address + payload[0])


def _view(r: Restorer, node: Node) -> Any:
    """A plain tensor over the node's memory."""
    offset, dtype, shape, strides, _, device, _, (conj, neg), _ = node[2]
    made = torch.empty(0, dtype=getattr(torch, dtype), device=device)
    if node[3][0] is not None:
        region = r.resolve(node[3][0])
        storage, start = storage_over(region)
        made.set_(storage, (region.address + offset - start) // made.element_size(), shape, strides)
    else:
        made = torch.empty_strided(shape, strides, dtype=getattr(torch, dtype), device=device)
    if conj:
        made = torch._conj(made)
    if neg:
        made = torch._neg_view(made)
    return made


def storage_over(region: Any) -> tuple[Any, int]:
    """A storage that covers a region, and the address at which it begins."""
    owners = [region.owner]
    while owners:
        owner = owners.pop()
        if isinstance(owner, tuple):
            owners.extend(owner)
        elif isinstance(owner, torch.UntypedStorage):
            if owner.data_ptr() <= region.address and owner.nbytes() >= region.nbytes:
                return owner, owner.data_ptr()
        elif isinstance(owner, torch.Tensor):
            storage = owner.untyped_storage()
            return storage, storage.data_ptr()
        else:
            import numpy as np

            if isinstance(owner, np.ndarray) and owner.nbytes >= region.nbytes:
                flat = np.ndarray((region.nbytes,), np.uint8, owner.T if not owner.flags.c_contiguous else owner)
                storage = torch.from_numpy(flat).untyped_storage()
                return storage, storage.data_ptr()
    raise NotRestorable("memory", "a tensor's memory belongs to a library that cannot share it again")


def bytes_of(owner: Any) -> Any:
    """An array of the bytes of a storage or byte tensor, sharing its memory."""
    if isinstance(owner, torch.UntypedStorage):
        with quiet():
            return torch.empty(0, dtype=torch.uint8).set_(owner).numpy()
    return owner.numpy()


def new_memory(nbytes: int, device: str) -> Any:
    """New memory for a region that tensors look at, as a storage (CPU) or a byte tensor."""
    with quiet():
        made = torch.empty(nbytes, dtype=torch.uint8, device=device)
    return made.untyped_storage() if device == "cpu" else made


def tripwire(view: Any, name: str, needed: Callable[[str], None] | None = None) -> Any:
    """A tensor over the same memory whose grad_fn carries the recorded name and refuses to run: it calls `needed`, and
    raises if that returns."""

    def forward(ctx: Any, anchor: Any) -> Any:
        return torch.empty(0, dtype=view.dtype, device=view.device).set_(
            view.untyped_storage(), view.storage_offset(), view.shape, view.stride()
        )

    def backward(ctx: Any, *grads: Any) -> Any:
        if needed is not None:
            needed(name)
        raise AutogradAcrossBoundary(name)

    space = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    made: Any = type("Tripwire", (torch.autograd.Function,), space)
    made._backward_cls.__name__ = name
    with torch.enable_grad():
        anchor = torch.zeros((), requires_grad=True)
        return made.apply(anchor)


def _emit_generator(w: Walker, obj: Any, token: int) -> Node:
    state = bytes(obj.get_state().numpy())
    return ("torch.generator", None, (str(obj.device), state), (), None)


class GeneratorKind(Kind):
    name = "torch.generator"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return bool(str(live.device) == node[2][0])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return torch.Generator(device=node[2][0])

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        with quiet():
            obj.set_state(torch.frombuffer(bytearray(node[2][1]), dtype=torch.uint8))


def _emit_storage(w: Walker, obj: Any, token: int) -> Node:
    whole = torch.empty(0, dtype=torch.uint8, device=obj.device)
    with quiet():
        whole.set_(obj if isinstance(obj, torch.UntypedStorage) else obj.untyped())
    home = home_of(w, whole)
    return ("opaque", None, ("storage object", None), ((home,),) if home is not None else (), None)


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(torch.Tensor, Handler(_emit), subclasses=True)
    reg.add(torch.Generator, Handler(_emit_generator))
    reg.add(torch.UntypedStorage, Handler(_emit_storage, serial=True))
    reg.bases[torch.storage.TypedStorage] = Handler(_emit_storage, serial=True)

    def named(w: Walker, obj: Any) -> Cell:
        return ("torch", str(obj).removeprefix("torch."))

    for cls in (torch.dtype, torch.layout, torch.memory_format, torch.qscheme):
        reg.add(cls, Handler(None, named))
    reg.add(torch.device, Handler(None, lambda w, obj: ("device", str(obj))))
    reg.decoders["torch"] = lambda cell: getattr(torch, cell[1])
    reg.decoders["device"] = lambda cell: torch.device(cell[1])
    for kind in (TensorKind(), SparseKind(), GeneratorKind()):
        reg.kind(kind)
