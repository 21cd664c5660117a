"""The paper's evaluation on this machine: `scripts/reproduce`.

    scripts/reproduce --rounds 1 --write            all eight workloads at the scale of a processor, replays included: more than an hour
    scripts/reproduce --only rte --quick            the smallest scale: whether everything runs, in a minute or two

Every round of a workload is two pairs of a plain run and a recorded one at the same time, each on a core of its own, which they
exchange for the second pair: so both meet the same machine, and its speed may drift. The first round has a recording besides, replays of
an outer and an inner statement with one and two workers, and two plain runs at once, which tell what two workers can attain and what
statements have to print. Then come recordings with
the paper's budget of a fifteenth, each with the replay of an outer statement, and for some workloads ablations (written in the foreground;
without the budget; weak and strong initialisation) and peers (checkpoints by hand, resuming from one, FlorDB).

Each measurement is one line in a file in `--folder`; a bench that is started again goes on where it was ended, tries again what failed,
and adds rounds. The report is made of all lines there, in the same folder; `--write` puts it into workloads/, too.

Training uses one thread for each process. The machine should have two cores and nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from measuring import ROOT, Failed, Results, machine, write_section
from reproduce_plots import draw
from reproduce_report import page
from reproduce_runs import Task, Workplace, tasks
from workload_cases import PAPER

SECTION = "scripts/reproduce"
ABLATED = "cola,cifr"


def main() -> None:
    options = arguments()
    scale = "tiny" if options.quick else "cpu"
    results = Results(options.folder.resolve() / f"results-{scale}.jsonl")
    places = {name: Workplace(options.folder.resolve(), name, options.quick, options.flordb) for name in options.only}
    wanted = tasks(options.only, options.rounds, options.replay_rounds, options.ablations, options.flordb is not None, options.peers)
    done = {Task(entry["workload"], entry["kind"], entry["round"]) for entry in results.all() if "failed" not in entry}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C: what has been measured is reported
    try:
        for task in wanted:
            if task not in done:
                measure(places[task.workload], task, results)
    finally:
        if results.all():
            report(results.all(), scale, options.folder.resolve(), options.write)


def arguments() -> argparse.Namespace:
    """What was asked for, checked."""
    parser = argparse.ArgumentParser(
        prog="scripts/reproduce", description=__doc__.split("\n", 1)[1], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_names, default=list(PAPER), metavar="NAMES", help=f"workloads, of {','.join(PAPER)}")
    parser.add_argument("--quick", action="store_true", help="the smallest scale: seconds for each run; its figures mean nothing")
    parser.add_argument("--rounds", type=int, default=3, help="two pairs of a plain and a recorded run each for every workload (3)")
    parser.add_argument("--replay-rounds", type=int, default=1, help="the rounds in which there are replays (1)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "reproduce", help="where everything is kept (build/reproduce)")
    parser.add_argument("--ablations", default=ABLATED, metavar="all|none|NAMES", help=f"the workloads that get them ({ABLATED})")
    parser.add_argument("--no-ablations", action="store_true", help="neither ablations nor peers")
    parser.add_argument("--flordb", metavar="PYTHON", help="an interpreter with flordb and torch, for the comparison with FlorDB")
    parser.add_argument("--write", action="store_true", help="write workloads/RESULTS.md, workloads/reproduce.json and the plots")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--write is for figures of the ordinary scale; leave out --quick")
    if min(options.rounds, options.replay_rounds) < 1:
        parser.error("--rounds and --replay-rounds take whole numbers from 1 on")
    if options.flordb and not os.access(options.flordb, os.X_OK):
        parser.error(f"--flordb: {options.flordb} is no interpreter")
    chosen = {"all": options.only, "none": []}.get(options.ablations)
    try:
        chosen = _names(options.ablations) if chosen is None else chosen
    except argparse.ArgumentTypeError as error:
        parser.error(f"--ablations: {error}")
    options.peers = not options.no_ablations
    options.ablations = [] if options.no_ablations else [name for name in options.only if name in chosen]
    return options


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in PAPER]:
        raise argparse.ArgumentTypeError(f"there is no workload {', '.join(unknown)}; there are {', '.join(PAPER)}")
    return names


def measure(place: Workplace, task: Task, results: Results) -> None:
    """Make one measurement and note it, or why it failed; the bench goes on in either case."""
    about: dict[str, Any] = {"workload": task.workload, "kind": task.kind, "round": task.round}
    about |= {"load": round(os.getloadavg()[0], 2), "commit": commit()}
    try:
        found = place.measure(task.kind, task.round)
    except Failed as error:
        found = {"failed": anywhere(str(error), place.folder)}
    except Exception as error:  # a bench of hours does not end for one measurement; the report tells which failed
        found = {"failed": anywhere(f"{type(error).__name__}: {error}", place.folder)}
    results.note(**about, **found)
    shown = found.get("failed") or f"{found['seconds']:.1f} s {found.get('verdict', '')}"
    print(f"{task.workload:5} {task.kind:14} round {task.round}: {shown}", flush=True)


def commit() -> str:
    """Which version of this tree is measured; empty without git."""
    try:
        done = subprocess.run(("git", "describe", "--always", "--dirty"), cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def anywhere(text: str, folder: Path) -> str:
    """A text without the paths of this machine."""
    return text.replace(str(folder), folder.name).replace(str(ROOT) + os.sep, "")


def asked(words: list[str]) -> str:
    """The command that was given, as one that could be given elsewhere."""
    return shlex.join(["scripts/reproduce", *(re.sub(r"(^|=)/.*/", r"\1", word) for word in words)])


def report(entries: list[dict[str, Any]], scale: str, folder: Path, write: bool) -> None:
    """Make the page, the raw figures and the plots in the folder, and in workloads/ if that is asked for."""
    kept = {"machine": machine(), "command": asked(sys.argv[1:]), "scale": scale, "entries": entries}
    for target in (folder, ROOT / "workloads") if write else (folder,):
        write_section(target / "RESULTS.md", SECTION, page(kept))
        (target / "reproduce.json").write_text(compact(kept))
        draw(kept, target)
    print(f"the report: {folder / 'RESULTS.md'}")


def compact(kept: dict[str, Any]) -> str:
    """JSON with one measurement a line."""
    head = json.dumps({name: value for name, value in kept.items() if name != "entries"})
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in kept["entries"])
    return f'{head[:-1]}, "entries": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    main()
