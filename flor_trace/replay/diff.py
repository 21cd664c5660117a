"""Match recorded source with today's: which statements are hindsight statements, and what else has changed.

`diff` is a pure function of two sources. What it cannot prove to be an addition that leaves the recorded program
alone becomes a `Change`, which replay refuses unless the user accepts it.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from flor_trace.errors import SourceChanged, UsageError
from flor_trace.replay.annotations import may_be_read
from flor_trace.replay.carry import CALLER, Flow
from flor_trace.replay.evidence import Evidence, Witness
from flor_trace.replay.loopnames import source_names
from flor_trace.replay.match import Change, Matcher, RemovedLog
from flor_trace.replay.mutations import Mutations
from flor_trace.replay.names import Scope, bound_by
from flor_trace.replay.source import SourceText, deep_recursion
from flor_trace.replay.statements import blocks, descendants, escape, knowledge

__all__ = [
    "Change",
    "HindsightStatement",
    "RemovedLog",
    "RunDiff",
    "SourceDiff",
    "annotate",
    "diff",
    "diff_run",
    "render_changes",
]


@dataclass(frozen=True)
class HindsightStatement:
    """A statement present now and absent in the recorded source, or a log statement that was changed."""

    index: int
    lineno: int
    end_lineno: int
    qualname: str
    text: str
    kind: Literal["inserted", "edited"]
    function: str
    """Recorded name `module:qualname` of the enclosing function, `module:<module>` at module level."""
    binds: set[str] = field(default_factory=set)
    """Names and attributes that it binds outside itself."""
    reads: set[str] = field(default_factory=set)
    enclosing_loops: list[str] = field(default_factory=list)
    """Recorded names of the loops around it within its function, outermost first."""
    recorded_lines: tuple[int, int] | None = None
    rebinds: set[str] = field(default_factory=set)
    """Names and attributes of the recorded program that it binds anew."""
    carried: dict[str, set[str]] = field(default_factory=dict)
    """For each recorded loop (or `carry.CALLER`) the names whose values may come from an earlier iteration of it."""
    class_name: str = ""
    """Recorded qualified name of the class whose attributes it binds; empty outside the bodies of classes."""
    shared_calls: tuple[str, ...] = ()
    """Calls with possible effects that the recorded log statement made too: what they draw belongs to the recorded
    run, so random number generators must not be restored around an edited statement that has some."""
    witnesses: tuple[Witness, ...] = ()
    """What tells of the iterations in which it was reached."""
    changes: str = ""
    """What of the recorded state it changes for certain, as source text."""

    @property
    def carried_names(self) -> set[str]:
        """All names that may carry values between iterations; if there are any, replay must not jump."""
        return set().union(*self.carried.values()) if self.carried else set()


@dataclass(frozen=True)
class SourceDiff:
    """How one module's present source differs from the recorded one."""

    module: str
    hindsight: list[HindsightStatement]
    changes: list[Change]
    removed_logs: list[RemovedLog]
    loops: dict[tuple[int, int], str]
    """Position (line, column) of each matched loop today → its recorded name."""
    functions: dict[tuple[int, int], str]
    """Position of each matched function today → its recorded name."""
    lines: dict[int, int]
    """Line today → recorded line, for matched statements."""
    marks: dict[tuple[int, int], int]
    """Position of each hindsight statement today → its index."""

    @property
    def identical(self) -> bool:
        """Whether the sources differ in nothing but comments, docstrings, formatting and the order of functions."""
        return not (self.hindsight or self.changes or self.removed_logs)


def diff(
    recorded: bytes, present: bytes, module: str, *, own_functions: frozenset[str] = frozenset(),
    own_modules: frozenset[str] = frozenset(), annotations_read: bool = False, filename: str = "<unknown>",
) -> SourceDiff:  # fmt: skip
    """Compare a module's recorded source with today's.

    Args:
        recorded: the source as it was recorded.
        present: the source as it is today.
        module: the module's name, the first part of the names of its loops.
        own_functions: names of functions defined in other recorded modules; a method of such a name is not taken for
            a logger's.
        own_modules: names of the program's modules; imports of them do not change places.
        annotations_read: whether another recorded module may read type annotations, so that they are part of the meaning.
        filename: what errors call today's source.

    Raises:
        SourceChanged: today's source is not valid Python.
    """
    with deep_recursion():
        if recorded == present:
            return _unchanged(recorded, module)
        return _diff(recorded, present, module, own_functions, own_modules, annotations_read, filename)


