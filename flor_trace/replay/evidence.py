"""What a run's record can tell of whether a place in its source was reached: recorded statements that run whenever a hindsight
statement does, and leave a trace each time.

A step-driven training has `if step % 100 == 0: print(loss)` in its loop, and a statement added there is of interest in every hundredth
iteration only. Which ones these are is on record where its block prints something, or has a loop.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flor_trace.replay.carry import may_suppress
from flor_trace.replay.names import bound_by
from flor_trace.replay.statements import blocks

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OTHER_SCOPES = (*_FUNCTIONS, ast.ClassDef, ast.Lambda)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
# With these a print may write nothing, or elsewhere.
_STEADY_KEYWORDS = frozenset({"sep", "flush"})
_STREAM_WORDS = frozenset({"redirect_stdout", "builtins", "__builtins__", "__builtin__", "dup2", "capture_output"})
_STREAM_NAMES = frozenset({"stdout", "__stdout__", "print"})
# In other threads than the main one loops leave no trace.
_THREAD_WORDS = frozenset({"threading", "_thread", "Thread", "ThreadPool", "ThreadPoolExecutor", "futures", "asyncio", "to_thread"})


@dataclass(frozen=True)
class Witness:
    """A recorded statement that is executed in each iteration in which a hindsight statement is.

    Attributes:
        loops: the recorded names of loops around it in its function: it tells of iterations of these.
        of_calls: whether it tells of iterations of any loop, too, in which its function is called, since it comes first.
        loop: its own recorded name, if it is a loop.
        line: its first recorded line, if it is a call of `print`.
    """

    loops: tuple[str, ...]
    of_calls: bool
    loop: str = ""
    line: int = 0


@dataclass(frozen=True)
class _Level:
    """A block on the way to a statement: where in it the way goes on, the loops around it, and those of them that go on to another
    iteration only at the end of the block, or by a statement in it: no exception that leaves the block is caught within them."""

    block: list[ast.stmt]
    place: int
    loops: tuple[str, ...]
    straight: tuple[str, ...]


class Evidence:
    """The witnesses of one module's hindsight statements.

    Args:
        tree: today's source.
        marks: the hindsight statements.
        loops: the recorded names of matched loops.
        lines: line today → recorded line, for matched statements.
        edited: hindsight statement → the recorded log statement that it is an edit of, or None.
    """

    def __init__(
        self, tree: ast.Module, marks: Mapping[ast.AST, int], loops: Mapping[ast.AST, str], lines: Mapping[int, int],
        edited: Mapping[ast.AST, ast.stmt | None],
    ) -> None:  # fmt: skip
        self._marks, self._loops, self._lines, self._edited = marks, loops, lines, edited
        self._prints = not any(_binds_print(node) for node in ast.walk(tree))
        self._found: dict[ast.AST, tuple[Witness, ...]] = {}
        self._walk(tree.body, [], (), ())

    def of(self, node: ast.AST) -> tuple[Witness, ...]:
        """The witnesses of a hindsight statement."""
        return self._found.get(node, ())

    def _walk(self, block: list[ast.stmt], way: list[_Level], loops: tuple[str, ...], straight: tuple[str, ...]) -> None:
        for place, node in enumerate(block):
            here = [*way, _Level(block, place, loops, straight)]
            if node in self._marks:
                self._found[node] = tuple(dict.fromkeys(self._seen_from(node, here)))
            elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                self._walk(node.body, [], (), ())
            else:
                self._enter(node, here)

    def _enter(self, node: ast.stmt, here: list[_Level]) -> None:
        name, level = self._loops.get(node), here[-1]
        straight = () if _catches(node) else level.straight
        for label, inner in blocks(node):
            own = (name,) if name is not None and label == "body" else ()
            self._walk(inner, here, (*level.loops, *own), (*straight, *own))

    def _seen_from(self, node: ast.stmt, way: list[_Level]) -> Iterator[Witness]:
        old = self._edited.get(node)
        if old is not None and self._prints and _is_print(old):
            yield Witness(way[-1].loops, True, line=old.lineno)
        for level in reversed(way):
            around = level.block[level.place]
            if level is not way[-1] and around in self._loops:
                yield Witness(level.loops, True, loop=self._loops[around])
            for before in level.block[: level.place]:
                yield from self._told_by(before, level.loops, True)
            if not level.straight or _leaves(around):
                continue
            for behind in level.block[level.place + 1 :]:
                yield from self._told_by(behind, level.straight, False)
                if _leaves(behind):
                    break

    def _told_by(self, node: ast.stmt, loops: tuple[str, ...], of_calls: bool) -> Iterator[Witness]:
        """What the execution of a statement leaves on record for certain."""
        if node in self._marks:
            return
        if node in self._loops:
            yield Witness(loops, of_calls, loop=self._loops[node])
        elif self._prints and _is_print(node) and node.lineno in self._lines:
            yield Witness(loops, of_calls, line=self._lines[node.lineno])
        elif isinstance(node, ast.With) and not any(map(may_suppress, node.items)):
            for inner in node.body:
                yield from self._told_by(inner, loops, of_calls)
                if _leaves(inner):
                    break


@dataclass(frozen=True)
class Traces:
    """What of a program's doings is sure to be in its record.

    Attributes:
        prints: all that its own `print` calls write: it does not put another stream, or another function, in the place of Python's.
        loops: each execution of its recorded loops, but for short ones: it has no threads.
    """

    prints: bool = True
    loops: bool = True


def traces(trees: Iterable[ast.Module]) -> Traces:
    """What the modules of a program leave on record."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return Traces(not any(map(_touches_streams, nodes)), not any(map(_names_threads, nodes)))


def _names_threads(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in _THREAD_WORDS
        case ast.alias(name=name) | ast.ImportFrom(module=str(name)):
            return not _THREAD_WORDS.isdisjoint(name.split("."))
    return False


def _touches_streams(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in _STREAM_WORDS or (name in _STREAM_NAMES and isinstance(node.ctx, (ast.Store, ast.Del)))
        case ast.alias(name=name):
            return not _STREAM_WORDS.isdisjoint(name.split("."))
        case ast.Constant(value=str(text)):
            return text in _STREAM_NAMES
        case ast.keyword(arg=str(name)):
            return name in _STREAM_WORDS
    return False


def _binds_print(node: ast.AST) -> bool:
    """Whether `print` may mean something else in this module."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return node.name == "print"
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        return True
    return "print" in bound_by(node)


def _is_print(node: ast.stmt) -> bool:
    """Whether a statement writes a line to standard output whenever it is executed."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    call = node.value
    named = isinstance(call.func, ast.Name) and call.func.id == "print"
    return named and all(keyword.arg in _STEADY_KEYWORDS for keyword in call.keywords)


def _catches(node: ast.stmt) -> bool:
    """Whether an exception in a statement may end there."""
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return any(map(may_suppress, node.items))
    return isinstance(node, (ast.Try, ast.TryStar))


def _leaves(node: ast.AST, in_loop: bool = False) -> bool:
    """Whether a statement may go elsewhere than to the one behind it, otherwise than by an exception."""
    if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom, ast.Await)):
        return True
    if isinstance(node, (ast.Break, ast.Continue)):
        return not in_loop
    if isinstance(node, _OTHER_SCOPES):
        return False
    if isinstance(node, _LOOPS):
        inner = any(_leaves(child, in_loop=True) for child in node.body)
        return inner or any(_leaves(child, in_loop) for child in node.orelse)
    return any(_leaves(child, in_loop) for child in ast.iter_child_nodes(node))
