"""Segments that begin where no snapshot is: a worker gets there by passing iterations, whose loops it skips."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flor_trace.replay.estimate import Costs
from flor_trace.replay.history import History
from flor_trace.replay.passing import Passing
from flor_trace.replay.plan import SEGMENT, Plan, Probe, Unit, make_plan
from flor_trace.replay.units import Cut, choose
from flor_trace.runtime.position import EXIT
from flor_trace.store import journal

ROOT = Path(__file__).parents[2]
MAIN, INNER = "__main__:main:0", "__main__:train:0"
INSIDE = Probe("__main__:train", (INNER,))
REST = 0.25
CHEAP = Costs(process=0.0, spread=0.0)


class Epochs:
    """Epochs with a loop in each, pairs of snapshots around those in `paired`, and heads of epochs `heads`."""

    def __init__(self, seconds: list[float], heads: set[int], paired: set[int]) -> None:
        self.records: list[dict[str, object]] = []
        self.journal: list[tuple[str, dict[str, object]]] = []
        begun = 0.0
        for epoch, training in enumerate(seconds):
            if epoch in heads:
                self._snapshot((MAIN, 0, epoch), begun, 2 * epoch)
            if epoch in paired:
                self._snapshot((INNER, epoch, 0), begun, 2 * epoch)
                self._snapshot((INNER, epoch, EXIT), begun + training, 2 * epoch + 1)
            self._activation(INNER, epoch, [MAIN, 0, epoch], begun, training, 2 * epoch, [])
            begun += training + REST
        ticks = [training + REST for training in seconds]
        self._activation(MAIN, 0, None, 0.0, begun, 0, ticks)
        self.journal += [("end", {"status": 0}), ("module", {"functions": [{"key": "__main__:train", "probed": True}]})]
        self.journal.append(("functions", {"loop": MAIN, "ran": ["__main__:train"]}))
        # each epoch writes one line while it trains, and one behind that
        self.lines = [{"at": [[MAIN, 0, n // 2], *([[INNER, n // 2, 1]] if n % 2 == 0 else [])]} for n in range(2 * len(seconds))]

    def _snapshot(self, at: tuple[object, ...], seconds: float, outputs: int) -> None:
        meta = {"outputs": outputs, "sources": 0, "entries": {}, "files": {}}
        self.records.append(
            {"at": list(at), "graph": "", "seconds": seconds, "stall": 0.0, "nbytes": 1, "meta": meta, "stack": []}
        )

    def _activation(
        self, loop: str, entry: int, parent: object, started: float, seconds: float, outputs: int, ticks: list[float]
    ) -> None:
        fields = {"loop": loop, "entry": entry, "parent": parent, "started": started, "seconds": seconds, "outputs": outputs}
        self.journal.append(("activation", {**fields, "iterations": len(ticks) or 10, "exit": "exhausted", "ticks": ticks}))

    def events(self, kind):
        return [fields for name, fields in self.journal if name == kind]

    def outputs(self, first=0, last=None):
        return iter(self.lines[first:last])

    def snapshots(self):
        return self.records


def segments(plan: Plan) -> list[Unit]:
    return [unit for unit in plan.units if unit.kind == SEGMENT]


def test_pairs_serve_where_heads_are_missing() -> None:
    """Of five long epochs only the first and the last have a head: two workers share them three to two all the same."""
    history = History.read(Epochs([7.0] * 5, heads={0, 4}, paired={0, 1, 2, 3, 4}))
    units = segments(plan := make_plan(history, [INSIDE], 2, costs=CHEAP))
    assert max(sum(u.seconds for u in units if u.start < 3), sum(u.seconds for u in units if u.start >= 3)) < 22.0
    assert plan.forecast["seconds"] < 0.8 * (4 * 7.25), "four epochs would be one piece"
    assert plan.forecast["restores"] > REST, "what lies between the loops is executed on the way"


def test_without_pairs_segments_begin_at_heads() -> None:
    history = History.read(Epochs([7.0] * 5, heads={0, 4}, paired=set()))
    assert {u.start for u in segments(make_plan(history, [INSIDE], 2, costs=CHEAP))} == {0, 4}


@pytest.mark.parametrize("init", ["weak", "strong"])
def test_the_papers_ways_begin_at_snapshots(init: str) -> None:
    history = History.read(Epochs([7.0] * 5, heads={0, 4}, paired={0, 1, 2, 3, 4}))
    assert {u.start for u in segments(make_plan(history, [INSIDE], 2, init=init, costs=CHEAP))} == {0, 4}


def test_loops_in_which_hindsight_statements_bind_names_are_no_way_to_pass() -> None:
    history = History.read(Epochs([7.0] * 5, heads={0, 4}, paired={0, 1, 2, 3, 4}))
    plan = make_plan(history, [replace(INSIDE, binds=True)], 2, costs=CHEAP)
    assert INNER in plan.executed and {u.start for u in segments(plan)} == {0, 4}
    helper = Probe("__main__:<module>", (), binds=True)
    assert make_plan(history, [INSIDE, helper], 2, costs=CHEAP).executed == set()
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


def test_output_before_an_iteration_without_a_snapshot_is_counted() -> None:
    history = History.read(Epochs([1.0] * 6, heads={0, 4}, paired={1, 2}))
    assert [history.outputs_before((MAIN, 0), epoch) for epoch in range(6)] == [0, 2, 4, 6, 8, 10]
    assert history.outputs_before((INNER, 0), 3) == -1, "its iterations' times were not kept, nor exactly which it was in"


def test_what_is_passed_costs_its_skips_and_what_lies_between_them() -> None:
    history = History.read(Epochs([5.0] * 6, heads={0, 4}, paired={0, 1, 2, 4}))
    main = history.activations[MAIN, 0]
    passing = Passing(history, CHEAP, executed=set())
    skip = CHEAP.skip(history, history.activations[INNER, 0])
    assert passing.between(main, 1, 3) == pytest.approx(2 * (REST + skip))
    assert passing.reach(main, 5) == pytest.approx(REST + skip)
    assert passing.around(main, 2) == pytest.approx(3 * (REST + skip) + 5.0 + REST), "epoch 3 has no pair"
    assert Passing(history, CHEAP, executed={INNER}).between(main, 1, 3) == pytest.approx(2 * (5.0 + REST))


EPOCHS = st.lists(st.floats(0.01, 30.0), min_size=2, max_size=14)


@settings(max_examples=60, deadline=None)
@given(EPOCHS, st.sets(st.integers(1, 13)), st.sets(st.integers(0, 13)), st.integers(1, 9), st.floats(0.0, 0.3))
def test_segments_cover_everything_once_and_in_order(
    seconds: list[float], heads: set[int], paired: set[int], workers: int, spread: float
) -> None:
    history = History.read(Epochs(seconds, {0, *heads}, paired))
    units = segments(make_plan(history, [INSIDE], workers, costs=replace(CHEAP, spread=spread)))
    if not any(head < len(seconds) for head in heads):
        return  # then the loops inside are divided
    assert (units[0].start, units[-1].end) == (0, None)
    assert units[0].outputs[0] == 0
    for unit, following in pairwise(units):
        assert unit.end == following.start > unit.start
        assert unit.outputs[1] == following.outputs[0] == 2 * following.start
    assert sum(unit.seconds for unit in units) == pytest.approx(sum(seconds) + REST * len(seconds))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 9.0), st.floats(0.0, 5.0)), max_size=40), st.integers(1, 8), st.floats(0.0, 2.0))
def test_chosen_cuts_ascend_and_begin_with_the_first(steps: list[tuple[float, float]], workers: int, restore: float) -> None:
    every, at = [Cut(0, None, 0.0, 0)], 0.0
    for number, (step, detour) in enumerate(steps, 1):
        at += step
        every.append(Cut(number, None, at, 0, detour))
    for share in (0.5, 0.8, 1.0):
        chosen = choose(every, at + 1.0, workers, restore, share)
        assert chosen[0] is every[0]
        assert all(one.iteration < other.iteration for one, other in pairwise(chosen))


SCRIPT = """\
import random, time
random.seed(3)
losses = []

