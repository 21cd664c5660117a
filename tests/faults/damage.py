"""Files of a finished run that are cut, changed, zeroed, extended or gone."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.world import Findings, Trial, Truth

from flor_trace.errors import FlorTraceError
from flor_trace.query import check
from flor_trace.store import catalog, layout
from flor_trace.store.reader import Run

FILES = ("journal", "manifest.json", "packs/*", "sources/*", "catalog")


def _flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    bit = dice.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def _zero(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = dice.randrange(len(data))
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)


def _cut(path: Path, dice: random.Random) -> None:
    os.truncate(path, dice.randrange(path.stat().st_size))


def _extend(path: Path, dice: random.Random) -> None:
    with open(path, "ab") as file:
        file.write(dice.randbytes(dice.randrange(1, 600)))


def _remove(path: Path, dice: random.Random) -> None:
    path.unlink()


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": _flip,
    "zero": _zero,
    "cut": _cut,
    "extend": _extend,
    "remove": _remove,
}


class Damages:
    """One intact recording, of which each trial damages a copy."""

    def __init__(self, folder: Path, truth: Truth) -> None:
        self.trial = Trial(folder / "recording", truth)
        done = self.trial.wait(self.trial.start())
        assert done.status == truth.plain.status, done
        catalog.list_runs(str(self.trial.store))
        (self.run_id,) = layout.run_ids(str(self.trial.store))
        self.truth = truth
        self.folder = folder
        self.contents = _contents(self.trial.store, self.run_id)

    def trial_of(self, kind: str, way: str, dice: random.Random, findings: Findings) -> None:
        """Damage a copy in one way and check what is left."""
        store = self.folder / "damaged"
        shutil.copytree(self.trial.store, store)
        try:
            path = _pick(store, self.run_id, kind, dice)
            WAYS[way](path, dice)
            what = f"{way} of {kind} ({dice.getstate()[1][-1]})"
            self._check(store, path, findings, what)
        finally:
            shutil.rmtree(store)

    def _check(self, store: Path, path: Path, findings: Findings, what: str) -> None:
        findings.check([info["id"] for info in catalog.list_runs(str(store))] == [self.run_id], f"{what}: the list of runs is wrong")
        name = os.path.relpath(path, layout.run_folder(str(store), self.run_id))
        try:
            run = Run(layout.run_folder(str(store), self.run_id))
            result = check.verify(run)
        except FlorTraceError as error:
            findings.check(path.name in str(error), f"{what}: it cannot be opened, and the message does not name the file: {error}")
            findings.count("damage: not to be opened")
            return
        named = any(damage["file"] == name for damage in result["damaged"])
        if _contents(store, self.run_id) == self.contents:
            findings.count("damage: without effect")
        elif not named:
            # A journal that ends with a record says that the recording was killed then.
            findings.check(run.status == "killed", f"{what}: verify does not name {name}: {result}")
            findings.count("damage: looks like a killed recording")
        else:
            findings.count("damage: named")
        self._check_replay(store, run, findings, what)

    def _check_replay(self, store: Path, run: Run, findings: Findings, what: str) -> None:
        replay = self.trial.replay(run.id, store)
        found = replay.out.splitlines()
        findings.check("Traceback" not in replay.err, f"{what}: replay crashed: {replay.err[-900:]}")
        wrong = [line for line in found if line not in self.truth.lines]
        findings.check(not wrong, f"{what}: WRONG RESTORE: {wrong[:3]}")
        if replay.status == 0:
            whole = found == self.truth.lines or (run.end is None and found == self.truth.lines[: len(found)])
            findings.check(whole, f"{what}: replay printed {len(found)} of {len(self.truth.lines)} lines: {replay.err[-600:]}")
            findings.check("exact" in replay.err, f"{what}: replay is not exact: {replay.err[-600:]}")
            findings.count("damage: replayed exactly")
        else:
            told = replay.status in (1, 2, 3) and "flor_trace: " in replay.err
            findings.check(told, f"{what}: replay ended with {replay.status} and does not say why: {replay.err[-600:]}")
            last = replay.err.strip().splitlines()[-1]
            findings.count(f"damage: replay refused ({replay.status}): {last.replace(run.id, 'RUN').replace(str(store), 'STORE')[:110]}")


def _pick(store: Path, run_id: str, kind: str, dice: random.Random) -> Path:
    if kind == "catalog":
        return store / layout.CATALOG
    return dice.choice(sorted(Path(layout.run_folder(str(store), run_id)).glob(kind)))


def _contents(store: Path, run_id: str) -> Any:
    """All that a reader gets of a run, or None where it gets nothing."""
    try:
        run = Run(layout.run_folder(str(store), run_id))
        blobs = {digest: run.blob(digest) for digest in run.index}
        return run.manifest, run.payloads(), blobs, {path: run.source(path) for path in run.sources}, run.end
    except FlorTraceError:
        return None


def all_kinds(folder: Path, truth: Truth, rounds: int, dice: random.Random, findings: Findings) -> None:
    """Damage every kind of file in every way, so many times."""
    damages = Damages(folder, truth)
    for _ in range(rounds):
        for kind in FILES:
            for way in WAYS:
                damages.trial_of(kind, way, dice, findings)
