"""What a trial consists of: a small training, the truth about it, a recording in a folder of its own, and the checks afterwards.

The truth is the output of plain runs: without and with the hindsight statement that every replay here adds. The statement prints,
for each epoch, a checksum of the whole state, so a wrong restore cannot stay unseen.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flor_trace.errors import FlorTraceError
from flor_trace.query import check
from flor_trace.store import catalog, layout
from flor_trace.store.reader import Run

ROOT = Path(__file__).resolve().parents[2]
HOOK = Path(__file__).resolve().parent / "hook"
MAIN_LOOP = "__main__:<module>:0"
MARK = "#+ "
PATIENCE_SECONDS = 120.0

PURE = '''"""A small training without any library."""
import random
import sys
import zlib


class Model:
    def __init__(self):
        self.weights = [random.gauss(0.0, 1.0) for _ in range(300)]
        self.buffer = bytearray(random.randbytes(150_000))
        self.history = []
        self.best = None

    def step(self, batch):
        for place in batch:
            self.weights[place] -= 0.1 * self.weights[place] + random.gauss(0.0, 0.01)
            self.buffer[random.randrange(len(self.buffer))] ^= random.randrange(256)
        return sum(w * w for w in self.weights)


def state(model, seen):
    return zlib.crc32(repr((model.weights, model.history, model.best, sorted(seen), random.getstate())).encode() + model.buffer)


random.seed(3)
model = Model()
seen = set()
for epoch in range(16):
    total = 0.0
    for batch in range(15):
        places = random.sample(range(300), 30)
        seen.update(places)
        total += model.step(places)
    model.history.append(total)
    if model.best is None or total < model.best[0]:
        model.best = (total, list(model.weights))
    with open("checkpoint.txt", "w") as file:
        file.write(f"{epoch} {total!r}\\n")
    #+ print("@@", epoch, state(model, seen))
    print(f"epoch {epoch} loss {total:.6f}", flush=True)
print("final", state(model, seen), open("checkpoint.txt").read().strip())
'''

TORCH = '''"""A small training with torch."""
import zlib

import torch
from torch import nn

torch.manual_seed(0)
data, target = torch.randn(400, 20), torch.randn(400, 1)
model = nn.Sequential(nn.Linear(20, 200), nn.BatchNorm1d(200), nn.ReLU(), nn.Dropout(0.2), nn.Linear(200, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data, target), batch_size=50, shuffle=True)


def state():
    tensors = [*model.state_dict().values(), *(v for s in optimizer.state.values() for v in s.values()), torch.get_rng_state()]
    return zlib.crc32(b"".join(t.numpy().tobytes() for t in tensors))


for epoch in range(8):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    #+ print("@@", epoch, state())
    print(f"epoch {epoch} loss {total:.6f}", flush=True)
print("final", state())
'''

LARGE = '''"""A small training with arrays that are large enough to be staged, and written by a process of its own."""
import zlib

import numpy as np

rng = np.random.default_rng(7)
weights = rng.normal(size=(900, 900))
velocity = np.zeros_like(weights)
table = rng.normal(size=(40_000, 8))
constant = rng.normal(size=300_000)


def state():
    parts = (weights, velocity, table, constant, rng.random(0))
    return zlib.crc32(b"".join(part.tobytes() for part in parts) + repr(rng.bit_generator.state).encode())


for epoch in range(10):
    for batch in range(3):
        velocity *= 0.9
        velocity -= 0.1 * (weights - rng.normal(size=900))
        weights += velocity
        table[rng.integers(0, 40_000, size=50)] *= 0.5
    #+ print("@@", epoch, state())
    print(f"epoch {epoch} loss {np.abs(weights).mean():.9f} {constant[epoch]:.9f}", flush=True)
print("final", state())
'''

SCRIPTS = {"pure": PURE, "torch": TORCH, "large": LARGE}


@dataclass
class Findings:
    """What went wrong, and what happened how often."""

    failures: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def check(self, holds: bool, message: str) -> None:
        if not holds:
            self.failures.append(message)


@dataclass(frozen=True)
class Process:
    """How a finished process ended."""

    out: str
    err: str
    status: int
    seconds: float


class Running:
    """A Python process in a folder, with its output in files there: nobody need read it, and a killed one's survives."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("FLOR_TRACE_", "FAULTS_", "PYTHON", "COVERAGE", "PYTEST_"))}
        path = os.pathsep.join((str(HOOK), str(ROOT)))
        environment = {**keep, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **variables}
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        self.began = time.monotonic()
        with open(self._out, "w") as out, open(self._err, "w") as err:
            self.process = subprocess.Popen(
                (sys.executable, *command), cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    def finish(self) -> Process:
        """Wait for the end."""
        status = self.process.wait(PATIENCE_SECONDS)
        seconds = time.monotonic() - self.began
        return Process(self._out.read_text(), self._err.read_text(errors="replace"), status, seconds)


@dataclass(frozen=True)
class Truth:
    """Plain runs of a script: its process, its probe's lines, how long a recorded run takes here, and how large its journal gets."""

    source: str
    plain: Process
    lines: list[str]
    checkpoint: bytes
    seconds: float = 0.0
    journal_bytes: int = 0


def learn(folder: Path, source: str) -> Truth:
    """Run a script plainly, with and without the hindsight statement, and recorded."""
    results = []
    for name, text in (("plain", source), ("probed", with_probe(source))):
        (folder / name).mkdir(parents=True)
        (folder / name / "train.py").write_text(text)
        results.append(Running(folder / name, "train.py").finish())
    lines = [line for line in results[1].out.splitlines() if line.startswith("@@")]
    assert results[0].status == results[1].status and lines, results
    written = folder / "plain" / "checkpoint.txt"
    checkpoint = written.read_bytes() if written.exists() else b""
    truth = Truth(source, results[0], lines, checkpoint)
    trial = Trial(folder / "recorded", truth)
    running = trial.start()
    recorded = trial.wait(running)
    return replace(truth, seconds=recorded.seconds, journal_bytes=trial.journal_bytes())


def with_probe(source: str) -> str:
    """The script with its hindsight statement."""
    return source.replace(MARK, "")


class Trial:
    """One recording, in a folder of its own."""

    def __init__(self, folder: Path, truth: Truth, store: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.truth = truth
        self.store = store or folder / "store"
        self.plan = folder / "plan"
        self.script = folder / "train.py"
        self.script.write_text(truth.source)
        self.replay_options: tuple[str, ...] = ("--workers", "1")

    # -- recording ------------------------------------------------------------------------------------------------------

    def start(self, fault: str = "") -> Running:
        """Begin to record; `fault` is a line for the hook."""
        self.plan.write_text(fault)
        record = ("-m", "flor_trace", "record", "--store", str(self.store), "--every", "1", "train.py")
        running = Running(self.folder, *record, FAULTS_PLAN=str(self.plan), FAULTS_STORE=str(self.store))
        (self.folder / "plan.trainer").write_text(str(running.process.pid))
        return running

    def wait(self, running: Running) -> Process:
        """Wait for the training and for whoever still writes for it."""
        done = running.finish()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.holders():
            assert time.monotonic() < deadline, f"somebody still writes into {self.store}"
            time.sleep(0.01)
        return done

    def journal_bytes(self) -> int:
        """How large the journal is by now."""
        return max((path.stat().st_size for path in self.store.glob("runs/*/journal")), default=0)

    def holders(self) -> list[int]:
        """The processes that have files of the store open."""
        return [pid for pid in _other_processes() if _has_open(pid, str(self.store) + "/runs/")]

    @property
    def struck(self) -> bool:
        """Whether the fault's step was reached."""
        return (self.folder / "plan.struck").exists()

    # -- afterwards -----------------------------------------------------------------------------------------------------

    def check_training(self, done: Process, findings: Findings, what: str) -> None:
        """A training that was not killed is like a plain one."""
        plain = self.truth.plain
        findings.check(done.out == plain.out, f"{what}: the training printed something else: {done.out[-300:]!r}")
        findings.check(done.status == plain.status, f"{what}: exit status {done.status} instead of {plain.status}: {done.err[-500:]}")
        theirs = "".join(line for line in done.err.splitlines(keepends=True) if not line.startswith("flor_trace: "))
        findings.check(_steady(theirs) == _steady(plain.err), f"{what}: stderr holds {theirs!r}")
        written = self.folder / "checkpoint.txt"
        same = not self.truth.checkpoint or written.read_bytes() == self.truth.checkpoint
        findings.check(same, f"{what}: the training wrote another file")

    def check_killed(self, done: Process, findings: Findings, what: str) -> None:
        """A training that was killed printed a part of what it would have."""
        findings.check(done.status == -signal.SIGKILL, f"{what}: exit status {done.status} after SIGKILL: {done.err[-500:]}")
        findings.check(self.truth.plain.out.startswith(done.out), f"{what}: the training printed something else: {done.out!r}")

    def check_store(self, findings: Findings, what: str, *, intact: bool = True) -> None:
        """Every run can be listed, verified and replayed, or is refused for a reason that is told."""
        self.plan.write_text("")
        listed = catalog.list_runs(str(self.store))
        ids = layout.run_ids(str(self.store))
        findings.check([info["id"] for info in listed] == ids, f"{what}: the list of runs is {listed}")
        if not ids:
            findings.count("killed before the run began")
        for run_id in ids:
            self.check_run(run_id, findings, what, intact)

    def check_run(self, run_id: str, findings: Findings, what: str, intact: bool = True) -> None:
        """Verify and replay one run."""
        try:
            run = Run(layout.run_folder(str(self.store), run_id))
        except FlorTraceError as error:
            empty = not any(record["kind"] == "snapshot" for record in _readable(self.store, run_id))
            findings.check(empty, f"{what}: run {run_id} cannot be opened: {error}")
            findings.count("killed before the run's first record")
            return
        result = check.verify(run)
        if intact:
            findings.check(not result["damaged"], f"{what}: verify found damage: {result['damaged']}")
            findings.check(result["snapshots_lost"] == 0, f"{what}: {result['snapshots_lost']} committed snapshots are lost")
        self.check_replay(run, findings, what)

    def check_replay(self, run: Run, findings: Findings, what: str) -> None:
        """A replay prints the truth up to the newest good snapshot, exactly."""
        expected = self.truth.lines[: completed_epochs(run, len(self.truth.lines))]
        replay = self.replay(run.id)
        found = replay.out.splitlines()
        if replay.status == 2 and "ended before its first snapshot" in replay.err:
            findings.check(not run.snapshots(), f"{what}: replay refuses a run with snapshots: {replay.err}")
            findings.count("killed before the first snapshot")
            return
        if found != expected:
            wrong = [line for line in found if line not in self.truth.lines]
            findings.check(not wrong, f"{what}: WRONG RESTORE: {wrong[:3]}")
            findings.check(False, f"{what}: replay printed {len(found)} lines, {len(expected)} expected: {replay.err[-600:]}")
        exact = replay.status == 0 and re.search(r"\bexact\b", replay.err) is not None
        findings.check(exact, f"{what}: replay ended with {replay.status}: {replay.err[-600:]}")
        findings.count("replayed exactly")

    def replay(self, run_id: str, store: Path | None = None) -> Process:
        """Replay a run with the hindsight statement."""
        self.plan.write_text("")
        self.script.write_text(with_probe(self.truth.source))
        try:
            command = ("-m", "flor_trace", "replay", "--store", str(store or self.store), "--run", run_id)
            return Running(self.folder, *command, *self.replay_options, "train.py").finish()
        finally:
            self.script.write_text(self.truth.source)

    def discard(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)


def completed_epochs(run: Run, whole: int) -> int:
    """How many iterations of the main loop lie before the end of what can be replayed: `whole` if the run came to its end."""
    if run.end is not None:
        return whole
    snapshots = run.snapshots()
    if not snapshots:
        return 0
    last = snapshots[-1]
    if not last["stack"] or (last["at"][0] == MAIN_LOOP and last["at"][2] == "exit"):
        return whole
    return int(last["stack"][0][2])


def _steady(err: str) -> str:
    """Error output without what differs between two plain runs in two folders, too: addresses and folders."""
    return re.sub(r'0x[0-9a-f]+|(?<=File ").*/(?=train\.py")', "", err)


def _readable(store: Path, run_id: str) -> list[dict[str, object]]:
    from flor_trace.store import journal

    path = os.path.join(layout.run_folder(str(store), run_id), layout.JOURNAL)
    return [journal.decode(payload) for payload in journal.read(path, [])] if os.path.exists(path) else []


def _other_processes() -> Sequence[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _has_open(pid: int, prefix: str) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        return any(os.readlink(os.path.join(folder, name)).startswith(prefix) for name in os.listdir(folder))
    except OSError:
        return False  # it has ended, or is another user's
