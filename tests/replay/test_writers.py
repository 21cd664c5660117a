"""Whatever a script writes with, replay leaves the user's folder bit for bit as it was, and the script reads what it wrote.

One script uses all of them in each epoch; hindsight statements print what can be read back, as a plain run does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.runtime.landlock import landlock_active

ROOT = Path(__file__).parents[2]

HEAD = """\
import bz2, contextlib, csv, dbm.dumb, fileinput, glob, gzip, json, logging, logging.handlers, mmap, os, pathlib, pickle, shelve, shutil
import sqlite3, stat, tarfile, tempfile, zipfile
import numpy as np
import torch

handler = logging.FileHandler("run.log")
logging.getLogger().addHandler(handler)
rotating = logging.handlers.RotatingFileHandler("rotating.log", maxBytes=40, backupCount=2)
kept_open = open("kept.txt", "a")
rows_file = open("rows.csv", "w", newline="")
writer = csv.writer(rows_file)
with contextlib.closing(sqlite3.connect("runs.db")) as base:
    base.execute("create table if not exists t(epoch)")
del base
raw = os.open("raw.bin", os.O_RDWR | os.O_CREAT)
array = np.lib.format.open_memmap("array.npy", "r+")
mapped_file = open("mapped.bin", "r+b")
mapped = mmap.mmap(mapped_file.fileno(), 0)
os.mkdir("made")


class SummaryWriter:
    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.file = open(os.path.join(folder, "events.out"), "ab")

    def add_scalar(self, name, value, step):
        self.file.write(f"{name} {value} {step};".encode())
        self.file.flush()


board = SummaryWriter("runs/one")


def text(path):
    with open(path) as file:
        return file.read()


def names(folder="."):
    return sorted(os.listdir(folder))


