"""Compare a script's recording and replays with the truth: plain runs of the same script.

One comparison takes a folder, the script in it with its arguments, and named *probes*: statements to insert. It

1. runs, plainly, a copy of the folder with the statements of all probes inserted: what they print is the truth, probe by probe.
   Each statement is wrapped so that the states of the random number generators are kept around it, because a hindsight statement
   must not perturb the training;
2. runs the script recorded in another copy; but for the probes' lines and our one summary line, stdout, stderr, exit status and
   the files written must be the same. Where they are not (the numbers of lines in a traceback, a script that reads its own
   source), the script is run without any probe, and that run decides;
3. inserts the statements of one probe, or of several at once (`outer+inner`), into the recorded copy and replays it with one, two,
   three workers; stdout must be the truth byte for byte, the exit status 0, the verdict "exact", and neither the script's files
   nor the recording may have changed.

Every inserted statement prints lines that begin with `@@`, and has these two characters in its text, where the truth puts the
probe's name behind them. In scripts made for this test a probe is marked by comments,
`#+name statement`; for a public script it is described in a JSON file:

    python tests/exactness.py spec.json [--workers 1,2,3] [--every 1] [--probe NAME]

    {"script": "main.py", "args": ["--epochs", "3"], "clock": "ms/batch", "env": {}, "module": false,
     "probes": {"outer": [{"file": "main.py", "anchor": "scheduler.step()", "statement": "print('@@', epoch)"}]}}

`anchor` is a whole line of the file without its indentation, which must occur once (or give `"occurrence": 2`); the statement goes
after it at its depth, or before it with `"place": "before"`. The script runs in the folder's subfolder `cwd`, if that is given.
`clock` is a regular expression for lines that depend on the clock. In the docstring of a script with `#+` marks, lines such as
`# clock: REGEX` say the same; `# quick: NAME…` names the probes (or `NAME+NAME`) that the ordinary run of the tests replays, and
`none` leaves the whole script to the slow run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

PREFIX = b"@@"
MARK = re.compile(r"^(\s*)#\+(\w+) (.*)$")
# What the truth prints for a probe.
MARKED = re.compile(rb"^@@<([^>]+)>")
# Ours, the interpreter's caches, and nothing else.
NOT_THE_SCRIPTS = {".flor", "__pycache__"}

KEEP_RANDOM_STATES = """
import contextlib, random, sys

@contextlib.contextmanager
def kept():
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    torch_state = torch.random.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)
        if torch:
            torch.random.set_rng_state(torch_state)
"""


@dataclass(frozen=True)
class Insertion:
    """A statement to add to a file of the script: after (or before) line `line` (from 1), at column `indent`."""

    file: str
    line: int
    indent: str
    statement: str


@dataclass(frozen=True)
class Case:
    """A script with all that is needed to run it and to probe it."""

    folder: Path
    script: str
    args: tuple[str, ...] = ()
    probes: Mapping[str, Sequence[Insertion]] = field(default_factory=dict)
    clock: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    truth: str = "plain"
    module: bool = False
    cwd: str = "."
    quick: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What one process did."""

    stdout: bytes
    stderr: bytes
    status: int
    seconds: float


@dataclass
class Report:
    """The failures found, each as one readable paragraph, the seconds that each run took, and what the recording printed."""

    failures: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    stdout: bytes = b""

    def same(self, what: str, expected: bytes, actual: bytes, hint: str = "") -> None:
        if expected == actual:
            return
        left, right = expected.splitlines(), actual.splitlines()
        at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
        shown = [lines[at].decode(errors="replace") if at < len(lines) else "<no more lines>" for lines in (left, right)]
        self.failures.append(
            f"{what}: line {at + 1} ({len(left)} expected, {len(right)} found)\n    expected: {shown[0]}\n    found:    {shown[1]}{hint}"
        )

    def check(self, holds: bool, message: str) -> None:
        if not holds:
            self.failures.append(message)


