"""`scripts/faults`: see there."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from faults import kills, named
from faults.world import SCRIPTS, Findings, Truth, learn

TALLY = "tally.jsonl"
"""One line for each kill, in the folder: what a later call with that folder goes on from."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults", description="Break recordings in every way and check what is left of them")
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="how many kills at random times (100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--script", choices=sorted(SCRIPTS), default="pure", help="what is trained (pure)")
    parser.add_argument("--named", action="store_true", help="before that every named step, damage, failing disk and way to end, once")
    parser.add_argument("--folder", type=Path, help="work here, leave what failed, and go on from an earlier call's tally there")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    call = folder / f"call-{time.time_ns()}"
    truth = learn(call / "truth", SCRIPTS[options.script])
    failures = []
    if options.named:
        findings = named.everything(call, truth, random.Random(options.seed))
        print(f"named faults: {findings.counts}")
        failures += findings.failures
    failures += _random_kills(folder, truth, options.script, options.seed, options.kills)
    for failure in failures:
        print(f"FAILED {failure}")
    return 1 if failures else 0


def _random_kills(folder: Path, truth: Truth, script: str, seed: int, wanted: int) -> list[str]:
    """Kill so often, not counting what an earlier call did and kills that came too late; prints the tally of all calls with this
    folder, and returns their failures."""
    path = folder / TALLY
    began = time.monotonic()
    number = 0
    while _killed(lines := _read(path), script, seed) < wanted:
        done = {line["number"] for line in lines if (line["script"], line["seed"]) == (script, seed)}
        number = max(done, default=-1) + 1
        findings = Findings()
        kills.kill_at_random(folder / f"{script}-{seed}-{number}", truth, random.Random(f"{script} {seed} {number}"), findings)
        line = {"script": script, "seed": seed, "number": number, "counts": findings.counts, "failures": findings.failures}
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
    total = Findings()
    for line in lines:
        total.count(f"trials of {line['script']}")
        for what, count in line["counts"].items():
            total.counts[what] = total.counts.get(what, 0) + count
        total.failures += line["failures"]
    kill_count = sum(count for what, count in total.counts.items() if what.startswith("kills of"))
    wrong = sum(bool(line["failures"]) for line in lines)
    print(f"{kill_count} random kills ({time.monotonic() - began:.0f} s for this call's), {wrong} with a wrong result")
    for what, count in sorted(total.counts.items()):
        print(f"  {count:5} {what}")
    return total.failures


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _killed(lines: list[dict[str, Any]], script: str, seed: int) -> int:
    mine = [line["counts"] for line in lines if (line["script"], line["seed"]) == (script, seed)]
    return sum(count for counts in mine for what, count in counts.items() if what.startswith("kills of"))


if __name__ == "__main__":
    sys.exit(main())