"""

# What is written with, and what is read back.
ROWS = {
    "open w": ('open("w.txt", "w").write(str(epoch))', 'text("w.txt")'),
    "open a": ('open("a.txt", "a").write(str(epoch))', 'text("a.txt")'),
    "open r+": ('with open("config.ini", "r+") as f: f.write(f"{epoch}!")', 'text("config.ini")'),
    "open x": ('open(f"x{epoch}.txt", "x").write("x")', 'text(f"x{epoch}.txt"), sorted(glob.glob("x*.txt"))'),
    "kept open": ('kept_open.write(f"{epoch};"), kept_open.flush()', 'text("kept.txt")'),
    "print to file": ('print(epoch, file=kept_open, flush=True)', 'text("kept.txt").count("\\n")'),
    "descriptor": ("os.pwrite(raw, bytes([65 + epoch]), epoch)", "os.pread(raw, 9, 0)"),
    "os.open": ('fd = os.open("fd.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND); os.write(fd, b"y"); os.close(fd)', 'text("fd.txt")'),
    "dir_fd": ('d = os.open("made", os.O_RDONLY); os.close(os.open(f"in{epoch}", os.O_CREAT | os.O_WRONLY, dir_fd=d)); os.close(d)',
               'names("made")'),
    "os.truncate": ('os.truncate("long.txt", 9 - epoch)', 'len(text("long.txt"))'),
    "os.rename": ('open("tmp1", "w").write(str(epoch)); os.rename("tmp1", "renamed.txt")', 'text("renamed.txt"), os.path.exists("tmp1")'),
    "os.replace": ('open("tmp2", "w").write(str(epoch)); os.replace("tmp2", "data.txt")', 'text("data.txt")'),
    "os.remove": ('os.remove(f"old{epoch}.txt")', 'sorted(glob.glob("old*"))'),
    "os.makedirs": ('os.makedirs(f"deep/{epoch}/x", exist_ok=True)', 'sorted(glob.glob("deep/*/*"))'),
    "os.chmod": ('os.chmod("mode.txt", 0o600 + epoch * 8)', 'oct(stat.S_IMODE(os.stat("mode.txt").st_mode))'),
    "os.utime": ('os.utime("mode.txt", (epoch, epoch))', 'os.stat("mode.txt").st_mtime'),
    "os.symlink": (
        'os.path.lexists("last") and os.unlink("last"); os.symlink(f"x{epoch}.txt", "last")',
        'os.readlink("last"), text("last")',
    ),
    "through a link": ('open("link.txt", "a").write(str(epoch))', 'text("target.txt"), os.path.islink("link.txt")'),
    "os.link": ('os.link("target.txt", f"hard{epoch}")', 'text(f"hard{epoch}")'),
    "pathlib": ('pathlib.Path("p.bin").write_bytes(bytes(epoch)); pathlib.Path("touched").touch()', 'pathlib.Path("p.bin").stat().st_size'),
    "pathlib unlink": ('pathlib.Path("gone.txt").unlink(missing_ok=True)', 'pathlib.Path("gone.txt").exists()'),
    "shutil.copytree": ('shutil.copytree("precious", f"copy{epoch}")', 'names(f"copy{epoch}")'),
    "shutil.rmtree": ('shutil.rmtree(f"tree{epoch}")', 'sorted(glob.glob("tree*"))'),
    "shutil.move": ('shutil.move(f"move{epoch}.txt", "made")', 'names("made")'),
    "gzip": ('gzip.open("z.gz", "wt").write("z" * epoch)', 'gzip.open("z.gz", "rt").read()'),
    "bz2": ('bz2.open("z.bz2", "wt").write("z" * epoch)', 'bz2.open("z.bz2", "rt").read()'),
    "zipfile": ('with zipfile.ZipFile("z.zip", "a") as z: z.writestr(f"{epoch}", "z")', 'zipfile.ZipFile("z.zip").namelist()'),
    "tarfile": ('with tarfile.open("z.tar", "w") as z: z.add("data.txt")', 'tarfile.open("z.tar").getnames()'),
    "csv": ("writer.writerow([epoch, epoch * 2]), rows_file.flush()", 'text("rows.csv")'),
    "json": ('json.dump({"epoch": epoch}, open("state.json", "w"))', 'text("state.json")'),
    "pickle": ('pickle.dump([epoch], open("state.pickle", "wb"))', 'pickle.load(open("state.pickle", "rb"))'),
    "shelve": ('with shelve.Shelf(dbm.dumb.open("shelf", "c")) as s: s[str(epoch)] = epoch', 'sorted(glob.glob("shelf*"))'),
    "sqlite3": (
        'c = sqlite3.connect("runs.db"); c.execute("insert into t values(?)", (epoch,)); c.commit(); c.close()',
        'sqlite3.connect("runs.db").execute("select * from t").fetchall()',
    ),
    "sqlite3 by URI": (
        'c = sqlite3.connect("file:runs.db?mode=rw", uri=True); c.execute("update t set epoch = epoch + 1"); c.commit(); c.close()',
        'sqlite3.connect("runs.db").execute("select max(epoch) from t").fetchone()',
    ),
    "logging": ('logging.warning("epoch %d", epoch)', 'text("run.log").count("epoch")'),
    "rotating log": ('rotating.emit(logging.makeLogRecord({"msg": f"record {epoch} " + "x" * 20}))', 'sorted(glob.glob("rotating*"))'),
    "tempfile": ('t = tempfile.NamedTemporaryFile(dir=".", delete=False); t.write(b"t"); t.close(); os.replace(t.name, "temporary")',
                 'text("temporary")'),
    "tempfile elsewhere": ('t = tempfile.mkdtemp(); open(t + "/a", "w").write("b"); found = text(t + "/a"); shutil.rmtree(t)',
                           "found, os.path.exists(t)"),
    "fileinput": ('with fileinput.input("lines.txt", inplace=True) as f: [print(line.strip() + str(epoch)) for line in f]',
                  'text("lines.txt")'),
    "mmap": ("mapped[epoch:epoch + 1] = b'm'; mapped.flush()", 'open("mapped.bin", "rb").read()[:4]'),
    "np.save": ('np.save("saved.npy", np.full(2, epoch))', 'np.load("saved.npy").tolist()'),
    "np.savez": ('np.savez("saved.npz", a=np.full(2, epoch))', 'np.load("saved.npz")["a"].tolist()'),
    "np.savetxt": ('np.savetxt("saved.txt", np.full(2, epoch))', 'np.loadtxt("saved.txt").tolist()'),
    "tofile": ('np.full(2, epoch).tofile("saved.raw")', 'np.fromfile("saved.raw", int).tolist()'),
    "memmap r+": ("array[epoch] = epoch + 1; array.flush()", 'np.load("array.npy").tolist()'),
    "memmap w+": ('m = np.memmap("new.raw", np.int64, "w+", shape=(3,)); m[:] = epoch; m.flush(); del m',
                  'np.fromfile("new.raw", np.int64).tolist()'),
    "torch.save": ('torch.save({"a": torch.full((2,), float(epoch))}, "model.pt")', 'torch.load("model.pt")["a"].tolist()'),
    "torch.save file": ('with open("model2.pt", "wb") as f: torch.save([epoch], f)', 'torch.load("model2.pt")'),
    "torch mmap": ('t = torch.from_file("model.raw", shared=True, size=3, dtype=torch.int64); t.fill_(epoch); del t',
                   'np.fromfile("model.raw", np.int64).tolist()'),
    "tensorboard": ('board.add_scalar("loss", 0.5, epoch)', 'text("runs/one/events.out")'),
    "chdir": ('os.chdir("made"); open("relative", "a").write("r"); os.chdir("..")', 'text("made/relative")'),
    "redirect_stdout": ('with open("out.txt", "a") as f, contextlib.redirect_stdout(f): print("redirected", epoch)', 'text("out.txt")'),
}  # fmt: skip
# Other programs do not see the overlay: what they would change stays as it is, and the script may notice.
PROGRAMS = {
    "os.system": 'os.system("echo x > shell.txt; rm -rf precious; rm data.txt")',
    "shell": 'subprocess.run("echo x >> shell.txt", shell=True)',
    "python": 'subprocess.run([sys.executable, "-c", "import os; os.remove(\'config.ini\')"])',
    "popen": 'subprocess.Popen(["cp", "data.txt", "copied.txt"]).wait()',
    "libc": 'ctypes.CDLL(None).rename(b"data.txt", b"moved.txt")',
}


def rows(torch: bool) -> dict[str, tuple[str, str]]:
    return {name: row for name, row in ROWS.items() if torch or not name.startswith("torch")}


def source(probed: bool, torch: bool) -> str:
    """Each row is a function of its own: what it holds, such as a descriptor's number, is gone behind it."""
    functions, calls = [], []
    for number, (name, (write, read)) in enumerate(rows(torch).items()):
        probe = f"    print('@@', {name!r}, ({read},))\n" if probed else ""
        functions.append(f"def row{number}(epoch):\n    {write}\n{probe}\n")
        calls.append(f"    row{number}(epoch)\n")
    head = HEAD if torch else HEAD.replace("import torch\n", "")
    return head + "".join(functions) + "for epoch in range(3):\n" + "".join(calls) + "    print('epoch', epoch)\n"


