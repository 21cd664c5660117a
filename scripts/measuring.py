"""What the benches share: processes that run and are timed, statements that are put into scripts, what a recording says of itself, results
that are kept, and sections of pages."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# What scripts/setup has made, or, where the package lies elsewhere, whoever runs the bench.
PYTHON = next((str(path) for path in [ROOT / ".venv" / "bin" / "python"] if path.exists()), sys.executable)
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


class Failed(Exception):
    """A process of a measurement has failed; the message is the last that it said."""


@dataclass(frozen=True)
class Ran:
    """What became of a process: its exit status, the seconds and processor seconds that it took, its peak of memory (bytes), its output."""

    status: int
    seconds: float
    cpu: float
    memory: int
    stdout: bytes
    stderr: str

    @property
    def last_words(self) -> str:
        """The last line on stderr, which usually tells the error."""
        return (self.stderr.strip().splitlines() or ["nothing on stderr"])[-1]


@dataclass(frozen=True)
class Started:
    """A command, the folder to run it in, and the core that it and all that it starts have to do with (None: all cores)."""

    folder: Path
    words: Sequence[str]
    core: int | None = None


def environment(**more: str) -> dict[str, str]:
    """One thread, the package from this tree, and no settings of the caller's own. Modules are compiled once, as where installed."""
    own = ("FLOR_TRACE_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def beside(
    folders: Sequence[Path], words: Sequence[str], env: Mapping[str, str] | None = None, *, stdin: bytes = b"", timeout: float = 3600
) -> list[Ran]:
    """Run the same command in several folders at once; a process that takes longer than `timeout` (seconds) is killed."""
    return at_once([Started(folder, words) for folder in folders], env, stdin=stdin, timeout=timeout)


def at_once(
    commands: Sequence[Started], env: Mapping[str, str] | None = None, *, stdin: bytes = b"", timeout: float = 3600
) -> list[Ran]:
    """Run several commands at the same time; a process that takes longer than `timeout` (seconds) is killed."""
    with tempfile.TemporaryDirectory() as temporary:
        # Files, since reading a pipe to its end would also wait for processes that outlive the first.
        outs = [open(Path(temporary) / f"{n}.out", "w+b") for n in range(len(commands))]
        errs = [open(Path(temporary) / f"{n}.err", "w+b") for n in range(len(commands))]
        (Path(temporary) / "in").write_bytes(stdin)
        ins = [open(Path(temporary) / "in", "rb") for _ in commands]
        begin = time.perf_counter()
        running = [
            subprocess.Popen(each.words, cwd=each.folder, env=env or environment(), stdin=given, stdout=out, stderr=err)
            for each, given, out, err in zip(commands, ins, outs, errs, strict=True)
        ]
        for each, process in zip(commands, running, strict=True):
            if each.core is not None:  # before Python has got far enough to start anything
                os.sched_setaffinity(process.pid, {each.core})
        found: dict[int, Ran] = {}
        waiting = [threading.Thread(target=_wait, args=(n, running[n], begin, outs[n], errs[n], found)) for n in range(len(running))]
        for thread in waiting:
            thread.start()
        try:
            for thread in waiting:
                thread.join(max(0.0, begin + timeout - time.perf_counter()))
        finally:  # whoever ends the bench ends what it runs
            for number, process in enumerate(running):
                if number not in found:
                    process.kill()
            for thread in waiting:
                thread.join()
        for file in (*ins, *outs, *errs):
            file.close()
    return [found[number] for number in range(len(running))]


def _wait(number: int, process: subprocess.Popen[bytes], begin: float, out: Any, err: Any, found: dict[int, Ran]) -> None:
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    out.seek(0), err.seek(0)
    found[number] = Ran(
        process.returncode, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, out.read(), err.read().decode(errors="replace")
    )


def run(folder: Path, *words: str, python: str = PYTHON, env: Mapping[str, str] | None = None) -> Ran:
    """Run one Python command in a folder."""
    (ran,) = beside([folder], (python, *words), env)
    return ran