def case_from_marks(folder: Path, script: str) -> Case:
    """The case described by the comments in a script of `tests/scripts` and in the modules beside it."""
    probes: dict[str, list[Insertion]] = {}
    files = [folder / script] if folder.name == "scripts" else sorted(folder.rglob("*.py"))
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            if mark := MARK.match(line):
                insertion = Insertion(str(file.relative_to(folder)), number, mark[1], mark[3])
                probes.setdefault(mark[2], []).append(insertion)
    head = (folder / script).read_text().split('"""')[1]
    options = dict(re.findall(r"^# (\w+): (.*)$", head, re.MULTILINE))
    env = dict(pair.split("=", 1) for pair in options.get("env", "").split())
    args = tuple(options.get("args", "").split())
    quick = tuple(set(options["quick"].split()) - {"none"}) if "quick" in options else None
    return Case(folder, script, args, probes, options.get("clock"), env, options.get("truth", "plain"), quick=quick)


def case_from_spec(path: Path) -> Case:
    """The case described by a JSON file that lies in the script's folder."""
    spec = json.loads(path.read_text())
    probes = {name: [_locate(path.parent, **probe) for probe in probes] for name, probes in spec["probes"].items()}
    return Case(
        path.parent, spec["script"], tuple(spec.get("args", ())), probes, spec.get("clock"), spec.get("env", {}),
        spec.get("truth", "plain"), spec.get("module", False), spec.get("cwd", "."),
    )  # fmt: skip


def _locate(folder: Path, file: str, anchor: str, statement: str, occurrence: int = 1, place: str = "after") -> Insertion:
    lines = (folder / file).read_text().splitlines()
    found = [number for number, line in enumerate(lines, start=1) if line.strip() == anchor]
    if len(found) < occurrence:
        raise ValueError(f"{file}: the anchor line {anchor!r} occurs {len(found)} times")
    number = found[occurrence - 1]
    line = lines[number - 1]
    return Insertion(file, number - (place == "before"), line[: len(line) - len(line.lstrip())], statement)


def run_plainly(case: Case, cwd: Path, args: tuple[str, ...]) -> Outcome:
    """Run a case's script under plain `python` in the folder `cwd`, with arguments of one's own."""
    return _run(case, cwd, (str(case.folder / case.script), *args), timeout=240)


