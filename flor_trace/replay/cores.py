"""What workers share: processor cores and GPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEVICE_VARIABLE = "CUDA_VISIBLE_DEVICES"
# Threads of OpenMP that wait for work spin by default, which takes the cores of other workers. How they wait changes no result.
PASSIVE_WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The cores that this process may use: those it is bound to, or fewer if a container's quota (cgroup v2) allows less."""
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, period = quota.read_text().split()
        return max(min(cores, int(allowed) // int(period)), 1)
    except (OSError, ValueError):  # no such file, or `max`
        return cores


def recorded_threads(facts: Sequence[Mapping[str, Any]]) -> int:
    """How many threads the recorded run computed with, from what `runtime.machine` noted whenever more libraries had been imported."""
    torch = [each["torch"]["threads"] for each in facts if each.get("torch")]
    if torch:
        return int(torch[0])  # before the script could change it for a while
    blas = [each["numpy"]["blas_threads"] for each in facts if "blas_threads" in each.get("numpy", {})]
    return int(max(blas, default=1))


def default_workers(threads: int, cores: int, gpus: Sequence[str]) -> int:
    """How many workers to start where nobody says: one for each GPU, or as many as have the recorded threads without sharing cores."""
    return len(gpus) or max(cores // threads, 1)


def oversubscription(workers: int, threads: int, cores: int) -> str | None:
    """A sentence for the user, if workers have to share cores."""
    if workers * threads <= cores or workers == 1:
        return None
    each = f"{threads} thread{'s' * (threads != 1)}"
    return (
        f"{workers} workers with the recorded {each} each share {cores} core{'s' * (cores != 1)}: --workers "
        f"{max(cores // threads, 1)} may be as fast (the number of threads stays, for it changes results)"
    )


def slowdown(workers: int, threads: int, cores: int) -> float:
    """How many times longer than recorded a script's work takes while all workers are busy: 1 where none has to share a core."""
    return max(workers * threads / cores, 1.0) if workers > 1 else 1.0


def gpus_to_share(facts: Sequence[Mapping[str, Any]], present: Sequence[str]) -> list[str]:
    """The GPUs that workers get one each of; none if each is to see all that the run saw.

    A run that saw one GPU sees one in replay, whichever it is. One that saw several may have used any of them.

    Args:
        facts: what `runtime.machine` noted.
        present: what is here (`present_gpus`).
    """
    seen = max((len(each["torch"].get("devices", ())) for each in facts if each.get("torch")), default=0)
    return list(present) if seen == 1 and len(present) > 1 else []


def present_gpus(environment: Mapping[str, str], listing: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    given = environment.get(DEVICE_VARIABLE)
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        # CUDA stops at the first name that it does not know.
        known = next((n for n, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:known]
    try:
        return [str(number) for number in range(len(os.listdir(listing)))]
    except OSError:
        return []
