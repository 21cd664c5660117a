"""Every fault that has a name, once."""

from __future__ import annotations

import random
from pathlib import Path

from faults import damage, disk, exits, kills
from faults.world import LARGE, Findings, Truth

DISK_SIZES = (8 << 10, 64 << 10, 400 << 10, 1500 << 10)
"""Sizes of a file system, in bytes, that the recordings here fill."""


def everything(folder: Path, truth: Truth, dice: random.Random) -> Findings:
    """Kills of the writing and of the training process at each step, damages of each file, disks that fail at each step, are full or
    become read-only, two recorders, and each way to end (of the small training always)."""
    findings = Findings()
    for number, step in enumerate(kills.STEPS):
        for action in ("kill", "trainer"):
            kills.kill_at_step(folder / f"step-{number}-{action}", truth, step, findings, action)
    if truth.source == LARGE:
        for number, step in enumerate(kills.WRITERS_STEPS):
            for action in ("writer", "orphan"):
                kills.kill_at_step(folder / f"step-{number}-{action}", truth, step, findings, action)
    for number, fault in enumerate(disk.FAILING):
        disk.failing_step(folder / f"failing-{number}", truth, fault, findings)
    for size in DISK_SIZES:
        mounted = disk.full_disk(folder / f"full-{size}", truth, size, findings)
        findings.count("full disks" if mounted else "full disks: nothing can be mounted here")
    frozen = disk.frozen_files(folder / "frozen", truth, findings)
    findings.count("frozen files" if frozen else "frozen files: not permitted here")
    disk.two_recorders(folder / "two", truth, findings)
    damage.all_kinds(folder / "damages", truth, 1, dice, findings)
    for name in exits.NAMES:
        exits.check(name, folder / f"exit {name}", findings)
    return findings
