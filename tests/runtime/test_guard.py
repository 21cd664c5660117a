"""A guarded worker sees its own changes, and the user's files stay as they are."""

from __future__ import annotations

import glob
import gzip
import inspect
import io
import json
import logging
import multiprocessing
import os
import pickle
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from flor_trace.errors import NotRestorable
from flor_trace.runtime import guard
from flor_trace.runtime.files import FileState, FileTracker
from flor_trace.runtime.overlay import Overlay


def contents(folder: Path) -> dict[str, Any]:
    """Everything below a folder, by name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(os.path.realpath(tmp_path)) / "user"
    (folder / "d/e").mkdir(parents=True)
    (folder / "data.txt").write_text("hello")
    (folder / "d/x").write_text("x")
    (folder / "d/e/y").write_text("y")
    (folder / "way").symlink_to("d")
    np.save(folder / "array.npy", np.arange(6.0))
    torch.save(torch.arange(4), folder / "old.pt")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def overlay(here: Path) -> Iterator[Overlay]:
    before = contents(here)
    made = Overlay(here.parent / "scratch")
    guard.install(made)
    try:
        yield made
    finally:
        guard.uninstall()
        os.chdir(here)
    assert contents(here) == before


def listing(folder: str = ".") -> list[Any]:
    return [
        sorted(os.listdir(folder)),
        sorted((e.name, e.path, e.is_dir(), e.is_file(), e.is_symlink()) for e in os.scandir(folder)),
        sorted(glob.glob(f"{folder}/**", recursive=True)),
        sorted(map(str, Path(folder).rglob("*"))),
        sorted((r, sorted(d), sorted(f)) for r, d, f in os.walk(folder)),
    ]


def write_and_read(name: str) -> Any:
    Path(name).write_text("new")
    with open(name, "a") as file:
        file.write(" more")
    return Path(name).read_text(), os.path.getsize(name)


def remove_everything() -> Any:
    os.remove("data.txt")
    shutil.rmtree("d")
    return os.path.exists("data.txt"), os.path.lexists("way"), os.path.exists("way"), os.path.isdir("d")


def make_again() -> Any:
    shutil.rmtree("d")
    os.mkdir("d")
    Path("d/z").write_text("z")
    return listing("d")


def rename_folder() -> Any:
    os.rename("d", "moved")
    Path("moved/x").write_text("changed")
    return listing(), Path("moved/x").read_text(), Path("moved/e/y").read_text()


def rotate() -> Any:
    for i in range(4):
        torch.save(torch.full((3,), i), f"c{i}.pt")
        if i:
            os.remove(f"c{i - 1}.pt")
        if os.path.lexists("latest.pt"):
            os.unlink("latest.pt")
        os.symlink(f"c{i}.pt", "latest.pt")
    return torch.load("latest.pt").tolist(), os.readlink("latest.pt"), os.path.realpath("latest.pt"), sorted(os.listdir())


def atomic_write() -> Any:
    with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as file:
        file.write("{}")
    os.replace(file.name, "config.json")
    return json.load(open("config.json"))


def tempfile_moved() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a").write_text("a")
        shutil.move(os.path.join(folder, "a"), "a")
    return Path("a").read_text(), os.path.exists(folder)


def arrays() -> Any:
    np.savez("z.npz", a=np.arange(3))
    np.savetxt("t.txt", np.eye(2))
    np.arange(3).tofile("b.bin")
    data = np.load("array.npy", mmap_mode="r+")
    data[0] = 7
    data.flush()
    made = np.memmap("m", "int32", "w+", shape=(3,))
    made[:] = 5
    made.flush()
    return (
        np.load("z.npz")["a"].tolist(), np.loadtxt("t.txt").tolist(), np.fromfile("b.bin", int).tolist(),
        np.load("array.npy").tolist(), np.fromfile("m", "int32").tolist(),
    )  # fmt: skip


def torch_files() -> Any:
    model = torch.nn.Linear(2, 2)
    torch.save(model.state_dict(), "m.pt")
    torch.save([torch.ones(1)], Path("p.pt"))
    torch.save(torch.zeros(2), "old.pt")
    torch.save(torch.ones(2), "legacy.pt", _use_new_zipfile_serialization=False)
    scripted = torch.jit.script(torch.nn.ReLU())
    torch.jit.save(scripted, "s.pt")
    shared = torch.from_file("f.bin", shared=True, size=4, dtype=torch.float32)
    shared[:] = 3
    return (
        [torch.equal(torch.load("m.pt", mmap=mmap)["weight"], model.weight) for mmap in (False, True)],
        torch.load("p.pt"), torch.load("old.pt").tolist(), torch.load("legacy.pt").tolist(),
        torch.jit.load("s.pt")(torch.tensor([-1.0])).tolist(), np.fromfile("f.bin", "float32").tolist(),
    )  # fmt: skip


def databases() -> Any:
    for name, options in (("a.db", {}), (Path("b.db"), {}), ("file:c.db?mode=rwc", {"uri": True})):
        for _ in range(2):
            base = sqlite3.connect(name, **options)
            base.execute("create table if not exists t(a)")
            base.execute("insert into t values(1)")
            base.commit()
            base.close()
    base = sqlite3.connect("file:a.db?mode=ro", uri=True)
    found = base.execute("select count(*) from t").fetchall()
    base.close()
    try:
        sqlite3.connect("none/x.db")
    except sqlite3.OperationalError as error:
        return found, str(error), sorted(os.listdir())
    raise AssertionError("a database in a missing folder was made")


def archives() -> Any:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.write("data.txt")
    with tarfile.open("a.tar.gz", "w:gz") as tar:
        tar.add("d")
    with gzip.open("a.gz", "wt") as file:
        file.write("z")
    shutil.unpack_archive("a.tar.gz", "unpacked")
    return zipfile.ZipFile("a.zip").read("data.txt"), sorted(os.listdir("unpacked/d")), gzip.open("a.gz", "rt").read()


def log_files() -> Any:
    handler = logging.FileHandler("run.log")
    handler.emit(logging.LogRecord("x", 20, "", 0, "message", None, None))
    handler.close()
    return Path("run.log").read_text()


def attributes() -> Any:
    os.chmod("data.txt", 0o600)
    os.utime("d/x", (1, 2))
    os.truncate("data.txt", 2)
    os.link("data.txt", "same")
    Path("same").write_text("shared")
    Path("touched").touch()
    return os.stat("data.txt").st_mode, os.stat("d/x").st_mtime, Path("data.txt").read_text(), os.stat("same").st_nlink


def through_links() -> Any:
    Path("way/x").write_text("by the way")
    Path("way/../new").write_text("new")
    return Path("d/x").read_text(), os.path.realpath("way/x"), os.path.exists("new"), os.path.samefile("way/x", "d/x")


def working_folders() -> Any:
    os.makedirs("made/below")
    os.chdir("made/below")
    Path("x").write_text("1")
    seen = [os.getcwd(), os.path.abspath("x"), sorted(os.listdir()), str(Path.cwd())]
    os.chdir("..")
    seen += [os.getcwd(), sorted(os.listdir("below")), sorted(os.listdir())]
    os.chdir("../d")
    return [*seen, os.getcwd(), sorted(os.listdir())]


def descriptors() -> Any:
    number = os.open("fd", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    os.write(number, b"abc")
    os.close(number)
    folder = os.open("d", os.O_RDONLY)
    os.mkdir("sub", dir_fd=folder)
    inner = os.open("inner", os.O_CREAT | os.O_WRONLY, dir_fd=folder)
    os.close(inner)
    seen = sorted(os.listdir(folder)), os.stat("sub", dir_fd=folder).st_mode, os.stat("fd").st_size
    os.close(folder)
    return seen


def updated_in_place() -> Any:
    with open("data.txt", "r+") as file:
        file.write("J")
    with open("data.txt", "rb+") as file:
        file.seek(0, 2)
        file.write(b"!")
    return open("data.txt").read(), open(b"data.txt", "rb").read(), io.open("data.txt").name  # noqa: UP020


def failures() -> Any:
    def said(action: Callable[[], Any]) -> Any:
        try:
            action()
        except OSError as error:
            return type(error).__name__, error.errno, error.filename, error.filename2, str(error)
        return "worked"

    os.remove("data.txt")
    os.mkdir("empty")
    tries: list[Callable[[], Any]] = [
        lambda: open("data.txt"),
        lambda: open("none/x", "w"),
        lambda: open("d", "w"),
        lambda: open("d"),
        lambda: open("d/x", "x"),
        lambda: os.stat("data.txt"),
        lambda: os.remove("data.txt"),
        lambda: os.mkdir("d"),
        lambda: os.rmdir("d"),
        lambda: os.listdir("data.txt"),
        lambda: os.rename("none", "x"),
        lambda: os.rename("d/x", "none/y"),
        lambda: os.rename("empty", "d"),
        lambda: os.replace("d/x", "empty"),
        lambda: os.link("none", "l"),
        lambda: os.symlink("a", "d"),
        lambda: os.readlink("d/x"),
        lambda: os.listdir("d/x"),
        lambda: os.chdir("data.txt"),
        lambda: Path("data.txt").read_text(),
        lambda: torch.load("data.txt"),
        lambda: np.load("data.txt"),
        lambda: os.remove("d"),
        lambda: os.rmdir("d/x"),
        lambda: open("d/x/y", "w"),
        lambda: os.open("gone", os.O_WRONLY),
        lambda: shutil.rmtree("gone"),
    ]
    return [said(action) for action in tries]


ACTIONS = [
    lambda: (write_and_read("a"), write_and_read("data.txt"), write_and_read("d/e/new"), listing()),
    lambda: (remove_everything(), listing()), make_again, rename_folder, rotate, atomic_write, tempfile_moved, arrays,
    torch_files, databases, archives, log_files, attributes, through_links, working_folders, descriptors,
    updated_in_place, failures,
]  # fmt: skip
NAMES = [
    "write", "remove", "again", "rename", "rotate", "atomic", "moved", "arrays", "torch", "sqlite", "archives", "logs",
    "attributes", "links", "cwd", "fds", "update", "failures",
]  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS, ids=NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_guarded_script_sees_what_it_would_see_and_changes_nothing(action: Callable[[], Any], here: Path) -> None:
    before = contents(here)
    state = torch.get_rng_state()
    guard.install(Overlay(here.parent / "scratch"))
    try:
        random.seed(0)
        guarded = action()
    finally:
        guard.uninstall()
        os.chdir(here)
    assert contents(here) == before
    torch.set_rng_state(state)
    random.seed(0)
    assert action() == guarded


def test_file_objects_carry_the_scripts_names(overlay: Overlay) -> None:
    with open("new", "w") as file:
        assert file.name == "new" and repr(file) == "<_io.TextIOWrapper name='new' mode='w' encoding='UTF-8'>"
    with open(b"new", "rb") as raw:
        assert raw.name == b"new"
    assert open(os.open("new", os.O_RDONLY)).read() == ""


def test_devices_pipes_and_allowed_folders_pass_through(here: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    guard.install(Overlay(tmp_path / "scratch", [allowed]))
    try:
        with open("/dev/null", "w") as null:
            null.write("x")
        (allowed / "x").write_text("kept")
        assert open("/proc/self/comm").read()
        assert "stat" in os.listdir("/proc/self")
    finally:
        guard.uninstall()
    assert (allowed / "x").read_text() == "kept"


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no file system among the devices")
def test_files_in_memory_are_files(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        kept = Path(folder, "checkpoint")
        kept.write_text("the user's")
        record = FileTracker(lambda digest, data: None)
        record.start()
        guard.install(Overlay(tmp_path / "scratch"))
        try:
            kept.write_text("replayed")
            os.symlink(folder, f"{folder}/link")
            assert Path(f"{folder}/link/../{Path(folder).name}/checkpoint").read_text() == "replayed"
            assert sorted(os.listdir(folder)) == ["checkpoint", "link"]
            os.remove(kept)
            assert Path(folder).name in os.listdir("/dev/shm")
            assert "null" in os.listdir("/dev")
            assert not kept.exists()
        finally:
            guard.uninstall()
            record.stop()
        assert kept.read_text() == "the user's"
        assert os.listdir(folder) == ["checkpoint"]
        assert str(kept) not in record.inputs


def test_stand_ins_look_like_the_functions(overlay: Overlay) -> None:
    assert open.__name__ == "open" and repr(open) == "<built-in function open>"
    assert os.mkdir.__name__ == "mkdir" and os.mkdir.__module__ == "os" and io.open is open
    assert list(inspect.signature(open).parameters)[:3] == ["file", "mode", "buffering"]
    assert pickle.loads(pickle.dumps(os.mkdir)) is os.mkdir
    assert os.stat in os.supports_dir_fd and os.stat in os.supports_follow_symlinks

    class Holder:
        opener = open

    assert Holder().opener("data.txt").read() == "hello"


def test_uninstall_puts_everything_back(here: Path) -> None:
    def snapshot() -> list[Any]:
        native = [torch._C.PyTorchFileWriter, torch._C.PyTorchFileReader, torch.UntypedStorage.from_file, torch.from_file]
        return [open, io.open, *vars(os).values(), shutil._use_fd_functions, sqlite3.connect, *native]  # type: ignore[attr-defined]

    before = snapshot()
    guard.install(Overlay(here.parent / "scratch"))
    assert open is not before[0]
    guard.uninstall()
    assert all(a is b or a == b for a, b in zip(before, snapshot(), strict=True))


def test_modules_that_took_their_copy_earlier_are_guarded_too(here: Path, overlay: Overlay) -> None:
    assert tarfile.bltn_open is open  # type: ignore[attr-defined]
    np.savetxt("text", np.eye(2))
    assert not (here / "x").exists()


def test_temporary_files_are_removed_though_their_module_took_its_copy_earlier(overlay: Overlay) -> None:
    with tempfile.NamedTemporaryFile() as file:  # the default of an argument of a method of `tempfile`
        assert os.path.exists(file.name)
    assert not os.path.exists(file.name)


def test_forked_children_are_guarded(overlay: Overlay, here: Path) -> None:
    child = os.fork()
    if child == 0:
        Path("data.txt").write_text("child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert Path("data.txt").read_text() == "child"


# -- recorded states --------------------------------------------------------------------------------------------------


class Recorded:
    """A run of `steps`, with the files' state before each and what a look at them said there."""

    def __init__(self, steps: list[Callable[[], Any]], look: Callable[[], Any], **options: Any) -> None:
        self.blobs: dict[str, bytes] = {}
        tracker = FileTracker(lambda digest, data: self.blobs.update({digest: data}), **options)
        tracker.start()
        self.states: list[dict[str, FileState]] = []
        self.looks: list[Any] = []
        try:
            for step in steps:
                step()
                self.states.append(tracker.state())
                self.looks.append(look())
        finally:
            tracker.stop()
        self.initial = tracker.initial()

    def install(self, overlay: Overlay, index: int) -> None:
        overlay.install_state(self.states[index], self.initial, self.blobs.__getitem__)


