"""Files that hindsight statements write: after a replay they hold what the plain run with the same statements leaves, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.replay.hindsight_files import gather

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = """\
import os, random
random.seed(0)
total = 0.0
log = open("log.txt", "w")
for epoch in range(6):
    for step in range(2000):
        total += random.random()
    log.write(f"{total}\\n")
    log.flush()
    #HERE
log.close()
"""
# Appended, each its own, overwritten, in folders made at need, renamed, removed, outside of the working directory.
PLAIN = """\
    open("weights.csv", "a").write(f"{epoch},{total}\\n")
    with open("before.csv", "ab") as f: f.write(b"%d" % epoch)
    os.makedirs("deep/er", exist_ok=True)
    with open(f"deep/er/{epoch}.txt", "x") as f: f.write(str(total))
    with open("deep/last.txt", "w+") as f: f.write(str(total)); f.seek(0); print(f.read())
    with open("new.tmp", "w") as f: f.write(str(total))
    os.replace("new.tmp", "moved.txt")
    if epoch == 4: open("brief.txt", "w").close(); os.remove("brief.txt")
    if epoch > 1: open("../aside.txt", "a").write(str(epoch))
"""
HEADED = """\
    if not os.path.exists("h.csv"): open("h.csv", "w").write("epoch,total\\n")
    open("h.csv", "a").write(f"{epoch},{total}\\n")
"""
TOLD = """\
    with open("h.csv", "a") as f: f.tell() or f.write("epoch,total\\n"); f.write(f"{epoch},{total}\\n")
"""
MIXED = """\
    open("log.txt", "a").write("new\\n")
    open("own.txt", "w").write(str(epoch))
"""
LIBRARIES = """\
    torch.save(torch.tensor([total]), "latest.pt"); torch.save({"t": total}, f"{epoch}.pt")
    np.save(f"{epoch}.npy", np.array([total])); np.savez("last.npz", t=np.array([total])); np.savetxt("last.txt", np.array([total]))
    pandas.DataFrame({"t": [total]}).to_csv("f.csv", mode="a", header=False)
    plt.plot([total, epoch]); plt.savefig("last.png"); plt.close()
"""
IMPORTS = """\
import matplotlib, pandas, torch
import numpy as np
matplotlib.use("Agg")
import matplotlib.pyplot as plt
"""


class Case:
    """A recorded script with statements inserted since, and the folder that a plain run of it leaves."""

    def __init__(
        self, path: Path, statements: str, first: str = "", imports: str = "", inner: str = "", opened: str = "", written: str = ""
    ) -> None:
        script = opened + SCRIPT.replace("    #HERE", written + "    #HERE")
        self.home, self.truth = path / "home" / "work", path / "truth" / "work"
        for folder in (self.home, self.truth):
            folder.mkdir(parents=True)
            (folder / "before.csv").write_text("old")
            (folder / "x.py").write_text(imports + script)
        self.run(self.home, "-m", "flor_trace", "record", "-q", "--every", "1", "x.py")
        changed = imports + script.replace("    #HERE\n", statements).replace("total = 0.0\n", "total = 0.0\n" + first)
        changed = changed.replace("        #INNER\n", inner)
        for folder in (self.home, self.truth):
            (folder / "x.py").write_text(changed)
        self.run(self.truth, "x.py")

    def run(self, folder: Path, *words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert status in (None, done.returncode), done.stderr
        return done

    def replay(self, *words: str, status: int | None = 0) -> tuple[dict[str, bytes], str]:
        """The files that a replay keeps, by their path from the working directory, and what it says."""
        done = self.run(self.home, "-m", "flor_trace", "replay", *words, "x.py", status=status)
        replays = next(self.home.glob(".flor/runs/*/replays"))
        last = max(replays.iterdir(), key=lambda folder: int(folder.name))
        outside = f"@root{self.home.resolve().parent}"
        kept = {name.replace(outside, ".."): text for name, text in files(last / "files").items()}
        assert sorted(entry.name for entry in last.iterdir()) == sorted([*(["files"] if kept else []), "journal", "report.json"])
        return kept, done.stderr

    def expected(self) -> dict[str, bytes]:
        """What the plain run's statements have written."""
        found = {name: text for name, text in files(self.truth).items() if name not in ("x.py", "log.txt") and text != b"old"}
        return found | {f"../{p.name}": p.read_bytes() for p in self.truth.parent.iterdir() if p.is_file()}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_files_with_any_number_of_workers(tmp_path: Path) -> None:
    case = Case(tmp_path, PLAIN)
    before = {name: text for name, text in files(case.home).items() if not name.startswith(".flor")}
    expected = case.expected()
    assert {"weights.csv", "before.csv", "deep/er/5.txt", "moved.txt", "../aside.txt"} < expected.keys()
    for workers in ("1", "2", "3"):
        kept, said = case.replay("--workers", workers)
        assert kept == expected
        assert f"{len(kept)} files written by new statements are in" in said
    assert {name: text for name, text in files(case.home).items() if not name.startswith(".flor")} == before
    assert not (case.home.parent / "aside.txt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2", "3"])