def compare(case: Case, *, workers: Sequence[int] = (2,), every: str = "1", probes: Sequence[str] | None = None,
            replays: Sequence[tuple[str, int]] | None = None, show_all: bool = False, timeout: float = 240) -> Report:  # fmt: skip
    """Record the case, replay it with each probe and each number of workers, and report every difference from the truth.

    `probes` are names of the case's probes, or several joined by `+`, which are inserted at once. `replays` gives the pairs of a
    probe and a number of workers one by one instead. With `show_all` the whole log is compared as well, for each single probe.
    """
    report = Report()
    if replays is None:
        replays = [(name, number) for name in (case.probes if probes is None else probes) for number in workers]
    singles = sorted({single for name, _ in replays for single in name.split("+")})
    with tempfile.TemporaryDirectory(prefix="exactness-") as temporary:
        root = Path(temporary)
        probed, recorded = (_copy(case.folder, root / name) for name in ("probed", "recorded"))
        for single in singles:
            report.check(all("@@" in i.statement for i in case.probes[single]), f"{single}: a statement without {PREFIX.decode()}")
        _insert(probed, [replace(i, statement=_wrapped(single, i.statement)) for single in singles for i in case.probes[single]])
        helper = (probed / case.cwd / case.script).with_name("exactness_truth.py")
        helper.write_text(KEEP_RANDOM_STATES)
        target = ("-m", case.script) if case.module else (case.script,)

        truth = _run(case, probed, (*target, *case.args), timeout)
        record = _run(case, recorded, ("-m", "flor_trace", "record", "--every", every, *target, *case.args), timeout)
        report.seconds |= {"truth": truth.seconds, "record": record.seconds}
        report.stdout = record.stdout
        helper.unlink()
        for insertion in (insertion for single in singles for insertion in case.probes[single]):
            shutil.copy(case.folder / insertion.file, probed / insertion.file)
        unprobed = Outcome(_without_probes(truth.stdout), truth.stderr, truth.status, truth.seconds)
        if _differences_of_recording(case, unprobed, record, probed, recorded):
            plain = _copy(case.folder, root / "plain")
            unprobed = _run(case, plain, (*target, *case.args), timeout)
            report.seconds["plain"] = unprobed.seconds
            report.failures += _differences_of_recording(case, unprobed, record, plain, recorded)
        written, recording = _files(recorded), _files(recorded / case.cwd / ".flor" / "runs", skip={"catalog"})
        report.check(bool(recording), "record: nothing was stored in .flor/runs")

        for name in dict.fromkeys(name for name, _ in replays):
            # In the order of the truth, which counts where two probes stand at one place.
            insertions = [i for single in singles if single in name.split("+") for i in case.probes[single]]
            for insertion in insertions:
                shutil.copy(case.folder / insertion.file, recorded / insertion.file)
            _insert(recorded, insertions)
            shown = written | {i.file: _digest(recorded / i.file) for i in insertions}

            expected, log = _hindsight(case, truth, record, name.split("+"))
            report.check(bool(expected), f"{name}: the truth has no lines that begin with {PREFIX.decode()}")
            for number in (number for other, number in replays if other == name):
                command = ("-m", "flor_trace", "replay", "--workers", str(number))
                _compare_replay(report, case, f"{name} --workers {number}", recorded, command, expected, timeout)
            if show_all and case.truth == "plain":
                command = ("-m", "flor_trace", "replay", "--workers", "2", "--show", "all")
                _compare_replay(report, case, f"{name} --show all", recorded, command, log, timeout)
            for insertion in insertions:
                shutil.copy(case.folder / insertion.file, recorded / insertion.file)

            changed = _difference(shown | written, _files(recorded))
            report.check(not changed, f"{name}: replay changed the script's files: {changed}")
            now = _files(recorded / case.cwd / ".flor" / "runs", skip={"catalog"})
            changed = [path for path in recording if recording[path] != now.get(path)]
            report.check(not changed, f"{name}: replay changed the recording: {changed}")
    return report


def _differences_of_recording(case: Case, truth: Outcome, record: Outcome, plain: Path, recorded: Path) -> list[str]:
    report = Report()
    ours = [line for line in record.stderr.splitlines(keepends=True) if line.startswith(b"flor_trace")]
    stderr = b"".join(line for line in record.stderr.splitlines(keepends=True) if not line.startswith(b"flor_trace"))
    report.check(len(ours) == 1, f"record: {len(ours)} lines of ours on stderr instead of one: {ours}")
    report.check(record.status == truth.status, f"record: exit status {record.status} instead of {truth.status}")
    here, there = str(recorded).encode(), str(plain).encode()
    report.same("record, stderr", _steady(case, truth.stderr), _steady(case, stderr.replace(here, there)))
    if case.truth == "plain":
        report.same("record, stdout", _steady(case, truth.stdout), _steady(case, record.stdout.replace(here, there)))
        changed = _difference(_files(plain), _files(recorded))
        report.check(not changed, f"record: the script's files differ: {changed}")
    return report.failures


def _compare_replay(report: Report, case: Case, what: str, folder: Path, command: tuple[str, ...], expected: bytes, timeout: float) -> None:
    replay = _run(case, folder, command, timeout)
    report.seconds[what] = replay.seconds
    tail = replay.stderr.decode(errors="replace").strip().splitlines()[-6:]
    hint = "".join(f"\n    stderr: {line}" for line in tail)
    report.same(what, _steady(case, expected), _steady(case, replay.stdout), hint)
    report.check(replay.status == 0, f"{what}: exit status {replay.status} instead of 0{hint}")
    report.check(re.search(rb"\bexact\b", replay.stderr) is not None, f"{what}: the verdict is not exact{hint}")


def _wrapped(probe: str, statement: str) -> str:
    """The statement as it stands in the truth: with the states of random number generators kept, its lines marked by the probe's name."""
    return f"with __import__('exactness_truth').kept(): {statement.replace('@@', f'@@<{probe}>')}"


