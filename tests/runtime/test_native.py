"""Functions of libraries that open paths in native code."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from flor_trace.runtime.native import wrap_native


def test_a_class_that_cannot_be_subclassed_stays_a_class_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`safetensors.safe_open` is one; a function in its place would be another object to every snapshot."""
    opened = []

    class safe_open:
        def __new__(cls, filename: str, framework: str = "np") -> safe_open:
            opened.append((filename, framework))
            return super().__new__(cls)

        def __init_subclass__(cls) -> None:
            raise TypeError("type 'safe_open' is not an acceptable base type")

    module = types.ModuleType("safetensors")
    module.safe_open = safe_open  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "safetensors", module)

    def through(path: str) -> str:
        return f"scratch/{path}"

    undo = wrap_native("safetensors", through, through)
    wrapped = module.safe_open
    assert type(wrapped) is type and wrapped is not safe_open
    assert (wrapped.__name__, wrapped.__module__) == (safe_open.__name__, safe_open.__module__)
    handles = [wrapped("a", "pt"), wrapped(filename=Path("b")), wrapped(filename=3)]
    assert [type(handle) for handle in handles] == [safe_open] * 3
    assert opened == [("scratch/a", "pt"), ("scratch/b", "np"), (3, "np")]
    assert wrap_native("safetensors", through, through) == []
    for each in reversed(undo):
        each()
    assert module.safe_open is safe_open
