"""What of torch no graph of a snapshot describes, and one process can keep and put back: autograd graphs and version counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..layout import mro
from .torch_core import bare, core, grad_fn_of, is_inference

_version_of = core["_version"].__get__


class KeptGraphs:
    """The autograd nodes and version counters of the tensors that were alive at one moment."""

    def __init__(self, tensors: list[Any]) -> None:
        self._nodes = {id(tensor): grad_fn_of(tensor) for tensor in tensors}
        self._versions = [(tensor, _version_of(tensor)) for tensor in tensors if not is_inference(tensor)]

    def on_same_graph(self, tensor: Any) -> bool:
        """Whether a tensor is on the graph that it was on."""
        return id(tensor) in self._nodes and self._nodes[id(tensor)] is grad_fn_of(tensor)

    def put_back(self) -> None:
        """Set the counters back of memory that holds what it held: backward would refuse tensors that count as modified."""
        with bare():
            moved = [(tensor, version) for tensor, version in self._versions if _version_of(tensor) != version]
            if moved:
                _set_versions([tensor for tensor, _ in moved], [version for _, version in moved])


def keep(objects: Iterable[Any]) -> KeptGraphs:
    """What is to be kept of the tensors among `objects`."""
    with bare():
        return KeptGraphs([obj for obj in objects if torch.Tensor in mro(type(obj))])


def _set_versions(tensors: list[Any], versions: list[int]) -> None:
    setter: Any = torch._C._autograd._unsafe_set_version_counter
    try:
        setter(tuple(tensors), tuple(versions))
    except TypeError:  # before torch 2.6 one at a time
        for tensor, version in zip(tensors, versions, strict=True):
            setter(tensor, version)


class _Retaining:
    """The autograd engine, but a graph that has been gone through stays whole: the script goes through it again."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run_backward(self, outputs: Any, gradients: Any, keep_graph: bool, *args: Any, **kwargs: Any) -> Any:
        """See torch."""
        return self._engine.run_backward(outputs, gradients, True, *args, **kwargs)


@contextmanager
def graphs_retained() -> Iterator[None]:
    """Within, `backward` and `grad` free no autograd graph."""
    owner: Any = torch.autograd.Variable
    engine = owner._execution_engine
    owner._execution_engine = _Retaining(engine)
    try:
        yield
    finally:
        owner._execution_engine = engine
