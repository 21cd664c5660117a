"""What is instrumented, what is left alone, and how it is named."""

from __future__ import annotations

import ast
import dis
import textwrap
from types import CodeType
from typing import Any

import pytest
from fakes import FakeHooks

from flor_trace.instrument.binding import bind
from flor_trace.instrument.rewrite import Rewritten, rewrite


def rewritten(source: str, **options: Any) -> Rewritten:
    return rewrite(ast.parse(textwrap.dedent(source)), "mod", **options)


def run(result: Rewritten) -> tuple[dict[str, Any], FakeHooks]:
    hooks = FakeHooks()
    code = compile(result.tree, "mod.py", "exec", dont_inherit=True)
    namespace: dict[str, Any] = {}
    exec(bind(code, hooks.resolver(result, "mod.py", b"")), namespace)
    return namespace, hooks


def loop_keys(source: str, **options: Any) -> list[str]:
    return [loop.key for loop in rewritten(source, **options).loops]


def test_loops_are_named_by_function_and_place() -> None:
    assert loop_keys(
        """
        for a in x:
            for b in x: pass
        def main():
            while 1:
                def inner():
                    for c in x: pass
                for d in x: pass
        class Trainer:
            def fit(self):
                for e in x: pass
            def fit(self):
                for e in x: pass
        for f in x: pass
        """
    ) == [
        "mod:<module>:0",
        "mod:<module>:1",
        "mod:main:0",
        "mod:main.<locals>.inner:0",
        "mod:main:1",
        "mod:Trainer.fit:0",
        "mod:Trainer.fit#2:0",
        "mod:<module>:2",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "x = [i for i in y]",
        "def g():\n    for i in y: yield i",
        "def g():\n    for i in y: pass\n    x = yield",
        "async def g():\n    for i in y: pass\n    async for j in y: pass",
        "class A:\n    for i in y: pass",
        "class A:\n    def forward(self):\n        for i in y: pass",
        "class A:\n    def __del__(self):\n        for i in y: pass",
        "@torch.jit.script\ndef f():\n    for i in y: pass",
        "@njit(parallel=True)\ndef f():\n    for i in y:\n        def g():\n            for j in y: pass",
        "@torch.compile\ndef f():\n    for i in y: pass",
        "@triton.jit\ndef f():\n    for i in y: pass",
    ],
)
def test_left_alone(source: str) -> None:
    before = ast.dump(ast.parse(source), include_attributes=True)
    result = rewritten(source)
    assert not result.loops
    assert not any(function.probed for function in result.functions)
    assert ast.dump(result.tree, include_attributes=True) == before


@pytest.mark.parametrize(
    "source",
    [
        "def g():\n    def h():\n        for i in y: pass\n    yield h",
        "def f():\n    class A:\n        def m(self): yield 1\n    for i in y: pass",
        "@torch.cuda.amp.autocast()\ndef f():\n    for i in y: pass",
        "@describe('x')\ndef f():\n    for i in y: pass",
        "def forward():\n    for i in y: pass",
    ],
)
def test_not_left_alone(source: str) -> None:
    assert len(rewritten(source).loops) == 1


def test_functions_report_and_keep_docstrings() -> None:
    result = rewritten(
        """
        'doc'
        from __future__ import annotations
        def f():
            'f doc'
        def g(): return 'not doc'
        def h(): yield
        f(); g(); list(h())
        """
    )
    assert [(x.key, x.probed) for x in result.functions] == [("mod:f", True), ("mod:g", True), ("mod:h", False)]
    namespace, hooks = run(result)
    assert (namespace["__doc__"], namespace["f"].__doc__, namespace["g"].__doc__) == ("doc", "f doc", None)
    assert [probe.runs for probe in hooks.probes.values()] == [1, 1]


def test_no_function_probes_spares_functions_but_not_their_loops_and_clocks() -> None:
    source = "import time\nt = time.time()\ndef f():\n    for i in [time.time()]: pass\ng = lambda: time.time()\n"
    result = rewritten(source, no_function_probes=True)
    assert len(result.loops) == 1 and not result.functions[0].probed
    assert result.clocks == [(2, "time"), (4, "time")]


def test_clock_calls_evaluate_the_callee_first_and_once() -> None:
    source = """
        from time import perf_counter as pc, time
        class Datetime:
            def now(self, *args):
                order.append(("now", args))
                return 1
        order = []
        def make():
            order.append("callee")
            return Datetime()
        make().now(order.append("argument"))
        pc(); time()
        (lambda: time())()
        [time() for _ in range(2)]
        class Timer:
            def __init__(self, clock=pc):
                self.tick = clock
        Timer().tick()
    """
    result = rewritten(source)
    namespace, hooks = run(result)
    assert namespace["order"] == ["callee", "argument", ("now", (None,))]
    assert [getattr(x, "__name__", None) for x in hooks.clocked] == ["now", "perf_counter", *["time"] * 4, "perf_counter"]
    assert [name for _, name in result.clocks] == ["now", "pc", "time", "time", "time", "tick"]


