"""What all kinds of torch objects need: attributes past subclasses, and work without modes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ...errors import AutogradAcrossBoundary
from ..graph import Node

# Through the descriptors of the base class: a subclass may define properties and methods of these names, which are user code.
core: Any = torch._C.TensorBase.__dict__
grad_of = core["_grad"].__get__
set_grad = core["grad"].__set__
grad_fn_of = core["grad_fn"].__get__
set_data = core["data"].__set__
shape_of = core["shape"].__get__
stride_of = core["stride"]
layout_of = core["layout"].__get__
dtype_of = core["dtype"].__get__
device_of = core["device"].__get__
needs_grad = core["requires_grad"].__get__
is_leaf = core["is_leaf"].__get__
retains_grad = core["retains_grad"].__get__
is_inference = core["is_inference"]
storage_of = torch.Tensor.untyped_storage
HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_hook_parts = tuple(core[name] for name in HOOKS if name in core)


def opaque(description: str) -> Node:
    """The node of a tensor that cannot be captured."""
    return ("opaque", None, (description, None), (), None)


@contextlib.contextmanager
def bare() -> Iterator[None]:
    """Past subclasses' `__torch_function__` and `__torch_dispatch__`, and past modes that count or change what is done."""
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Work on tensors without autograd, modes, subclasses' methods, or anything that the user has set up."""
    with bare(), torch.inference_mode(False), torch.no_grad():
        yield


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Build what torch warns of once per process: the recorded run has been told already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def keeps_casts() -> bool:
    """Whether a block of `torch.autocast` is active. Until it is left, what it has cast of a parameter once is used again, however
    the parameter changes, and cannot be seen."""
    depth = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return depth > 1 and torch.is_autocast_cache_enabled()


def grad_fn_name(obj: Any) -> str | None:
    """The name that a tensor's repr shows for its grad_fn."""
    fn = grad_fn_of(obj)
    if fn is None:
        return None
    name = type(fn).__name__
    return str(fn.name().rsplit("::", 1)[-1]) if name == "CppFunction" else name


def own_grad(obj: Any) -> Any:
    """The gradient that a tensor holds; asking one that has none for it would warn."""
    return grad_of(obj) if is_leaf(obj) or retains_grad(obj) else None


def hooks_of(obj: Any) -> tuple[Any, ...]:
    """The dicts of a tensor's hooks, None for each that is empty."""
    return tuple([part.__get__(obj) or None for part in _hook_parts])


def set_hooks(obj: Any, wanted: Any) -> None:
    """Give a tensor the dicts of hooks that `hooks_of` returned."""
    for part, hooks in zip(_hook_parts, wanted, strict=False):
        present = part.__get__(obj)
        if hooks is not None and present is not hooks:
            part.__set__(obj, hooks)
        elif hooks is None and present:
            present.clear()


def replace_grad(obj: Any, grad: Any) -> None:
    """Set a tensor's gradient, of whatever form the present one is."""
    if own_grad(obj) is grad:
        return
    set_grad(obj, None)
    if grad is None or (shape_of(grad), dtype_of(grad)) == (shape_of(obj), dtype_of(obj)):
        set_grad(obj, grad)
        return
    # Something was assigned to `.data` behind the gradient's back: for a moment the tensor is what the gradient fits.
    content = obj.detach()
    set_data(obj, torch.empty_like(grad))
    set_grad(obj, grad)
    set_data(obj, content)


def of_class(cls: Any, made: Any, requires_grad: bool) -> Any:
    """A tensor of the class `cls` with the memory of `made`, and not a view of it for autograd."""
    if cls is torch.Tensor and not made._is_view():
        return made.requires_grad_(requires_grad)
    return torch._C.TensorBase._make_subclass(cls, made, requires_grad)


def tripwire(make: Callable[[], Any], name: str, needed: Callable[[str], None] | None = None) -> Any:
    """The tensor that `make` returns, with a grad_fn that carries the recorded name and refuses to run: it calls `needed`,
    and raises if that returns."""

    def forward(ctx: Any, anchor: Any) -> Any:
        with bare():
            return make()

    def backward(ctx: Any, *grads: Any) -> Any:
        if needed is not None:
            needed(name)
        raise AutogradAcrossBoundary(name)

    space = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    made: Any = type("Tripwire", (torch.autograd.Function,), space)
    made._backward_cls.__name__ = made._backward_cls.__qualname__ = name
    made._backward_cls.__module__ = "builtins"  # so that its repr is that of the recorded node
    with torch.enable_grad():
        anchor = torch.zeros((), requires_grad=True)
        return made.apply(anchor)
