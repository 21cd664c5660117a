"""Disks that are full or become read-only, and several recorders in one store."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.world import Findings, Trial, Truth

from flor_trace.query import cleanup
from flor_trace.store import layout

FAILING = [
    f"{step} {error}"
    for step in (
        "create journal 1 before",
        "create pack 1 before",
        "create source 1 before",
        "write manifest 1 half",
        "write journal 1 half",
        "write journal 3 half",
        "write journal 9 before",
        "write pack 1 half",
        "write pack 7 half",
        "write pack 30 before",
        "write source 1 half",
        "sync pack 2 before",
        "sync journal 3 before",
        "any any 40 before",
    )
    for error in ("ENOSPC", "EROFS")
]


def failing_step(folder: Path, truth: Truth, fault: str, findings: Findings) -> None:
    """From one step on the disk takes nothing more."""
    trial = Trial(folder, truth)
    done = trial.wait(trial.start(fault))
    _check_stopped(trial, done.err, done.status, findings, fault, must_stop=trial.struck)
    if done.status == 2 and "cannot record into" in done.err:
        findings.check(done.out == "", f"{fault}: it was refused and yet ran")
        findings.count("refused before the training began")
    else:
        trial.check_training(done, findings, fault)
    trial.check_store(findings, fault)
    trial.discard()


def full_disk(folder: Path, truth: Truth, size: int, findings: Findings) -> bool:
    """Record onto a file system of `size` bytes; False if none can be mounted here."""
    with small_file_system(folder, size) as mounted:
        if not mounted:
            return False
        trial = Trial(folder / "trial", truth, folder / "disk" / "store")
        done = trial.wait(trial.start())
        what = f"disk of {size} bytes"
        findings.check("no space left on device" in done.err.lower(), f"{what}: nothing was said about it: {done.err!r}")
        if done.status != 2:
            _check_stopped(trial, done.err, done.status, findings, what, must_stop=True)
            trial.check_training(done, findings, what)
        # Replays need a little room, too.
        copy = Trial(folder / "copy", truth)
        shutil.copytree(trial.store, copy.store)
        copy.check_store(findings, what)
    return True


@contextmanager
def small_file_system(folder: Path, size: int) -> Iterator[bool]:
    """Mount a tmpfs at `folder/disk`, where that is permitted."""
    disk = folder / "disk"
    disk.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)


def frozen_files(folder: Path, truth: Truth, findings: Findings) -> bool:
    """Make the files of a running recording immutable; False where that is not permitted."""
    trial = Trial(folder, truth)
    running = trial.start()
    while running.process.poll() is None and not any(trial.store.glob("runs/*/packs/*.pack")):
        pass
    paths = [*trial.store.glob("runs/*/*"), *trial.store.glob("runs/*/packs/*")]
    files = [str(path) for path in paths if path.is_file()]
    frozen = subprocess.run(["chattr", "+i", *files], capture_output=True).returncode == 0
    done = trial.wait(running)
    if frozen:
        subprocess.run(["chattr", "-i", *files], check=True)
        trial.check_training(done, findings, "frozen files")
        trial.check_store(findings, "frozen files")
    trial.discard()
    return frozen


def two_recorders(folder: Path, truth: Truth, findings: Findings) -> None:
    """Two trainings record into one store while it is cleaned up all the time."""
    store = folder / "store"
    trials = [Trial(folder / name, truth, store) for name in ("one", "two")]
    running = [trial.start() for trial in trials]
    while any(each.process.poll() is None for each in running):
        if store.exists():
            removed, _ = cleanup.collect_garbage(str(store))
            findings.check(not removed, f"two recorders: gc removed {removed}")
    for trial, each in zip(trials, running, strict=True):
        trial.check_training(trial.wait(each), findings, "two recorders")
    findings.check(len(layout.run_ids(str(store))) == 2, "two recorders: there are not two runs")
    for run_id in layout.run_ids(str(store)):
        owner = next(trial for trial in trials if str(trial.folder) == _folder_of(store, run_id))
        owner.check_run(run_id, findings, "two recorders")


def _folder_of(store: Path, run_id: str) -> str:
    return str(layout.read_manifest(layout.run_folder(str(store), run_id))["cwd"])


def _check_stopped(trial: Trial, err: str, status: int, findings: Findings, what: str, *, must_stop: bool) -> None:
    """One warning, and not more."""
    warnings = [line for line in err.splitlines() if line.startswith("flor_trace: ") and ("stopped" in line or "cannot record" in line)]
    findings.check(len(warnings) <= 1, f"{what}: {len(warnings)} warnings: {warnings}")
    if must_stop:
        findings.check(len(warnings) == 1, f"{what}: nothing was said: {err!r}")