def train(epoch):
    total = 0.0
    for step in range(5):
        time.sleep(0.08)
        total += random.random()
        #+print print("@@", epoch, step, repr(total), len(losses))
        #+bind doubled = 2 * total
    #+bind print("@@", epoch, repr(doubled))
    print("trained", epoch)
    return total

print("begin")
for epoch in range(7):
    print("epoch", epoch)
    losses.append(train(epoch))
    print(epoch, losses[-1], random.random())
for epoch in range(2):
    print("behind", epoch, len(losses), random.random())
print("end", sum(losses))
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has pairs around all epochs' training, and heads of the first and the sixth epoch alone."""
    folder = tmp_path_factory.mktemp("recorded")
    write(folder, "none")
    done = flor(folder, "record", "--every", "1", "--overhead", "1.0", "train.py")
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob(".flor/runs/*/journal")
    records = [journal.decode(payload) for payload in journal.read(str(path), [])]
    dropped = [["__main__:<module>:0", 0, epoch] for epoch in (1, 2, 3, 4, 6)]
    kept = [record for record in records if record["kind"] != "snapshot" or list(record["at"]) not in dropped]
    assert len(kept) == len(records) - len(dropped)
    path.write_bytes(b"".join(map(journal.frame, kept)))
    return folder


def write(folder: Path, *marks: str) -> None:
    """The script with the statements of some marks."""
    text = SCRIPT
    for mark in marks:
        text = text.replace(f"#+{mark} ", "")
    text = "".join(line for line in text.splitlines(True) if "#+" not in line)
    (folder / "train.py").write_text(text)


def flor(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(path / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "flor_trace", *words], cwd=path, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        pytest.param(["print"], ["--workers", "2"], id="two workers"),
        pytest.param(["print"], ["--workers", "4"], id="four workers", marks=pytest.mark.slow),
        pytest.param(["bind", "print"], ["--init", "strong", "--workers", "2"], id="strong", marks=pytest.mark.slow),
        pytest.param(["bind"], ["--iterations", "3:5"], id="a name bound in a loop that is passed"),
    ],
)
def test_units_between_snapshots_give_the_same_bytes(recorded: Path, tmp_path: Path, marks: list[str], words: list[str]) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(recorded, folder)
    (manifest,) = folder.glob(".flor/runs/*/manifest.json")
    write(folder, *marks)
    words = ["replay", "--run", manifest.parent.name, "--show", "all", *words]
    if words[-1] == "2" and "--init" not in words:
        plan = json.loads(flor(folder, *words, "--dry-run", "--json", "train.py").stdout)
        assert {unit["start"] for unit in plan["units"] if unit["kind"] == SEGMENT} & {1, 2, 3, 4, 6}
    done = flor(folder, *words, "train.py")
    assert done.returncode == 0 and "replay exact" in done.stderr and "could not" not in done.stderr, done.stderr
    truth = subprocess.run([sys.executable, "train.py"], cwd=folder, capture_output=True, text=True).stdout.splitlines(True)
    if "--iterations" in words:
        truth = truth[truth.index("epoch 3\n") : truth.index("epoch 5\n")]
    assert done.stdout == "".join(truth)
    compared = sum(not line.startswith(("@@", "behind")) for line in truth)  # the second loop is skipped
    assert f"{compared} recorded lines compared" in done.stderr, done.stderr
