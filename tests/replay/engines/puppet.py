"""A worker for tests of engines: it does what it is told over its line, one message at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from flor_trace.replay.link import Link


def main(spec: str, descriptor: int) -> None:
    """Tell who this is, and do as told until there is nothing more to do."""
    link = Link(descriptor)
    link.tell("here", spec=json.loads(Path(spec).read_text()), **_myself())
    answer: dict[str, Any] = link.ask("want")
    while answer["do"] != "end":
        link.tell("did", result=_do(answer["do"], answer.get("with")))
        answer = link.ask("want")
    sys.exit(answer["status"])


def _myself() -> dict[str, Any]:
    return {
        "pid": os.getpid(), "cwd": os.getcwd(), "environment": dict(os.environ), "optimize": sys.flags.optimize, "path": sys.path,
        "stdin": os.read(0, 1).decode(), "hash": hash("text"),
    }  # fmt: skip


def _do(what: str, value: Any) -> Any:
    if what == "say":
        os.write(2, value.encode())
        os.write(1, b"to stdout")
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "start":
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
    elif what == "count":
        return value + 1
    elif what == "repeat":
        return "x" * value
    return None
