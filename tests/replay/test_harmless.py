"""A replay changes nothing of the user's, whichever way the script writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.runtime.landlock import landlock_active

ROOT = Path(__file__).parents[2]
SCRIPT = """
import csv, ctypes, logging, mmap, multiprocessing, os, pathlib, pickle, random, shutil, sqlite3, subprocess, sys, tempfile
import aim, clearml, comet_ml, mlflow, wandb

random.seed(0)
libc = ctypes.CDLL(None)
log = logging.FileHandler("run.log")
logging.getLogger().addHandler(log)
appended = open("appended.txt", "a")
base = sqlite3.connect("runs.db")
base.execute("create table if not exists t(epoch, loss)")
mapped_file = open("mapped.bin", "r+b")
mapped = mmap.mmap(mapped_file.fileno(), 0)
wandb.init("project", mode="online", dir=".")
mlflow.set_tracking_uri("http://example.org:5000")
experiment = comet_ml.Experiment(api_key="key")
aim.Run(repo=".")
clearml.Task.set_offline(False)

def child(name):
    with open(name, "w") as file:
        file.write("forked")

def main():
    loss = 1.0
    for epoch in range(4):
        loss *= random.random()
        logging.warning("epoch %d", epoch)
        appended.write(f"{epoch} {loss}\\n")
        base.execute("insert into t values(?, ?)", (epoch, loss))
        base.commit()
        mapped[epoch:epoch + 1] = b"x"
        mapped.flush()
        with open("losses.csv", "w", newline="") as file:
            csv.writer(file).writerow([epoch, loss])
        pathlib.Path("state.pickle").write_bytes(pickle.dumps(loss))
        os.makedirs("made/below", exist_ok=True)
        shutil.copy("data.txt", f"made/below/{epoch}.txt")
        os.replace("state.pickle", "last.pickle")
        folder = os.open(".", os.O_RDONLY)
        os.close(os.open("by_descriptor", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.close(folder)
        with open("config.ini", "r+") as file:
            file.write("changed")
        process = multiprocessing.get_context("fork").Process(target=child, args=("forked.txt",))
        process.start()
        process.join()
        os.system("rm -rf precious 2>/dev/null; echo > from_shell 2>/dev/null")
        subprocess.run([sys.executable, "-c", "open('data.txt', 'w')"], stderr=subprocess.DEVNULL)
        libc.unlink(b"native.txt")
        print("epoch", epoch, loss)

main()
"""
FAKES = {
    "wandb": "def init(project=None, *, mode=None, dir=None):\n    say('wandb', mode, dir == '.')\n",
    "mlflow": "def set_tracking_uri(uri):\n    say('mlflow', uri.partition(':')[0])\n",
    "comet_ml": "class Experiment:\n    def __init__(self, api_key=None):\n        say('comet online')\n"
    "class OfflineExperiment(Experiment):\n    def __init__(self, api_key=None):\n        say('comet offline')\n",
    "aim": "class Run:\n    def __init__(self, run_hash=None, *, repo=None):\n        say('aim', repo == '.')\n",
    "clearml": "class Task:\n    @classmethod\n    def set_offline(cls, offline_mode=False):\n"
    "        say('clearml', offline_mode)\n",
}
HEAD = """\
import os
LOG = open(os.environ['FAKE_LOG'], 'ab', buffering=0)
def say(*words):
    LOG.write((' '.join(map(str, words)) + '\\n').encode())
"""


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def _run(folder: Path, *words: str, log: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder.parent / 'fakes'}", "FAKE_LOG": log or os.devnull}
    command = [sys.executable, "-m", "flor_trace", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "user"
    (made / "precious").mkdir(parents=True)
    (made / "precious/file").write_text("dear")
    for name in ("data.txt", "config.ini", "native.txt"):
        (made / name).write_text("as it was")
    (made / "mapped.bin").write_bytes(bytes(16))
    (made / "train.py").write_text(SCRIPT)
    (tmp_path / "fakes").mkdir()
    for name, source in FAKES.items():
        (tmp_path / f"fakes/{name}.py").write_text(HEAD + source)
    return made


def _probe(folder: Path) -> None:
    (folder / "train.py").write_text(SCRIPT.replace("        print(", '        print("@@", epoch, repr(loss))\n        print(', 1))


def _lay_out_again(folder: Path) -> None:
    """What other programs did in the recorded run, undone: replay must not do it again."""
    (folder / "precious").mkdir(exist_ok=True)
    (folder / "precious/file").write_text("dear")
    for name in ("data.txt", "native.txt"):
        (folder / name).write_text("as it was")
    (folder / "from_shell").unlink(missing_ok=True)


@pytest.mark.skipif(not landlock_active(), reason="this kernel has no Landlock")
def test_no_way_of_writing_gets_out(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "trackers.log"
    recorded = _run(folder, "record", "--every", "1", "--store", "../store", "train.py", log=str(log))
    assert recorded.returncode == 0, recorded.stderr
    assert not (folder / "native.txt").exists()
    _lay_out_again(folder)
    _probe(folder)
    before = _contents(folder)
    assert "wandb online True" in log.read_text() and "comet online" in log.read_text()
    log.write_text("")
    done = _run(folder, "replay", "--workers", "2", "--store", "../store", "--allow-writes", str(log), "train.py")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["@@", str(epoch)] for epoch in range(4)], done.stderr
    assert _contents(folder) == before
    assert sorted(set(log.read_text().splitlines())) == ["aim False", "clearml True", "comet offline", "mlflow file", "wandb offline False"]


def test_writing_can_be_allowed_by_path(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    source = f"import os\nfor epoch in range(3):\n    open({str(out / 'x')!r}, 'a').write('x')\n    os.system('echo > {out}/shell')\n"
    script = folder / "writes.py"
    script.write_text(source)
    assert _run(folder, "record", "--every", "1", "--store", "../store", "writes.py").returncode == 0
    script.write_text(source + "    print('@@', epoch)\n")
    for name in ("x", "shell"):
        (out / name).unlink()
    refused = _run(folder, "replay", "--store", "../store", "--allow-writes", str(tmp_path / "none"), "writes.py")
    assert refused.returncode == 2 and "there is no such file or folder" in refused.stderr
    assert _run(folder, "replay", "--store", "../store", "writes.py").stdout == "@@ 0\n@@ 1\n@@ 2\n"
    assert list(out.iterdir()) == []
    _run(folder, "replay", "--workers", "1", "--store", "../store", "--allow-writes", str(out), "writes.py")
    assert (out / "x").read_text() == "xxx" and (out / "shell").exists()


RANDOM_NAME = """
import os
with open("/proc/sys/kernel/random/uuid") as drawn:
    os.environ["MLFLOW_EXPERIMENT_ID"] = drawn.read()  # as MLflow does for its child processes
total = 0
for epoch in range(3):
    total += epoch
"""


def test_what_a_tracker_names_its_run_in_the_environment_is_no_difference(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(RANDOM_NAME)
    recorded = _run(tmp_path, "record", "--every", "1", "train.py")
    assert recorded.returncode == 0, recorded.stderr
    script.write_text(RANDOM_NAME + "    print(total)\n")
    done = _run(tmp_path, "replay", "train.py")
    assert (done.returncode, done.stdout) == (0, "0\n1\n3\n"), done.stderr
