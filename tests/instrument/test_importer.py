"""The import hook: loaders stay what they are, and callbacks come right after a library's execution."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import pickle
import sys
import traceback
import zipfile
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from fakes import FakeHooks

from flor_trace.instrument.cache import CodeCache
from flor_trace.instrument.compiling import Compiler
from flor_trace.instrument.importer import Importer
from flor_trace.instrument.policy import Policy

LOOP = "def f(n):\n    for i in range(n): pass\n    return i\n"


@pytest.fixture
def importer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Importer]:
    monkeypatch.syspath_prepend(str(tmp_path))
    kept = set(sys.modules)
    hooks = FakeHooks()
    importer = Importer(Compiler(hooks, Policy(), CodeCache(None)))
    importer.hooks = hooks  # type: ignore[attr-defined]
    importer.install()
    yield importer
    importer.remove()
    for name in set(sys.modules) - kept:
        if name.startswith("imp_"):
            del sys.modules[name]


def infos(importer: Importer) -> dict[str, list[str]]:
    return {name: [loop.key for loop in info.loops] for name, info in importer.hooks.infos.items()}  # type: ignore[attr-defined]


def test_user_modules_are_instrumented_and_libraries_are_not(tmp_path: Path, importer: Importer) -> None:
    (tmp_path / "imp_a.py").write_text("import this\n" + LOOP)
    module = importlib.import_module("imp_a")
    assert module.f(4) == 3
    assert infos(importer) == {"imp_a": ["imp_a:f:0"]}


def test_loaders_stay_what_they_are(tmp_path: Path, importer: Importer) -> None:
    (tmp_path / "imp_b.py").write_text(LOOP)
    module = importlib.import_module("imp_b")
    loader = module.__loader__
    assert type(loader) is SourceFileLoader
    assert loader == importlib.util.find_spec("imp_b").loader  # type: ignore[union-attr]
    assert importlib.util.find_spec("imp_b") == module.__spec__
    assert loader.get_source("imp_b") == LOOP and inspect.getsource(module) == LOOP
    assert copy.deepcopy(loader).path == loader.path
    twin = pickle.loads(pickle.dumps(loader))
    assert type(twin) is SourceFileLoader and twin.get_code("imp_b").co_filename == module.__file__


def test_ordinary_bytecode_stays_plain(tmp_path: Path, importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "imp_c.py").write_text(LOOP)
    path = importlib.import_module("imp_c").__cached__
    assert b"@flor" not in Path(path).read_bytes()


def test_archives(tmp_path: Path, importer: Importer) -> None:
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("imp_z.py", LOOP)
    sys.path.insert(0, str(tmp_path / "app.zip"))
    try:
        module = importlib.import_module("imp_z")
    finally:
        del sys.path[0]
    assert module.f(3) == 2 and infos(importer) == {"imp_z": ["imp_z:f:0"]}
    assert inspect.getsource(module.f) == LOOP


def test_tracebacks_of_failed_imports_hold_no_frame_of_ours(tmp_path: Path, importer: Importer) -> None:
    for name, source, error in (("imp_d", "1 / 0\n", ZeroDivisionError), ("imp_e", "x = (\n", SyntaxError)):
        (tmp_path / f"{name}.py").write_text(source)
        with pytest.raises(error) as caught:
            exec(f"import {name}")
        text = "".join(traceback.format_exception(caught.value))
        assert "flor_trace" not in text and "importlib" not in text


def test_callbacks_come_right_after_execution(tmp_path: Path, importer: Importer) -> None:
    (tmp_path / "imp_lib").mkdir()
    (tmp_path / "imp_lib" / "__init__.py").write_text("from . import rng\nafter = rng.state\n")
    (tmp_path / "imp_lib" / "rng.py").write_text("state = 1\n")
    importer.on_import("imp_lib.rng", lambda: setattr(sys.modules["imp_lib.rng"], "state", 2))
    assert importlib.import_module("imp_lib").after == 2
    assert "exec_module" not in vars(sys.modules["imp_lib.rng"].__loader__)
    called: list[int] = []
    importer.on_import("imp_lib", lambda: called.append(1))
    assert called == [1]


def test_asking_whether_a_module_is_there_is_no_import(tmp_path: Path, importer: Importer) -> None:
    """`transformers` asks so for all that it can make use of, torch and tokenizers too, long before it imports them."""
    (tmp_path / "imp_asked_first.py").write_text("state = 1\n")
    called: list[str] = []
    importer.before_import("imp_asked_first", lambda: called.append("before"))
    importer.on_import("imp_asked_first", lambda: called.append(f"after, state {sys.modules['imp_asked_first'].state}"))
    first, second = importlib.util.find_spec("imp_asked_first"), importlib.util.find_spec("imp_asked_first")
    assert first is not None and second is not None and called == []
    importlib.import_module("imp_asked_first")
    assert called == ["before", "after, state 1"]
    assert "exec_module" not in vars(sys.modules["imp_asked_first"].__loader__)
    assert importlib.reload(sys.modules["imp_asked_first"]).state == 1 and len(called) == 2


class FinderThatGivesOneLoader:
    """A finder that keeps the specs that it found, as some editable installations do."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        if fullname not in self.kept:
            self.kept[fullname] = importlib.machinery.PathFinder.find_spec(fullname, path)  # type: ignore[arg-type]
        return self.kept[fullname]


def test_a_loader_that_is_given_twice(tmp_path: Path, importer: Importer) -> None:
    (tmp_path / "imp_given_twice.py").write_text("state = 1\n")
    other, called = FinderThatGivesOneLoader(), []
    importer.on_import("imp_given_twice", lambda: called.append("after"))
    sys.meta_path.insert(1, other)  # type: ignore[arg-type]
    try:
        assert importlib.util.find_spec("imp_given_twice") is importlib.util.find_spec("imp_given_twice")
        assert importlib.import_module("imp_given_twice").state == 1 and called == ["after"]
    finally:
        sys.meta_path.remove(other)  # type: ignore[arg-type]


class FinderThatAsksAll:
    """A finder of the common kind that asks every other one, ours too, and wraps what they find."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)):  # type: ignore[arg-type]
                self.found.append(fullname)
                return spec
        return None


@pytest.mark.parametrize("place", [0, 1])
def test_finder_that_asks_all_others(tmp_path: Path, importer: Importer, place: int) -> None:
    (tmp_path / "imp_asked.py").write_text(LOOP)
    other, called = FinderThatAsksAll(), []
    importer.on_import("imp_asked", lambda: called.append("imp_asked"))
    sys.meta_path.insert(place, other)
    try:
        assert importlib.import_module("imp_asked").f(4) == 3
        assert importlib.util.find_spec("imp_that_is_not_there") is None
    finally:
        sys.meta_path.remove(other)
    assert "imp_asked" in other.found
    assert infos(importer) == {"imp_asked": ["imp_asked:f:0"]}
    assert called == ["imp_asked"]
