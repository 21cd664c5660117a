"""How far two buffers of numbers lie apart."""

from __future__ import annotations

import math
import sys
from typing import Any

_VIA_TORCH = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"})
_NUMPY_NAMES = {"float32", "float64", "float16", "complex64", "complex128"}


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


def largest_difference(recorded: Any, live: Any, dtype: Any, rtol: float, atol: float) -> tuple[float, bool]:
    """The largest absolute difference, and whether all lie within tolerance; (inf, False) for what has no numbers."""
    import numpy as np

    if type(dtype) is not str:
        return math.inf, False
    if dtype in _VIA_TORCH and "torch" in sys.modules:
        import torch

        kind = getattr(torch, dtype)
        a, b = (torch.frombuffer(bytearray(part), dtype=kind).double().numpy() for part in (recorded, live))
    else:
        try:
            plain = np.dtype(dtype)
        except TypeError:
            return math.inf, False
        if plain.kind not in "fc" or len(memoryview(recorded).cast("B")) % plain.itemsize:
            return math.inf, False
        a, b = (np.frombuffer(part, plain) for part in (recorded, live))
        if plain.kind == "f" and plain.itemsize < 8:
            a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        gap = np.where(same, 0.0, np.abs(a - b))
        if not np.isfinite(gap).all():
            return math.inf, False
        within = bool(((gap <= atol + rtol * np.abs(a)) | same).all())
    return float(gap.max(initial=0.0)), within
