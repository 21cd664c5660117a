"""Plain text for people: columns, durations, sizes, times."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from flor_trace.errors import INTERRUPTED


def columns(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Rows as aligned columns; the numbers in `right` name those that end at the same place."""
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[place].rjust(width) if place in right else row[place].ljust(width) for place, width in enumerate(widths)]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def duration(seconds: float | None) -> str:
    """Such as 0.8s, 12.3s, 4m05s, 2h13m, 3d04h."""
    if seconds is None:
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(count: int | None) -> str:
    """Such as 512 B, 1.4 MiB."""
    if count is None:
        return "-"
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1023.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def ending(status: str, exit_status: int | str | None) -> str:
    """How a run ended, such as "finished", "finished (exit status 3)" or "interrupted"."""
    if exit_status == INTERRUPTED:
        return "interrupted"
    return status if exit_status in (None, 0, "ok") else f"{status} (exit status {exit_status})"


def moment(seconds: float | None) -> str:
    """A time of day, local."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def write(text: str) -> None:
    """Print recorded text as it was, undecodable bytes included."""
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "utf-8"
        raw = b"".join(_encode(character, encoding) for character in text)
        sys.stdout.flush()
        sys.stdout.buffer.write(raw)


def write_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=1))


def _encode(character: str, encoding: str) -> bytes:
    try:
        return character.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return character.encode(encoding, "backslashreplace")
