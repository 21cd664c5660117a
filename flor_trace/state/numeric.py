"""How far two buffers of numbers lie apart."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

_VIA_TORCH = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"})


def is_double(dtype: Any) -> bool:
    """Whether a buffer's numbers are of double precision or better."""
    import numpy as np

    if type(dtype) is not str or dtype in _VIA_TORCH:
        return False
    try:
        plain = np.dtype(dtype)
    except TypeError:
        return False
    return plain.itemsize >= {"f": 8, "c": 16}.get(plain.kind, sys.maxsize)


@dataclass(frozen=True, slots=True)
class Gap:
    """How two buffers of numbers differ.

    Attributes:
        largest: the largest absolute difference; infinite where there are no numbers to compare, or one is not finite.
        within: whether all differences lie within the tolerance.
        count, total: how many elements differ, of how many.
        at: the element (counted in memory) that differs most, with both values there.
    """

    largest: float
    within: bool
    count: int = 0
    total: int = 0
    at: int = -1
    recorded: complex = 0.0
    live: complex = 0.0

    def shown(self) -> tuple[str, str]:
        """The worst place for the user: what was recorded there, and what is there now."""
        size = abs(self.recorded)
        relative = f", {self.largest / size:.3g} relative" if size and math.isfinite(self.largest) else ""
        return (
            f"{_short(self.recorded)} at element {self.at} of {self.total}",
            f"{_short(self.live)}{relative}; {self.count} of {self.total} elements differ",
        )


def _short(value: complex) -> str:
    return f"{value:.9g}"


def difference(recorded: Any, live: Any, dtype: Any, rtol: float, atol: float) -> Gap:
    """Compare two buffers of the same size; integers and truth values never lie within tolerance unless they are equal."""
    import numpy as np

    pair = _as_arrays(recorded, live, dtype)
    if pair is None:
        return Gap(math.inf, False)
    a, b = pair
    with np.errstate(all="ignore"):
        same = (a == b) | ((a != a) & (b != b))
        gap = np.where(same, 0.0, np.abs(a.astype(_wide(a)) - b.astype(_wide(b))))
        finite = np.isfinite(gap)
        worst = int(np.argmax(np.where(finite, gap, np.inf))) if gap.size else -1
        largest = (float(gap[worst]) if finite.all() else math.inf) if gap.size else 0.0
        within = a.dtype.kind in "fc" and bool(finite.all()) and bool(((gap <= atol + rtol * np.abs(a)) | same).all())
    if gap.size == 0:
        return Gap(0.0, True)
    return Gap(largest, within, int((~same).sum()), int(gap.size), worst, a[worst].item(), b[worst].item())


def _wide(array: Any) -> Any:
    """What differences are computed in: those of small integers overflow, and those of unsigned ones wrap around."""
    return "complex128" if array.dtype.kind == "c" else "float64"


def _as_arrays(recorded: Any, live: Any, dtype: Any) -> tuple[Any, Any] | None:
    """Both buffers as arrays of numbers; None for what has none."""
    import numpy as np

    if type(dtype) is not str:
        return None
    if dtype in _VIA_TORCH and "torch" in sys.modules:
        import torch

        kind = getattr(torch, dtype)
        a, b = (torch.frombuffer(bytearray(part), dtype=kind).double().numpy() for part in (recorded, live))
        return a, b
    try:
        plain = np.dtype(dtype)
    except TypeError:
        return None
    if plain.kind not in "fciub" or len(memoryview(recorded).cast("B")) % plain.itemsize:
        return None
    a, b = (np.frombuffer(part, plain) for part in (recorded, live))
    if plain.kind == "f" and plain.itemsize < 8:
        a, b = a.astype(np.float64), b.astype(np.float64)
    return a, b