def _unchanged(source: bytes, module: str) -> SourceDiff:
    """The same bytes: only the names and lines are wanted."""
    names = source_names(_parse(source, module, "recorded"), module)
    loops: dict[tuple[int, int], str] = {}
    functions: dict[tuple[int, int], str] = {}
    for statement in _parse(source, module, "present").body:
        for node in descendants(statement):
            if isinstance(node, (ast.For, ast.While)) and node.lineno in names.loops:
                loops[_position(node)] = names.loops[node.lineno]
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                functions[_position(node)] = names.functions[node.lineno]
    lines = {line: line for line in range(1, len(SourceText(source)) + 1)}
    return SourceDiff(module, [], [], [], loops, functions, lines, {})


def _diff(
    recorded: bytes, present: bytes, module: str, own_functions: frozenset[str], own_modules: frozenset[str], annotations_read: bool,
    filename: str,
) -> SourceDiff:  # fmt: skip
    old_tree, names_tree = _parse(recorded, module, "recorded"), _parse(recorded, module, "recorded")
    new_tree = _parse(present, module, "present", filename)
    names = source_names(names_tree, module)
    old_text, new_text = SourceText(recorded), SourceText(present)
    known = knowledge(old_tree, own_functions)
    annotations = annotations_read or may_be_read(old_text, new_text)
    matcher = Matcher(known, names, old_text, new_text, own_modules, annotations)
    matcher.module(old_tree, new_tree)
    marks = _number(matcher, new_tree)
    changes = list(matcher.changes)
    hindsight: list[HindsightStatement] = []
    if marks:
        flow = Flow(new_tree, marks, matcher.loops)
        shadowed = flow.shadowed()
        mutations = Mutations(new_tree, marks, flow)
        evidence = Evidence(new_tree, marks, matcher.loops, matcher.lines, matcher.hindsight)
        for node, index in marks.items():
            assert isinstance(node, ast.stmt)
            reason = escape(node) or _new_meaning(flow, index, shadowed, marks)
            if reason is not None:
                changes.append(Change(None, node.lineno, "", new_text.of(node), reason))
            found = _statement(flow, matcher, node, index, module)
            hindsight.append(replace(found, witnesses=evidence.of(node), changes=mutations.changed(node)))
    return SourceDiff(
        module,
        hindsight,
        sorted(changes, key=lambda c: (c.present_lineno or c.recorded_lineno or 0, c.recorded_lineno or 0)),
        matcher.removed_logs,
        {_position(node): key for node, key in matcher.loops.items()},
        {_position(node): key for node, key in matcher.functions.items()},
        matcher.lines,
        {_position(node): index for node, index in marks.items()},
    )


def annotate(tree: ast.Module, source_diff: SourceDiff, own_modules: Collection[str] = ()) -> None:
    """Mark today's tree for the rewriter: `flor_hindsight`, `flor_loop` on nodes, `flor_annotated` on the tree.

    Hindsight statements that import one of `own_modules`, by its first name, get `flor_own_import`: recorded code may use it, too.

    Raises:
        SourceChanged: the tree is not that of the source that was compared.
    """
    marks, loops = dict(source_diff.marks), dict(source_diff.loops)
    with deep_recursion():
        for node in (inner for statement in tree.body for inner in descendants(statement)):
            position = _position(node)
            if position in marks:
                setattr(node, "flor_hindsight", marks.pop(position))  # noqa: B010
                setattr(node, "flor_own_import", _imports_any(node, own_modules))  # noqa: B010
            if position in loops and isinstance(node, (ast.For, ast.While)):
                setattr(node, "flor_loop", loops.pop(position))  # noqa: B010
    if marks or loops:
        raise SourceChanged(f"the source of {source_diff.module} was changed while the replay was being prepared")
    setattr(tree, "flor_annotated", True)  # noqa: B010


