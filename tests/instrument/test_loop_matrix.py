"""Every loop form with every way out of it, in every kind of scope: plain and rewritten code must do the same."""

from __future__ import annotations

import ast
import itertools
import sys
import textwrap
import traceback
from typing import Any

import pytest
from fakes import FakeHooks, FakeLoop

from flor_trace.instrument.binding import bind
from flor_trace.instrument.rewrite import rewrite

HEADS = {
    "range": "for i in range(6):",
    "list": "for i in LIST:",
    "generator": "for i in (x * 1 for x in range(6)):",
    "live-iterator": "it = iter(range(9))\nfor i in it:\n    got = next(it, None); log(got)",
    "star-target": "for n, (i, *rest) in enumerate([(k, k, k) for k in range(6)]):",
    "subscript-target": "box = {}\nfor box['i'] in range(6):\n    i = box['i']",
    "attribute-target": "for THING.i in range(6):\n    i = THING.i",
    "dict-growing": "store = {0: 0}\nfor i in list(store) + [1, 2, 3, 4]:\n    store[i + 9] = i",
    "empty": "i = -1\nfor i in []:",
    "while": "i = -1\nwhile i < 5:\n    i += 1",
    "while-true": "i = -1\nwhile True:\n    i += 1\n    if i > 5: break",
    "while-walrus": "src = iter(range(1, 7))\nwhile (i := next(src, None)) is not None:",
    "while-false": "i = 0\nwhile False:",
    "while-side-effect": "i = -1\nwhile log('cond') or i < 4:\n    i += 1",
    "not-iterable": "i = 3\nfor i in i:",
    "header-raises": "for i in [1, 1 // ZERO]:",
    "iterator-raises": "for i in Breaks(4):",
    "unpack-raises": "for i, k in [(1, 2), (3,)]:",
}
BODIES = {
    "log": "log(i)",
    "break": "if i == 3: break\nlog(i)",
    "continue": "if i == 2: continue\nlog(i)",
    "return": "if i == 3: LEAVE\nlog(i)",
    "raise": "if i == 3: raise KeyError(i)\nlog(i)",
    "finally-break": "try:\n    if i == 3: break\n    log(i)\nfinally:\n    log('finally')",
    "finally-continue": (
        "try:\n    if i == 3: continue\n    1 // (i - 2)\nexcept ZeroDivisionError:\n    log('zero')\n"
        "else:\n    log('else')\nfinally:\n    log('finally')"
    ),
    "finally-return": "try:\n    if i == 3: LEAVE\nfinally:\n    log(i)",
    "finally-overrides": "try:\n    if i == 3: raise KeyError(i)\nfinally:\n    if i == 3: break",
    "with": "with CONTEXT:\n    if i == 3: break\n    log(i)",
    "with-suppresses": "with CONTEXT:\n    raise ValueError(i)",
    "match": "match i:\n    case 1 | 2: log('low')\n    case int(k) if k == 3: break\n    case _: continue",
    "delete": "log(i)\ndel i",
    "inner-for": "for j in range(4):\n    if j == i: break\n    if j == 2: continue\n    log((i, j))\nelse:\n    log('inner else')",
    "inner-while": "j = 0\nwhile j < 4:\n    j += 1\n    if j == i: break\nelse:\n    log('inner else')\n    if i == 4: break",
    "else-continues-outer": "for j in range(2): pass\nelse:\n    continue\nlog('never')",
    "else-breaks-outer": "while ZERO: pass\nelse:\n    if i == 2: break\nlog(i)",
    "closure": "def later(i=i):\n    for k in range(i):\n        if k == 2: return k\n    return later.__name__\nlog(later())",
    "lambda": "fs = [lambda: i for _ in range(2)]\nlog(fs[0]())",
    "comprehension": "log([i * j for j in range(3) if j != i]); log({i: [k for k in range(2)]})",
    "redefines-iterator": "i = (i or 0) + 10\nlog(i)",
    "reenter": "if depth[0] < 2:\n    depth[0] += 1\n    again()\nlog(i)",
    "class": (
        "class Body:\n    for q in range(2): z = q\n    def m(self):\n        for q in range(3):\n            if q: return q\n"
        "log((Body.z, Body().m()))"
    ),
}
SCOPES = {
    "module": "{}",
    "function": "def f():\n{}\n    return 'returned', sorted(locals())\nlog(f())",
    "method": "class C:\n    def f(self):\n{}\n        return sorted(locals())\nlog(C().f())",
}