def test_annotations_are_not_touched() -> None:
    source = "from __future__ import annotations\ndef f(x: now() = 1) -> today(): pass\ny: now() = 2\n"
    namespace, _ = run(rewritten(source))
    assert namespace["f"].__annotations__ == {"x": "now()", "return": "today()"}
    assert namespace["__annotations__"] == {"y": "now()"}


def test_hindsight_statements_are_wrapped_and_their_insides_left_alone() -> None:
    imports = "import os\nimport sys\n"
    tree = ast.parse(f"for i in range(2):\n    print(i)\nfor j in range(2): pass\ndef helper():\n    for k in []: pass\n{imports}")
    tree.body[0].flor_loop = "mod:<module>:7"  # type: ignore[attr-defined]
    inner = tree.body[0].body[0]  # type: ignore[attr-defined]
    for number, node in enumerate([inner, *tree.body[1:]]):
        node.flor_hindsight = number
    tree.body[-1].flor_own_import = True  # type: ignore[attr-defined]
    tree.flor_annotated = True  # type: ignore[attr-defined]
    result = rewrite(tree, "mod")
    assert [loop.key for loop in result.loops] == ["mod:<module>:7"]
    assert result.hindsights == [0, 1, 3] and not result.functions
    _, hooks = run(result)
    assert hooks.probes["mod", "@flor:hindsight:0"].calls == ["enter", "leave"] * 2
    assert hooks.probes["mod", "@flor:hindsight:1"].calls == ["enter", "leave"]


def test_a_hindsight_statement_that_fails_is_left() -> None:
    tree = ast.parse("try:\n    1 / 0\nexcept ZeroDivisionError: pass\n")
    tree.body[0].body[0].flor_hindsight = 3  # type: ignore[attr-defined]
    _, hooks = run(rewrite(tree, "mod"))
    assert hooks.probes["mod", "@flor:hindsight:3"].calls == ["enter", "leave"]


def test_loops_without_a_mark_are_left_alone_in_marked_modules() -> None:
    tree = ast.parse("for i in x: pass\nwhile x: pass\n")
    tree.body[1].flor_loop = "mod:<module>:0"  # type: ignore[attr-defined]
    tree.flor_annotated = True  # type: ignore[attr-defined]
    assert [(loop.key, loop.is_while) for loop in rewrite(tree, "mod").loops] == [("mod:<module>:0", True)]


def test_max_depth_keeps_the_names_of_the_outer_loops() -> None:
    source = "for a in x:\n  for b in x:\n    for c in x: pass\nfor d in x: pass"
    assert loop_keys(source, max_depth=2) == ["mod:<module>:0", "mod:<module>:1", "mod:<module>:3"]


def test_only_while_else_is_pinned() -> None:
    source = "for i in x: pass\nelse: pass\nwhile x: pass\nwhile x: pass\nelse: pass\n"
    assert [loop.pinned for loop in rewritten(source).loops] == [False, False, True]


def test_no_placeholder_is_folded_away_and_none_remains_after_binding() -> None:
    source = """
        import time
        for i in range(3):
            while True: break
            while i: i -= 1
            else: pass
        else: time.time()
        def f():
            for i in (1, 2): pass
        f()
    """
    result = rewritten(source)
    code = compile(result.tree, "mod.py", "exec", dont_inherit=True)
    found = set(placeholders(code))
    expected = {f"@flor:loop:{i}" for i in range(4)} | {"@flor:func:0", "@flor:clock", "@flor:iter", "@flor:repeat"}
    assert found == expected
    assert not list(placeholders(bind(code, lambda name: object())))


def placeholders(code: CodeType) -> Any:
    """Every placeholder that an instruction loads."""
    for instruction in dis.get_instructions(code):
        value = instruction.argval
        if isinstance(value, CodeType):
            yield from placeholders(value)
        elif isinstance(value, str) and value.startswith("@flor:"):
            yield value


def test_compiling_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    compile(rewritten("import time\nwhile time.time(): pass\nfor i in [now()]: pass").tree, "m", "exec")
    assert not recwarn.list


def test_every_inserted_node_is_on_its_headers_line() -> None:
    source = "for i in (\n    x\n):\n    a\n    b\nwhile (\n    x\n):\n    c\ndef f():\n    'd'\n    return 1\n"
    lines = {node.lineno for node in ast.walk(rewritten(source).tree) if isinstance(node, ast.stmt)}
    assert lines == {1, 4, 5, 6, 9, 10, 11, 12}
