"""The states that generators of random numbers have when their library has just been imported.

A script that never seeds draws from these, so they are recorded before it can draw, and set again in replay. The
launcher calls `capture_initial_rng` and `apply_initial_rng` right after the import of each library in `LIBRARIES`.
"""

from __future__ import annotations

import sys
from typing import Any

from flor_trace.runtime.entropy import (
    pack_legacy_state,
    pack_random_state,
    unpack_legacy_state,
    unpack_random_state,
)

LIBRARIES = ("random", "numpy.random", "torch")
"""The modules after whose import the state is captured or applied."""


def capture_initial_rng(library: str) -> Any:
    """The present global state of an imported library's generator, as JSON-able builtins."""
    module = sys.modules[library]
    if library == "random":
        return pack_random_state(module.getstate())
    if library == "numpy.random":
        return pack_legacy_state(module.get_state())
    return bytes(module.get_rng_state().numpy()).hex()


def apply_initial_rng(library: str, value: Any) -> None:
    """Set an imported library's generator to what `capture_initial_rng` gave."""
    module = sys.modules[library]
    if library == "random":
        module.setstate(unpack_random_state(value))
    elif library == "numpy.random":
        module.set_state(unpack_legacy_state(value))
    else:
        module.set_rng_state(module.frombuffer(bytearray.fromhex(value), dtype=module.uint8))
