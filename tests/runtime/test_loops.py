"""Rewritten loops behind live probes: the same behaviour as plain ones, with boundaries where they belong."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from flor_trace.instrument.compiling import compile_user_module
from flor_trace.instrument.infos import RewrittenInfo
from flor_trace.runtime import loops
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.loops import Activation
from flor_trace.runtime.probes import ProbeFactory


class Notes:
    """A driver that notes boundaries; chunks have a fixed size."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.seen: list[tuple[Any, ...]] = []
        self.jumps: dict[str, int] = {}
        self.skips: dict[str, str] = {}
        self.taken: list[int] = []
        self.interrupted_at = -1
        self.deepest = 9

    def entered(self, activation: Activation, frame: FrameType) -> bool:
        self.seen.append(("enter", activation.probe.key, activation.entry))
        kind = self.skips.get(activation.probe.key)
        activation.unasked = activation.probe.runtime.stack[self.deepest :] != []
        if kind is None:
            return True
        activation.exhausted = kind == "exhausted"
        return False

    def begun(self, activation: Activation, frame: FrameType) -> None:
        target = self.jumps.get(activation.probe.key)
        if target is not None:
            assert activation.advance_to(target)

    def head(self, activation: Activation, frame: FrameType) -> bool:
        self.seen.append(("head", activation.probe.key, activation.iteration))
        if activation.iteration == self.interrupted_at:
            raise KeyboardInterrupt
        return True

    def exited(self, activation: Activation, frame: FrameType) -> None:
        kind = "exhausted" if activation.exhausted else "break"
        self.seen.append(("exit", activation.probe.key, activation.iteration, kind))

    def left(self, activation: Activation, frame: FrameType) -> None:
        self.seen.append(("left", activation.probe.key))
        self.taken.append(activation.taken)

    def chunk(self, activation: Activation) -> int:
        return self.size


class Hooks:
    def __init__(self, factory: ProbeFactory) -> None:
        self.factory = factory

    def annotate(self, tree: ast.Module, module: str, filename: str, source: bytes) -> bool:
        return False

    def resolver(self, rewritten: RewrittenInfo, filename: str, source: bytes) -> Callable[[str], object]:
        return self.factory.resolver(
            {x.index: (x.key, x.pinned) for x in rewritten.loops}, {x.index: x.key for x in rewritten.functions}
        )


def run(source: str, driver: Notes | None = None) -> tuple[list[Any], Notes, Runtime]:
    """Execute instrumented source; what it `emit`s, the driver and the runtime."""
    runtime = Runtime()
    notes = driver or Notes()
    runtime.driver = notes
    code = compile_user_module("m.py", source.encode(), "m", Hooks(ProbeFactory(runtime, lambda f: f)))
    emitted: list[Any] = []
    exec(code, {"__name__": "m", "emit": emitted.append})
    assert runtime.stack == []
    return emitted, notes, runtime


ITERABLES = [
    "range(7)", "range(10, 0, -3)", "[1, 2, 3, 4]", "(1, 2)", "'abcd'", "b'xyz'", "{1: 2, 3: 4}", "{5, 6, 7}",
    "enumerate('abc')", "zip([1, 2, 3], 'ab')", "map(str, range(4))", "(i * i for i in range(5))", "iter(range(3))",
    "reversed([1, 2, 3])", "{}.items()", "[]", "range(0)", "range(10**20, 10**20 + 3)", "dict(a=1).values()",
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("iterable", ITERABLES)
def test_items_are_those_of_the_plain_loop(iterable: str, size: int) -> None:
    source = f"for x in {iterable}:\n    emit(x)\nelse:\n    emit('else')\n"
    expected: list[Any] = []
    exec(source, {"emit": expected.append})
    assert run(source, Notes(size))[0] == expected


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_list_that_grows_while_it_is_iterated(size: int) -> None:
    source = "l = [1]\nfor x in l:\n    emit(x)\n    if x < 6: l.append(x + 1)\n"
    assert run(source, Notes(size))[0] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("size", [1, 4])
def test_a_dict_changed_while_it_is_iterated_raises_as_always(size: int) -> None:
    with pytest.raises(RuntimeError, match="changed size during iteration"):
        run("d = {1: 1, 2: 2}\nfor k in d:\n    d[k + 10] = 0\n", Notes(size))


@pytest.mark.parametrize("size", [1, 3, 10])
def test_an_iterator_that_the_script_holds_advances_as_it_would(size: int) -> None:
    source = "it = iter(range(10))\nfor x in it:\n    emit(x)\n    if x == 4: break\nemit(next(it))\n"
    assert run(source, Notes(size))[0] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [1, 3])
def test_an_exhausted_iterator_is_not_asked_again(size: int) -> None:
    source = """
class Twice:
    asked = 0
    def __iter__(self): return self
    def __next__(self):
        Twice.asked += 1
        if Twice.asked > 2: raise StopIteration
        return Twice.asked
for x in Twice(): emit(x)
emit(Twice.asked)
"""
    assert run(source, Notes(size))[0] == [1, 2, 3]


