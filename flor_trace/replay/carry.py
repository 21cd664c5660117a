"""How values flow through hindsight statements: what each binds and reads, and what it keeps between iterations.

Replay may jump over iterations only if no hindsight statement needs what another one made in them. A value is
taken to come from an earlier iteration of a loop unless its name was bound before, in the same iteration, on a
straight line to where it is read. When unsure, it is carried.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flor_trace.replay.names import Occurrence, Scope, Scopes, Variable, occurrences, split
from flor_trace.replay.statements import dotted, last_name, words

CALLER = "<caller>"
"""Stands for every loop from which the enclosing function may be called."""

HARMLESS_DECORATORS = words(
    "no_grad inference_mode enable_grad staticmethod classmethod property cached_property cache lru_cache wraps "
    "dataclass contextmanager abstractmethod override overload"
)
"""Decorators that neither register a function nor give it a memory that matters."""
_IMMUTABLE_CALLS = words("len int float str bool repr format id ord chr time perf_counter monotonic process_time item numel join")
_UNSEEN = frozenset({"exec", "globals"})

_Bound = dict[Variable, int]
"""What was bound on the straight line so far, with the number of loops around that place."""


@dataclass(frozen=True)
class Binding:
    """One place that binds a variable: by which hindsight statement (None: recorded code), as what, in which loops."""

    index: int | None
    kind: str
    text: str
    loops: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    index: int
    variable: Variable
    member: bool
    loops: tuple[str, ...]
    """The loops from whose earlier iterations the value may come."""


@dataclass
class _Frame:
    scope: Scope
    function: ast.AST | None
    loops: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where a hindsight statement stands."""

    node: ast.stmt
    scope: Scope
    function: ast.AST | None
    loops: tuple[str, ...]


