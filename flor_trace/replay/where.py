"""`--where`: a condition on loop variables, and which hindsight output it lets through.

A line is shown if the condition is true for the loops around it at that moment: each name is the variable of the innermost `for`
loop that binds it and that is being executed. Outside of such a loop the name has no value, and a comparison with it is neither
true nor false (Kleene's three values, as in SQL): `epoch == 7 and step < 100` shows nothing outside of the loop over `step`,
`epoch == 7 or step < 100` shows what is in epoch 7.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, product
from types import FrameType
from typing import Any

from flor_trace.errors import UsageError
from flor_trace.runtime.frames import read_locals

Truth = bool | None
ATOMS = (bool, int, float, str, type(None))

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}


class _Mark:
    """A value that is none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ANY = _Mark("ANY")
"""Stands for a value that is not known, or for none."""
_UNBOUND = _Mark("UNBOUND")
_EVERY: frozenset[Truth] = frozenset((True, False, None))


class Condition:
    """A condition on loop variables: comparisons of names, numbers and strings, joined by `and`, `or` and `not`.

    Args:
        text: as the user gave it.

    Raises:
        UsageError: it is anything else.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._refused("it is not a Python expression") from None
        _check(self._tree, self._refused)
        self.names = frozenset(node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name))
        if not self.names:
            raise self._refused("it names no loop variable")

    def possible(self, values: Mapping[str, object]) -> frozenset[Truth]:
        """What it may be, None for neither true nor false.

        Args:
            values: by name: a number, string or None, or `ANY`; names without a value are bound by no loop here.

        Raises:
            UsageError: it compares what cannot be compared.
        """
        try:
            return self._possible(self._tree, values)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise self._refused(f"{error}") from None

    def holds(self, values: Mapping[str, object]) -> bool:
        """Whether it is true; raises as `possible` does."""
        return self.possible(values) == {True}

    def _refused(self, why: str) -> UsageError:
        return UsageError(f"--where {self.text!r} cannot be decided: {why}")

    def _possible(self, node: ast.expr, values: Mapping[str, object]) -> frozenset[Truth]:
        if isinstance(node, ast.BoolOp):
            join = _kleene_and if isinstance(node.op, ast.And) else _kleene_or
            return frozenset(join(parts) for parts in product(*(self._possible(part, values) for part in node.values)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return frozenset(None if part is None else not part for part in self._possible(node.operand, values))
        if isinstance(node, ast.Compare):
            return self._compared(node, values)
        return _truth((_value(node, values),), bool)

    def _compared(self, node: ast.Compare, values: Mapping[str, object]) -> frozenset[Truth]:
        operands = [_value(part, values) for part in (node.left, *node.comparators)]
        links = [_truth(pair, _COMPARISONS[type(op)]) for pair, op in zip(pairwise(operands), node.ops, strict=True)]
        return frozenset(_kleene_and(parts) for parts in product(*links))


def _check(node: ast.expr, refused: Callable[[str], UsageError]) -> None:
    for part in ast.walk(node):
        if isinstance(part, ast.BinOp) and type(part.op) not in _ARITHMETIC:
            raise refused(f"`{ast.unparse(part)}` is no comparison, and of arithmetic only + - * / // % can be used")
        if isinstance(part, ast.Constant) and not isinstance(part.value, ATOMS):
            raise refused(f"`{ast.unparse(part)}` is neither a number nor a string")
        if isinstance(part, (ast.List, ast.Tuple, ast.Set)) and any(isinstance(x, ast.Starred) for x in part.elts):
            raise refused("`*` cannot be used")
        allowed = (ast.BoolOp, ast.UnaryOp, ast.Compare, ast.BinOp, ast.Constant, ast.Name, ast.List, ast.Tuple, ast.Set)
        if isinstance(part, ast.expr) and not isinstance(part, allowed):
            raise refused(f"`{ast.unparse(part)}` is neither a loop variable, a number, a string nor a comparison of them")
        if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Invert):
            raise refused("`~` cannot be used; write `not`")


def _value(node: ast.expr, values: Mapping[str, object]) -> Any:
    """The value of an operand; `_UNBOUND` or `ANY` if a part of it is."""
    if isinstance(node, ast.Name):
        return values.get(node.id, _UNBOUND)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return _applied([_value(part, values) for part in node.elts], lambda *parts: parts)
    if isinstance(node, ast.BinOp):
        return _applied([_value(node.left, values), _value(node.right, values)], _ARITHMETIC[type(node.op)])
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        return _applied([_value(node.operand, values)], _SIGNS[type(node.op)])
    raise ValueError(f"`{ast.unparse(node)}` is a truth value and cannot be compared or computed with")


def _applied(parts: Sequence[Any], function: Callable[..., Any]) -> Any:
    if any(part is _UNBOUND for part in parts):
        return _UNBOUND
    return ANY if any(part is ANY for part in parts) else function(*parts)


def _truth(parts: tuple[Any, ...], decide: Callable[..., Any]) -> frozenset[Truth]:
    if any(part is _UNBOUND for part in parts):
        return frozenset((None,))
    return _EVERY if any(part is ANY for part in parts) else frozenset((bool(decide(*parts)),))


def _kleene_and(parts: Iterable[Truth]) -> Truth:
    found = set(parts)
    return False if False in found else None if None in found else True


def _kleene_or(parts: Iterable[Truth]) -> Truth:
    found = set(parts)
    return True if True in found else None if None in found else False


class Filter:
    """Tells in a worker whether what is written now is to be shown.

    Args:
        condition: on the loop variables.
        places: where its names are bound: `[name, module, name of the code, its first line (0: a module), first line, last line]`, the
            last two those of the loop's body.
    """

    def __init__(self, condition: Condition, places: Iterable[Sequence[Any]]) -> None:
        self._condition = condition
        self._places: dict[tuple[str, str, int], list[tuple[str, int, int]]] = {}
        for name, module, code, code_line, first, last in places:
            self._places.setdefault((module, code, code_line), []).append((name, first, last))

    def shows(self, frame: FrameType | None) -> bool:
        """Whether the condition is true for the loops that `frame` and its callers are in.

        Raises:
            UsageError: a loop variable is of a type that cannot be compared.
        """
        values: dict[str, object] = {}
        while frame is not None:
            code = frame.f_code
            line = 0 if code.co_name == "<module>" else code.co_firstlineno
            for name, first, last in self._places.get((frame.f_globals.get("__name__", ""), code.co_name, line), ()):
                if name not in values and first <= frame.f_lineno <= last:
                    bound = read_locals(frame) if code.co_flags & 0x2 else frame.f_locals  # CO_NEWLOCALS: a function
                    if name in bound:
                        values[name] = _atom(name, bound[name], self._condition)
            frame = frame.f_back
        return self._condition.holds(values)


def _atom(name: str, value: Any, condition: Condition) -> object:
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if type(value) not in ATOMS:
        raise UsageError(
            f"--where {condition.text!r} cannot be decided: `{name}` is a {type(value).__name__}, neither a number nor a string"
        )
    return value
