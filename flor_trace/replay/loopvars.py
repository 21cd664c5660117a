"""The variables of recorded `for` loops, and which values they took in which iteration."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flor_trace.errors import CorruptRecord
from flor_trace.replay.history import History, RecordedActivation
from flor_trace.replay.names import bound_by
from flor_trace.replay.statements import first_line
from flor_trace.replay.where import ANY, ATOMS
from flor_trace.runtime.position import EXIT, Boundary
from flor_trace.state import Graph

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class LoopVariable:
    """A name that a `for` loop binds.

    Attributes:
        loop: the loop's recorded name.
        scope, scope_line: name of the code that the loop stands in, and its first line today; line 0 for a module.
        first, last: the lines of its body today.
        around: the recorded names of the loops around it in its function.
        start, step: of a `range` or the counter of an `enumerate`, if they stand in the source.
        counts: whether the values go up or down evenly.
        rebound: the line on which something else may bind the name as well, 0: nothing does.
    """

    name: str
    loop: str
    module: str
    scope: str
    scope_line: int
    first: int
    last: int
    around: tuple[str, ...]
    counts: bool
    start: int | None
    step: int | None
    rebound: int

    @property
    def function(self) -> str:
        """The recorded name of the function that it stands in."""
        return self.loop.rpartition(":")[0]

    def place(self) -> list[object]:
        """For a worker, see `where.Filter`."""
        return [self.name, self.module, self.scope, self.scope_line, self.first, self.last]


def loop_variables(tree: ast.Module, module: str, loops: Mapping[tuple[int, int], str]) -> list[LoopVariable]:
    """The variables of a module's recorded loops.

    Args:
        tree: today's source.
        module: its name.
        loops: recorded names of loops by their position (line, column) today.
    """
    bound = {name for node in ast.walk(tree) for name in _binds(node)}
    declared = {
        name: node.lineno for node in ast.walk(tree) if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names
    }
    # `from x import *` may bind anything.
    plain = {name for name in ("range", "enumerate") if name not in bound and "*" not in bound}
    return list(_Finder(module, loops, plain, declared).inside(tree, ("<module>", 0), ()))


class _Finder:
    def __init__(
        self, module: str, loops: Mapping[tuple[int, int], str], plain: set[str], declared: Mapping[str, int]
    ) -> None:
        self._module = module
        self._loops = loops
        self._plain = plain
        self._declared = declared

    def inside(self, node: ast.AST, scope: tuple[str, int], around: tuple[str, ...]) -> Iterator[LoopVariable]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from self.inside(child, (child.name, first_line(child)), ())
                continue
            loop = self._loops.get((child.lineno, child.col_offset)) if isinstance(child, (ast.For, ast.While)) else None
            if isinstance(child, ast.For) and loop is not None:
                yield from self._of(child, loop, scope, around)
            yield from self.inside(child, scope, around if loop is None else (*around, loop))

    def _of(self, node: ast.For, loop: str, scope: tuple[str, int], around: tuple[str, ...]) -> Iterator[LoopVariable]:
        last = node.body[-1].end_lineno or node.body[-1].lineno
        for name in sorted({n.id for n in ast.walk(node.target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}):
            counts, start, step = self._counted(node, name)
            rebound = self._declared.get(name, 0) or _rebinding(node.body, name)
            yield LoopVariable(
                name, loop, self._module, *scope, first_line(node.body[0]), last, around, counts, start, step, rebound
            )

    def _counted(self, node: ast.For, name: str) -> tuple[bool, int | None, int | None]:
        """Whether the name is that of a counter, its first value and its step where they stand there."""
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self._plain):
            return False, None, None
        if any(isinstance(argument, ast.Starred) for argument in call.args):
            return False, None, None
        if call.func.id == "range" and isinstance(node.target, ast.Name) and not call.keywords:
            return _range(call.args)
        if call.func.id == "enumerate" and isinstance(node.target, (ast.Tuple, ast.List)):
            first = node.target.elts[0]
            given = [*call.args[1:], *(k.value for k in call.keywords if k.arg == "start")]
            if isinstance(first, ast.Name) and first.id == name and all(k.arg == "start" for k in call.keywords):
                return True, _whole(given[0]) if given else 0, 1
        return False, None, None


def _range(arguments: list[ast.expr]) -> tuple[bool, int | None, int | None]:
    if len(arguments) == 1:
        return True, 0, 1
    step = _whole(arguments[2]) if len(arguments) > 2 else 1
    return True, _whole(arguments[0]), step


def _whole(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if type(value) is int else None


def _binds(node: ast.AST) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        return ["*"]
    return bound_by(node)


def _rebinding(body: list[ast.stmt], name: str) -> int:
    """The line in a loop's body that binds its variable anew, 0 if none does."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if name in _binds(node):
            return int(getattr(node, "lineno", 1))
        if isinstance(node, _SCOPES):
            continue
        pending.extend(ast.iter_child_nodes(node))
    return 0


class Values:
    """Which value a loop variable had in an iteration, from the source or from the snapshots behind it.

    Args:
        history: the run.
        read: content of a snapshot's graph by its digest.
    """

    def __init__(self, history: History, read: Callable[[str], bytes]) -> None:
        self._history = history
        self._read = read
        self._starts: dict[tuple[str, str, int], object] = {}

    def of(self, variable: LoopVariable, activation: RecordedActivation, iteration: int) -> object:
        """The value, or `ANY` if it is not known."""
        if not variable.counts or variable.step is None:
            return self._seen(variable, activation, iteration)
        start = variable.start if variable.start is not None else self._start(variable, activation)
        return start + variable.step * iteration if type(start) is int else ANY

    def _start(self, variable: LoopVariable, activation: RecordedActivation) -> object:
        """The first value of a counter whose start is not in the source: from the first snapshot behind an iteration."""
        key = (variable.name, *activation.key)
        if key not in self._starts:
            self._starts[key] = ANY
            for head in self._history.heads(activation.key):
                value = self._seen(variable, activation, head - 1) if head > 0 else ANY
                if type(value) is int and variable.step is not None:
                    self._starts[key] = value - variable.step * (head - 1)
                    break
        return self._starts[key]

    def _seen(self, variable: LoopVariable, activation: RecordedActivation, iteration: int) -> object:
        """From the snapshot at the end of the iteration: nothing but the loop binds the name."""
        at = Boundary(*activation.key, iteration + 1)
        if at not in self._history.snapshots and iteration + 1 == activation.begun:
            at = Boundary(*activation.key, EXIT)
        ref = self._history.snapshots.get(at)
        if ref is None:
            return ANY
        try:
            graph = Graph.decode(self._read(ref.graph))
        except CorruptRecord:
            return ANY
        value = _local(graph, variable)
        return value if type(value) in ATOMS else ANY


def _local(graph: Graph, variable: LoopVariable) -> Any:
    """What the loop's own frame, the innermost one of a snapshot, or its module has bound."""
    section, suffix = ("module", variable.module) if variable.scope == "<module>" else ("frame", f".{variable.scope}")
    for root in reversed(graph.roots):
        name = root.name if section == "module" else "." + root.name.partition(":")[2]
        if root.section == section and (name == suffix or (section == "frame" and name.endswith(suffix))):
            return dict(zip(root.names, root.cells, strict=True)).get(variable.name, ANY)
    return ANY
