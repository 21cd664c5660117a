"""Tensors that consist of dense ones: sparse, nested, and those in the layout of oneDNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...errors import NotRestorable
from ..graph import Cell, Node
from . import Kind
from .torch_core import (
    device_of,
    dtype_of,
    grad_fn_name,
    grad_fn_of,
    hooks_of,
    is_inference,
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
    tripwire,
    unwarned,
)
from .torch_views import name_of, same_view, view_of

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_SPARSE = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}
# Assigning to `.data` has no effect on compressed sparse tensors (seen in torch 2.13), and raises nothing.
_POINTED_ELSEWHERE = frozenset({"sparse_coo", "nested", "mkldnn"})
_NESTED = ("_nested_tensor_size", "_nested_tensor_strides", "_nested_tensor_storage_offsets")
_MKLDNN: Any = getattr(torch, "_mkldnn")  # noqa: B009 - no name of the typed interface


def _parts(obj: Any) -> tuple[str, tuple[str, ...], list[Any], Any] | None:
    """The form of a tensor, the names of its dense parts, these, and its extent; None where no form is known."""
    layout = layout_of(obj)
    with torch.no_grad():
        if layout in _SPARSE:
            parts = [getattr(torch.Tensor, name)(obj).detach() for name in _SPARSE[layout]]
            names = tuple(name.lstrip("_") for name in _SPARSE[layout])
            return str(layout)[6:], names, parts, tuple(shape_of(obj))
        if layout is _MKLDNN:
            return "mkldnn", (), [], tuple(shape_of(obj))
        if layout is torch.strided and obj.is_nested:
            storage: Any = storage_of(obj)
            whole = torch.empty(0, dtype=dtype_of(obj), device=storage.device)
            whole.set_(storage, 0, (storage.nbytes() // whole.element_size(),), (1,))
            extent = [getattr(torch.Tensor, name)(obj) for name in _NESTED]
            return "nested", ("buffer",), [whole], tuple((tuple(part.shape), *part.flatten().tolist()) for part in extent)
    return None


# payload: (form, names of the parts, extent, dtype, device, requires_grad, coalesced, grad_fn's name, retains_grad)
def emit_composite(w: Walker, obj: Any, token: int) -> Node:
    """The node of a tensor that is not a view of one storage."""
    found = None if is_inference(obj) else _parts(obj)
    if found is None:
        return opaque(f"{'inference ' if is_inference(obj) else ''}tensor of layout {layout_of(obj)}")
    form, names, parts, extent = found
    payload = (
        form, names, extent, name_of(dtype_of(obj)), str(device_of(obj)), needs_grad(obj),
        form == "sparse_coo" and obj.is_coalesced(), grad_fn_name(obj), retains_grad(obj),
    )  # fmt: skip
    if form == "mkldnn":
        # a buffer of its own, for a copy made here is no memory of the program's
        dense = _bytes_of(obj)
        w.data_buffer(token, lambda: dense)
    cls = type(obj)
    cells = [w.cell(part) for part in parts]
    cells.append(w.cell(own_grad(obj)))
    cells.extend([w.cell(hooks) if hooks else None for hooks in hooks_of(obj)])
    return ("composite", None if cls is torch.Tensor else w.type_cell(cls), payload, tuple(cells), w.attrs(obj, cls))


def _bytes_of(obj: Any) -> Any:
    with torch.no_grad():
        return torch.Tensor.to_dense(obj.detach()).contiguous().flatten().view(torch.uint8).numpy()


class CompositeKind(Kind):
    """The parts are made anew at every walk; only what they look at is matched, so that memory is written in place."""

    name = "composite"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][: len(node[2][1])]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        form, _, _, dtype, device, *_ = node[2]
        if is_inference(live) or name_of(dtype_of(live)) != dtype or str(device_of(live)) != device:
            return False
        with quiet():
            found = _parts(live)
            if found is None or found[0] != form:
                return False
            if grad_fn_of(live) is None and node[2][7] is None:
                return form in _POINTED_ELSEWHERE or self._same(r, live, node)
            # A live autograd graph is kept only with the very tensor that carries it, unchanged.
            homes = [part[3][0] for part in self._nodes(r, node)]
            return (
                grad_fn_name(live) == node[2][7]
                and self._same(r, live, node)
                and all(home is None or r.unchanged(home[0]) for home in homes)
            )

    def _nodes(self, r: Restorer, node: Node) -> list[Node]:
        return [r.target.nodes[cell[0]] for cell in self.deps(node)]

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        cls = r.type_of(node, torch.Tensor)
        form, graph, retains = node[2][0], node[2][7], node[2][8]
        if graph is not None and (cls is not torch.Tensor or form == "mkldnn"):
            raise NotRestorable(r.path(token), f"a {cls.__name__} ({form}) on an autograd graph cannot be built anew")
        with quiet(), unwarned():
            if graph is not None:
                made = tripwire(lambda: of_class(cls, self._make(r, token, node), False), graph, r.graph_needed)
                if retains:
                    with torch.enable_grad():
                        made.retain_grad()
                return made
            return of_class(cls, self._make(r, token, node), node[2][5])

    def _make(self, r: Restorer, token: int, node: Node) -> Any:
        """A tensor over the recorded memory, which is not read here: it may be given its content only later."""
        form, _, extent, dtype, device, _, coalesced, _, _ = node[2]
        # views of their own, for the recorded parts themselves may not look where they should as yet
        parts = [view_of(r, part) for part in self._nodes(r, node)]
        if form == "mkldnn":
            dense = torch.frombuffer(bytearray(r.blob(token)), dtype=getattr(torch, dtype)) if 0 not in extent else torch.empty(0)
            return dense.to(getattr(torch, dtype)).reshape(extent).to_mkldnn()
        if form == "nested":
            view: Any = torch._nested_view_from_buffer
            return view(parts[0], *[_table(part) for part in extent])
        if form == "sparse_coo":
            made: Any = torch.sparse_coo_tensor(parts[0], parts[1], extent, device=device, check_invariants=False)
            return made._coalesced_(coalesced)
        build: Any = torch.sparse_compressed_tensor
        return build(
            *parts, size=extent, dtype=getattr(torch, dtype), device=device, layout=getattr(torch, form),
            check_invariants=False,
        )  # fmt: skip

    def _same(self, r: Restorer, obj: Any, node: Node) -> bool:
        """Whether a live tensor already consists of the recorded parts."""
        found = _parts(obj)
        if found is None or found[3] != node[2][2] or node[2][0] == "mkldnn":
            return False
        if node[2][0] == "sparse_coo" and obj.is_coalesced() != node[2][6]:
            return False
        return all(same_view(r, part, wanted) for part, wanted in zip(found[2], self._nodes(r, node), strict=True))

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        count = len(node[2][1])
        with quiet(), unwarned():
            if node[2][7] is None:
                if not self._same(r, obj, node):
                    set_data(obj, self._make(r, token, node))
                if needs_grad(obj) != node[2][5]:
                    obj.requires_grad_(node[2][5])
            r.fill_early(node[3][count])
            replace_grad(obj, r.resolve(node[3][count]))
            set_hooks(obj, [r.resolve(cell) for cell in node[3][count + 1 :]])


def _table(extent: tuple[Any, ...]) -> Any:
    """One of the tables that say how the tensors within a nested one lie."""
    return torch.tensor(extent[1:], dtype=torch.int64).reshape(extent[0])
