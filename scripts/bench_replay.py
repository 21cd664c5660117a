#!/usr/bin/env python3
"""What replaying takes, against executing the script again: `scripts/bench replay`.

    scripts/bench replay [--scale quick|full] [--cases cifr,digits_cnn,wiki] [--rounds 5] [--folder bench-replay]

Training uses one thread, so that two cores mean at most twice the speed. In every round, in an order that is drawn: the script
with the inner log statement, plain; two of these side by side, which shows how much cores slow each other down; replays of the
inner and of the outer statement with one and two workers. Each measurement is appended to a file in `--folder`, and a bench that is
started again goes on where it was ended. A round takes about six times as long as the script does.

The bounds: two workers may take 1.08 times half the plain time, times the slowdown, and one prologue. An outer statement may take the
prologue, 1.3 times what reading the snapshots' bytes takes, and half a second. Executing again may take 1.03 times the plain time.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import ROOT, Ran, Results, expect, insert, report_of, run, side_by_side
from workload_cases import CASES

KINDS = ("plain", "pair", "inner 1", "inner 2", "outer 1", "outer 2")
# The arguments of each case: quick, and full.
ARGUMENTS = {
    "cifr": (("--scale", "cpu", "--epochs", "4"), ("--scale", "cpu")),
    "digits_cnn": (("--epochs", "8"), ("--epochs", "300")),
    "wiki": (("--scale", "cpu", "--max-steps", "60"), ("--scale", "cpu")),
}


class Workplace:
    """The folder of one case: the script as recorded and with either statement, its run, and what has been measured."""

    def __init__(self, folder: Path, name: str, scale: str) -> None:
        self.case = CASES[name]
        self.args = ARGUMENTS[name][scale == "full"]
        # A run of seconds can afford few snapshots, or none.
        self.often = ("--overhead", "0.3") if scale == "quick" else ()
        self.folder = folder / f"{name}-{scale}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.results = Results(self.folder / "results.jsonl")
        source = (ROOT / "workloads" / self.case.script).read_text()
        self.sources = {"": source, **{which: insert(source, *self.case.statement(which)) for which in ("outer", "inner")}}

    def record(self) -> None:
        """Record the run that is replayed, once."""
        if any(entry["kind"] == "record" for entry in self.results.all()):
            return
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        (self.folder / "run").mkdir()
        self.write("run", "")
        seconds = done(self.folder / "run", "-m", "flor_trace", "record", "-q", *self.often, self.case.script, *self.args).seconds
        self.results.note(kind="record", round=-1, seconds=seconds, **self.stored())

    def stored(self) -> dict[str, Any]:
        """How many bytes the run's snapshots hold, each once, and how fast they are read."""
        from flor_trace.store.reader import open_run

        run = open_run(str(self.folder / "run" / ".flor"))
        begin, nbytes = time.perf_counter(), 0
        for digest in run.index:
            nbytes += len(run.blob(digest))
        return {"bytes": nbytes, "bandwidth": nbytes / (time.perf_counter() - begin), "snapshots": len(run.snapshots())}

    def write(self, place: str, which: str) -> None:
        """Put the script, with a statement or none, into a folder."""
        (self.folder / place).mkdir(exist_ok=True)
        (self.folder / place / self.case.script).write_text(self.sources[which])

    def measure(self, kind: str, number: int) -> None:
        """Measure one thing and note it."""
        if kind in ("plain", "pair"):
            places = ["plain"] if kind == "plain" else ["left", "right"]
            for place in places:
                self.write(place, "inner")
            ran = side_by_side([self.folder / place for place in places], self.case.script, *self.args)
            self.results.note(kind=kind, round=number, seconds=ran.seconds, cpu=ran.cpu)
            return
        which, workers = kind.split()
        self.write("run", which)
        words = ("-m", "flor_trace", "replay", "--workers", workers, "--json")
        plan = json.loads(done(self.folder / "run", *words, "--dry-run", self.case.script).stdout)
        ran = done(self.folder / "run", *words, self.case.script)
        report = report_of(self.folder / "run")
        fields = {"verdict": report["verdict"], "prologue": report["prologue_seconds"], "estimate": plan["forecast"]["seconds"]}
        self.results.note(kind=kind, round=number, seconds=ran.seconds, cpu=ran.cpu, **fields)


