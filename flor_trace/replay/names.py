"""Which variable a name means: the scopes of a module, and the names that a piece of code binds and reads.

A variable is a pair of its scope and its name; `symtable` is not used, because the nodes of the tree must be kept.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from flor_trace.replay.statements import dotted

ScopeNode = (
    ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
    | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
)  # fmt: skip
SCOPE_TYPES = (
    ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(eq=False)
class Scope:
    """A module, function, lambda, class or comprehension, and the names that it binds."""

    node: ScopeNode
    parent: Scope | None
    bound: set[str] = field(default_factory=set)
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)

    @property
    def is_class(self) -> bool:
        """Whether names bound here are attributes, invisible to the functions inside."""
        return isinstance(self.node, ast.ClassDef)

    @property
    def holder(self) -> Scope:
        """The scope that a walrus binds in: the nearest that is not a comprehension."""
        return self.parent.holder if isinstance(self.node, _COMPREHENSIONS) and self.parent else self

    @property
    def module(self) -> Scope:
        """The outermost scope."""
        return self.parent.module if self.parent else self

    def resolve(self, name: str) -> Scope:
        """The scope whose variable `name` means here; the module for globals and builtins."""
        if name in self.globals:
            return self.module
        if name in self.bound and name not in self.nonlocals:
            return self
        scope = self.parent
        while scope is not None:
            if scope.parent is None or (not scope.is_class and name in scope.globals):
                return scope.module
            if not scope.is_class and name in scope.bound and name not in scope.nonlocals:
                return scope
            scope = scope.parent
        return self


Variable = tuple[Scope | None, str]
"""A scope and a name; for attributes None and the dotted text, such as `self.count`."""


@dataclass(frozen=True)
class Occurrence:
    """One use of a variable."""

    variable: Variable
    action: Literal["read", "bind", "unbind"]
    node: ast.AST
    member: bool = False
    """Read only to get at an attribute, an item or a method of it."""


class Scopes:
    """All scopes of one module."""

    def __init__(self, tree: ast.Module) -> None:
        self._of: dict[ast.AST, Scope] = {}
        self.module = self._add(tree, None)
        self._declare(tree.body, self.module)

    def of(self, node: ast.AST) -> Scope:
        """The scope that `node` opens."""
        return self._of[node]

    def _add(self, node: ScopeNode, parent: Scope | None) -> Scope:
        scope = self._of[node] = Scope(node, parent)
        return scope

    def _declare(self, nodes: list[ast.stmt] | ast.AST, scope: Scope) -> None:
        for node in nodes if isinstance(nodes, list) else [nodes]:
            if isinstance(node, SCOPE_TYPES) and not isinstance(node, ast.Module):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    scope.holder.bound.add(node.name)
                inner = self._add(node, scope)
                outside, inside = split(node)
                for child in outside:
                    self._declare(child, scope)
                for child in inside:
                    self._declare(child, inner)
                continue
            for name in bound_by(node):
                target = scope.holder if isinstance(node, ast.NamedExpr) else scope
                target.bound.add(name)
            if isinstance(node, ast.Global):
                scope.globals.update(node.names)
            elif isinstance(node, ast.Nonlocal):
                scope.nonlocals.update(node.names)
            for child in ast.iter_child_nodes(node):
                if isinstance(node, ast.NamedExpr) and child is node.target:
                    continue
                self._declare(child, scope)


def split(node: ast.AST) -> tuple[list[ast.AST], list[ast.AST]]:
    """The parts of a node that opens a scope: those evaluated around it and those inside it, in order of evaluation."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            annotations = [a.annotation for a in ast.walk(node.args) if isinstance(a, ast.arg) and a.annotation]
            outside = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults), *annotations]
            return [*outside, *filter(None, [node.returns])], [*_parameters(node.args), *node.body]
        case ast.Lambda():
            outside = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            return list(outside), [*_parameters(node.args), node.body]
        case ast.ClassDef():
            return [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)], list(node.body)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            inside: list[ast.AST] = []
            for number, part in enumerate(node.generators):
                inside += [*([part.iter] if number else []), part.target, *part.ifs]
            inside += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            return [node.generators[0].iter], inside
    return [], list(ast.iter_child_nodes(node))


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    # Without annotations, which belong to the scope outside.
    return [ast.arg(arg=each.arg, annotation=None) for each in every if each is not None]