def look() -> Any:
    files = sorted(p for p in glob.glob("**", recursive=True) if os.path.isfile(p))
    return listing(), [(p, open(p, "rb").read(), os.stat(p).st_size) for p in files], os.path.exists("best.pt")


def steps() -> list[Callable[[], Any]]:
    return [
        lambda: None,
        lambda: (os.mkdir("out"), Path("out/log").write_text("epoch 0\n"), torch.save(torch.zeros(2), "best.pt")),
        lambda: (open("out/log", "a").write("epoch 1\n"), torch.save(torch.ones(2), "best.pt"), Path("data.txt").write_text("!")),
        lambda: (os.rename("best.pt", "kept.pt"), os.symlink("kept.pt", "best.pt"), os.remove("data.txt")),
        lambda: (os.remove("best.pt"), torch.save(torch.ones(3), "best.pt"), shutil.rmtree("d"), os.remove("way")),
        lambda: (shutil.rmtree("out"), os.mkdir("d"), Path("d/new").write_text("new"), os.remove("kept.pt")),
    ]


@pytest.mark.parametrize("mess", [False, True])
def test_each_recorded_state_is_shown_whatever_is_on_disk_today(here: Path, mess: bool) -> None:
    recorded = Recorded(steps(), look)
    if mess:
        Path("best.pt").write_text("garbage of a later run")
        os.mkdir("out")
        Path("out/log").write_text("garbage")
        Path("kept.pt").write_text("garbage")
        Path("d/new").unlink()
    before = contents(here)
    overlay = Overlay(here.parent / "scratch")
    guard.install(overlay)
    try:
        for index in [*range(6), 3, 0, 5, 2, 2, 4, 1]:
            recorded.install(overlay, index)
            assert look() == recorded.looks[index], index
    finally:
        guard.uninstall()
    assert contents(here) == before


