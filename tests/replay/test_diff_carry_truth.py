"""Random hindsight statements in a loop, really run: where nothing is carried, jumping over iterations changes nothing."""

from __future__ import annotations

import ast
import textwrap

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flor_trace.replay.diff import diff

PROLOGUE = "x = 1\nobj = Box()\n"
BODY = "x = (3 * x + e) % 7\nobj.x = x\n"
ITERATIONS = 6

SIMPLE = [
    "a = x", "a = 0", "a = []", "a = [x]", "b = a", "a += 1", "a.append(x)", "b = a + a", "print(a)", "print(b)", "print(x, e)",
    "b = [a, x]", "a = b = x", "del a", "(a, b) = (x, e)", "obj.n = x", "obj.n += 1", "print(obj.n)", "print(obj.x)",
    "a = (lambda: b)",
    "print(a())", "import math", "print(math.floor(x))", "print([a for a in range(x)])", "print([b for a in range(x)])",
    "b = e and (a := x)",
    "print(a if e else 0)", "a = x if e % 2 else a", "box = Box()", "box.n = e", "print(box.n)", "setattr(obj, 'n', x)",
    "f(a)", "print(f(x))",
    "a[0] = x", "b = {}", "b[e] = a", "print(len(b))", "a = iter([1, 2, 3, 4, 5, 6, 7, 8])", "print(next(a))",
]  # fmt: skip
COMPOUND = [
    "if e % 2:\n{0}", "if x > 3:\n{0}\nelse:\n{1}", "for i in range(x % 3):\n{0}", "for a in range(x):\n{0}", "with nothing():\n{0}",
    "try:\n{0}\nexcept NameError:\n{1}", "def f(v):\n{0}\n    return v", "def f(v, seen=[]):\n    seen.append(v)\n    return len(seen)",
    "def f(v):\n    global a\n{0}\n    return v", "if (b := x) > 2:\n{0}", "while x < 0:\n{0}", "class Box2:\n    n = 0\n",
    "if e == 0:\n{0}",
    "match x:\n    case 1:\n{1}\n    case _:\n{0}", "try:\n{0}\nfinally:\n{1}", "with suppress(Exception):\n{0}",
]  # fmt: skip


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    """What stands before the loop, at the head of its body and at its end, all made of a few statements."""
    pool = [draw(st.sampled_from(SIMPLE)) for _ in range(4)]

    def statement() -> str:
        if draw(st.integers(0, 3)):
            return draw(st.sampled_from(pool))
        form = draw(st.sampled_from(COMPOUND))
        depth = "        " if form.startswith("match") else "    "
        return form.format(*(textwrap.indent(draw(st.sampled_from(pool)), depth) for _ in range(2)))

    before = [statement() for _ in range(draw(st.integers(0, 3)))]
    early = [statement() for _ in range(draw(st.integers(0, 3)))]
    return before, early, [*(statement() for _ in range(draw(st.integers(0, 2)))), *draw(st.sampled_from(ENDS))]


ENDS = [["print(a)"], ["print(b)"], ["print(obj.n)"], ["print(a)", "print(b)"], []]


class _Box:
    pass


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, *rest: object) -> bool:
        return self.suppress and kind is not None

    def __init__(self, suppress: bool) -> None:
        self.suppress = suppress


def run(prologue: str, body: str, start: int, xs: list[int]) -> list[list[str]] | None:
    """What each iteration prints from `start` on, with the recorded state of its head; None after an exception."""
    out: list[list[str]] = []

    def show(*values: object) -> None:
        out[-1].append(repr(values).partition(" at 0x")[0])

    space: dict[str, object] = {
        "Box": _Box, "print": show, "nothing": lambda: _Nothing(False), "suppress": lambda kind: _Nothing(True), "e": None
    }  # fmt: skip
    try:
        out.append([])
        exec(prologue, space)
        out.clear()
        for e in range(start, ITERATIONS):
            if e == start and start:
                space["x"] = xs[e]
                obj = space["obj"]
                vars(obj).clear()  # a restore leaves what was recorded
                vars(obj).update(x=xs[e])
            space["e"] = e
            out.append([])
            exec(body, space)
    except Exception:
        return None
    return out


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_what_is_not_carried_is_not_missed_after_a_jump(program: tuple[list[str], list[str], list[str]]) -> None:
    before, early, late = program
    prologue = PROLOGUE + "".join(f"{text}\n" for text in before)
    body = "".join(f"{text}\n" for text in early) + BODY + "".join(f"{text}\n" for text in late)
    recorded = PROLOGUE + "for e in range(6):\n" + textwrap.indent(BODY, "    ")
    present = prologue + "for e in range(6):\n" + textwrap.indent(body, "    ")
    try:
        ast.parse(present)
        compile(present, "m", "exec")
    except SyntaxError:
        return
    found = diff(recorded.encode(), present.encode(), "m")
    assert not found.changes
    if any(statement.carried_names for statement in found.hindsight):
        return
    xs = [1]
    for e in range(ITERATIONS):
        xs.append((3 * xs[-1] + e) % 7)
    truth = run(prologue, body, 0, xs)
    if truth is None:
        return
    for start in range(1, ITERATIONS):
        assert run(prologue, body, start, xs) == truth[start:], present
