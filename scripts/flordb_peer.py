"""FlorDB, the successor of the paper's system, at the same work: what its one import costs a run, and what its replay of it gives.

FlorDB works in a git repository and replays with the script's default arguments and flags of its own, so a script gets a repository,
has the scale as its default, and bears unknown flags. Its replay plans by what was logged, and asks before it begins, so one value is
logged at the top, and it is told yes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import ROOT, Failed, Ran, beside, environment, fresh, good, insert, run
from workload_cases import Case

PLACE = "flordb"
# What replay has computed for the newest run, in the order in which it was logged.
ASK = "import json, flordb; frame = flordb.dataframe('hindsight'); print('@@' + json.dumps([str(value) for value in frame['hindsight']]))"


def flordb_overhead(python: str, folder: Path, case: Case, args: tuple[str, ...]) -> dict[str, Any]:
    """Run the script once with FlorDB imported; raises Failed. `python` is an interpreter that has flordb and torch."""
    place = fresh(folder / PLACE)
    (place / case.script).write_text(_script(case, args))
    in_repository(place, case.script, flordb_environment(python))
    ran = good(run(place, case.script, python=python, env=flordb_environment(python)))
    stored = sum(path.stat().st_size for path in (place / ".flor").rglob("*") if path.is_file())
    return {"seconds": ran.seconds, "cpu": ran.cpu, "bytes": stored}


def flordb_replay(python: str, folder: Path, case: Case, args: tuple[str, ...]) -> dict[str, Any]:
    """Have FlorDB compute the inner statement for that run; raises Failed. How many values are right is counted against the truth."""
    place = folder / PLACE
    anchor, values = case.inner
    statement = f"flor.log('hindsight', ' '.join(map(str, ({values},))))"
    (place / case.script).write_text(insert(_script(case, args), anchor, statement))
    (ran,) = beside([place], (python, "-m", "flordb", "replay", "--apply", "hindsight"), flordb_environment(python), stdin=b"y\n")
    good(ran)
    found = _logged(good(run(place, "-c", ASK, python=python, env=flordb_environment(python))))
    truth = [line[3:] for line in (folder / "truth.inner").read_text().splitlines()]
    if not found:
        raise Failed(f"its replay ended after {ran.seconds:.1f} s without a value")
    right = sum(a == b for a, b in zip(found, truth, strict=False))
    return {"seconds": ran.seconds, "cpu": ran.cpu, "values": len(found), "right": right, "of": len(truth)}


def in_repository(place: Path, script: str, env: Mapping[str, str]) -> None:
    """Make a git repository of a folder, as FlorDB wants it; raises Failed."""
    for words in (("init", "-q"), ("add", script), ("commit", "-qm", "the script")):
        (ran,) = beside([place], ("git", *words), env)
        good(ran)


def _script(case: Case, args: tuple[str, ...]) -> str:
    source = (ROOT / "workloads" / case.script).read_text()
    if args[:1] == ("--scale",):
        source = source.replace('default="cpu"', f'default="{args[1]}"', 1)
    source = source.replace("parser.parse_args()", "parser.parse_known_args()[0]", 1)
    return source.replace("import argparse\n", f"import argparse\nimport flordb as flor\nflor.log('script', '{case.script}')\n", 1)


def flordb_environment(python: str) -> dict[str, str]:
    """What FlorDB needs around it; `python` is an interpreter that has it."""
    # FlorDB starts `python`, and commits, for which git wants a name.
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
    names = {f"GIT_{role}_{what}": "bench" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return environment(PATH=path, PYTHONPATH="", **names)


def _logged(ran: Ran) -> list[str]:
    lines = [line for line in ran.stdout.decode().splitlines() if line.startswith("@@")]
    return list(json.loads(lines[-1][2:])) if lines else []