COUNTED = ["range(9)", "list(range(9))", "tuple(range(9))", "'abcdefghi'", "enumerate('abcdefghi', 5)", "enumerate(map(str, range(9)))"]
UNCOUNTED = ["map(str, range(9))", "zip('abcdefghi')", "shared", "(x for x in 'abcdefghi')"]
ENDS = {"pass": 9, "if n == 6: break": 6, "if n == 6: return": 6, "if n == 6: 1 / 0": 6, "if n == 9: break": 9}


@pytest.mark.parametrize("size", [1, 2, 4, 100])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("iterable", COUNTED + UNCOUNTED)
def test_how_many_iterations_had_begun(iterable: str, end: str, size: int) -> None:
    loop = f"n, shared = 0, iter(range(9))\n for x in {iterable}:\n  n += 1\n  {end}"
    source = f"def f():\n {loop}\ntry: f()\nexcept ZeroDivisionError: pass\n"
    assert run(source, notes := Notes(size)) and len(notes.taken) == 1
    unsure = iterable in UNCOUNTED or ("1 / 0" in end and "enumerate" in iterable)
    allowed = {ENDS[end]} | ({-1} if size > 1 and unsure else set())
    assert notes.taken[0] in allowed


@pytest.mark.parametrize("size", [1, 2, 4, 100])
@pytest.mark.parametrize("end", ENDS)
def test_how_many_iterations_of_a_while_had_begun(end: str, size: int) -> None:
    source = f"def f():\n n = 0\n while n < 9:\n  n += 1\n  {end}\ntry: f()\nexcept ZeroDivisionError: pass\n"
    assert run(source, notes := Notes(size)) and notes.taken == [ENDS[end]]


@pytest.mark.parametrize("size", [1, 4])
def test_an_iteration_whose_item_could_not_be_had_has_begun(size: int) -> None:
    source = "def f():\n for _, x in enumerate(1 // (5 - n) for n in range(9)): pass\ntry: f()\nexcept ZeroDivisionError: pass\n"
    assert run(source, notes := Notes(size)) and notes.taken == [6 if size == 1 else -1]


@pytest.mark.parametrize("iterable", ITERABLES)
def test_a_driver_is_not_asked_within_loops_that_it_leaves_alone(iterable: str) -> None:
    source = f"for epoch in range(2):\n  for x in {iterable}:\n    emit(x)\n  else:\n    emit('end')\n  n = 0\n  while n < 3: n += 1\n"
    notes = Notes()
    notes.deepest = 1
    emitted, _, _ = run(source, notes)
    plain: list[Any] = []
    exec(source, {"emit": plain.append})
    assert emitted == plain
    inner = [seen for seen in notes.seen if seen[1] != "m:<module>:0"]
    assert {seen[0] for seen in inner} == {"enter", "left"} and len(inner) == 8
    assert notes.taken[1:-1:2] == [3, 3]


def test_a_list_that_changes_is_counted() -> None:
    for change in ("if n < 4: items.append(n)", "if n == 3: del items[1:3]; items += [0] * 4", "if n == 2: del items[1:]"):
        source = f"items, n = [1, 2, 3, 4], 0\nfor x in items:\n  n += 1\n  {change}\nemit(n)"
        for size in (1, 2, 100):
            emitted, notes, _ = run(source, Notes(size))
            assert notes.taken == emitted or (notes.taken == [-1] and size > 2 and "1:]" in change)


def test_an_interruption_between_two_iterations() -> None:
    for iterable in COUNTED + UNCOUNTED:
        notes = Notes(2)
        notes.interrupted_at = 4
        source = f"shared = iter(range(9))\ntry:\n for x in {iterable}: pass\nexcept KeyboardInterrupt: pass\n"
        assert run(source, notes) and notes.taken == [4], iterable


def test_boundaries_of_a_for_over_a_range() -> None:
    _, notes, _ = run("for x in range(3):\n    pass\n")
    key = "m:<module>:0"
    assert notes.seen == [
        ("enter", key, 0), ("head", key, 1), ("head", key, 2), ("exit", key, 3, "exhausted"), ("left", key),
    ]  # fmt: skip


def test_boundaries_of_a_while_and_of_a_break() -> None:
    _, notes, _ = run("n = 0\nwhile n < 2:\n    n += 1\nwhile True:\n    break\n")
    first, second = "m:<module>:0", "m:<module>:1"
    assert notes.seen == [
        ("enter", first, 0), ("head", first, 1), ("head", first, 2), ("exit", first, 2, "exhausted"), ("left", first),
        ("enter", second, 0), ("exit", second, 0, "break"), ("left", second),
    ]  # fmt: skip


def test_a_loop_left_by_return_or_exception_has_no_exit() -> None:
    source = """
def f():
    for x in [1, 2]:
        return x
def g():
    while True:
        raise ValueError
emit(f())
try: g()
except ValueError: emit('caught')
"""
    emitted, notes, _ = run(source)
    assert emitted == [1, "caught"]
    assert [kind for kind, *_ in notes.seen] == ["enter", "left", "enter", "left"]


