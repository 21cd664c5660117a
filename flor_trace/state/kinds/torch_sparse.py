"""Sparse tensors, through the dense ones that they consist of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...errors import NotRestorable
from ..graph import Node
from . import Kind
from .torch_core import grad_fn_of, grad_of, opaque, quiet, set_grad

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_PARTS = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}


def emit_sparse(w: Walker, obj: Any) -> Node:
    """The node of a tensor that is not strided."""
    names = _PARTS.get(obj.layout)
    if names is None or grad_fn_of(obj) is not None:
        return opaque(f"{obj.layout} tensor")
    with torch.no_grad():
        parts = [getattr(obj, name)() for name in names]
    layout = str(obj.layout)[6:]
    payload = (
        layout, str(obj.dtype)[6:], tuple(obj.shape), obj.requires_grad, str(obj.device),
        obj.layout is torch.sparse_coo and obj.is_coalesced(),
    )  # fmt: skip
    cls = type(obj)
    return (
        "sparse", None if cls is torch.Tensor else w.type_cell(cls), payload,
        (*(w.cell(part.detach()) for part in parts), w.cell(grad_of(obj))), w.attrs(obj, cls),
    )  # fmt: skip


class SparseKind(Kind):
    name = "sparse"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return False

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        layout, dtype, shape, requires_grad, device, coalesced = node[2]
        if node[1] is not None:
            raise NotRestorable(r.path(token), "a sparse tensor of a subclass cannot be built anew")
        for cell in node[3][:-1]:
            r.fill_early(cell)
        parts = [r.resolve(cell) for cell in node[3][:-1]]
        with quiet():
            if layout == "sparse_coo":
                made = torch.sparse_coo_tensor(parts[0], parts[1], shape, device=device)
                made._coalesced_(coalesced)
            else:
                build: Any = torch.sparse_compressed_tensor
                made = build(
                    *parts, size=shape, dtype=getattr(torch, dtype), device=device, layout=getattr(torch, layout)
                )
            return made.requires_grad_(requires_grad)

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        set_grad(obj, r.resolve(node[3][-1]))
