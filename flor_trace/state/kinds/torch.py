"""Torch tensors (views of a storage), generators, and the small values of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...errors import NotRestorable
from ..graph import FILE_BACKED, SHARED, Cell, Node
from ..layout import class_dict, mro
from ..memory import Region
from . import Handler, Kind, Registry, torch_parametrize, torch_script
from .torch_composite import CompositeKind, emit_composite
from .torch_core import (
    HOOKS,
    bare,
    core,
    device_of,
    dtype_of,
    grad_fn_name,
    grad_fn_of,
    hooks_of,
    is_inference,
    keeps_casts,
    layout_of,
    needs_grad,
    of_class,
    opaque,
    own_grad,
    quiet,
    replace_grad,
    retains_grad,
    set_data,
    set_hooks,
    shape_of,
    storage_of,
    stride_of,
    tripwire,
)
from .torch_views import (
    DTYPE_NAMES,
    bits_of,
    dimension_names,
    name_of,
    quantizer_of,
    same_view,
    storage_over,
    view_of,
)
from .torch_wrappers import JaggedKind, WrapperKind, emit_wrapper

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_plain_dispatch = torch._C._disabled_torch_dispatch_impl
_numel = core["numel"]
_element_size = core["element_size"]
_storage_offset = core["storage_offset"]
_is_quantized = core["is_quantized"].__get__
_is_nested = core["is_nested"].__get__
_CPU = torch.device("cpu")


def home_of(w: Walker, obj: Any) -> int | None:
    """Note the storage that a tensor looks at; None where there are no bytes."""
    return _home(w, storage_of(obj))


def _home(w: Walker, storage: Any) -> int | None:
    if storage.device.type == "meta":
        return None
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


def _dispatches(cls: type) -> bool:
    """Whether a class takes over what torch does with its instances."""
    for base in mro(cls):
        found = class_dict(base).get("__torch_dispatch__")
        if found is not None:
            return found is not _plain_dispatch
    return False


# payload: (offset, dtype, shape, strides in elements, requires_grad, device, grad_fn's name, conj/neg bits, inference,
#           quantizer, retains_grad, names of dimensions)
def _emit(w: Walker, obj: Any, token: int) -> Node:
    cls = type(obj)
    plain = cls is torch.Tensor
    dispatches = not plain and cls is not torch.nn.Parameter and _dispatches(cls)
    if dispatches and (found := emit_wrapper(w, obj)) is not None:
        return found
    if layout_of(obj) is not torch.strided or _is_nested(obj):
        return emit_composite(w, obj, token)
    try:
        storage = storage_of(obj)
        device = storage.device
        home = _home(w, storage)
    except (RuntimeError, NotImplementedError):
        return opaque("tensor without a storage")
    shape, strides, size = shape_of(obj), stride_of(obj), _element_size(obj)
    offset = _storage_offset(obj) * size
    if home is not None and _numel(obj):
        region = w.memory.regions[home]
        first = home + offset
        last = sum([(n - 1) * stride for n, stride in zip(shape, strides, strict=True)])
        region.see(first, min(first + (last + 1) * size, home + region.nbytes))
    graph = grad_fn_name(obj)
    payload = (
        offset, name_of(dtype_of(obj)), tuple(shape), strides, needs_grad(obj), "cpu" if device == _CPU else str(device),
        graph, bits_of(obj), is_inference(obj), quantizer_of(obj), graph is not None and retains_grad(obj),
        dimension_names(obj),
    )  # fmt: skip
    w.views.append(token)
    grad = own_grad(obj)
    cells = [(home,) if home is not None else None, w.cell(grad) if grad is not None else None]
    cells.extend([w.cell(hooks) if hooks else None for hooks in hooks_of(obj)])
    return ("tensor", None if plain else w.type_cell(cls), payload, tuple(cells), w.attrs(obj, cls))


def _parts() -> tuple[Any, ...]:
    """What the compiled loop asks tensors with, in the order that it knows (`_walk.c`)."""
    storage = torch.UntypedStorage
    return (
        *(core.get(name) for name in (
            "layout", "is_nested", "is_quantized", "is_cpu", "grad_fn", "dtype", "requires_grad", "_grad", "shape", *HOOKS,
            "is_inference", "is_conj", "is_neg", "has_names", "storage_offset", "element_size", "stride",
        )),
        storage_of, storage.data_ptr, storage.nbytes, storage.is_shared, storage._get_filename,
        torch.strided, DTYPE_NAMES, (torch.Tensor, torch.nn.Parameter), Region,
    )  # fmt: skip


class TensorKind(Kind):
    """A tensor over memory of its own or another's."""

    name = "tensor"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][:1]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        if layout_of(live) is not torch.strided or is_inference(live) != node[2][8]:
            return False
        if grad_fn_of(live) is None and node[2][6] is None:
            same_kind = str(device_of(live)) == node[2][5] and _is_quantized(live) == (node[2][9] is not None)
            # what belongs to inference mode cannot be pointed elsewhere
            return same_kind and (not node[2][8] or same_view(r, live, node))
        # A live autograd graph is kept only with the very tensor that carries it, unchanged.
        return bool(
            grad_fn_name(live) == node[2][6]
            and same_view(r, live, node)
            and (node[3][0] is None or r.unchanged(node[3][0][0]) or r.on_kept_graph(live))
        )

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        payload = node[2]
        cls = r.type_of(node, torch.Tensor)
        with quiet():
            if payload[8]:
                if payload[6] is not None or cls is not torch.Tensor:
                    raise NotRestorable(r.path(token), "an inference tensor of a subclass or on a graph cannot be built anew")
                with torch.inference_mode():
                    return view_of(r, node).requires_grad_(payload[4])
            if payload[6] is not None:
                made = tripwire(lambda: of_class(cls, view_of(r, node), False), payload[6], r.graph_needed)
                if payload[10]:
                    with torch.enable_grad():
                        made.retain_grad()
                return made
            return of_class(cls, view_of(r, node), payload[4])

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if not node[2][4] or node[2][6] is not None or not keeps_casts():
            return
        home = node[3][0]
        if id(obj) in r.fresh or not (home is None or r.unchanged(home[0])):
            raise NotRestorable(r.path(token), "it changes within a block of autocast, which keeps a copy of it from before")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        payload = node[2]
        with quiet():
            if payload[6] is None and id(obj) not in r.fresh:
                if needs_grad(obj) and not payload[4]:
                    obj.requires_grad_(False)  # first, for what asks for a gradient cannot be made integers
                if not same_view(r, obj, node):
                    set_data(obj, view_of(r, node))
                if payload[4] and not needs_grad(obj):
                    obj.requires_grad_(True)
            grad = r.resolve(node[3][1])
            if own_grad(obj) is not grad:
                r.fill_early(node[3][1])
                replace_grad(obj, grad)
            set_hooks(obj, [r.resolve(cell) for cell in node[3][2:]])


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
    home = _home(w, obj)
    if home is not None:
        w.memory.regions[home].see(home, home + obj.nbytes())
    w.views.append(token)
    return ("storage", None, (0, str(obj.device), obj.nbytes()), ((home,) if home is not None else None,), None)