def expect(ran: Ran, what: str) -> Ran:
    """The same, unless it failed: then the bench ends."""
    if ran.status:
        sys.exit(f"{what}: exit status {ran.status}\n{ran.stderr}")
    return ran


def good(ran: Ran) -> Ran:
    """The same; raises Failed where the process has."""
    if ran.status:
        raise Failed(f"exit status {ran.status}: {ran.last_words}")
    return ran


def side_by_side(folders: Sequence[Path], *words: str) -> Ran:
    """Several runs of one script at once, as if they were one: means of what they took."""
    ran = [expect(each, " ".join(words)) for each in beside(folders, (PYTHON, *words))]
    seconds, cpu = (statistics.mean(getattr(each, name) for each in ran) for name in ("seconds", "cpu"))
    return Ran(0, seconds, cpu, max(each.memory for each in ran), b"", "")


def insert(source: str, anchor: str, statement: str) -> str:
    """The source with a statement behind the line that consists of `anchor`, which must occur once, at its depth."""
    lines = source.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.strip() == anchor]
    indent = lines[at][: len(lines[at]) - len(anchor)]
    return "\n".join([*lines[: at + 1], indent + statement, *lines[at + 1 :]]) + "\n"


def report_of(folder: Path) -> dict[str, Any]:
    """What the last replay in a folder has reported."""
    newest = max((folder / ".flor" / "runs").glob("*/replays/*/report.json"), key=lambda path: path.stat().st_mtime)
    report: dict[str, Any] = json.loads(newest.read_text())
    return report


def fresh(folder: Path) -> Path:
    """The folder, made anew and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class Results:
    """Measurements in a file, one JSON object a line, so that a bench which was ended can go on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def all(self) -> list[dict[str, Any]]:
        """All measurements so far; a last line that was cut off by a kill is none."""
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n") and line.strip()]

    def note(self, **fields: Any) -> None:
        """Append a measurement, in the place of a line that was cut off."""
        data = self.path.read_bytes() if self.path.exists() else b""
        with self.path.open("ab") as file:
            file.truncate(data.rfind(b"\n") + 1)
            file.write(json.dumps(fields).encode() + b"\n")


def of_recording(store: Path) -> dict[str, Any]:
    """What the last recording in a store says of itself: seconds of stall, bytes on disk and before compression, snapshots, boundaries."""
    from flor_trace.query.budget import decisions
    from flor_trace.store.blobs import LIST
    from flor_trace.store.reader import open_run

    recording = open_run(str(store))
    told = decisions(recording)
    taken = [item for item in told if item["taken"]]
    return {
        "stall": sum(item["stall"] for item in taken),
        "largest_stall": max((item["stall"] for item in taken), default=0.0),
        "median_stall": statistics.median(item["stall"] for item in taken) if taken else 0.0,
        "trained": (recording.end or {}).get("seconds"),
        "bytes": recording.disk_bytes(),
        "raw_bytes": sum(entry[3] for entry in recording.index.values() if entry[5] != LIST),
        "snapshots": len(taken),
        "boundaries": len(taken) + sum(item["count"] for item in told if not item["taken"]),
    }


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    load = os.getloadavg()[0]
    return {
        "cpu": model, "cores": os.cpu_count(), "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(), "python": platform.python_version(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"),
        "load": round(load, 1),
    }  # fmt: skip


def marks(name: str) -> tuple[str, str]:
    """The lines that a bench's section of a page stands between."""
    return f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"


def write_section(page: Path, name: str, text: str) -> None:
    """Put a text into a bench's section of a page, which keeps its other sections."""
    begin, end = marks(name)
    old = page.read_text() if page.exists() else "# Results\n"
    section = f"{begin}{text}{end}"
    if begin in old:
        head, _, rest = old.partition(begin)
        old = head + section + rest.partition(end)[2]
    else:
        old = f"{old.rstrip()}\n\n{section}"
    page.write_text(old)
