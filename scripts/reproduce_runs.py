"""What `scripts/reproduce` measures, one measurement after another: plain runs, recordings, replays, ablations, peers.

Each measurement is one dictionary; none needs another one's numbers, only what lies in the workload's folder: the recording of round 0
(`run`), and the lines that statements print in plain runs (`truth.inner`, `truth.outer`). What a measurement says of equality are
digests, so that the report can compare measurements whatever their order.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flordb_peer import flordb_overhead, flordb_replay
from measuring import PYTHON, ROOT, Failed, Started, at_once, beside, environment, fresh, good, insert, of_recording, report_of, run
from workload_cases import CASES

REPLAYS = ("outer 1", "outer 2", "inner 1", "inner 2")
INITS = ("weak", "strong")
ABLATIONS = ("foreground", "every 1", *INITS)
# What Flor may spend (VLDB 2021, section 5.3: one fifteenth), and what a statement in the outer loop gains by it.
PAPER_BUDGET = "0.0667"
BUDGETS = ("paper's budget", "outer, paper's budget")
# The one whose script can resume by itself.
RESUMES = "imgn"


@dataclass(frozen=True)
class Task:
    """One measurement that is to be made."""

    workload: str
    kind: str
    round: int


def tasks(names: list[str], rounds: int, replay_rounds: int, ablated: list[str], flordb: bool, peers: bool = True) -> list[Task]:
    """All measurements in the order in which they are made, so that one that is broken off early knows something of every workload.

    The order of what is compared within a round is drawn, lest one of them always meets the machine in the same state. Of pairs there are
    two in a round, with the cores exchanged.
    """
    found: list[Task] = []
    for number in range(rounds):
        for name in names:
            kinds = ["plain", "record", "side by side", *random.sample(REPLAYS, k=len(REPLAYS))] if number < replay_rounds else []
            found += [Task(name, kind, number) for kind in kinds]
        found += [Task(name, "pair", turn) for name in names for turn in (2 * number, 2 * number + 1)]
        if number == 0:
            found += [Task(name, kind, 0) for name in (names if ablated else []) for kind in BUDGETS]
            found += [Task(name, kind, 0) for name in ablated for kind in ABLATIONS]
            saving = [name for name in names if name in ablated or name == RESUMES] if peers else []
            found += [Task(name, kind, 0) for name in saving for kind in ("saved", *(["resumed"] if name == RESUMES else []))]
            found += [Task(name, kind, 0) for name in ablated if flordb and peers for kind in ("flordb", "flordb replay")]
    return found


class Workplace:
    """The folder of one workload, and how each kind of measurement is made in it.

    Arguments: `base` is where the folder goes; `quick` takes the smallest scale; `flordb` is an interpreter that has FlorDB and torch.
    """

    def __init__(self, base: Path, name: str, quick: bool, flordb: str | None = None) -> None:
        self.name, self.case, self.flordb = name, CASES[name], flordb
        self.args = self.case.tiny if quick else ("--scale", "cpu")
        # A run of seconds can afford few snapshots, or none.
        self.often = ("--overhead", "0.3") if quick else ()
        self.folder = base / f"{name}-{'tiny' if quick else 'cpu'}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.source = (ROOT / "workloads" / self.case.script).read_text()

    def measure(self, kind: str, number: int) -> dict[str, Any]:
        """Make one measurement; raises Failed."""
        if kind == "plain":
            return self._plain(number)
        if kind == "record":
            return self._recorded("run" if number == 0 else "record", *self.often)
        if kind == "pair":
            return self._pair(number)
        if kind == "side by side":
            return self._truth()
        if kind in REPLAYS:
            which, workers = kind.split()
            return self._replay(which, workers)
        if kind in BUDGETS:
            place = BUDGETS[0]
            return self._recorded(place, "--overhead", PAPER_BUDGET) if kind == place else self._replay("outer", "1", place=place)
        if kind == "foreground":
            return self._recorded("record", *self.often, FLOR_TRACE_WRITER="foreground")
        if kind == "every 1":
            return self._recorded("record", "--every", "1")
        if kind in INITS:
            return self._replay("inner", "2", "--init", kind)
        if kind == "saved":
            return self._saved()
        if kind == "resumed":
            return self._resumed()
        measure = {"flordb": flordb_overhead, "flordb replay": flordb_replay}[kind]
        return measure(str(self.flordb), self.folder, self.case, self.args)

    def _put(self, folder: Path, which: str = "") -> Path:
        """Write the script into a folder: as it is, or with a statement."""
        source = self.source
        if which:
            source = insert(source, *(self.case.saving() if which == "saved" else self.case.statement(which)))
        (folder / self.case.script).write_text(source)
        return folder

    def _plain(self, number: int) -> dict[str, Any]:
        ran = good(run(self._put(fresh(self.folder / "plain")), self.case.script, *self.args))
        (self.folder / f"plain-{number}.out").write_bytes(ran.stdout)
        return {"seconds": ran.seconds, "cpu": ran.cpu, "memory": ran.memory, "output": self._steady(ran.stdout)}

    def _recorded(self, place: str, *options: str, **env: str) -> dict[str, Any]:
        folder = self._put(fresh(self.folder / place))
        words = ("-m", "flor_trace", "record", "-q", *options, self.case.script, *self.args)
        ran = good(run(folder, *words, env=environment(**env)))
        (self.folder / f"{place}.out").write_bytes(ran.stdout)
        fields = {"seconds": ran.seconds, "cpu": ran.cpu, "memory": ran.memory, "output": self._steady(ran.stdout)}
        fields.update(of_recording(folder / ".flor"))
        if place not in ("run", BUDGETS[0]):
            shutil.rmtree(folder)
        return fields

    def _pair(self, turn: int) -> dict[str, Any]:
        """A plain run and a recorded one at the same time, each with all that it starts on a core of its own, so that both meet the same
        machine; the writer's process competes with the training that it serves. With one core only: one after the other."""
        cores = sorted(os.sched_getaffinity(0))[:2]
        plain, recorded = (self._put(fresh(self.folder / place)) for place in ("pair-plain", "pair-recorded"))
        words = (self.case.script, *self.args)
        commands = [
            Started(plain, (PYTHON, *words), cores[turn % 2 % len(cores)]),
            Started(recorded, (PYTHON, "-m", "flor_trace", "record", "-q", *self.often, *words), cores[(turn + 1) % 2 % len(cores)]),
        ]
        groups = [commands] if len(cores) == 2 else [[command] for command in commands]
        alone, ours = (good(ran) for group in groups for ran in at_once(group))
        fields = {"seconds": ours.seconds, "cpu": ours.cpu, "memory": ours.memory, "output": self._steady(ours.stdout)}
        fields |= {"plain": alone.seconds, "plain_cpu": alone.cpu, "plain_memory": alone.memory, "plain_output": self._steady(alone.stdout)}
        fields |= of_recording(recorded / ".flor")
        shutil.rmtree(recorded)
        return fields

    def _truth(self) -> dict[str, Any]:
        """Two plain runs at once, one with either statement: what two workers can attain, and what replays have to print."""
        places = [self._put(fresh(self.folder / which), which) for which in ("inner", "outer")]
        both = [good(ran) for ran in beside(places, (PYTHON, self.case.script, *self.args))]
        fields: dict[str, Any] = {"seconds": statistics.mean(ran.seconds for ran in both), "each": [ran.seconds for ran in both]}
        for place, ran in zip(places, both, strict=True):
            lines = hindsight(ran.stdout)
            (self.folder / f"truth.{place.name}").write_bytes(lines)
            fields[place.name] = digest(lines)
        return fields

    def _replay(self, which: str, workers: str, *options: str, place: str = "run") -> dict[str, Any]:
        """Replay the recording of round 0; exit status 3 says that it diverged, which is a result."""
        folder = self._put(self.folder / place, which)
        ran = run(folder, "-m", "flor_trace", "replay", "--workers", workers, *options, self.case.script)
        if ran.status not in (0, 3):
            good(ran)
        (self.folder / f"{' '.join((place, which, workers, *options))}.out").write_bytes(ran.stdout)
        report = report_of(folder)
        told = {"verdict": report["verdict"], "first": report["first"], "prologue": report["prologue_seconds"]}
        return {"seconds": ran.seconds, "cpu": ran.cpu, "memory": ran.memory, "lines": digest(ran.stdout), **told}

    def _saved(self) -> dict[str, Any]:
        """A checkpoint each epoch by a statement of the script's own."""
        folder = self._put(fresh(self.folder / "saved"), "saved")
        ran = good(run(folder, self.case.script, *self.args))
        files = list(folder.glob("saved-*.pt"))
        fields = {"seconds": ran.seconds, "cpu": ran.cpu, "files": len(files), "bytes": sum(file.stat().st_size for file in files)}
        if self.name != RESUMES:
            shutil.rmtree(folder)
        return fields

    def _resumed(self) -> dict[str, Any]:
        """What somebody with checkpoints does: the second half again, from the one in the middle, with the inner statement."""
        checkpoints = sorted((self.folder / "saved").glob("saved-*.pt"), key=lambda path: int(path.stem.split("-")[1]))
        if not checkpoints:
            raise Failed("there are no checkpoints to resume from")
        middle = checkpoints[len(checkpoints) // 2 - 1]
        folder = self._put(fresh(self.folder / "resumed"), "inner")
        ran = good(run(folder, self.case.script, *self.args, "--resume", str(middle)))
        found = hindsight(ran.stdout).splitlines()
        truth = (self.folder / "truth.inner").read_bytes().splitlines()
        right = sum(a == b for a, b in zip(found, truth[-len(found) :], strict=False)) if found else 0
        return {"seconds": ran.seconds, "right": right, "values": len(found), "of": len(truth)}

    def _steady(self, output: bytes) -> list[Any]:
        """A digest of the lines that do not depend on the clock."""
        lines = output.splitlines(keepends=True)
        if self.case.clock is not None:
            depends = re.compile(self.case.clock.encode())
            lines = [line for line in lines if not depends.search(line)]
        return digest(b"".join(lines))


def hindsight(output: bytes) -> bytes:
    """What inserted statements have printed."""
    return b"".join(line for line in output.splitlines(keepends=True) if line.startswith(b"@@"))


def digest(output: bytes) -> list[Any]:
    """The number of lines, and a digest of them."""
    return [len(output.splitlines()), hashlib.sha256(output).hexdigest()[:16]]