def test_re_execution_from_any_state_comes_to_the_same(here: Path) -> None:
    recorded = Recorded(steps(), look)
    overlay = Overlay(here.parent / "scratch")
    guard.install(overlay)
    try:
        for index in range(5):
            recorded.install(overlay, index)
            for later in range(index + 1, 6):
                steps()[later]()
                assert look() == recorded.looks[later], (index, later)
    finally:
        guard.uninstall()


def logging_steps() -> tuple[list[Callable[[], Any]], Callable[[], None]]:
    """A first step that opens two logs, some that write to them, and how to close them."""
    logs: list[Any] = []

    def start() -> None:
        logs.extend((open("a.log", "w"), open("b.log", "a")))
        print("of the prologue", file=logs[0])

    def line(number: int) -> None:
        for log in logs:
            print(f"line {number}", file=log, flush=True)

    def close() -> None:
        for log in logs:
            log.close()

    return [start, *(lambda i=i: line(i) for i in range(4))], close  # type: ignore[misc]


def test_an_open_log_goes_on_where_the_recorded_one_was(here: Path) -> None:
    doing, close = logging_steps()
    recorded = Recorded(doing, lambda: Path("a.log").read_text() + Path("b.log").read_text())
    close()
    overlay = Overlay(here.parent / "scratch")
    guard.install(overlay)
    doing, close = logging_steps()
    try:
        doing[0]()
        for index in (2, 3):
            recorded.install(overlay, index)
            doing[index + 1]()
            assert Path("a.log").read_text() + Path("b.log").read_text() == recorded.looks[index + 1]
        close()
    finally:
        guard.uninstall()


