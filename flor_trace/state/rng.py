"""The states of all global generators of random numbers; cheap enough to surround every hindsight statement."""

from __future__ import annotations

import importlib
import random
import sys
from typing import Any

State = tuple[Any, ...]


def capture() -> State:
    """The states now: an opaque value for `apply`, in this process only."""
    numpy = sys.modules.get("numpy.random.mtrand")
    torch = sys.modules.get("torch")
    numpy_state = numpy._rand.get_state(legacy=False) if numpy is not None and hasattr(numpy, "_rand") else None
    torch_state = cuda = None
    if torch is not None and hasattr(torch, "default_generator"):
        torch_state = torch.default_generator.get_state()
        if _cuda_ready(torch):
            cuda = [generator.get_state() for generator in torch.cuda.default_generators]
    return (random.getstate(), numpy_state, torch_state, cuda)


def apply(state: State) -> None:
    """Set the states that `capture` returned."""
    python, numpy_state, torch_state, cuda = state
    random.setstate(python)
    if numpy_state is not None:
        sys.modules["numpy.random.mtrand"]._rand.set_state(numpy_state)
    if torch_state is not None:
        torch = sys.modules["torch"]
        torch.default_generator.set_state(torch_state)
        if cuda is not None:
            for generator, value in zip(torch.cuda.default_generators, cuda, strict=True):
                generator.set_state(value)


def _cuda_ready(torch: Any) -> bool:
    cuda = getattr(torch, "cuda", None)
    return cuda is not None and bool(cuda.is_initialized())


def dump() -> dict[str, Any]:
    """The states as plain values that can be stored."""
    python, numpy_state, torch_state, cuda = capture()
    found: dict[str, Any] = {"random": python}
    if numpy_state is not None:
        inner = numpy_state["state"]
        found["numpy"] = (
            inner["key"].tobytes(), int(inner["pos"]), int(numpy_state["has_gauss"]), float(numpy_state["gauss"]),
        )  # fmt: skip
    if torch_state is not None:
        found["torch"] = bytes(torch_state.numpy())
    if cuda is not None:
        found["cuda"] = tuple(bytes(state.cpu().numpy()) for state in cuda)
    return found


def load(values: dict[str, Any]) -> None:
    """Set the states that `dump` wrote, importing the libraries that were imported then: NumPy imports its `random`
    when that is first asked for, which may have been behind the point that a restore starts from."""
    if "random" in values:
        random.setstate(values["random"])
    if "numpy" in values:
        numpy = importlib.import_module("numpy")
        mtrand = importlib.import_module("numpy.random.mtrand")
        key, pos, has_gauss, gauss = values["numpy"]
        state = {
            "bit_generator": "MT19937",
            "state": {"key": numpy.frombuffer(key, dtype=numpy.uint32).copy(), "pos": pos},
            "has_gauss": has_gauss,
            "gauss": gauss,
        }
        mtrand._rand.set_state(state)
    if "torch" not in values:
        return
    torch = importlib.import_module("torch")
    torch.default_generator.set_state(torch.frombuffer(bytearray(values["torch"]), dtype=torch.uint8))
    if "cuda" in values and torch.cuda.is_available():
        torch.cuda.init()
        for generator, value in zip(torch.cuda.default_generators, values["cuda"], strict=False):
            generator.set_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))
