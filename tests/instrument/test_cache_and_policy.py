"""The cache of rewritten code, and which modules are the user's."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest
from fakes import FakeHooks

import flor_trace
from flor_trace.instrument.cache import CodeCache
from flor_trace.instrument.compiling import compile_user_module
from flor_trace.instrument.policy import Policy

SOURCE = b"import time\nt = time.time()\ndef f(n):\n    for i in range(n): pass\n    return i\nr = f(5)\n"


def build(cache: CodeCache, source: bytes = SOURCE, name: str = "mod") -> FakeHooks:
    hooks = FakeHooks()
    namespace: dict[str, object] = {}
    exec(compile_user_module("/p/mod.py", source, name, hooks, cache=cache), namespace)
    assert namespace["r"] == 4
    return hooks


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_cached_code_is_used_and_tells_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(CodeCache(str(tmp_path)))
    assert len(entries(tmp_path)) == 1
    monkeypatch.setattr(ast, "parse", None)
    monkeypatch.setattr("flor_trace.instrument.compiling._instrument", None)
    second = build(CodeCache(str(tmp_path)))
    assert first.infos["mod"].pack() == second.infos["mod"].pack()
    assert second.infos["mod"].loops[0].key == "mod:f:0" and second.clocked


def test_other_source_name_or_options_are_not_confused(tmp_path: Path) -> None:
    cache = CodeCache(str(tmp_path))
    build(cache)
    build(cache, SOURCE + b"\n")
    build(cache, name="other")
    build(cache, SOURCE + b"# torch.compile(f)")
    assert len(entries(tmp_path)) == 4


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-3], lambda b: b[:40] + b"\xff" + b[41:], lambda b: b"x" * 99])
def test_a_damaged_entry_is_a_miss(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    cache = CodeCache(str(tmp_path))
    build(cache)
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    build(cache)
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    hooks = build(CodeCache(str(tmp_path / "file" / "cache")))
    assert hooks.infos["mod"].loops


def test_marked_modules_are_not_cached(tmp_path: Path) -> None:
    class Marking(FakeHooks):
        annotates = True

        def annotate(self, tree: ast.Module, module: str, filename: str, source: bytes) -> bool:
            tree.body[-1].flor_hindsight = 0  # type: ignore[attr-defined]
            return True

    hooks = Marking()
    exec(compile_user_module("/p/mod.py", SOURCE, "mod", hooks, cache=CodeCache(str(tmp_path))), {})
    assert hooks.infos["mod"].hindsights == [0]
    assert not entries(tmp_path)


def test_what_cannot_be_instrumented_is_plain_and_says_why() -> None:
    hooks = FakeHooks()
    namespace: dict[str, object] = {}
    exec(compile_user_module("/p/m.py", b"x = '@flor:loop:0'\nfor i in range(3): pass", "mod", hooks), namespace)
    assert namespace["x"] == "@flor:loop:0"
    assert "reserved" in hooks.infos["mod"].plain_because


def test_blocks_too_deep_for_the_compiler_lose_their_inner_loops_only() -> None:
    source = "".join("  " * depth + f"for i{depth} in range(1):\n" for depth in range(14)) + "  " * 14 + "done = 1\n"
    hooks = FakeHooks()
    namespace: dict[str, object] = {}
    exec(compile_user_module("/p/m.py", source.encode(), "mod", hooks), namespace)
    assert namespace["done"] == 1
    assert [loop.key for loop in hooks.infos["mod"].loops] == [f"mod:<module>:{n}" for n in range(3)]


def test_user_code_is_what_is_not_installed(tmp_path: Path) -> None:
    policy = Policy(["json"])
    assert policy.instruments("train", str(tmp_path / "scripts/train.py"))
    assert policy.instruments("lib", str(tmp_path / "src/lib/__init__.py"))
    assert not policy.instruments("os", os.__file__)
    assert not policy.instruments("pytest", pytest.__file__)
    assert not policy.instruments("flor_trace", flor_trace.__file__)
    assert not policy.instruments("x", str(tmp_path / "venv/lib/python3.11/site-packages/x.py"))
    wrappers = tmp_path / "venv/lib/python3.11/site-packages/gymnasium/wrappers"
    assert policy.instruments("gymnasium.wrappers.common", str(wrappers / "common.py"))  # it keeps the clock in environments
    assert not policy.instruments("gymnasium.wrappers.rendering", str(wrappers / "rendering.py"))
    assert not policy.is_users("gymnasium.wrappers.common", str(wrappers / "common.py"))
    assert policy.recorded_loops("gymnasium.wrappers.common", str(wrappers / "common.py")) == frozenset()
    assert policy.recorded_loops("gymnasium.wrappers.common", str(tmp_path / "gymnasium/wrappers/common.py")) is None
    assert not policy.instruments("x", os.path.join(sys.prefix, "lib", "x.py"))
    assert policy.instruments("json.decoder", os.path.join(os.path.dirname(os.__file__), "json", "decoder.py"))
    assert not policy.instruments("jsonx", os.path.join(os.path.dirname(os.__file__), "jsonx.py"))


def test_what_pip_has_put_beside_user_code_is_installed(tmp_path: Path) -> None:
    (tmp_path / "lib-1.0.dist-info").mkdir()
    (tmp_path / "lib-1.0.dist-info" / "RECORD").write_text("lib/__init__.py,sha256=x,3\nlib/sub/deep.py,,\n_one.py,,\n../bin/tool,,\n")
    policy = Policy()
    assert not policy.instruments("lib", str(tmp_path / "lib/__init__.py"))
    assert not policy.instruments("lib.sub.deep", str(tmp_path / "lib/sub/deep.py"))
    assert not policy.instruments("_one", str(tmp_path / "_one.py"))
    assert policy.instruments("handler", str(tmp_path / "handler.py"))
    assert policy.instruments("own.lib", str(tmp_path / "own/lib/__init__.py"))
    assert policy.instruments("lib", str(tmp_path / "src/lib/__init__.py"))
    assert Policy(["lib"]).instruments("lib.sub.deep", str(tmp_path / "lib/sub/deep.py"))


def test_functions_are_spared_from_the_module_on_that_compiles() -> None:
    policy = Policy()
    assert not policy.spares_functions(b"import torch")
    assert policy.spares_functions(b"model = torch.compile(model)")
    assert policy.spares_functions(b"import torch")
