"""`scripts/faults`: see there."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from faults import kills
from faults.world import SCRIPTS, Findings, learn


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults", description="Break recordings in every way and check what is left of them")
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="how many kills at random times (100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--script", choices=sorted(SCRIPTS), default="pure", help="what is trained (pure)")
    parser.add_argument("--folder", type=Path, help="work here, and leave what failed")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    findings = Findings()
    truth = learn(folder / "truth", SCRIPTS[options.script])
    began = time.monotonic()
    dice = random.Random(options.seed)
    for number in range(options.kills):
        kills.kill_at_random(folder / f"random-{number}", truth, dice, findings)
    print(f"{options.kills} random kills in {time.monotonic() - began:.0f} s: {findings.counts}")
    for failure in findings.failures:
        print(f"FAILED {failure}")
    return 1 if findings.failures else 0


if __name__ == "__main__":
    sys.exit(main())
