"""Which file a piece of memory is shared with, as the kernel sees it."""

from __future__ import annotations

import io
import os


def shared_file(address: int) -> str | None:
    """The path of the file that the memory at `address` is a shared mapping of: what is written there is in the file.

    None for ordinary memory, and for a private mapping, which only began as the file's content.
    """
    with io.FileIO(os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)) as file:
        lines = file.readall().decode(errors="surrogateescape").splitlines()
    for line in lines:
        fields = line.split(maxsplit=5)
        low, _, high = fields[0].partition("-")
        if int(low, 16) <= address < int(high, 16):
            return fields[5] if len(fields) == 6 and fields[1].endswith("s") else None
    return None
