"""Which hindsight statements certainly change what the recorded program goes on to use, by their text alone.

Only assignments, augmented assignments and deletions are looked at, and only where they are executed whenever their statement is.
A refusal that is wrong costs the user more than a divergence that is found late, so whatever depends on a value, on a call or on
another hindsight statement (which may undo the change) is let pass: the comparisons of the replay see to it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flor_trace.replay.carry import Flow
from flor_trace.replay.names import Scope, Variable, attribute_path, occurrences
from flor_trace.replay.statements import blocks, descendants

_Use = Literal["read", "bound", "unsure"]
_Target = ast.Name | ast.Attribute | ast.Subscript
_GROUPS = "param_groups"
_TARGETS = (ast.Name, ast.Attribute, ast.Subscript)
_LEAVING = (ast.Return, ast.Raise, ast.Break, ast.Continue)
# An expression of another kind may give the very object that the target holds already, as in `x = x.cpu()`.
_NEW_VALUES = (
    ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp,
    ast.SetComp, ast.DictComp,
)  # fmt: skip


@dataclass(frozen=True)
class _Store:
    """One target that is assigned to or deleted, with the value where it is a plain assignment of one."""

    target: _Target
    action: Literal["assign", "update", "delete"]
    value: ast.expr | None = None


class Mutations:
    """Finds the statements that change recorded state for certain.

    Args:
        tree: today's source.
        marks: the outermost hindsight statements with their indexes.
        flow: what binds and reads what in `tree`.
    """

    def __init__(self, tree: ast.Module, marks: Mapping[ast.AST, int], flow: Flow) -> None:
        self._marks, self._flow = marks, flow
        self._around: dict[ast.stmt, tuple[ast.AST, Sequence[ast.stmt], int]] = {}
        self._locate(tree, [tree.body])
        self._stored = Counter(ast.unparse(store.target) for node in marks for store in _stores_anywhere(node))
        inside = {part for node in marks for part in ast.walk(node)}
        recorded = [part for part in ast.walk(tree) if part not in inside]
        self._attributes = {part.attr for part in recorded if isinstance(part, ast.Attribute)}
        self._attributes_set = {part.attr for part in recorded if isinstance(part, ast.Attribute) and not isinstance(part.ctx, ast.Load)}
        self._assigned = {_as_text(part.targets[0], part.value) for part in recorded if isinstance(part, ast.Assign)}
        self._declared = {name for part in recorded if isinstance(part, (ast.Global, ast.Nonlocal)) for name in part.names}
        self._new_attributes = Counter(
            name.rpartition(".")[2]
            for (owner, name), bindings in flow.bindings.items() if owner is None
            for binding in bindings if binding.index is not None
        )  # fmt: skip

    def changed(self, node: ast.stmt) -> str:
        """What of the recorded state a hindsight statement certainly changes, as source text; empty if nothing is certain."""
        scope = self._flow.places[self._marks[node]].scope
        if not scope.is_class:
            for store, groups in _stores(node, {}):
                if self._is_certain(store, scope, node, groups):
                    return ast.unparse(store.target)
        return ""

    def _is_certain(self, store: _Store, scope: Scope, node: ast.stmt, groups: Mapping[str, str]) -> bool:
        chain = _chain(store.target)
        if chain is None or self._may_be_undone(store, chain.attributes) or not _changes_value(store, self._assigned):
            return False
        root = groups.get(chain.root, chain.root)
        variable: Variable = (scope.resolve(root), root)
        if not self._is_recorded(variable, isinstance(store.target, ast.Name)):
            return False
        if isinstance(store.target, ast.Name):
            in_loop = bool(self._flow.places[self._marks[node]].loops)
            return self._next_use(node, scope, variable) == "read" or (in_loop and self._is_set_once(variable))
        if isinstance(store.target, ast.Subscript):
            return chain.root in groups or _GROUPS in chain.attributes or self._is_kept(store, variable, node, scope)
        if store.target.attr in self._attributes and self._next_use(node, scope, (None, attribute_path(store.target))) == "read":
            return True
        if store.action == "assign" and store.target.attr not in self._attributes:
            return False  # an attribute of its own
        return store.target.attr not in self._attributes_set and self._is_kept(store, variable, node, scope)

    def _may_be_undone(self, store: _Store, attributes: Sequence[str]) -> bool:
        """Whether other hindsight statements store the same, as when a setting is changed and put right again."""
        own = [store.target.attr] if isinstance(store.target, ast.Attribute) else []
        others = Counter(self._new_attributes)
        others.subtract(own)
        return self._stored[ast.unparse(store.target)] > 1 or any(others[name] > 0 for name in [*own, *attributes])

    def _is_recorded(self, variable: Variable, is_target: bool) -> bool:
        """Whether recorded code alone binds a name (but for the statement in question), and to what is not an imported module."""
        bindings = self._flow.bindings.get(variable, [])
        own = [b.kind for b in bindings if b.index is None]
        return bool(own) and "import" not in own and len(bindings) - len(own) == (1 if is_target else 0)

    def _is_set_once(self, variable: Variable) -> bool:
        """Whether it is a variable of the module that recorded code binds in one place, outside all loops: nothing puts it right."""
        scope, name = variable
        own = [b for b in self._flow.bindings.get(variable, []) if b.index is None]
        return scope is not None and scope.parent is None and len(own) == 1 and not own[0].loops and name not in self._declared

    def _is_kept(self, store: _Store, variable: Variable, node: ast.stmt, scope: Scope) -> bool:
        """Whether the object of which a part is changed lives on in the recorded program."""
        return self._is_set_once(variable) or (store.action != "assign" and self._next_use(node, scope, variable) == "read")

    # What recorded code does next with a variable

    def _locate(self, parent: ast.AST, found: list[list[ast.stmt]]) -> None:
        for block in found:
            for number, node in enumerate(block):
                self._around[node] = (parent, block, number)
                self._locate(node, [inner for _, inner in blocks(node)])

    def _next_use(self, node: ast.stmt, scope: Scope, variable: Variable) -> _Use | None:
        """The next use on the way from a statement to the end of its function, around the loops on the way."""
        while True:
            parent, block, number = self._around[node]
            found = self._in_block(block[number + 1 :], scope, variable)
            if found is None and isinstance(parent, (ast.For, ast.While)) and block is parent.body:
                found = self._in_parts([parent.test if isinstance(parent, ast.While) else parent.target], scope, variable)
                found = found or self._in_block(block[:number], scope, variable)
                if found == "read":
                    return found if self._outlasts(parent, scope, variable) else "unsure"
            if found is not None:
                return found
            if not isinstance(parent, (ast.If, ast.For, ast.While, ast.With)):
                return None
            node = parent

    def _outlasts(self, loop: ast.For | ast.While, scope: Scope, variable: Variable) -> bool:
        """Whether what a variable holds after an iteration matters also if that was the last one."""
        later = self._next_use(loop, scope, variable)
        return later == "read" or (later is None and scope.parent is None)  # a module's variables are compared at the end

    def _in_block(self, block: Sequence[ast.stmt], scope: Scope, variable: Variable) -> _Use | None:
        for node in block:
            found = None if node in self._marks else self._in_statement(node, scope, variable)
            if found is not None:
                return found
        return None

    def _in_statement(self, node: ast.stmt, scope: Scope, variable: Variable) -> _Use | None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return "unsure" if node.name == variable[1] else None
            case ast.If():
                found = self._in_parts([node.test], scope, variable)
                ways = {self._in_block(node.body, scope, variable), self._in_block(node.orelse, scope, variable)}
                return found or (ways.pop() if len(ways) == 1 else "unsure")
            case ast.For() | ast.While() | ast.With():
                head: list[ast.AST] = list(node.items) if isinstance(node, ast.With) else []
                head += [node.iter, node.target] if isinstance(node, ast.For) else [node.test] if isinstance(node, ast.While) else []
                return self._in_parts(head, scope, variable) or self._in_block(node.body, scope, variable)
        if blocks(node):
            return "unsure" if self._in_parts([node], scope, variable) else None
        return self._in_parts([node], scope, variable) or ("unsure" if isinstance(node, _LEAVING) else None)

    def _in_parts(self, parts: Sequence[ast.AST], scope: Scope, variable: Variable) -> _Use | None:
        for part in parts:
            for seen in occurrences(part, scope, self._flow.scopes):
                if seen.variable == variable:
                    return "read" if seen.action == "read" else "bound"
        return None


@dataclass(frozen=True)
class _Chain:
    """Names, attributes and constant items that lead from a variable to a target, without the target's own attribute."""

    root: str
    attributes: tuple[str, ...]