def starting_programs(probed: bool) -> str:
    probe = ["print('@@', epoch)"] if probed else []
    lines = "".join(f"    {statement}\n" for statement in [*PROGRAMS.values(), *probe])
    return "import ctypes, os, subprocess, sys\nfor epoch in range(3):\n" + lines


def lay_out(folder: Path) -> None:
    (folder / "precious").mkdir(parents=True)
    (folder / "precious/file").write_text("dear")
    for number in range(3):
        (folder / f"tree{number}/below").mkdir(parents=True)
        for name in (f"old{number}.txt", f"move{number}.txt", f"tree{number}/below/file"):
            (folder / name).write_text("as it was")
    for name in ("config.ini", "data.txt", "long.txt", "mode.txt", "target.txt", "gone.txt"):
        (folder / name).write_text("as it was")
    (folder / "lines.txt").write_text("1\n2\n")
    (folder / "link.txt").symlink_to("target.txt")
    (folder / "mapped.bin").write_bytes(bytes(16))
    (folder / "model.raw").write_bytes(bytes(24))
    # an array of three zeros in NumPy's own format
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }".ljust(117) + b"\n"
    (folder / "array.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header + bytes(24))


def everything(folder: Path) -> dict[str, tuple[object, ...]]:
    """Content, mode, times and targets of all that lies in a folder."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        held = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (held, about.st_mode, about.st_mtime_ns, about.st_ino, about.st_nlink)
    return found


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder.parent / "cache")}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def flor(folder: Path, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "-m", "flor_trace", command, "--store", "../store", *words)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lay_out(tmp_path / "user")
    return tmp_path / "user"


@pytest.mark.parametrize("torch", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nothing_of_the_users_changes_and_all_is_read_back(torch: bool, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "plain", symlinks=True)
    (tmp_path / "plain/train.py").write_text(source(True, torch))
    plain = run(tmp_path / "plain", "train.py")
    assert plain.returncode == 0, plain.stderr
    expected = [line for line in plain.stdout.splitlines() if line.startswith("@@")]
    assert len(expected) == 3 * len(rows(torch))
    (folder / "train.py").write_text(source(False, torch))
    recorded = flor(folder, "record", "--every", "1", "train.py")
    assert recorded.returncode == 0, recorded.stderr
    (tmp_path / "probed.py").write_text(source(True, torch))
    before = everything(folder)
    done = flor(folder, "replay", "--run", "@last", "--workers", "2", "../probed.py")
    assert done.stdout.splitlines() == expected, done.stderr
    assert done.returncode == 0, done.stderr
    assert "could not be restored" not in done.stderr
    assert everything(folder) == before


@pytest.mark.skipif(not landlock_active(), reason="this kernel has no Landlock")
def test_what_other_programs_would_change_stays_and_the_replay_goes_on(folder: Path, tmp_path: Path) -> None:
    (folder / "train.py").write_text(starting_programs(False))
    recorded = flor(folder, "record", "--every", "1", "train.py")
    assert recorded.returncode == 0, recorded.stderr
    assert not (folder / "precious").exists()
    shutil.rmtree(folder)
    lay_out(folder)
    (tmp_path / "probed.py").write_text(starting_programs(True))
    before = everything(folder)
    done = flor(folder, "replay", "--run", "@last", "--workers", "2", "../probed.py")
    assert done.stdout.splitlines() == [f"@@ {epoch}" for epoch in range(3)], done.stderr
    assert everything(folder) == before


@pytest.mark.slow
@pytest.mark.skipif(not landlock_active(), reason="this kernel has no Landlock")
def test_a_script_that_insists_on_what_a_program_does_is_told_what_to_do(folder: Path, tmp_path: Path) -> None:
    source = "import subprocess\nfor epoch in range(3):\n    subprocess.run(['cp', 'data.txt', 'copied.txt'], check=True)\n"
    (folder / "train.py").write_text(source)
    assert flor(folder, "record", "--every", "1", "train.py").returncode == 0
    done = flor(folder, "replay", "train.py")
    assert done.returncode == 1
    assert "CalledProcessError" in done.stderr and "--allow-writes PATH" in done.stderr
    (tmp_path / "probed.py").write_text(source + "    print('@@', epoch)\n")
    allowed = flor(folder, "replay", "--run", "@last", "--allow-writes", ".", "../probed.py")
    assert (allowed.returncode, allowed.stdout) == (0, "@@ 0\n@@ 1\n@@ 2\n"), allowed.stderr