def render_changes(changes: list[Change], filename: str) -> str:
    """The changes as text for the user: where, why, and both versions of each statement."""
    out: list[str] = []
    for change in changes:
        old = f"line {change.recorded_lineno} as recorded" if change.recorded_lineno else ""
        new = f"line {change.present_lineno} today" if change.present_lineno else ""
        out.append(f"{filename}, {', '.join(filter(None, [new, old]))}: {change.why}")
        out += [f"  - {line}" for line in change.recorded_text.splitlines()]
        out += [f"  + {line}" for line in change.present_text.splitlines()]
    return "\n".join(out)


def _imports_any(node: ast.stmt, modules: Collection[str]) -> bool:
    if isinstance(node, ast.ImportFrom):
        return bool(node.level) or (node.module or "").partition(".")[0] in modules
    return isinstance(node, ast.Import) and any(alias.name.partition(".")[0] in modules for alias in node.names)


@dataclass(frozen=True)
class RunDiff:
    """The differences of all modules of a run, by module name."""

    modules: dict[str, SourceDiff]
    paths: dict[str, str]

    @property
    def identical(self) -> bool:
        """Whether no module has changed."""
        return all(each.identical for each in self.modules.values())

    @property
    def hindsight(self) -> list[tuple[str, HindsightStatement]]:
        """All hindsight statements with their modules."""
        return [(name, statement) for name, each in self.modules.items() for statement in each.hindsight]

    @property
    def changes(self) -> list[tuple[str, Change]]:
        """Everything that is refused unless accepted, with its module."""
        return [(name, change) for name, each in self.modules.items() for change in each.changes]

    @property
    def loop_places(self) -> dict[str, str]:
        """Where each loop stands today, by name, as `file:line`."""
        return {
            key: f"{os.path.basename(self.paths[name])}:{line}"
            for name, each in self.modules.items() for (line, _), key in each.loops.items()
        }  # fmt: skip

    @property
    def mutations(self) -> list[str]:
        """The hindsight statements that change recorded state for certain, each with its place, for the user."""
        return [
            f"{self.paths[name]}:{statement.lineno}: `{statement.text.strip().splitlines()[0]}` changes `{statement.changes}`"
            for name, statement in self.hindsight if statement.changes
        ]  # fmt: skip

    @property
    def changed_lines(self) -> list[str]:
        """Where today's sources have been changed by more than log statements, as `path:line`."""
        return [f"{self.paths[name]}:{change.present_lineno or change.recorded_lineno}" for name, change in self.changes]

    def render_changes(self) -> str:
        """All changes as text for the user."""
        texts = [render_changes(each.changes, self.paths[name]) for name, each in self.modules.items() if each.changes]
        return "\n".join(texts)


def diff_run(recorded: Mapping[str, tuple[str, bytes]], present: Callable[[str], bytes | None]) -> RunDiff:
    """Compare all recorded modules of a run.

    Args:
        recorded: module name → (path, recorded source).
        present: reads a path today; None if there is no such file.

    Raises:
        UsageError: a recorded file is gone.
        SourceChanged: a file is not valid Python today.
    """
    with deep_recursion():
        everywhere = _own_functions(recorded)
    roots = frozenset(name.partition(".")[0] for name in recorded)
    annotations_read = may_be_read(*(SourceText(source) for _, source in recorded.values()))
    modules: dict[str, SourceDiff] = {}
    for name, (path, source) in recorded.items():
        today = present(path)
        if today is None:
            raise UsageError(f"script moved: {path} was recorded but is not there now")
        modules[name] = diff(
            source, today, name, own_functions=everywhere, own_modules=roots, annotations_read=annotations_read,
            filename=os.path.basename(path),
        )  # fmt: skip
    return RunDiff(modules, {name: path for name, (path, _) in recorded.items()})


def _own_functions(recorded: Mapping[str, tuple[str, bytes]]) -> frozenset[str]:
    """The names of all functions of the run's modules."""
    found: frozenset[str] = frozenset()
    for name, (_, source) in recorded.items():
        found |= knowledge(_parse(source, name, "recorded")).own_functions
    return found


