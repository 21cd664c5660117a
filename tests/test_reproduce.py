"""The report of `scripts/reproduce` says what was measured and what was missed; and, slowly, the whole of it runs at the smallest scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from measuring import Failed, Results, beside, fresh, good, insert, run, side_by_side  # noqa: E402
from reproduce_measured import Measured  # noqa: E402
from reproduce_plots import draw  # noqa: E402
from reproduce_report import page  # noqa: E402
from reproduce_runs import ABLATIONS, BUDGETS, REPLAYS, Task, digest, hindsight, tasks  # noqa: E402
from reproducing import anywhere, asked  # noqa: E402
from workload_cases import CASES, PAPER  # noqa: E402

MACHINE = {"cpu": "X", "cores": 2, "memory": 8 << 30, "kernel": "6.9", "python": "3.11", "torch": "2.13", "date": "2026-01-02", "load": 0}
TRUTH, OTHER, PRINTED = [60, "aa"], [60, "bb"], [9, "cc"]


def entry(kind: str, seconds: float, workload: str = "cola", round: int = 0, **fields: Any) -> dict[str, Any]:
    return {"workload": workload, "kind": kind, "round": round, "seconds": seconds, "cpu": seconds, **fields}


def recorded(seconds: float, kind: str = "record", **fields: Any) -> dict[str, Any]:
    told = {"stall": 0.2, "trained": 100.0, "largest_stall": 0.03, "median_stall": 0.02, "snapshots": 20, "boundaries": 50}
    return entry(kind, seconds, **{"output": PRINTED, "bytes": 200_000_000, "raw_bytes": 250_000_000, **told, **fields})


def replayed(kind: str, seconds: float, **fields: Any) -> dict[str, Any]:
    return entry(kind, seconds, **{"verdict": "exact", "first": "", "prologue": 3.0, "lines": TRUTH, **fields})


def pair(turn: int, plain: float, seconds: float, **fields: Any) -> dict[str, Any]:
    beside = {"plain": plain, "plain_cpu": plain, "plain_output": PRINTED}
    return recorded(seconds, "pair", round=turn, **{**beside, **fields})


def entries() -> list[dict[str, Any]]:
    return [
        entry("plain", 150.0, output=PRINTED), recorded(151.0),
        pair(0, 100.0, 100.4), pair(1, 100.0, 100.4), pair(2, 200.0, 201.6), pair(3, 200.0, 201.6),
        entry("side by side", 110.0, inner=TRUTH, outer=TRUTH), replayed("outer 1", 5.0), replayed("outer 2", 6.0),
        replayed("inner 1", 150.0), replayed("inner 2", 58.0),
        pair(0, 50.0, 52.02, workload="rte"), pair(1, 51.0, 51.0, workload="rte"),
    ]  # fmt: skip


def report(measured: list[dict[str, Any]]) -> str:
    return page({"machine": MACHINE, "command": "scripts/reproduce", "scale": "cpu", "entries": measured})


def row(text: str, table: str, title: str = "CoLA") -> list[str]:
    lines = text.partition(f"### {table}\n")[2].partition("### ")[0].splitlines()
    return next(line for line in lines if line.startswith(f"| {title} |")).strip("| ").split(" | ")


def test_overheads_are_those_of_two_pairs_with_the_cores_exchanged() -> None:
    text = report(entries())
    assert row(text, "What recording costs")[1:6] == [
        "150.0 s [100.0 to 200.0]", "151.0 s [100.4 to 201.6]", "0.60 % [0.40 to 0.80]", "0.60 % [0.40 to 0.80]", "6.26 %",
    ]  # fmt: skip
    half = [e for e in entries() if (e["kind"], e["round"]) != ("pair", 3)]
    assert row(report(half), "What recording costs")[3] == "0.40 %", "the other core is still to come"
    assert row(text, "What recording costs")[6:] == ["0.20 % [0.20 to 0.20]", "30 ms [30 to 30]", "20 / 50", "yes"]
    assert row(text, "What recording costs", "RTE")[3] == "2.00 % (missed)"
    assert row(text, "What it takes on the disk", "RTE")[1:4] == [
        "200.0 MB [200.0 to 200.0]", "250.0 MB [250.0 to 250.0]", "10.0 MB [10.0 to 10.0]",
    ]  # fmt: skip


def test_replays_are_measured_against_the_ceiling() -> None:
    text = report(entries())
    assert row(text, "A statement in the inner loop")[4:9] == ["3.0 s", "58.0 s", "58.0 s", "1.000", "38.7 %"]
    assert row(text, "A statement in the outer loop")[-3:] == ["30.0", "25.0", "yes"]
    slow = [e for e in entries() if e["kind"] not in ("inner 2", "outer 1")] + [replayed("inner 2", 63.0), replayed("outer 1", 10.0)]
    assert row(report(slow), "A statement in the inner loop")[7] == "1.086 (missed)"
    assert row(report(slow), "A statement in the outer loop")[5] == "15.0 (missed)"


def test_a_replay_that_was_not_divided_is_told() -> None:
    whole = [replayed("inner 2", 58.0, prologue=0.0) if e["kind"] == "inner 2" else e for e in entries()]
    assert row(report(whole), "A statement in the inner loop")[4:8] == ["not divided", "55.0 s", "58.0 s", "1.055"]


def test_what_was_missed_is_said() -> None:
    text = report(entries())
    assert "costs 1.30 % in the mean of 2 of the eight workloads (target: at most 0.5 %: **missed**" in text
    assert "at worst 2.00 % (RTE; target: at most 1 %: **missed**" in text
    assert "(target: at least 20: met)" in text and "(target: at most 1.08: met)" in text
    assert "7 of 7 recordings printed what the plain run did, and 4 of 4 replays were exact" in text and "byte for byte: met." in text
    slow = [replayed("outer 1", 10.0) if e["kind"] == "outer 1" else e for e in entries()]
    assert "(target: at least 20: **missed** by CoLA)" in report(slow)


def test_other_lines_than_the_truth_are_no_success() -> None:
    wrong = [replayed("inner 2", 58.0, lines=OTHER) if e["kind"] == "inner 2" else e for e in entries()]
    text = report(wrong)
    assert row(text, "A statement in the inner loop")[-1] == "NO"
    assert "3 of 4 replays were exact and printed the truth byte for byte: **missed**" in text
    assert "- CoLA, inner 2: exact ; other lines than the truth" in text
    unknown = [e for e in entries() if e["kind"] != "side by side"]
    assert row(report(unknown), "A statement in the inner loop")[-1] == "?"
    diverged = [*entries(), replayed("outer 2", 6.0, verdict="diverged", first="at x")]
    assert "- CoLA, outer 2: diverged at x" in report(diverged)
    loud = report([*entries(), pair(1, 51.0, 51.0, workload="rte", output=[8, "dd"])])
    assert row(loud, "What recording costs", "RTE")[-1] == "NO" and "6 of 7 recordings printed what the plain run did" in loud


def test_failures_are_told_until_a_later_try_succeeds() -> None:
    failed = {"workload": "cola", "kind": "weak", "round": 0, "failed": "exit status 1: no room"}
    text = report([*entries(), failed])
    assert "- CoLA, weak, round 0: exit status 1: no room" in text and row(text, "Ablations")[5] == "does not run"
    text = report([*entries(), failed, replayed("weak", 70.0)])
    assert "What failed" not in text and row(text, "Ablations")[5] == "70.0 s"


def test_ablations_and_peers_stand_beside_ours() -> None:
    more = [
        recorded(157.5, "foreground", median_stall=0.2), recorded(156.0, "every 1", snapshots=50), replayed("strong", 80.0),
        entry("saved", 154.5, files=20, bytes=480_000_000), entry("flordb", 165.0, bytes=1),
        entry("flordb replay", 140.0, values=60, right=59, of=60), entry("resumed", 30.0, "imgn", values=30, right=0, of=60),
    ]  # fmt: skip
    text = report([*entries(), *more])
    assert row(text, "Ablations")[1] == "0.67 %, 20 snapshots, 20.0 ms each", "by the plain run of the same round, as the others"
    assert row(text, "Ablations")[2:4] == ["5.00 %, 20 snapshots, 200.0 ms each", "4.00 %, 50 snapshots, 20.0 ms each"]
    assert row(text, "Ablations")[5:] == ["-", "80.0 s"]
    assert row(text, "Peers")[2:4] == ["3.00 %", "10.00 %"] and row(text, "Peers")[7] == "140.0 s, 60 of 60 values, 59 of them right"
    assert row(text, "Peers", "ImgN")[6] == "30.0 s for 30 of 60 values, 0 of them right"
    assert row(text, "What it takes on the disk")[4] == "480.0 MB in 20 files"


def test_what_a_larger_budget_buys_is_told() -> None:
    more = [recorded(104.0, "paper's budget", stall=4.0, snapshots=80), replayed("outer, paper's budget", 15.0)]
    text = report([*entries(), *more])
    assert row(text, "What a larger budget buys")[1:] == ["0.20 %", "20", "30.0", "4.00 %", "80", "15.0 s", "10.0"]
    assert "8 of 8 recordings printed what the plain run did, and 5 of 5 replays were exact" in text
    assert "(target: at least 20: met)" in text, "the targets are those of the default budget"
    wrong = [*entries(), more[0], replayed("outer, paper's budget", 15.0, lines=OTHER)]
    assert "- CoLA, outer, paper's budget: exact ; other lines than the truth" in report(wrong)


def test_a_report_of_one_measurement_can_be_made() -> None:
    text = report([entry("plain", 100.0, output=PRINTED)])
    assert "Runs of seconds" not in text and "Rounds: 0" in text and "fewer than three rounds" in text
    assert row(text, "A statement in the inner loop")[1:8] == ["-"] * 7
    assert "met" not in text and "missed" not in text


def test_something_of_every_workload_comes_first() -> None:
    found = tasks(["rte", "cola", "imgn"], rounds=2, replay_rounds=1, ablated=["cola"], flordb=True)
    first = [task for task in found if task.round == 0 and task.kind in ("plain", "record", "side by side", *REPLAYS)]
    assert found[: len(first)] == first and len(first) == 3 * 7
    assert [task.workload for task in first] == ["rte"] * 7 + ["cola"] * 7 + ["imgn"] * 7
    assert all([task.kind for task in first[n : n + 3]] == ["plain", "record", "side by side"] for n in (0, 7, 14))
    rest = found[len(first) :]
    assert rest[:6] == [Task(name, "pair", turn) for name in ("rte", "cola", "imgn") for turn in (0, 1)]
    rest = rest[6:]
    assert rest[:6] == [Task(name, kind, 0) for name in ("rte", "cola", "imgn") for kind in BUDGETS]
    rest = rest[6:]
    assert [task.kind for task in rest[:4]] == list(ABLATIONS)
    assert rest[4:9] == [Task("cola", "saved", 0), Task("imgn", "saved", 0), Task("imgn", "resumed", 0),
                         Task("cola", "flordb", 0), Task("cola", "flordb replay", 0)]  # fmt: skip
    assert rest[9:] == [Task(name, "pair", turn) for name in ("rte", "cola", "imgn") for turn in (2, 3)]
    assert len(tasks(["rte", "imgn"], 1, 1, [], flordb=True, peers=False)) == 18


def test_plots_are_small_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw({"entries": entries()}, tmp_path)
    for name in ("results_overhead.png", "results_replay.png"):
        data = (tmp_path / name).read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) < 60_000


def test_results_survive_a_line_that_was_cut_off(tmp_path: Path) -> None:
    results = Results(tmp_path / "new" / "results.jsonl")
    assert results.all() == []
    results.note(kind="plain", seconds=1.5)
    with results.path.open("a") as file:
        file.write('{"kind": "rec')
    assert results.all() == [{"kind": "plain", "seconds": 1.5}]
    results.note(kind="record")
    assert results.all() == [{"kind": "plain", "seconds": 1.5}, {"kind": "record"}]


def test_processes_are_run_and_their_failures_told(tmp_path: Path) -> None:
    ran = run(fresh(tmp_path / "a"), "-c", "print('@@ 1'); print('x'); print('@@ 2')", python=sys.executable)
    assert ran.status == 0 and ran.seconds > 0 and hindsight(ran.stdout) == b"@@ 1\n@@ 2\n" and good(ran) is ran
    (ran,) = beside([tmp_path / "a"], (sys.executable, "-c", "import sys; sys.exit('sorry, ' + input())"), stdin=b"Ann\n")
    with pytest.raises(Failed, match="exit status 1: sorry, Ann"):
        good(ran)
    (ran,) = beside([tmp_path / "a"], (sys.executable, "-c", "import time; time.sleep(60)"), timeout=0.2)
    assert ran.status == -9
    with pytest.raises(SystemExit, match="exit status 3"):
        side_by_side([tmp_path / "a"], "-c", "raise SystemExit(3)")


def test_reports_tell_no_paths_of_the_machine() -> None:
    words = ["--rounds", "1", "--folder", "/home/ann/out dir", "--flordb=/home/ann/v/bin/python", "--only", "rte"]
    assert asked(words) == "scripts/reproduce --rounds 1 --folder 'out dir' --flordb=python --only rte"
    folder = Path("/home/ann/out/rte-cpu")
    assert anywhere(f"no {folder}/run, nor {SCRIPTS}/bench", folder) == "no rte-cpu/run, nor scripts/bench"


def test_digests_tell_lines_apart() -> None:
    assert digest(b"a\nb\n")[0] == 2 and digest(b"a\nb\n") == digest(b"a\nb\n") != digest(b"a\nc\n")


@pytest.mark.parametrize("name", CASES)
def test_statements_have_their_places(name: str) -> None:
    case = CASES[name]
    source = (SCRIPTS.parent / "workloads" / case.script).read_text()
    for anchor, statement in (case.statement("outer"), case.statement("inner"), *([case.saving()] if name in PAPER else [])):
        added = insert(source, anchor, statement)
        assert statement in added and len(added.splitlines()) == len(source.splitlines()) + 1
        compile(added, case.script, "exec")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_of_it_runs_at_the_smallest_scale(tmp_path: Path) -> None:
    options = ("--quick", "--only", "rte", "--no-ablations", "--rounds", "1", "--folder", str(tmp_path))
    words = (sys.executable, str(SCRIPTS / "reproducing.py"), *options)
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "reproduce.json").read_text())
    measured = Measured(kept["entries"], "rte")
    assert not measured.failed and {kind for kind, _ in measured.good} == {"plain", "record", "pair", "side by side", *REPLAYS}
    assert len(measured.pairs()) == 1
    assert [(e["verdict"], same) for e, same in measured.replays()] == [("exact", True)] * 4 and measured.same_output() == [True] * 3
    assert measured.of("side by side")[0]["outer"][0] == 4 and measured.of("record")[0]["snapshots"] > 1
    assert "4 of 4 replays were exact" in (tmp_path / "RESULTS.md").read_text()
    assert subprocess.run(words, capture_output=True, text=True).stdout.splitlines() == [f"the report: {tmp_path / 'RESULTS.md'}"]