@pytest.mark.parametrize("kind", ["exhausted", "break"])
def test_a_skipped_for_does_not_evaluate_its_iterable_and_minds_its_else(kind: str) -> None:
    driver = Notes()
    driver.skips["m:<module>:0"] = kind
    source = "for x in emit('iterable'):\n    emit(x)\nelse:\n    emit('else')\nemit('after')\n"
    assert run(source, driver)[0] == (["else", "after"] if kind == "exhausted" else ["after"])


@pytest.mark.parametrize("kind", ["exhausted", "break"])
def test_a_skipped_while_minds_its_else(kind: str) -> None:
    driver = Notes()
    driver.skips["m:<module>:0"] = kind
    source = "while emit('condition') is None:\n    emit(1)\nelse:\n    emit('else')\nemit('after')\n"
    assert run(source, driver)[0] == (["else", "after"] if kind == "exhausted" else ["after"])


@pytest.mark.parametrize("iterable", ["range(6)", "list(range(6))", "enumerate('abcdef')", "(c for c in 'abcdef')"])
def test_a_jump_begins_at_its_iteration(iterable: str) -> None:
    driver = Notes()
    driver.jumps["m:<module>:0"] = 4
    expected: list[Any] = []
    exec(f"expected.extend(list({iterable})[4:])", {"expected": expected})
    assert run(f"for x in {iterable}:\n    emit(x)\n", driver)[0] == expected


def test_recursion_and_other_threads() -> None:
    source = """
import threading
def f(n):
    out = []
    for i in range(n):
        out.append(i)
        out.extend(f(i))
    return out
emit(f(3))
def g():
    for i in range(2):
        emit(i)
    while i: i -= 1
    else: emit('fallen')
t = threading.Thread(target=g); t.start(); t.join()
"""
    emitted, notes, _ = run(source)
    assert emitted == [[0, 1, 0, 2, 0, 1, 0], 0, 1, "fallen"]
    assert sum(kind == "enter" for kind, *_ in notes.seen) == 8
    assert threading.active_count() >= 1


def test_small_loops_are_demoted_and_stay_right() -> None:
    source = "def f():\n    s = 0\n    for i in range(3):\n        s += i\n    return s\nfor k in range(100):\n    emit(f())\n"

    class Timing(Notes):
        def left(self, activation: Activation, frame: FrameType) -> None:
            activation.probe.calls += 1
            activation.probe.demote_if_small(loops.DEMOTE_BELOW_SECONDS)

    emitted, _, runtime = run(source, Timing())
    assert emitted == [3] * 100
    assert not runtime.loops["m:f:0"].on
    assert runtime.entries["m:f:0"] == loops.DEMOTE_AFTER_CALLS


def test_which_functions_ran_in_which_loop() -> None:
    source = """
def used(): pass
def elsewhere(): pass
def late(n):
    if n == 2: used_late()
def used_late(): pass
elsewhere()
for i in range(3):
    used(); late(i)
"""
    _, _, runtime = run(source)
    assert runtime.loops["m:<module>:0"].ran == {"m:used", "m:late", "m:used_late"}


@pytest.mark.parametrize(
    "loop", ["for x in [1]:\n    pass\n", "x = 0\nwhile x < 1:\n    x += 1\n"], ids=["for", "while"]
)
def test_the_exit_lies_before_else(loop: str) -> None:
    """A replay that skips the loop executes `else:`, so a snapshot at the exit must not hold its effects."""

    class Order(Notes):
        def exited(self, activation: Activation, frame: FrameType) -> None:
            frame.f_globals["emit"]("exit")

    assert run(f"{loop}else:\n    emit('else')\n", Order())[0] == ["exit", "else"]


def test_builtins_that_the_script_replaces_are_not_those_of_the_probes() -> None:
    source = (
        "import builtins\n"
        "names = ('id', 'int', 'iter', 'len', 'max', 'min', 'next', 'range', 'type')\n"
        "saved = {name: getattr(builtins, name) for name in names}\n"
        "for name in names: setattr(builtins, name, None)\n"
        "try:\n"
        "    for x in [1, 2]:\n        emit(x)\n"
        "    while x < 4:\n        x += 1\n"
        "    else:\n        emit(x)\n"
        "finally:\n"
        "    builtins.__dict__.update(saved)\n"
    )
    assert run(source)[0] == [1, 2, 4]


def test_an_activation_whose_end_was_not_seen_is_dropped() -> None:
    class Lossy(Notes):
        def exited(self, activation: Activation, frame: FrameType) -> None:
            super().exited(activation, frame)
            if activation.probe.key == "m:<module>:0":
                # what remains of a loop in a function whose `leave` had no frame left
                lost = Activation(runtime.loops["m:<module>:0"], 7, 1)
                lost.probe.active += 1
                runtime.stack.append(lost)

    runtime = Runtime()
    notes = Lossy()
    runtime.driver = notes
    code = compile_user_module("m.py", b"for i in range(2): pass\n", "m", Hooks(ProbeFactory(runtime, lambda f: f)))
    exec(code, {"__name__": "m"})
    assert runtime.stack == []
    assert runtime.loops["m:<module>:0"].active == 0
    assert notes.seen[-1] == ("left", "m:<module>:0")