def test_a_mapped_array_shows_the_installed_content(here: Path) -> None:
    arrays: list[Any] = []

    def start() -> None:
        arrays.append(np.memmap("m", "int32", "w+", shape=(3,)))

    def fill(value: int) -> None:
        arrays[-1][:] = value

    recorded = Recorded([start, *(lambda i=i: fill(i) for i in (1, 2))], lambda: arrays[-1].tolist())  # type: ignore[misc]
    overlay = Overlay(here.parent / "scratch")
    guard.install(overlay)
    try:
        start()
        for index in (1, 2):
            recorded.install(overlay, index)
            assert arrays[-1].tolist() == recorded.looks[index] == [index] * 3
    finally:
        guard.uninstall()


def test_readers_of_an_earlier_content_keep_it(here: Path) -> None:
    recorded = Recorded([lambda i=i: torch.save(torch.full((1000,), i), "c.pt") for i in range(2)], lambda: None)  # type: ignore[misc]
    overlay = Overlay(here.parent / "scratch")
    guard.install(overlay)
    try:
        recorded.install(overlay, 0)
        kept = torch.load("c.pt", mmap=True)
        recorded.install(overlay, 1)
        assert kept.sum() == 0 and torch.load("c.pt").sum() == 1000
    finally:
        guard.uninstall()