def test_libraries(tmp_path: Path, workers: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    case = Case(tmp_path, LIBRARIES, imports=IMPORTS)
    expected = case.expected()
    assert {"latest.pt", "5.npy", "last.npz", "last.txt", "f.csv", "last.png"} < expected.keys()
    kept, _ = case.replay("--workers", workers)
    assert kept == expected


@pytest.mark.parametrize("statements", [HEADED, TOLD], ids=["asked", "told"])
def test_what_another_part_wrote_is_never_silently_missed(tmp_path: Path, statements: str) -> None:
    case = Case(tmp_path, statements)
    expected = case.expected()["h.csv"]
    assert case.replay("--workers", "1")[0]["h.csv"] == expected
    # Who gets which unit is a matter of speed: a worker that gets them all sees all.
    kept, said = case.replay("--workers", "3", status=None)
    if "diverged" in said:
        assert "h.csv had been written by them in another part of the run" in said
        assert "h.csv" not in kept
    else:
        assert kept["h.csv"] == expected


def test_files_of_units_that_a_resumed_replay_does_not_repeat(tmp_path: Path) -> None:
    case = Case(
        tmp_path,
        '    open("own.txt", "a").write(str(epoch))\n    if epoch == 4: os.path.exists("before.csv") or getattr(os, "_ex" + "it")(9)\n',
    )
    (case.home / "before.csv").unlink()
    case.run(case.home, "-m", "flor_trace", "replay", "--workers", "1", "x.py", status=1)
    (case.home / "before.csv").write_text("old")
    assert case.replay("--resume")[0] == {"own.txt": b"012345"}


def unit(replay: Path, number: int, pieces: dict[str, tuple[str, str]], **more: list[str]) -> None:
    """Write what a worker would put aside of a unit: the kind and text of each file."""
    folder = replay / "pieces" / str(number)
    folder.mkdir(parents=True)
    told = {}
    for index, (key, (kind, text)) in enumerate(pieces.items()):
        (folder / str(index)).write_text(text)
        told[key] = {"kind": kind, "file": str(index)}
    (folder / "manifest.json").write_text(json.dumps({"pieces": told, "seen": [], "listed": [], **more}))


@pytest.mark.parametrize("later", [{"seen": ["/cwd/a"]}, {"listed": ["/cwd"]}], ids=["seen", "listed"])
def test_a_file_of_an_earlier_unit_that_a_later_one_could_not_see(tmp_path: Path, later: dict[str, list[str]]) -> None:
    unit(tmp_path, 0, {"/cwd/a": ("whole", "0")})
    unit(tmp_path, 1, {"/cwd/b": ("whole", "1")}, **later)
    found = gather(tmp_path, "/cwd", [0, 1])
    assert found.misread == ["a"]
    assert files(tmp_path / "files") == {"b": b"1"}


def test_units_in_their_order_whatever_the_order_they_came_in(tmp_path: Path) -> None:
    unit(tmp_path, 2, {"/cwd/a": ("appended", "2"), "/cwd/b": ("whole", "2"), "/cwd/c": ("absent", "")})
    unit(tmp_path, 1, {"/cwd/a": ("appended", "1"), "/cwd/b": ("appended", "1"), "/cwd/c": ("whole", "1")})
    unit(tmp_path, 0, {"/cwd/a": ("whole", "0")})
    found = gather(tmp_path, "/cwd", [0, 1, 2])
    assert (found.count, found.misread) == (2, [])
    assert files(tmp_path / "files") == {"a": b"012", "b": b"2"}


def test_a_file_of_recorded_code_is_not_kept_and_named(tmp_path: Path) -> None:
    kept, said = Case(tmp_path, MIXED).replay("--workers", "2")
    assert kept == {"own.txt": b"5"}
    assert "what new statements wrote to log.txt is not kept: recorded code writes to it, too" in said


def test_a_file_held_open_over_the_whole_run(tmp_path: Path) -> None:
    case = Case(tmp_path, "    holder.write(f'{epoch}\\n')\n", 'holder = open("held.csv", "w")\nholder.write("head\\n")\n')
    for workers in ("1", "2"):
        assert case.replay("--workers", workers)[0]["held.csv"] == case.expected()["held.csv"] == b"head\n0\n1\n2\n3\n4\n5\n"


def test_isolated_statements_leave_nothing_and_it_is_said(tmp_path: Path) -> None:
    kept, said = Case(tmp_path, '    open("own.txt", "a").write(str(epoch))\n').replay("--isolate", "--workers", "1")
    assert kept == {}
    assert "what new statements wrote to own.txt is not kept: --isolate has undone it" in said


def test_the_report_tells_the_folder(tmp_path: Path) -> None:
    case = Case(tmp_path, '    open("own.txt", "a").write(str(epoch))\n')
    kept, _ = case.replay("--workers", "2", "--iterations", "2:4")
    assert kept == {"own.txt": b"23"}
    report = json.loads(next(case.home.glob(".flor/runs/*/replays/1/report.json")).read_text())
    assert any(note.startswith("1 file written by new statements is in") for note in report["notes"])


OPENED = """\
import csv, logging
quiet, rows = open("quiet.txt", "w", newline="\\n"), csv.writer(open("rows.csv", "w", newline=""))
logging.basicConfig(filename="train.log", level=logging.INFO)
both = open("both.txt", "w")
"""
WRITTEN = """\
    quiet.write(f"{epoch} é\\n"); rows.writerow([epoch, total]); logging.info("epoch %d", epoch)
    if epoch == 3: both.seek(0)
    both.write(f"{total:.9f}\\n"); both.flush()
    with open("state.txt", "w") as state:
        state.write(f"{epoch}\\n")
        #INNER
"""
THROUGH = """\
    log.write(f"new {total}\\n"); quiet.write("ä"); rows.writerow(["new", epoch])
    if epoch % 2: logging.info("new %d", epoch); logging.getLogger().handlers[0].flush()
    both.write("new\\n")
"""


def test_what_is_written_through_files_that_recorded_code_has_opened(tmp_path: Path) -> None:
    case = Case(tmp_path, THROUGH, inner="        state.write(f'new {total}\\n')\n", opened=OPENED, written=WRITTEN)
    expected = {name: (case.truth / name).read_bytes() for name in ("log.txt", "quiet.txt", "rows.csv", "train.log", "state.txt")}
    assert all(text != (case.home / name).read_bytes() for name, text in expected.items())
    line = (case.home / "x.py").read_text().splitlines().index('    both.write("new\\n")') + 1
    for workers in ("1", "2"):
        kept, said = case.replay("--workers", workers)
        assert kept == expected
        assert f"x.py:{line} wrote to both.txt, which recorded code has opened, is not kept: it was not written at its end" in said
        assert "replay exact" in said


@pytest.mark.slow
def test_a_recorded_file_that_has_changed_since_is_not_added_to(tmp_path: Path) -> None:
    case = Case(tmp_path, "    quiet.write('new')\n", opened=OPENED, written=WRITTEN)
    os.utime(case.home / "quiet.txt", (2e9, 2e9))
    kept, said = case.replay("--workers", "2")
    assert (kept, "wrote to quiet.txt, which recorded code has opened, is not kept" in said) == ({}, True)


BESIDE = """\
import concurrent.futures, os, threading, time
def write(mode):
    with open(f"beat-{os.getpid()}.log", mode) as f: f.write(b".")
def beat():
    while True: write("ab"); time.sleep(0.002)
write("wb")
threading.Thread(target=beat, daemon=True).start()
pool = concurrent.futures.ThreadPoolExecutor(1)
pool.submit(int).result()
"""
MEANWHILE = """\
    time.sleep(0.05)
    pool.submit(lambda: print(epoch, file=open("own.txt", "w"))).result()
"""


def test_what_a_thread_of_the_script_goes_on_writing_meanwhile_is_not_the_statements(tmp_path: Path) -> None:
    kept, said = Case(tmp_path, MEANWHILE, opened=BESIDE).replay("--workers", "1")
    assert kept == {"own.txt": b"5\n"}
    assert "1 file written by new statements is in" in said
