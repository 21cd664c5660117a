"""SIGKILL, to the trainer or to whoever writes for it, at random times and at every named step."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from faults.world import Findings, Running, Trial, Truth

STEPS = [
    f"{operation} {kind} {nth} {moment}"
    for operation, kind, nths, moments in (
        ("create", "folder", (1, 2, 3), ("before", "after")),
        ("create", "journal", (1,), ("before", "after")),
        ("create", "manifest", (1,), ("before", "after")),
        ("create", "pack", (1,), ("before", "after")),
        ("create", "source", (1,), ("before", "after")),
        ("write", "journal", (1, 2, 3, 5, 9, 14), ("before", "half", "after")),
        ("write", "manifest", (1,), ("before", "half", "after")),
        ("write", "source", (1,), ("before", "half", "after")),
        ("write", "pack", (1, 2, 3, 8, 21, 40), ("before", "half", "after")),
        ("replace", "manifest", (1,), ("before", "after")),
        ("replace", "source", (1,), ("before", "after")),
        ("sync", "pack", (1, 2, 5), ("before", "after")),
        ("sync", "journal", (1, 2, 5, 12), ("before", "after")),
        ("sync", "source", (1,), ("before", "after")),
        ("sync", "manifest", (1,), ("before", "after")),
        ("sync", "folder", (1, 2, 3), ("before", "after")),
    )
    for nth in nths
    for moment in moments
]
"""Where the hook kills: an operation on a kind of file, which one, and when."""
WRITERS_STEPS = [
    step for step in STEPS if step.split()[1] in ("pack", "journal", "folder") and not step.startswith(("create journal", "create folder"))
]
"""Those that the writing process of a large training comes to."""
REPLAYS = (("--workers", "1"), ("--workers", "2"), ("--workers", "2", "--init", "strong"), ("--workers", "1", "--init", "weak"))
"""How the run that a random kill left is replayed: one worker skips inner loops, a second one jumps to where its segment starts."""


def kill_at_step(folder: Path, truth: Truth, step: str, findings: Findings, action: str = "kill") -> bool:
    """Record with a kill at a named step, of the process that carries it out or (`trainer`) of the training; with `writer` and `orphan`
    the same at a step of the writing process. False if no such step was reached."""
    trial = Trial(folder, truth)
    done = trial.wait(trial.start(f"{step} {action}"))
    what = f"{action} at {step}"
    if not trial.struck:
        findings.count("steps not reached")
        trial.check_training(done, findings, what)
    elif done.status == -signal.SIGKILL:
        trial.check_killed(done, findings, what)
    else:
        findings.count("writer killed, trainer went on")
        trial.check_training(done, findings, what)
    trial.check_store(findings, what)
    reached = trial.struck
    _keep_or_discard(trial, findings, what)
    return reached


def kill_at_random(folder: Path, truth: Truth, dice: random.Random, findings: Findings) -> None:
    """Record with a SIGKILL to the trainer, the writing process, or both, at a random time. What an earlier call has left in the folder
    that was itself ended goes."""
    shutil.rmtree(folder, ignore_errors=True)
    trial = Trial(folder, truth)
    trial.replay_options = dice.choice(REPLAYS)
    running = trial.start()
    whom = dice.choice(("trainer", "trainer", "writer", "both"))
    delay = _wait_for_moment(trial, running, truth, dice)
    what = f"kill of the {whom} after {delay * 1e3:.0f} ms, replay {' '.join(trial.replay_options)}"
    pid = running.process.pid
    writers = [other for other in trial.holders() if other != pid] if whom != "trainer" else []
    if whom == "trainer" or not writers:
        _kill(pid)
        whom = "trainer"
    for writer in writers:
        _kill(writer)
    if whom == "both":
        _kill(pid)
    done = trial.wait(running)
    if done.status == -signal.SIGKILL:
        trial.check_killed(done, findings, what)
    else:
        trial.check_training(done, findings, what)
    if done.status == -signal.SIGKILL or writers:
        findings.count(f"kills of the {whom}")
    else:
        findings.count("kills too late")
    trial.check_store(findings, what)
    _keep_or_discard(trial, findings, what)


def _wait_for_moment(trial: Trial, running: Running, truth: Truth, dice: random.Random) -> float:
    """Wait until a random time of the process' life (one in six), or until its journal has grown to a random size, which a busy machine
    does not shift; returns the seconds since its start."""
    if dice.random() < 1 / 6:
        time.sleep(dice.uniform(0.0, truth.seconds))
    else:
        size = dice.randrange(truth.journal_bytes)
        while running.process.poll() is None and trial.journal_bytes() <= size:
            time.sleep(0.0005)
    return time.monotonic() - running.began


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has come to its end


def _keep_or_discard(trial: Trial, findings: Findings, what: str) -> None:
    """A folder that shows a failure is kept."""
    if any(failure.startswith(what) for failure in findings.failures):
        findings.failures.append(f"{what}: see {trial.folder}")
    else:
        trial.discard()
