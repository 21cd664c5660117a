"""What a replay has finished so far, on disk, so that `replay --resume` can go on from there.

The *ledger* of a replay is a file of JSON lines in its folder: what was asked and the plan, then what workers told of the units
that they have finished. The transcripts lie beside it. It is locked while the replay runs, and deleted when all is done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flor_trace.errors import UsageError
from flor_trace.replay.plan import Plan
from flor_trace.runtime.hindsight_files import FOLDER

LEDGER = "ledger"
_SPEC = re.compile(r"worker-\d+\.json")
_TRANSCRIPT = re.compile(r"worker-(\d+)\.jsonl")


@dataclass(frozen=True)
class Unfinished:
    """A replay that was interrupted, or in which a worker failed.

    Attributes:
        folder: its folder.
        request: what was asked (see `Ledger`).
        plan: what was to be done.
        messages: what workers told of finished units.
        workers: how many have been started.
    """

    folder: Path
    request: dict[str, Any]
    plan: Plan
    messages: list[dict[str, Any]]
    workers: int


class Ledger:
    """Writes the ledger of a running replay.

    Args:
        folder: of the replay.
        request: what makes a replay the same as another: the sources, the options.
        plan: what is to be done.
        messages: what an interrupted replay that this one goes on with had noted.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], plan: Plan, messages: list[dict[str, Any]] | None = None) -> None:
        begun = folder / f"{LEDGER}.new"
        self._file = begun.open("w", encoding="utf-8")
        # On a file system without locks, whoever resumes a replay that is still running gets two of them.
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_SH)
        self._write({"request": dict(request), "plan": plan.as_json()})
        for message in messages or []:
            self._write(message)
        self._file.flush()
        begun.replace(folder / LEDGER)

    def note(self, message: Mapping[str, Any]) -> None:
        """A worker has told something that the verdict needs, or has finished a unit."""
        self._write(message)
        if message["kind"] == "done":
            self._file.flush()

    def close(self) -> None:
        """Nothing more is noted."""
        self._file.close()

    def _write(self, fields: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(fields) + "\n")


def digest_of_sources(sources: Mapping[str, bytes | None]) -> str:
    """A digest of today's sources, by module."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + hashlib.sha256(sources[name] or b"").digest())
    return digest.hexdigest()


def find_unfinished(replays: Path, run_id: str, request: Mapping[str, Any]) -> Unfinished:
    """The last replay of a run that was not finished.

    Args:
        replays: the folder of the run's replays.
        run_id: of the run.
        request: what is asked now; values that are None are taken from the replay.

    Raises:
        UsageError: there is none, it is still running, or something else was asked of it.
    """
    names = sorted((int(n) for n in os.listdir(replays) if n.isdigit()), reverse=True) if replays.is_dir() else []
    for name in names:
        ledger = replays / str(name) / LEDGER
        if ledger.exists():
            found = _read(ledger)
            if found is not None:
                _check(found, request)
                return found
    raise UsageError(f"run {run_id} has no replay that was interrupted: leave out --resume")


def _read(ledger: Path) -> Unfinished | None:
    with ledger.open("r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"replay {ledger.parent.name} is still running: wait for it, or end it, before --resume") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):  # a file system without locks
                raise
        lines = file.read().split("\n")
    try:
        records = [json.loads(line) for line in lines[:-1]]  # what follows the last line end was cut off
        first, *messages = records
        plan = Plan.from_json(first["plan"])
    except (ValueError, KeyError, TypeError):
        return None  # ended before anything was written down
    done = finished_units(messages)
    messages = [message for message in messages if message["kind"] != "checked" or message["unit"] in done]
    numbers = [int(found[1]) for entry in os.listdir(ledger.parent) if (found := _TRANSCRIPT.fullmatch(entry))]
    return Unfinished(ledger.parent, first["request"], plan, messages, max(numbers, default=-1) + 1)


def _check(found: Unfinished, request: Mapping[str, Any]) -> None:
    for name, value in request.items():
        if value is None or found.request.get(name) == value:
            continue
        what = "the script has changed since it" if name == "sources" else f"--{name.replace('_', '-')} was not what it"
        raise UsageError(
            f"replay {found.folder.name} cannot be resumed, for {what} was {'begun' if name == 'sources' else 'asked'}: "
            "leave out --resume to begin anew"
        )


def keep_for_resume(folder: Path) -> None:
    """Leave of an interrupted replay what `--resume` needs, and what dead workers said last; the scratch folders go."""
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != FOLDER:
                shutil.rmtree(entry)
        elif entry.suffix in (".out", ".pickle") or _SPEC.fullmatch(entry.name) or (entry.suffix == ".err" and not entry.stat().st_size):
            entry.unlink()


def finished_units(messages: list[dict[str, Any]]) -> set[int]:
    """The numbers of the units that are done."""
    return {message["unit"] for message in messages if message["kind"] == "done"}
