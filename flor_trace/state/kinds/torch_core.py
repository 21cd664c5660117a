"""What all kinds of torch objects need: attributes past subclasses, and work without modes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from ..graph import Node

core: Any = torch._C.TensorBase.__dict__
grad_of = core["_grad"].__get__
set_grad = core["grad"].__set__
grad_fn_of = core["grad_fn"].__get__


def opaque(description: str) -> Node:
    """The node of a tensor that cannot be captured."""
    return ("opaque", None, (description, None), (), None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Work on tensors without autograd, modes, or anything that the user has set up."""
    with torch._C.DisableTorchFunction(), torch.inference_mode(False), torch.no_grad():
        yield
