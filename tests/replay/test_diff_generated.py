"""Real sources with statements inserted at random: exactly those are found, and every loop keeps its name."""

from __future__ import annotations

import ast
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flor_trace.instrument.rewrite import rewrite
from flor_trace.replay import align
from flor_trace.replay.diff import annotate, diff
from flor_trace.replay.statements import blocks, descendants, is_void

LIBRARY = Path(os.__file__).parent
FILES = ["bisect", "textwrap", "queue", "shutil", "fileinput", "csv", "heapq", "calendar", "difflib", "configparser", "trace", "zipfile",
         "pprint", "random", "statistics", "sched", "graphlib", "json/encoder", "email/message", "asyncio/queues"]  # fmt: skip
NEW = [
    "print('new', {n})",
    "new_{n} = len('x')",
    "if {n}:\n    print({n})",
    "for new_{n} in range(3):\n    print(new_{n})",
    "try:\n    print({n})\nexcept ValueError:\n    print('failed')",
    "while {n} < 0:\n    break",
    "def new_{n}():\n    for i in 'ab':\n        return i",
    "import zlib as new_{n}",
]


def read(name: str) -> bytes:
    path = LIBRARY / f"{name}.py"
    if not path.exists():
        path = LIBRARY / name / "__init__.py"
    return path.read_bytes()


def insertable(tree: ast.Module) -> list[tuple[list[ast.stmt], int]]:
    """Every place where a statement can stand: after the docstring and the `__future__` imports."""
    lists = [tree.body, *(block for top in tree.body for node in descendants(top) for _, block in blocks(node) if block)]
    places = []
    for block in lists:
        first = 0
        while first < len(block) and (
            is_void(block[first]) or (isinstance(block[first], ast.ImportFrom) and block[first].module == "__future__")  # type: ignore[attr-defined]
        ):
            first += 1
        places += [(block, at) for at in range(first, len(block) + 1)]
    return places


def insert(tree: ast.Module, chooser: random.Random, count: int) -> list[str]:
    """Insert `count` statements; returns them in no particular order."""
    chosen = chooser.sample(insertable(tree), count)
    chosen.sort(key=lambda place: place[1], reverse=True)  # so that earlier places stay where they are
    texts = []
    for number, (block, at) in enumerate(chosen):
        text = chooser.choice(NEW).format(n=number)
        block.insert(at, *ast.parse(text).body)
        texts.append(text)
    return texts


def loop_names(source: bytes | str) -> list[str]:
    return [info.key for info in sorted(rewrite(ast.parse(source), "m").loops, key=lambda info: info.lineno)]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FILES), st.integers(0, 2**32), st.integers(1, 30))
def test_inserted_statements_are_found(name: str, seed: int, count: int) -> None:
    recorded = read(name)
    tree = ast.parse(recorded)
    inserted = insert(tree, random.Random(seed), count)
    present = ast.unparse(tree)
    found = diff(recorded, present.encode(), "m")
    assert Counter(ast.unparse(ast.parse(each.text)) for each in found.hindsight) == Counter(inserted)
    assert not found.changes
    assert not found.removed_logs
    assert [name for _, name in sorted(found.loops.items())] == loop_names(recorded)
    again = ast.parse(present)
    annotate(again, found)
    assert [info.key for info in rewrite(again, "m").loops] == [info.key for info in rewrite(ast.parse(recorded), "m").loops]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FILES), st.integers(0, 2**32))
def test_functions_may_change_places(name: str, seed: int) -> None:
    recorded = read(name)
    tree = ast.parse(recorded)
    # A name that an import binds too, such as that of a faster version in C: the order decides which is used.
    once = Counter(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    once.update(alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names)
    movable = [
        at
        for at, node in enumerate(tree.body)
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and not node.args.defaults and once[node.name] == 1
    ]
    moved = movable.copy()
    random.Random(seed).shuffle(moved)
    functions = [tree.body[at] for at in moved]
    for at, function in zip(movable, functions, strict=True):
        tree.body[at] = function
    found = diff(recorded, ast.unparse(tree).encode(), "m")
    assert found.identical
    assert sorted(found.loops.values()) == sorted(loop_names(recorded))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FILES), st.integers(0, 2**32))
def test_a_removed_statement_is_never_missed(name: str, seed: int) -> None:
    recorded = read(name)
    tree = ast.parse(recorded)
    chooser = random.Random(seed)
    insert(tree, chooser, 5)
    kept = ast.parse(recorded)
    block, at = chooser.choice([place for place in insertable(kept) if place[1] < len(place[0])])
    gone = block[at]
    block[at] = ast.Pass()
    found = diff(recorded, ast.unparse(ast.fix_missing_locations(kept)).encode(), "m")
    assert found.changes or found.removed_logs, ast.unparse(gone)
    assert not found.hindsight or found.changes


def test_few_pairs_of_statements_are_compared_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing how much two statements look alike is what costs: a table over all pairs would be 1,700 by 1,700."""
    compared = Counter[str]()
    likeness = align.likeness

    def counted(*pair: Any) -> float:
        compared["pairs"] += 1
        return likeness(*pair)

    monkeypatch.setattr(align, "likeness", counted)
    recorded = read("argparse")
    tree = ast.parse(recorded)
    statements = sum(isinstance(node, ast.stmt) for node in ast.walk(tree))
    insert(tree, random.Random(1), 10)
    assert not diff(recorded, ast.unparse(tree).encode(), "m").changes
    assert compared["pairs"] < statements
    changed = ast.unparse(tree).replace("None", "0").replace("True", "False").encode()
    assert diff(recorded, changed, "m").changes
    assert 0 < compared["pairs"] < 10 * statements
