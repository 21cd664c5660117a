"""The states of all global generators of random numbers."""

from __future__ import annotations

import importlib
import random
import sys
from typing import Any

from .rngmemory import NumpyState, PythonState

State = tuple[Any, ...]


def capture() -> State:
    """The states now: an opaque value for `apply`, in this process only."""
    numpy = sys.modules.get("numpy.random.mtrand")
    numpy_state = numpy._rand.get_state(legacy=False) if numpy is not None and hasattr(numpy, "_rand") else None
    return (random.getstate(), numpy_state, *_torch_states())


def apply(state: State) -> None:
    """Set the states that `capture` returned."""
    python, numpy_state, torch_state, cuda = state
    random.setstate(python)
    if numpy_state is not None:
        sys.modules["numpy.random.mtrand"]._rand.set_state(numpy_state)
    _set_torch_states(torch_state, cuda)


class Keeper:
    """`capture` and `apply` through memory where that can be had: cheap enough to enclose every hindsight statement."""

    __slots__ = ("_numpy", "_python")

    def __init__(self) -> None:
        self._python = PythonState.of(getattr(random, "_inst", None))
        self._numpy: NumpyState | None = None

    def capture(self) -> State:
        """See the function."""
        if self._python is None:
            return capture()
        numpy = sys.modules.get("numpy.random.mtrand")
        numpy_state = None
        if numpy is not None and hasattr(numpy, "_rand"):
            if self._numpy is None or not self._numpy.over(numpy._rand):
                self._numpy = NumpyState.of(numpy._rand)
                if self._numpy is None:
                    return capture()
            numpy_state = self._numpy.read()
        return ("memory", self._python.read(), numpy_state, *_torch_states())

    def apply(self, state: State) -> None:
        """See the function."""
        if state[0] != "memory":
            apply(state)
            return
        _, python, numpy_state, torch_state, cuda = state
        assert self._python is not None
        self._python.write(python)
        if numpy_state is not None:
            known = self._numpy
            assert known is not None
            if not known.over(sys.modules["numpy.random.mtrand"]._rand):
                known.put_back()
            known.write(numpy_state)
        _set_torch_states(torch_state, cuda)


def _torch_states() -> tuple[Any, Any]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "default_generator"):
        return None, None
    cuda = [generator.get_state() for generator in torch.cuda.default_generators] if _cuda_ready(torch) else None
    return torch.default_generator.get_state(), cuda


def _set_torch_states(torch_state: Any, cuda: Any) -> None:
    if torch_state is None:
        return
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