class Flow:
    """The result of one walk over today's source.

    Args:
        tree: today's source.
        marks: the outermost hindsight statements with their indexes.
        loops: the recorded names of matched loops.
    """

    def __init__(self, tree: ast.Module, marks: Mapping[ast.AST, int], loops: Mapping[ast.AST, str]) -> None:
        self._marks, self._loops = marks, loops
        self._scopes = Scopes(tree)
        self._current: int | None = None
        self._reads: list[_Read] = []
        self._free: dict[int, set[Variable]] = {}
        self._attributes: set[str] = set()
        self.places: dict[int, Place] = {}
        self.bindings: dict[Variable, list[Binding]] = {}
        self.recorded_reads: set[Variable] = set()
        frame = _Frame(self._scopes.module, None)
        self._block(tree.body, frame, frame.scope, {})

    # What the walk found

    @property
    def scopes(self) -> Scopes:
        """The scopes of the source."""
        return self._scopes

    def binds(self, index: int) -> set[Variable]:
        """The variables that a hindsight statement binds outside itself, attributes included."""
        return {
            variable
            for variable, bindings in self.bindings.items()
            if any(b.index == index for b in bindings) and self._is_outside(variable, index)
        }

    def reads(self, index: int) -> set[Variable]:
        """The variables that a hindsight statement reads and that are not its own inner ones."""
        return {variable for variable in self._free.get(index, ()) if self._is_outside(variable, index)}

    def carried(self, index: int) -> dict[str, set[str]]:
        """For each loop the names whose values a hindsight statement may have from an earlier iteration of it."""
        found: dict[str, set[str]] = {}
        for read in self._reads:
            if read.index == index:
                for loop in read.loops:
                    if self._flows(read, loop):
                        found.setdefault(loop, set()).add(read.variable[1])
        return found

    def shadowed(self) -> dict[int, set[str]]:
        """Names that a hindsight statement makes local to a function in which recorded code means another variable."""
        found: dict[int, set[str]] = {}
        for variable, bindings in self.bindings.items():
            scope, name = variable
            if scope is None or scope.parent is None or scope.is_class or variable not in self.recorded_reads:
                continue
            if all(b.index is not None for b in bindings):
                for binding in bindings:
                    if binding.index is not None:
                        found.setdefault(binding.index, set()).add(name)
        return found

    def rebinds(self, index: int) -> set[str]:
        """The names and attributes that a hindsight statement binds and recorded code uses."""
        attributes = {name.rpartition(".")[2] for scope, name in self.recorded_reads if scope is None}
        found: set[str] = set()
        for variable in self.binds(index):
            scope, name = variable
            bindings = self.bindings[variable]
            recorded = [b for b in bindings if b.index is None]
            if scope is None:
                if recorded or name.rpartition(".")[2] in attributes:
                    found.add(name)
            elif recorded or variable in self.recorded_reads or (scope.is_class and name in attributes):
                same = {b.text for b in bindings if b.index in (None, index)}
                if len(same) > 1 or not recorded or bindings[0].kind != "import":
                    found.add(name)
        return found

    def _is_outside(self, variable: Variable, index: int) -> bool:
        scope: Scope | None = self.places[index].scope
        while scope is not None:
            if variable[0] is None or variable[0] is scope:
                return True
            scope = scope.parent
        return False

    def _flows(self, read: _Read, loop: str) -> bool:
        scope, name = read.variable
        if scope is None:
            if name.rpartition(".")[2] not in self._attributes:
                return False
            return self._roots().get(name.partition(".")[0]) != {"import"}
        if name in _UNSEEN and read.variable not in self.bindings:
            return True
        bindings = self.bindings.get(read.variable, [])
        if all(b.index is None for b in bindings):
            return False
        if len({b.text for b in bindings}) > 1 or any(loop in b.loops or b.index is None for b in bindings):
            return True
        if loop == CALLER and any(b.loops for b in bindings):
            return True
        kind = bindings[0].kind
        return kind not in ("import", "constant") and not (kind in ("def", "class") and not read.member)

    @functools.cache  # noqa: B019  # one Flow lives as long as one diff
    def _roots(self) -> dict[str, set[str]]:
        """How each name, whatever its scope, is bound: attributes of imported modules are not the script's."""
        roots: dict[str, set[str]] = {}
        for (scope, name), bindings in self.bindings.items():
            if scope is not None:
                roots.setdefault(name, set()).update(b.kind for b in bindings)
        return roots

    # The walk

    def _block(self, nodes: Sequence[ast.stmt], frame: _Frame, scope: Scope, bound: _Bound) -> _Bound | None:
        """Walk statements in order; returns what is bound after them, or None if their end is never reached."""
        state: _Bound | None = bound
        for node in nodes:
            outer = self._current
            if outer is None and node in self._marks:
                self._current = self._marks[node]
                self.places[self._current] = Place(node, scope, frame.function, tuple(frame.loops))
            after = self._statement(node, frame, scope, {} if state is None else state)
            state = None if state is None else after
            self._current = outer
        return state

    def _statement(self, node: ast.stmt, frame: _Frame, scope: Scope, bound: _Bound) -> _Bound | None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return self._definition(node, frame, scope, bound)
            case ast.If():
                self._use(node.test, frame, scope, bound)
                return _join(
                    self._block(node.body, frame, scope, dict(bound)),
                    self._block(node.orelse, frame, scope, dict(bound)),
                )
            case ast.For() | ast.AsyncFor() | ast.While():
                return self._loop(node, frame, scope, bound)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._use(item, frame, scope, bound)
                before = dict(bound)
                after = self._block(node.body, frame, scope, bound)
                return before if any(map(may_suppress, node.items)) else after
            case ast.Match():
                self._use(node.subject, frame, scope, bound)
                for case in node.cases:
                    inner = dict(bound)
                    self._use(case.pattern, frame, scope, inner)
                    if case.guard is not None:
                        self._use(case.guard, frame, scope, inner)
                    self._block(case.body, frame, scope, inner)
                return bound
            case ast.Return() | ast.Raise() | ast.Continue() | ast.Break():
                self._use(node, frame, scope, bound)
                return None
        if hasattr(node, "handlers"):
            return self._try(node, frame, scope, bound)
        self._use(node, frame, scope, bound, kind=_kind(node))
        return bound

    def _definition(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, frame: _Frame, scope: Scope, bound: _Bound
    ) -> _Bound:
        for part in split(node)[0]:
            self._use(part, frame, scope, bound)
        inner = self._scopes.of(node)
        if isinstance(node, ast.ClassDef):
            self._block(node.body, frame, inner, bound)
        else:
            self._block(node.body, _Frame(inner, node), inner, {(inner, name): 0 for name in _parameters(node)})
            for name in _parameters(node):
                self._bind((inner, name), "other", "parameter", _Frame(inner, node), {})
        variable = (scope.resolve(node.name), node.name)
        kind = "other" if _has_state(node) or variable[0] is not scope else type(node).__name__
        kind = {"FunctionDef": "def", "AsyncFunctionDef": "def", "ClassDef": "class"}.get(kind, kind)
        self._bind(variable, kind, ast.dump(node) if self._current is not None else "recorded", frame, bound)
        return bound

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, frame: _Frame, scope: Scope, bound: _Bound) -> _Bound:
        counts = self._current is None
        if not isinstance(node, ast.While):
            self._use(node.iter, frame, scope, bound)
        if counts:
            frame.loops.append(self._loops.get(node, CALLER))
        inner = dict(bound)
        if isinstance(node, ast.While):
            self._use(node.test, frame, scope, inner)
        else:
            self._use(node.target, frame, scope, inner)
        self._block(node.body, frame, scope, inner)
        if counts:
            frame.loops.pop()
        self._block(node.orelse, frame, scope, dict(bound))
        return bound

    def _try(self, node: ast.stmt, frame: _Frame, scope: Scope, bound: _Bound) -> _Bound | None:
        assert isinstance(node, (ast.Try, ast.TryStar))
        after = self._block(node.body, frame, scope, dict(bound))
        after = None if after is None else self._block(node.orelse, frame, scope, after)
        for handler in node.handlers:
            inner = dict(bound)
            if handler.type is not None:
                self._use(handler.type, frame, scope, inner)
            if handler.name is not None:
                self._bind((scope.resolve(handler.name), handler.name), "other", "except", frame, inner)
            after = _join(after, self._block(handler.body, frame, scope, inner))
        final = self._block(node.finalbody, frame, scope, dict(bound))
        if after is None or final is None:
            return None
        return {**after, **{variable: level for variable, level in final.items() if variable not in after}}

    def _use(self, node: ast.AST, frame: _Frame, scope: Scope, bound: _Bound, kind: str = "other") -> None:
        """Take in the reads and bindings of an expression or a simple statement, in order of evaluation."""
        parts = list(ast.walk(node))
        doubtful: set[int] = set()
        if any(isinstance(part, ast.NamedExpr) for part in parts):
            doubtful = {id(n) for part in parts if isinstance(part, _CONDITIONAL) for n in ast.walk(part)}
        text = ast.dump(node) if self._current is not None or kind == "import" else "recorded"
        for seen in occurrences(node, scope, self._scopes):
            if seen.action == "read":
                self._read(seen, frame, bound)
            elif seen.action == "unbind":
                self._bind(seen.variable, "other", text, frame, bound)
                bound.pop(seen.variable, None)
            elif isinstance(seen.node, ast.NamedExpr) and id(seen.node) in doubtful:
                self._bind(seen.variable, "other", text, frame, dict(bound))
            else:
                indirect = seen.variable[0] is not None and seen.variable[0] is not scope
                self._bind(seen.variable, "other" if indirect else kind, text, frame, bound)

    def _read(self, seen: Occurrence, frame: _Frame, bound: _Bound) -> None:
        if self._current is None:
            self.recorded_reads.add(seen.variable)
            return
        self._free.setdefault(self._current, set()).add(seen.variable)
        level = -1 if seen.variable[1].startswith("?") else bound.get(seen.variable, -1)
        loops = {loop for depth, loop in enumerate(frame.loops, 1) if depth > level}
        if frame.function is not None and level < 0 and not _belongs(seen.variable[0], frame.scope):
            loops.add(CALLER)
        if loops:
            self._reads.append(_Read(self._current, seen.variable, seen.member, tuple(sorted(loops))))

    def _bind(self, variable: Variable, kind: str, text: str, frame: _Frame, bound: _Bound) -> None:
        scope, name = variable
        self.bindings.setdefault(variable, []).append(Binding(self._current, kind, text, tuple(frame.loops)))
        if self._current is not None and scope is None:
            self._attributes.add(name.rpartition(".")[2])
        elif self._current is not None and scope is not None and scope.is_class and kind not in ("def", "class"):
            self._attributes.add(name)
        if scope is not None:  # attributes of the object that the name meant before
            for other in [v for v in bound if v[0] is None and v[1].startswith(f"{name}.")]:
                del bound[other]
        bound[variable] = len(frame.loops)