def test_content_that_was_not_kept_is_an_error_when_it_is_asked_for(here: Path) -> None:
    recorded = Recorded([lambda: Path("big").write_bytes(b"1" * 2000)], lambda: None, max_file=1000)
    overlay = Overlay(here.parent / "scratch")
    guard.install(overlay)
    try:
        recorded.install(overlay, 0)
        assert os.path.getsize("big") == 2000
        for ask in (lambda: open("big"), lambda: open("big", "a"), lambda: shutil.copy("big", "x"), lambda: os.chmod("big", 0o600)):
            with pytest.raises(NotRestorable, match="larger than the cap of 1000 bytes per file"):
                ask()
        os.rename("big", "large")
        with pytest.raises(NotRestorable):
            open("large")
        Path("large").write_text("new")
        assert Path("large").read_text() == "new"
    finally:
        guard.uninstall()


def test_content_is_read_from_the_store_only_when_asked_for(here: Path) -> None:
    recorded = Recorded([lambda: Path("a").write_text("a"), lambda: Path("b").write_text("b")], lambda: None)
    overlay = Overlay(here.parent / "scratch")
    asked: list[str] = []
    guard.install(overlay)
    try:
        overlay.install_state(recorded.states[1], recorded.initial, lambda d: asked.append(d) or recorded.blobs[d])  # type: ignore[func-returns-value]
        assert os.path.exists("a") and os.path.getsize("b") == 1 and asked == []
        Path("b").write_text("over")
        assert Path("a").read_text() == "a" and len(asked) == 1
    finally:
        guard.uninstall()