def _parse(source: bytes, module: str, which: str, filename: str = "<unknown>") -> ast.Module:
    try:
        return ast.parse(source, filename)
    except (SyntaxError, ValueError, RecursionError) as error:
        what = f"today's {filename}" if which == "present" and filename != "<unknown>" else f"the {which} source of {module}"
        raise SourceChanged(f"{what} is not valid Python: {error}") from error


def _position(node: ast.AST) -> tuple[int, int]:
    assert isinstance(node, ast.stmt)
    return node.lineno, node.col_offset


def _number(matcher: Matcher, tree: ast.Module) -> dict[ast.AST, int]:
    """Number the outermost hindsight statements in source order."""
    found: dict[ast.AST, int] = {}

    def visit(node: ast.stmt) -> None:
        if node in matcher.hindsight:
            found[node] = len(found)
            return
        for _, block in blocks(node):
            for inner in block:
                visit(inner)

    for statement in tree.body:
        visit(statement)
    return found


_VISIBLE_SPECIALS = frozenset({"__repr__", "__str__", "__format__"})


def _new_meaning(flow: Flow, index: int, shadowed: dict[int, set[str]], marks: Mapping[ast.AST, int]) -> str | None:
    """Why an addition changes what existing code means, or None."""
    if index in shadowed:
        names = ", ".join(f"`{name}`" for name in sorted(shadowed[index]))
        return f"it makes {names} local to a function in which existing code means the outer one"
    place = flow.places[index]
    if place.scope.is_class:
        for _, name in flow.binds(index):
            if name.startswith("__") and name.endswith("__") and name not in _VISIBLE_SPECIALS:
                return f"a new `{name}` changes how an existing class behaves"
    for node in ast.walk(place.node):
        if isinstance(node, (ast.Global, ast.Nonlocal)) and place.function is not None:
            for name in node.names:
                if _binds(place.function, name, marks):
                    return f"a new declaration of `{name}` changes what existing assignments bind"
    return None


def _binds(node: ast.AST, name: str, marks: Mapping[ast.AST, int]) -> bool:
    """Whether existing code of a function binds a name in the function's own scope."""
    for child in ast.iter_child_nodes(node):
        if child in marks or isinstance(child, ast.Lambda):
            continue
        if name in bound_by(child):
            return True
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if child.name == name:
                return True
        elif _binds(child, name, marks):
            return True
    return False


def _function_name(matcher: Matcher, function: ast.AST | None, module: str) -> str:
    if function is None:
        return f"{module}:<module>"
    name = getattr(function, "name", "<lambda>")
    return matcher.functions.get(function, f"{module}:{name}")


def _class_name(scope: Scope | None, function: str) -> str:
    """The qualified name of the class that a scope is, within a function of that qualified name; empty where it is none."""
    names = []
    while scope is not None and isinstance(scope.node, ast.ClassDef):
        names.append(scope.node.name)
        scope = scope.parent
    local = [f"{function}.<locals>"] if scope is not None and scope.parent is not None else []
    return ".".join([*local, *reversed(names)]) if names else ""


def _statement(flow: Flow, matcher: Matcher, node: ast.stmt, index: int, module: str) -> HindsightStatement:
    place = flow.places[index]
    recorded = matcher.hindsight[node]
    function = _function_name(matcher, place.function, module)
    qualname = function.partition(":")[2]
    lines = None if recorded is None else (recorded.lineno, recorded.end_lineno or recorded.lineno)
    return HindsightStatement(
        index=index,
        lineno=node.lineno,
        end_lineno=node.end_lineno or node.lineno,
        qualname=qualname,
        text=matcher.present.of(node),
        kind="inserted" if recorded is None else "edited",
        function=function,
        binds={name for _, name in flow.binds(index)},
        reads={name for _, name in flow.reads(index)},
        enclosing_loops=[loop for loop in place.loops if loop != CALLER],
        recorded_lines=lines,
        rebinds=flow.rebinds(index),
        carried=flow.carried(index),
        class_name=_class_name(place.scope, qualname),
        shared_calls=matcher.shared_calls(node),
    )
