"""Run a small program in plain Python and under the recorder, and gather all that could differ."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

DRIVER = Path(__file__).with_name("drive.py")


class Outcome(NamedTuple):
    """All that a user sees of a run."""

    stdout: bytes
    stderr: bytes
    status: int
    files: dict[str, bytes]


def recorder() -> tuple[str, ...]:
    """How to run a script recorded: by the command line tool, or where there is none yet through the bare launcher."""
    if importlib.util.find_spec("flor_trace.cli") is not None:
        return ("-m", "flor_trace", "record", "-q")
    return (str(DRIVER),)


def outcome(
    folder: Path,
    files: Mapping[str, str | bytes],
    arguments: Sequence[str],
    *,
    before: Sequence[str] = (),
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[Path], None] | None = None,
    stdout: str | None = None,
    stdin: bytes = b"",
) -> Outcome:
    """Run `python *options *before *arguments` in a fresh copy of `files` at `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    if prepare is not None:
        prepare(folder)
    full = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    full |= {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder.parent / "cache"), **(environment or {})}
    full["FLOR_TRACE_STORE"] = str(folder.parent / "store")
    with open(stdout or os.devnull, "wb") as sink:
        result = subprocess.run(
            [sys.executable, *options, *before, *arguments],
            cwd=folder,
            env=full,
            input=stdin,
            stdout=sink if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    written = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    }
    return Outcome(result.stdout or b"", result.stderr, result.returncode, written)


def run_recorded(folder: Path, files: Mapping[str, str | bytes], arguments: Sequence[str], **more: object) -> Outcome:
    """`outcome` under the recorder."""
    return outcome(folder, files, arguments, before=recorder(), **more)  # type: ignore[arg-type]
