"""What of this machine matters to recording and replay: the kernel, threads, versions, room on the disk."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Mapping

from flor_trace.doctor.findings import INEXACT, REMARK, Finding
from flor_trace.runtime import landlock

PYTHONS = ((3, 11), (3, 13))
TORCH = (2, 2)
LITTLE_BYTES = 1 << 30


def facts(store: str) -> dict[str, object]:
    """Versions, kernel and processors, for the head of the report."""
    return {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "landlock": landlock.version(),
        "processors": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "free_bytes": _free(store),
    }


def examine(store: str, environment: Mapping[str, str] | None = None) -> list[Finding]:
    """What is amiss here; `environment` defaults to this process's."""
    variables = os.environ if environment is None else environment
    found: list[Finding] = []
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        found.append(_remark("versions", f"Python {sys.version_info[0]}.{sys.version_info[1]} is not among those tested (3.11 to 3.13)",
                             "recording never harms the script, but replay may refuse", "use one of these versions"))  # fmt: skip
    torch = _version("torch")
    if torch and tuple(int(part) for part in torch.split(".")[:2]) < TORCH:
        found.append(_remark("versions", f"torch {torch} is older than 2.2", "it is not tested", "use torch 2.2 or later"))
    if not landlock.version():
        found.append(_remark("landlock", "this kernel has no Landlock",
                             "in replay, native code and programs that the script starts are not kept from changing your files",
                             "replay on Linux 5.13 or later with Landlock enabled, or work on a copy"))  # fmt: skip
    found += _threads(variables)
    free = _free(store)
    if free is not None and free < LITTLE_BYTES:
        found.append(_remark("disk", f"{free >> 20} MiB are free where runs are kept", "a full disk ends the recording, not the script",
                             "give a store with more room (--store)"))  # fmt: skip
    if variables.get("PYTHONHASHSEED") == "random":
        found.append(_remark("hash-seed", "PYTHONHASHSEED is random", "record fixes the seed for the run, so replay is exact",
                             "nothing need be done"))  # fmt: skip
    return found


def _threads(variables: Mapping[str, str]) -> list[Finding]:
    processors = len(os.sched_getaffinity(0))
    given = variables.get("OMP_NUM_THREADS", "").partition(",")[0]
    if given.isdigit() and int(given) > processors:
        return [
            Finding("threads", INEXACT, "", f"OMP_NUM_THREADS={given} on {processors} processors",
                    "more threads than processors are slow, and replay on a machine that cannot start as many is within tolerance only",
                    f"set OMP_NUM_THREADS to {processors} or less")
        ]
    if not given and processors > 1:
        return [_remark("threads", f"OMP_NUM_THREADS is not set: torch takes up to {processors} threads",
                        "replay uses the recorded number in each worker, so several workers on one machine hinder each other",
                        "set OMP_NUM_THREADS for recording if you mean to replay with several workers on this machine")]  # fmt: skip
    return []


def _remark(rule: str, what: str, effect: str, advice: str) -> Finding:
    return Finding(rule, REMARK, "", what, effect, advice)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _free(store: str) -> int | None:
    folder = os.path.abspath(store)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
