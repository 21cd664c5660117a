"""Tensors whose class takes over what torch does with them (`__torch_dispatch__`) and that have no memory of their own.

Such a tensor is a shell of a certain shape around ordinary attributes, which hold the tensors inside. Shell and attributes are
read and built past the class's own methods; `__tensor_flatten__` is not called, for it is user code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...errors import NotRestorable
from ..graph import Cell, Node
from ..layout import class_dict, module_of, mro, type_name
from . import Kind
from .torch_core import (
    core,
    device_of,
    dtype_of,
    grad_fn_name,
    hooks_of,
    layout_of,
    needs_grad,
    opaque,
    own_grad,
    quiet,
    replace_grad,
    retains_grad,
    set_hooks,
    shape_of,
    storage_of,
    stride_of,
    tripwire,
    unwarned,
)
from .torch_views import view_of

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_JAGGED = "torch.nested._internal.nested_tensor.NestedTensor"
# What a constructor may ask for besides, which cannot be read back from the tensor.
_HIDDEN = frozenset({"dispatch_sizes_strides_policy", "dispatch_device", "dispatch_layout", "_extra_dispatch_keys"})
# Sizes that torch keeps in the instance's dict, in a form of its own, once it has asked the class for them.
_CACHED = frozenset({"_sym_sizes_capsule", "_sym_strides_capsule"})
_numel = core["numel"]
_offset_of = core["storage_offset"]


def emit_wrapper(w: Walker, obj: Any) -> Node | None:
    """The node of a tensor of a class that takes over; None for one that has memory of its own."""
    cls = type(obj)
    if type_name(cls) == _JAGGED:
        return _emit_jagged(w, obj)
    if layout_of(obj) is torch.strided and device_of(obj).type != "meta":
        try:
            if storage_of(obj).data_ptr() or not _numel(obj):
                return None
        except RuntimeError:
            pass  # the storage of a mere shell refuses to say where it is
    if module_of(cls).startswith("torch._subclasses") or _has_hidden_parts(cls):
        return opaque(f"tensor of the class {type_name(cls)}")
    payload = (
        tuple(shape_of(obj)), stride_of(obj), _offset_of(obj), str(dtype_of(obj))[6:], str(device_of(obj)),
        str(layout_of(obj))[6:], needs_grad(obj), grad_fn_name(obj), retains_grad(obj),
    )  # fmt: skip
    w.volatile[id(w.layout(cls).instance_dict(obj))] = _CACHED
    return ("wrapper", w.type_cell(cls), payload, _ends(w, obj), w.attrs(obj, cls))


def _ends(w: Walker, obj: Any) -> tuple[Cell, ...]:
    return (w.cell(own_grad(obj)), *[w.cell(hooks) if hooks else None for hooks in hooks_of(obj)])


def _has_hidden_parts(cls: type) -> bool:
    """Whether a constructor of the class names one of the options that cannot be read back."""
    for base in mro(cls):
        for name in ("__new__", "__init__"):
            method = class_dict(base).get(name)
            code = getattr(getattr(method, "__func__", method), "__code__", None)
            for const in code.co_consts if code is not None else ():
                if type(const) is tuple and not _HIDDEN.isdisjoint(c for c in const if type(c) is str):
                    return True
    return False


class WrapperKind(Kind):
    """A shell; what is in it is restored like any object's attributes."""

    name = "wrapper"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        before = r.live.graph.nodes.get(r.live_token(live))
        # a live graph belongs to what the tensor held when it was made, and that may have been written over
        return before is not None and before[2] == node[2] and node[2][7] is None

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        cls = r.resolve(node[1])
        requires_grad, graph, retains = node[2][6:]
        with quiet():
            if graph is None:
                return self.shell(r, cls, node, requires_grad)
            made = tripwire(lambda: self.shell(r, cls, node, False), graph, r.graph_needed)
            if retains:
                with torch.enable_grad():
                    made.retain_grad()
            return made

    def shell(self, r: Restorer, cls: Any, node: Node, requires_grad: bool) -> Any:
        """A tensor of that class with nothing in it."""
        shape, strides, offset, dtype, device, layout, *_ = node[2]
        make: Any = torch.Tensor._make_wrapper_subclass
        return make(
            cls, shape, strides=strides, storage_offset=offset, dtype=getattr(torch, dtype), device=torch.device(device),
            layout=getattr(torch, layout), requires_grad=requires_grad,
        )  # fmt: skip

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        with quiet():
            r.fill_early(node[3][0])
            replace_grad(obj, r.resolve(node[3][0]))
            set_hooks(obj, [r.resolve(cell) for cell in node[3][1:]])