# -- the kernel's help ------------------------------------------------------------------------------------------------

LANDLOCK = """
import os, subprocess, sys
from flor_trace.runtime.landlock import restrict_writes, version
user, scratch = sys.argv[1:]
print(version() > 0, restrict_writes([scratch]))
def tries(action):
    try:
        action()
    except PermissionError:
        return "refused"
    return "worked"
print(tries(lambda: open(scratch + "/x", "w").write("x")), tries(lambda: open("/dev/null", "w").write("x")))
data = user + "/data.txt"
print(tries(lambda: open(user + "/x", "w")), tries(lambda: os.truncate(data, 0)), tries(lambda: os.remove(data)))
print(tries(lambda: os.mkdir(user + "/new")), open(user + "/data.txt").read())
os.mkdir(scratch + "/a"); os.rename(scratch + "/x", scratch + "/a/x")
print(subprocess.run(["rm", user + "/data.txt"], stderr=subprocess.DEVNULL).returncode)
"""


def test_landlock_refuses_writes_elsewhere_to_us_and_to_subprocesses(here: Path, tmp_path: Path) -> None:
    from flor_trace.runtime.landlock import version

    if version() < 1:
        pytest.skip("this kernel has no Landlock")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-c", LANDLOCK, str(here), str(scratch)]
    root = str(Path(guard.__file__).parents[2])
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": root}).stdout
    assert out.splitlines() == ["True True", "worked worked", "refused refused refused", "refused hello", "1"]


def test_worker_environment(tmp_path: Path) -> None:
    from flor_trace.runtime.offline import offline_environment, socket_folder

    variables = offline_environment(tmp_path, {})
    assert variables["WANDB_MODE"] == "dryrun" and variables["MLFLOW_TRACKING_URI"].startswith("file:///")
    deep = tmp_path / ("long" * 20)
    short, descriptor = socket_folder(deep)
    assert len(short) <= 85 and os.path.samefile(short, deep / "sockets")
    os.close(descriptor)


def test_a_compiler_sees_the_temporary_folders_that_were_made_for_it(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    from flor_trace.runtime.offline import lend_temporaries

    compiler = ModuleType("compiler")
    compiler.tempfile = tempfile  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "compiler", compiler)
    lend_temporaries("compiler", Path(overlay.scratch))
    with compiler.tempfile.TemporaryDirectory() as folder:
        Path(folder, "source").write_text("text")
        assert subprocess.run(["cat", "source"], cwd=folder, capture_output=True, text=True).stdout == "text"
    assert not os.path.exists(folder) and compiler.tempfile.gettempdir() == tempfile.gettempdir()
    with tempfile.TemporaryDirectory() as folder, pytest.raises(FileNotFoundError):
        subprocess.run(["true"], cwd=folder)  # the script's own lie in the overlay, out of sight of other programs


def test_a_tracker_reads_what_its_own_program_wrote(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    from flor_trace.runtime.guarded_imports import guard_imports

    name = "wandb.sdk.lib.service.service_process"  # starts a program, and waits for a file that says where it listens
    service = ModuleType(name)
    service.tempfile = tempfile  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, service)
    imported: dict[str, Callable[[], None]] = {}
    guard_imports(imported.__setitem__, Path(overlay.scratch))
    imported[name]()
    with service.tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder, "port.txt")
        subprocess.run(["sh", "-c", 'echo unix=socket > "$0"', str(port_file)], check=True)
        assert port_file.read_text() == "unix=socket\n"
        assert os.path.realpath(folder).startswith(os.path.realpath(overlay.scratch))


def square(number: int) -> int:
    Path("from a child").write_text(str(number))
    return number * number


class Numbers(torch.utils.data.Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        Path("seen").write_text(str(index))
        return torch.full((2000,), float(index))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_processes_talk_to_each_other_under_guard(overlay: Overlay) -> None:
    loader = torch.utils.data.DataLoader(Numbers(), batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert [float(batch.mean()) for batch in loader] == [0.5, 2.5, 4.5, 6.5]
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager, context.Pool(1) as pool:
        shared = manager.list(pool.map(square, [3]))
        assert list(shared) == [9]
    assert os.path.exists("seen") and Path("from a child").read_text() == "3"