def done(folder: Path, *words: str) -> Ran:
    """A command that has to succeed."""
    return expect(run(folder, *words), " ".join(words))


def summary(name: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, spread, and the bounds, of what has been measured of one case."""
    recorded = next(entry for entry in entries if entry["kind"] == "record")
    seconds = {kind: [e["seconds"] for e in entries if e["kind"] == kind] for kind in KINDS}
    cpu = {kind: statistics.median([e["cpu"] for e in entries if e["kind"] == kind]) for kind in KINDS}
    middle = {kind: statistics.median(values) for kind, values in seconds.items() if values}
    replays = [e for e in entries if "prologue" in e]
    prologue = statistics.median(e["prologue"] for e in replays)
    slowdown = middle["pair"] / middle["plain"]
    estimates = {k: statistics.median(e["estimate"] / e["seconds"] for e in replays if e["kind"] == k) for k in middle if " " in k}
    return {
        "case": name,
        "rounds": len(seconds["plain"]),
        "median": middle,
        "cpu": cpu,
        "spread": {kind: [min(values), max(values)] for kind, values in seconds.items() if values},
        "bytes": recorded["bytes"],
        "bandwidth": recorded["bandwidth"],
        "prologue": prologue,
        "slowdown": slowdown,
        "again": (middle["inner 1"]) / middle["plain"],
        "two": middle["inner 2"] / (middle["plain"] / 2 * slowdown + prologue),
        "two_bound": (1.08 * middle["plain"] / 2 * slowdown + prologue) / (middle["plain"] / 2 * slowdown + prologue),
        "outer_bound": prologue + 1.3 * recorded["bytes"] / recorded["bandwidth"] + 0.5,
        "estimate": estimates,
        "exact": all(e["verdict"] == "exact" for e in replays),
    }


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "workload": lambda s: s["case"],
    "plain": lambda s: "{:.1f} s [{:.1f} to {:.1f}]".format(s["median"]["plain"], *s["spread"]["plain"]),
    "side by side": lambda s: f"{s['slowdown']:.2f} times",
    "inner, 1 worker ÷ plain (at most 1.03, and start-up)": lambda s: f"{s['again']:.3f}",
    "the same, processor time": lambda s: f"{s['cpu']['inner 1'] / s['cpu']['plain']:.3f}",
    "inner, 2 workers": lambda s: "{:.1f} s [{:.1f} to {:.1f}]".format(s["median"]["inner 2"], *s["spread"]["inner 2"]),
    "÷ ideal (bound)": lambda s: f"{s['two']:.2f} ({s['two_bound']:.2f})",
    "outer, 1 worker (bound)": lambda s: f"{s['median']['outer 1']:.2f} s ({s['outer_bound']:.2f})",
    "prologue": lambda s: f"{s['prologue']:.1f} s",
    "read": lambda s: f"{s['bytes'] / 1e6:.0f} MB",
    "estimate ÷ measured": lambda s: ", ".join(f"{k} {v:.2f}" for k, v in s["estimate"].items()),
    "exact": lambda s: "yes" if s["exact"] else "NO",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=["quick", "full"], default="quick")
    parser.add_argument("--cases", default=",".join(ARGUMENTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("bench-replay"))
    options = parser.parse_args()
    places = {name: Workplace(options.folder.resolve(), name, options.scale) for name in options.cases.split(",")}
    for place in places.values():
        place.record()
    for number in range(options.rounds):
        for place in places.values():
            done = {entry["kind"] for entry in place.results.all() if entry["round"] == number}
            for kind in random.sample([kind for kind in KINDS if kind not in done], k=len(set(KINDS) - done)):
                place.measure(kind, number)
    found = [summary(name, place.results.all()) for name, place in places.items()]
    (options.folder / "summary.json").write_text(json.dumps(found, indent=1))
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for each in found:
        print("| " + " | ".join(column(each) for column in COLUMNS.values()) + " |")


if __name__ == "__main__":
    main()
