"""h5py: handles of closed and of open HDF5 files and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5py import _objects  # type: ignore[import-not-found, unused-ignore]

from ..graph import Node
from ..layout import type_name
from . import Handler, Kind, Registry
from .opaque import HIDDEN

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


def _emit(w: Walker, obj: Any, token: int) -> Node:
    if obj.valid:
        return ("opaque", None, (type_name(type(obj)), HIDDEN), (), None)
    return ("closed h5py", None, (), (w.cell(type(obj)),), None)


class ClosedKind(Kind):
    """`with h5py.File(…) as file:` leaves one behind; one closed handle is as good as another."""

    name = "closed h5py"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return not live.valid

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return r.resolve(node[3][0])(0)  # no HDF5 object has this number


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(_objects.ObjectID, Handler(_emit, serial=True), subclasses=True)
    reg.kind(ClosedKind())