_CONDITIONAL = (ast.IfExp, ast.BoolOp, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)


def _join(one: _Bound | None, other: _Bound | None) -> _Bound | None:
    if one is None or other is None:
        return other if one is None else one
    return {variable: min(level, other[variable]) for variable, level in one.items() if variable in other}


def _belongs(scope: Scope | None, to: Scope) -> bool:
    """Whether a variable of `scope` is made anew by each call of the function `to`."""
    while scope is not None:
        if scope is to:
            return True
        scope = scope.parent
    return False


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [argument.arg for argument in split(node)[1] if isinstance(argument, ast.arg)]


def may_suppress(item: ast.withitem) -> bool:
    context = item.context_expr
    name = last_name(context.func if isinstance(context, ast.Call) else context).lower()
    return any(word in name for word in ("suppress", "raises", "ignore", "catch", "guard"))


def _has_state(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether the defined object may remember something by itself: mutable defaults, unknown decorators."""
    decorators = [last_name(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
    if not HARMLESS_DECORATORS.issuperset(decorators):
        return True
    if isinstance(node, ast.ClassDef):
        return False
    return not all(map(is_immutable, [*node.args.defaults, *filter(None, node.args.kw_defaults)]))


def _kind(node: ast.stmt) -> str:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return "import"
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if all(isinstance(target, ast.Name) for target in targets) and is_immutable(node.value):
            return "constant"
    return "other"


def is_immutable(value: ast.expr) -> bool:
    """Whether an expression certainly gives a value that cannot change afterwards."""
    match value:
        case ast.Constant() | ast.JoinedStr():
            return True
        case ast.UnaryOp():
            return is_immutable(value.operand)
        case ast.BinOp():
            return is_immutable(value.left) and is_immutable(value.right)
        case ast.IfExp():
            return is_immutable(value.body) and is_immutable(value.orelse)
        case ast.Tuple():
            return all(map(is_immutable, value.elts))
        case ast.Attribute():
            return dotted(value) in {"math.pi", "math.e", "math.inf", "np.pi", "np.inf", "torch.float32", "os.sep"}
        case ast.Call():
            return last_name(value.func) in _IMMUTABLE_CALLS
    return False