class StorageKind(Kind):
    """A storage that the program holds by itself."""

    name = "storage"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        if node[3][0] is None or live.nbytes() != node[2][2]:
            return False
        return bool(live.data_ptr() == r.resolve(node[3][0]).address + node[2][0])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        offset, device, nbytes = node[2]
        if node[3][0] is None:
            new: Any = torch.UntypedStorage
            return new(nbytes, device=device)
        region = r.resolve(node[3][0])
        storage, start = storage_over(region)
        if start != region.address + offset or storage.nbytes() != nbytes:
            raise NotRestorable(r.path(token), "a storage object within other memory cannot be built anew")
        return storage


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.guards.append(bare)
    torch_script.register(reg)
    reg.made[torch_parametrize.MODULE] = torch_parametrize.ParametrizedClasses()
    reg.add(torch.Tensor, Handler(_emit), subclasses=True)
    reg.compiled[_emit] = "TENSOR"
    reg.tensor_parts = _parts()
    reg.add(torch.Generator, Handler(_emit_generator))
    reg.add(torch.UntypedStorage, Handler(_emit_storage))

    def named(w: Walker, obj: Any) -> Cell:
        return ("torch", str(obj).removeprefix("torch."))

    for cls in (torch.dtype, torch.layout, torch.memory_format, torch.qscheme):
        reg.add(cls, Handler(None, named))
    reg.add(torch.device, Handler(None, lambda w, obj: ("device", str(obj))))
    for limits in (torch.finfo, torch.iinfo):
        reg.add(limits, Handler(None, lambda w, obj: ("limits", type(obj).__name__, obj.dtype)))
    reg.decoders["torch"] = lambda cell: getattr(torch, cell[1])
    reg.decoders["device"] = lambda cell: torch.device(cell[1])
    reg.decoders["limits"] = lambda cell: getattr(torch, cell[1])(getattr(torch, cell[2]))
    for kind in (TensorKind(), CompositeKind(), WrapperKind(), JaggedKind(), GeneratorKind(), StorageKind()):
        reg.kind(kind)