def bound_by(node: ast.AST) -> list[str]:
    """The names that this very node binds (not its children), without functions and classes."""
    match node:
        case ast.Name(ctx=ast.Store() | ast.Del()):
            return [node.id]
        case ast.arg():
            return [node.arg]
        case ast.Import() | ast.ImportFrom():
            return [imported_name(alias) for alias in node.names if alias.name != "*"]
        case ast.ExceptHandler(name=str()) | ast.MatchStar(name=str()) | ast.MatchAs(name=str()):
            return [str(node.name)]
        case ast.MatchMapping(rest=str()):
            return [str(node.rest)]
        case ast.NamedExpr():
            return [node.target.id]
    return []


def imported_name(alias: ast.alias) -> str:
    """The name that one part of an import statement binds."""
    return alias.asname or alias.name.partition(".")[0]


def occurrences(node: ast.AST, scope: Scope, scopes: Scopes, member: bool = False) -> Iterator[Occurrence]:
    """Every use of a variable in an expression or statement, in order of evaluation, nested scopes included."""
    if isinstance(node, SCOPE_TYPES) and not isinstance(node, ast.Module):
        outside, inside = split(node)
        for child in outside:
            yield from occurrences(child, scope, scopes)
        inner = scopes.of(node)
        for child in inside:
            yield from occurrences(child, inner, scopes)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield Occurrence((scope.resolve(node.name), node.name), "bind", node)
        return
    match node:
        case ast.Name(ctx=ast.Load()):
            yield Occurrence((scope.resolve(node.id), node.id), "read", node, member)
            return
        case ast.Assign():
            order: list[ast.AST] = [node.value, *node.targets]
        case ast.AnnAssign():
            order = [*filter(None, [node.value]), node.annotation, *([node.target] if node.value else [])]
        case ast.AugAssign():
            yield from _read_target(node.target, scope, scopes)
            order = [node.value, node.target]
        case ast.NamedExpr():
            yield from occurrences(node.value, scope, scopes)
            holder = scope.holder
            yield Occurrence((holder.resolve(node.target.id), node.target.id), "bind", node)
            return
        case ast.IfExp():
            order = [node.test, node.body, node.orelse]
        case ast.For() | ast.AsyncFor():
            order = [node.iter, node.target, *node.body, *node.orelse]
        case ast.Dict():
            order = [part for pair in zip(node.keys, node.values, strict=True) for part in pair if part is not None]
        case ast.Attribute() | ast.Subscript():
            yield from occurrences(node.value, scope, scopes, member=True)
            if isinstance(node, ast.Subscript):
                yield from occurrences(node.slice, scope, scopes)
            if isinstance(node, ast.Attribute):
                yield Occurrence((None, attribute_path(node)), _ACTIONS[type(node.ctx)], node, member)
            return
        case ast.Call():
            yield from _call(node, scope, scopes)
            return
        case _:
            order = list(ast.iter_child_nodes(node))
    for child in order:
        yield from occurrences(child, scope, scopes)
    for name in bound_by(node):
        deleted = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del)
        yield Occurrence((scope.resolve(name), name), "unbind" if deleted else "bind", node)


_ACTIONS: dict[type[ast.expr_context], Literal["read", "bind", "unbind"]] = {
    ast.Load: "read",
    ast.Store: "bind",
    ast.Del: "unbind",
}


def _read_target(target: ast.expr, scope: Scope, scopes: Scopes) -> Iterator[Occurrence]:
    """The read half of an augmented assignment."""
    if isinstance(target, ast.Name):
        yield Occurrence((scope.resolve(target.id), target.id), "read", target)
    elif isinstance(target, ast.Attribute):
        yield Occurrence((None, attribute_path(target)), "read", target)


def _call(node: ast.Call, scope: Scope, scopes: Scopes) -> Iterator[Occurrence]:
    """A call; `setattr`, `getattr` and the like with a constant name count as the attribute."""
    for child in ast.iter_child_nodes(node):
        yield from occurrences(child, scope, scopes)
    if isinstance(node.func, ast.Name) and node.func.id in _ATTRIBUTE_CALLS and len(node.args) >= 2:
        base, attribute = node.args[:2]
        if isinstance(attribute, ast.Constant) and isinstance(attribute.value, str):
            path = f"{dotted(base) or '?'}.{attribute.value}"
            yield Occurrence((None, path), _ATTRIBUTE_CALLS[node.func.id], node)


_ATTRIBUTE_CALLS: dict[str, Literal["read", "bind", "unbind"]] = {
    "getattr": "read",
    "hasattr": "read",
    "setattr": "bind",
    "delattr": "unbind",
}


def attribute_path(node: ast.Attribute) -> str:
    """`a.b.c`, or `?.c` where the chain does not start at a name."""
    return dotted(node) or f"?.{node.attr}"