class Context:
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, *_: object) -> bool:
        return kind is ValueError


class Breaks:
    """An iterator that fails late, inside a chunk."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __iter__(self) -> Breaks:
        return self

    def __next__(self) -> int:
        self.left -= 1
        if not self.left:
            raise OSError("gone")
        return self.left


class Thing:
    i = 0


def program(head: str, body: str, with_else: bool, scope: str) -> str:
    lines = [*head.splitlines(), *textwrap.indent(body, "    ").splitlines()]
    if with_else:
        lines += ["else:", "    log('else')"]
    lines += ["log(('after', i))"]
    text = "\n".join(lines).replace("LEAVE", "raise SystemExit('left')" if scope == "module" else "return 'early', i")
    return SCOPES[scope].format(textwrap.indent(text, {"module": "", "function": "    ", "method": "        "}[scope]))


def execute(source: str, on: bool | None) -> tuple[list[object], object, list[str], FakeHooks]:
    """What a program logs and how it ends; `on` None runs it plain."""
    hooks = FakeHooks(on=bool(on))
    tree = ast.parse(source, "prog.py")
    if on is None:
        code = compile(tree, "prog.py", "exec", dont_inherit=True)
    else:
        rewritten = rewrite(tree, "prog")
        code = compile(rewritten.tree, "prog.py", "exec", dont_inherit=True)
        code = bind(code, hooks.resolver(rewritten.info(), "prog.py", b""))
    logged: list[object] = []
    namespace: dict[str, Any] = {
        "log": logged.append, "LIST": [0, 1, 2, 3, 4], "CONTEXT": Context(), "ZERO": 0, "Breaks": Breaks, "THING": Thing(),
        "depth": [0],
    }  # fmt: skip
    namespace["again"] = lambda: namespace["f"]() if "f" in namespace else None
    before = set(namespace)
    try:
        exec(code, namespace)
        end: object = None
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        places = [(x.name, x.lineno, x.colno, x.end_colno) for x in frames if x.filename == "prog.py"]
        end = type(error), str(error), places, type(error.__context__)
    names = sorted(set(namespace) - before - {"__builtins__", "__annotations__"})
    return logged, end, names, hooks


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("head", HEADS)
def test_rewritten_loops_do_the_same(head: str, scope: str) -> None:
    for body, with_else in itertools.product(BODIES, (False, True)):
        source = program(HEADS[head], BODIES[body], with_else, scope)
        plain = execute(source, None)
        for on in (True, False):
            found = execute(source, on)
            assert found[:3] == plain[:3], f"{body}, probes {'on' if on else 'off'}:\n{source}"
            loops = [probe for probe in found[3].probes.values() if isinstance(probe, FakeLoop)]
            assert all(probe.balance == 0 and not probe.frames for probe in loops), source


def test_global_and_nonlocal_targets() -> None:
    source = textwrap.dedent("""
        def f():
            global g
            for g in range(5):
                while True: break
            def h():
                nonlocal n
                for n in range(4): pass
                while n < 9: n += 1
                else: n += 1
            n = 0
            h()
            return n
        log(f()); log(g)
    """)
    assert execute(source, True)[:3] == execute(source, None)[:3]


def test_a_loop_is_told_how_it_ended() -> None:
    source = "for i in range(3): pass\nfor j in range(3): break\nwhile i: i -= 1\nfor k in []: pass\nelse: log(1)\n"
    logged, _, _, hooks = execute(source, True)
    assert logged == [1]
    assert [probe.exits for probe in hooks.probes.values()] == [1, 1, 1, 1]


def test_a_loop_left_by_an_exception_does_not_exit() -> None:
    _, end, _, hooks = execute("def f():\n    for i in [1]: return\nf()\nfor j in [1]: 1/0", True)
    assert isinstance(end, tuple) and end[0] is ZeroDivisionError
    loops = [probe for probe in hooks.probes.values() if isinstance(probe, FakeLoop)]
    assert [(probe.exits, probe.balance) for probe in loops] == [(0, 0), (0, 0)]


def test_no_name_is_added() -> None:
    source = "for i in range(3): pass\nwhile i: i -= 1\n"
    _, _, names, _ = execute(source, True)
    assert names == ["i"]
    assert sys.version_info >= (3, 11)
