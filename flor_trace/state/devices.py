"""What devices beside the CPU ask of whoever reads their memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def wait_for(devices: Iterable[str]) -> None:
    """Return when these devices have done all that they were asked to, in whatever stream: it may write the memory that is to be read, and
    only the script knows which streams it has made.

    Args:
        devices: as `str(tensor.device)` names them.
    """
    import torch

    for device in devices:
        kind = torch.device(device).type
        synchronize = getattr(getattr(torch, kind, None), "synchronize", None)
        if synchronize is None:
            continue  # such a device has no streams of its own
        if kind == "mps":
            synchronize()  # there is one
        else:
            synchronize(device)


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured: then nothing may be read or waited for, or the capture fails."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda is not None and cuda.is_initialized() and bool(cuda.is_current_stream_capturing())