def _without_probes(stdout: bytes) -> bytes:
    return b"".join(line for line in stdout.splitlines(keepends=True) if not line.startswith(PREFIX + b"<"))


def _hindsight(case: Case, truth: Outcome, record: Outcome, singles: Sequence[str]) -> tuple[bytes, bytes]:
    """What the probes should print, and the whole log with their lines in their places."""
    log, expected = [], []
    for line in truth.stdout.splitlines(keepends=True):
        if marked := MARKED.match(line):
            if marked[1].decode() not in singles:
                continue
            line = MARKED.sub(PREFIX, line)
            expected.append(line)
        log.append(line)
    if case.truth == "recorded":
        logged = [line for line in record.stdout.splitlines(keepends=True) if line.startswith(b"logged ")]
        wanted = {line.split()[1] for line in expected}
        return b"".join(PREFIX + line[6:] for line in logged if line.split()[1] in wanted), b""
    return b"".join(expected), b"".join(log)


def _run(case: Case, folder: Path, command: tuple[str, ...], timeout: float) -> Outcome:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLOR_TRACE_", "PYTHONHASHSEED", "COVERAGE", "PYTEST_"))}
    environment |= {"OMP_NUM_THREADS": "1", **case.env}
    begin = time.monotonic()
    process = subprocess.Popen(
        (sys.executable, *command), cwd=folder / case.cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # Workers live in the same session; without them gone, the pipes would stay open.
        os.killpg(process.pid, 9)
        stdout, stderr = process.communicate()
        stderr += f"\nkilled after {timeout} s\n".encode()
    return Outcome(stdout, stderr, process.returncode, time.monotonic() - begin)


def _copy(source: Path, target: Path) -> Path:
    skip = shutil.ignore_patterns(*NOT_THE_SCRIPTS, ".git")
    return Path(shutil.copytree(source, target, symlinks=True, ignore=skip))


def _insert(folder: Path, insertions: Sequence[Insertion]) -> None:
    # From the bottom upwards, so that line numbers stay right.
    for insertion in sorted(insertions, key=lambda i: -i.line):
        path = folder / insertion.file
        lines = path.read_text().splitlines()
        lines.insert(insertion.line, f"{insertion.indent}{insertion.statement}")
        path.write_text("\n".join(lines) + "\n")


def _steady(case: Case, output: bytes) -> bytes:
    if case.clock is None:
        return output
    depends = re.compile(case.clock.encode())
    return b"".join(line for line in output.splitlines(keepends=True) if not depends.search(line))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _walk(folder: Path, skip: set[str]) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in skip]
        yield from (Path(root) / name for name in names if name.split(".")[0] not in skip)


def _files(folder: Path, skip: set[str] | None = None) -> dict[str, str]:
    skip = NOT_THE_SCRIPTS if skip is None else skip
    return {str(path.relative_to(folder)): _digest(path) for path in _walk(folder, skip) if path.is_file()}


def _difference(one: Mapping[str, str], two: Mapping[str, str]) -> list[str]:
    return sorted(path for path in {*one, *two} if one.get(path) != two.get(path))


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a script's recording and replays with plain runs of it")
    parser.add_argument("spec", type=Path, help="JSON file in the script's folder, or a script with #+ marks")
    parser.add_argument("--workers", default="1,2,3")
    parser.add_argument("--every", default="1")
    parser.add_argument("--probe", action="append")
    parser.add_argument("--show-all", action="store_true")
    options = parser.parse_args()
    spec = options.spec.resolve()
    case = case_from_spec(spec) if spec.suffix == ".json" else case_from_marks(spec.parent, spec.name)
    workers = [int(number) for number in options.workers.split(",")]
    report = compare(case, workers=workers, every=options.every, probes=options.probe, show_all=options.show_all, timeout=600)
    for what, seconds in report.seconds.items():
        print(f"{seconds:8.2f} s  {what}")
    print("\n".join(report.failures) or "no difference")
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