def _chain(target: ast.expr) -> _Chain | None:
    """How a target is reached; None where what is reached may be a copy (a call, a mask)."""
    attributes: list[str] = []
    node = target
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute):
            if node is not target:
                attributes.append(node.attr)
        elif not isinstance(node, ast.Subscript) or not (node is target or isinstance(node.slice, ast.Constant)):
            return None
        node = node.value
    return None if "values" in attributes else _Chain(node.id, tuple(attributes))  # pandas: a copy, at times


def _changes_value(store: _Store, assigned: Collection[str]) -> bool:
    if store.action != "assign":
        return True
    return isinstance(store.value, _NEW_VALUES) and _as_text(store.target, store.value) not in assigned


def _as_text(target: ast.expr, value: ast.expr) -> str:
    return f"{ast.unparse(target)} = {ast.unparse(value)}"


def _stores(node: ast.stmt, groups: Mapping[str, str]) -> Iterator[tuple[_Store, Mapping[str, str]]]:
    """What a statement stores whenever it is executed, with the names that stand for an optimizer's parameter groups there,
    each with the variable that they are reached from."""
    if isinstance(node, ast.With):
        for inner in node.body:
            yield from _stores(inner, groups)
    elif isinstance(node, ast.For):
        chain = _chain(node.iter) if isinstance(node.iter, ast.Attribute) and node.iter.attr == _GROUPS else None
        if chain is not None and isinstance(node.target, ast.Name):
            for inner in node.body:
                yield from _stores(inner, {**groups, node.target.id: chain.root})
    else:
        for store in _direct(node):
            yield store, groups


def _direct(node: ast.stmt) -> Iterator[_Store]:
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from (_Store(target, "assign", value) for target in targets if isinstance(target, _TARGETS))
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield _Store(target, "assign", value)
        case ast.AugAssign(target=target):
            yield _Store(target, "update")
        case ast.Delete(targets=targets):
            yield from (_Store(target, "delete") for target in targets if isinstance(target, _TARGETS))


def _stores_anywhere(node: ast.AST) -> Iterator[_Store]:
    assert isinstance(node, ast.stmt)
    for inner in descendants(node):
        yield from _direct(inner)