# ---- torch.nested's tensors of the layout `jagged`, whose ragged size is a symbol kept in a table beside its offsets


def _emit_jagged(w: Walker, obj: Any) -> Node:
    inner = obj.__dict__
    lengths = inner["_lengths"]
    node = getattr(inner["_size"][inner["_ragged_idx"]], "node", None)
    symbol = getattr(node, "t_id", None)
    if symbol is None:
        return opaque("jagged tensor whose ragged size is no nested int")
    payload = (
        inner["_ragged_idx"], symbol, str(dtype_of(obj))[6:], str(device_of(obj)), needs_grad(obj), grad_fn_name(obj),
        retains_grad(obj),
    )  # fmt: skip
    parts = tuple(w.cell(part) for part in (inner["_values"], inner["_offsets"], lengths))
    w.volatile[id(inner)] = _CACHED
    return ("jagged", w.type_cell(type(obj)), payload, (*parts, *_ends(w, obj)), w.attrs(obj, type(obj)))


class JaggedKind(Kind):
    """Built by its constructor, from its parts, with the recorded symbol for its ragged size."""

    name = "jagged"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][:3]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        before = r.live.graph.nodes.get(r.live_token(live))
        if before is None or before[2] != node[2] or node[2][5] is not None:
            return False
        # the shell remembers the sizes of the values that it was made with
        inner = live.__dict__
        return all(inner[name] is r.resolve(cell) for name, cell in zip(_JAGGED_PARTS, node[3], strict=False)) and (
            tuple(shape_of(inner["_values"])) == r.target.nodes[node[3][0][0]][2][2]
        )

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        from torch.nested._internal import nested_tensor as library
        from torch.nested._internal.nested_int import NestedIntNode

        ragged, symbol, _, _, requires_grad, graph, retains = node[2]
        nodes = [None if cell is None else r.target.nodes[cell[0]] for cell in node[3][:3]]
        if any(part is not None and part[0] != "tensor" for part in nodes):
            raise NotRestorable(r.path(token), "a jagged tensor around other than plain ones cannot be built anew")
        cells = [cell for cell in node[3][1:3] if cell is not None]
        new: Any = library.NestedTensor.__new__
        number: Any = torch.SymInt
        table: Any = library._tensor_symint_registry

        def make(requires_grad: bool) -> Any:
            # of parts as they will be; the attributes that are filled in later hold the true ones
            values, offsets, lengths = (None if part is None else view_of(r, part) for part in nodes)
            table[offsets if lengths is None else lengths] = number(NestedIntNode(symbol, 1))
            return new(
                r.resolve(node[1]), values, offsets, lengths=lengths, _ragged_idx=ragged, requires_grad=requires_grad
            )

        with quiet(), unwarned():
            table[r.resolve(cells[-1])] = number(NestedIntNode(symbol, 1))
            if graph is None:
                return make(requires_grad)
            made = tripwire(lambda: make(False), graph, r.graph_needed)
            if retains:
                with torch.enable_grad():
                    made.retain_grad()
            return made

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        with quiet():
            r.fill_early(node[3][3])
            replace_grad(obj, r.resolve(node[3][3]))
            set_hooks(obj, [r.resolve(cell) for cell in node[3][4:]])


_JAGGED_PARTS = ("_values", "_offsets", "_lengths")
