"""Rewrite a module's syntax tree so that its loops, functions and clock calls report to probes.

Pure: imports nothing of ours but its own vocabulary (`infos`, `scopes`, `clocknames`). An AST goes in; an AST and a list of what was
instrumented come out. The emitted forms are shown in `flor_trace/README.md`. Probes appear as placeholder constants
(`"@flor:loop:3"`), which `binding.bind` replaces by live objects in the compiled code, so that no name of ours is ever in a
user's namespace.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from typing import TypeVar, cast

from .clocknames import CLOCK_NAMES, clock_aliases, last_name
from .infos import FunctionInfo, LoopInfo, RewrittenInfo
from .scopes import has_docstring, is_compiled_by_decorator, is_generator

_N = TypeVar("_N", bound=ast.AST)


class Rewritten(RewrittenInfo):
    """The rewritten tree, with what was instrumented in it."""

    __slots__ = ("tree",)

    def __init__(self, module: str, tree: ast.Module) -> None:
        super().__init__(module)
        self.tree = tree

    def info(self) -> RewrittenInfo:
        """The same without the tree, which nobody needs after compilation."""
        info = RewrittenInfo(self.module, self.plain_because)
        info.loops, info.functions = self.loops, self.functions
        info.hindsights, info.clocks = self.hindsights, self.clocks
        return info


def rewrite(
    tree: ast.Module, module: str, *, no_function_probes: bool = False, max_depth: int | None = None,
    loops_of: frozenset[str] | None = None,
) -> Rewritten:
    """Instrument `tree`, which is consumed, as the module named `module`.

    `no_function_probes` leaves out function probes and what stands in lambdas (a probe in a function that `torch.compile` takes
    would break its graph; a clock that is read there breaks it anyway). `max_depth` leaves loops alone that are nested deeper
    than this within one function, for CPython allows only 20 nested blocks. `loops_of`, where given, are the qualified names of the
    only functions whose loops are instrumented.
    """
    result = Rewritten(module, tree)
    worker = _Rewriter(result, no_function_probes, max_depth, loops_of, bool(getattr(tree, "flor_annotated", False)))
    worker.aliases = clock_aliases(tree)
    scope = _Scope("<module>", "", loops=True, clocks=True)
    head, rest = _split_head(tree.body)
    tree.body = head + worker.block(rest, scope)
    return result


def _split_head(body: list[ast.stmt]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Docstring and `from __future__` imports must stay first."""
    end = 1 if has_docstring(body) else 0
    while end < len(body):
        statement = body[end]
        if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            break
        end += 1
    return body[:end], body[end:]


@dataclass(slots=True)
class _Scope:
    """Where the rewriter is: a module, a function or a class body."""

    qualname: str
    prefix: str
    loops: bool
    clocks: bool
    is_class: bool = False
    barred: bool = False  # functions inside are left alone too
    wraps: bool = True  # hindsight statements are wrapped
    loop_count: int = 0
    depth: int = 0


class _Rewriter:
    def __init__(
        self, result: Rewritten, no_function_probes: bool, max_depth: int | None, loops_of: frozenset[str] | None, annotated: bool
    ) -> None:
        self.result = result
        self.no_function_probes = no_function_probes
        self.max_depth = max_depth
        self.loops_of = loops_of
        self.annotated = annotated
        self.aliases: frozenset[str] = frozenset()
        self.names_seen: dict[str, int] = {}

    # -- statements ---------------------------------------------------------------------------------------------

    def block(self, statements: list[ast.stmt], scope: _Scope) -> list[ast.stmt]:
        return [self.statement(statement, scope) for statement in statements]

    def statement(self, node: ast.stmt, scope: _Scope) -> ast.stmt:
        mark: int | None = getattr(node, "flor_hindsight", None)
        if mark is not None:
            # nothing inside is instrumented: what was not there when recorded must not be counted now
            return self.hindsight(node, mark) if scope.wraps and _wrappable(node) else node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self.class_body(node, scope)
        elif isinstance(node, (ast.For, ast.While)):
            return self.loop(node, scope)
        elif isinstance(node, ast.If):
            self.if_chain(node, scope)
        else:
            self.children(node, scope)
        return node

    def if_chain(self, node: ast.If, scope: _Scope) -> None:
        """A long `elif` chain nests as deep as it is long: walk it without recursion."""
        while True:
            node.test = self.expression(node.test, scope)
            node.body = self.block(node.body, scope)
            tail = node.orelse
            if len(tail) == 1 and isinstance(tail[0], ast.If) and not hasattr(tail[0], "flor_hindsight"):
                node = tail[0]
                continue
            node.orelse = self.block(tail, scope)
            return

    def children(self, node: ast.AST, scope: _Scope) -> None:
        """Any other statement, exception handler, `with` item or `case`: its expressions and its blocks."""
        for name, value in ast.iter_fields(node):
            if name == "annotation":  # may be turned into text by `from __future__ import annotations`
                continue
            if isinstance(value, ast.expr):
                setattr(node, name, self.expression(value, scope))
            elif isinstance(value, list) and value:
                if isinstance(value[0], ast.stmt):
                    setattr(node, name, self.block(cast("list[ast.stmt]", value), scope))
                elif isinstance(value[0], ast.expr):
                    value[:] = [self.expression(item, scope) for item in value]
                elif isinstance(value[0], (ast.ExceptHandler, ast.withitem, ast.match_case)):
                    for item in value:
                        self.children(item, scope)

    def class_body(self, node: ast.ClassDef, scope: _Scope) -> None:
        node.decorator_list = [self.expression(item, scope) for item in node.decorator_list]
        node.bases = [self.expression(item, scope) for item in node.bases]
        inner = _Scope(
            scope.prefix + node.name,
            scope.prefix + node.name + ".",
            loops=False,
            clocks=scope.clocks,
            is_class=True,
            barred=scope.barred,
            wraps=scope.wraps,
        )
        if has_docstring(node.body):
            node.body[1:] = self.block(node.body[1:], inner)
        else:
            node.body = self.block(node.body, inner)

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: _Scope) -> None:
        node.decorator_list = [self.expression(item, scope) for item in node.decorator_list]
        node.args.defaults = [self.expression(item, scope) for item in node.args.defaults]
        node.args.kw_defaults = [
            None if item is None else self.expression(item, scope) for item in node.args.kw_defaults
        ]
        qualname = self.unique(scope.prefix + node.name)
        compiled = is_compiled_by_decorator(node.decorator_list)
        barred = scope.barred or compiled or (scope.is_class and node.name == "forward")
        plain = (
            barred
            or isinstance(node, ast.AsyncFunctionDef)
            or (scope.is_class and node.name == "__del__")
            or is_generator(node)
        )
        probed = not plain and not self.no_function_probes
        index = len(self.result.functions)
        self.result.functions.append(
            FunctionInfo(
                index, f"{self.result.module}:{qualname}", node.lineno, node.end_lineno or node.lineno, probed
            )
        )
        inner = _Scope(
            qualname,
            qualname + ".<locals>.",
            loops=not plain,
            # Functions without a probe read clocks too: generators as `contextlib.contextmanager` takes them, and coroutines.
            # Not so `__del__`, which the garbage collector calls when it likes.
            clocks=not (barred or (scope.is_class and node.name == "__del__")),
            barred=barred,
            wraps=scope.wraps and not compiled,
        )
        first = 1 if has_docstring(node.body) else 0
        body = self.block(node.body[first:], inner)
        if probed:
            at = node.body[first] if len(node.body) > first else node.body[0]
            body.insert(0, _guarded(f"@flor:func:{index}", "cold", "ran", at))
        node.body[first:] = body

    def unique(self, qualname: str) -> str:
        seen = self.names_seen[qualname] = self.names_seen.get(qualname, 0) + 1
        return qualname if seen == 1 else f"{qualname}#{seen}"

    # -- loops --------------------------------------------------------------------------------------------------

    def loop(self, node: ast.For | ast.While, scope: _Scope) -> ast.stmt:
        info = self.register(node, scope)
        scope.depth += 1
        if isinstance(node, ast.For):
            node.iter = self.expression(node.iter, scope)
            node.target = self.expression(node.target, scope)
        else:
            node.test = self.expression(node.test, scope)
        node.body = self.block(node.body, scope)
        node.orelse = self.block(node.orelse, scope)
        scope.depth -= 1
        if info is None:
            return node
        return _for_form(node, info) if isinstance(node, ast.For) else _while_form(node, info)

    def register(self, node: ast.For | ast.While, scope: _Scope) -> LoopInfo | None:
        """Give the loop its name, or None where it is left alone."""
        key: str | None = getattr(node, "flor_loop", None)
        too_deep = self.max_depth is not None and scope.depth >= self.max_depth
        if not scope.loops or (self.annotated and key is None):
            return None
        number = scope.loop_count
        scope.loop_count += 1
        is_while = isinstance(node, ast.While)
        # a pinned loop cannot be switched off, which is what a compiled function's loops must be
        unsparing = self.no_function_probes and is_while and bool(node.orelse) and scope.qualname != "<module>"
        passed_by = self.loops_of is not None and scope.qualname not in self.loops_of
        if too_deep or unsparing or passed_by:
            return None
        info = LoopInfo(
            len(self.result.loops),
            key or f"{self.result.module}:{scope.qualname}:{number}",
            node.lineno,
            node.end_lineno or node.lineno,
            is_while,
            scope.qualname,
            pinned=is_while and bool(node.orelse),
        )
        self.result.loops.append(info)
        return info

    # -- hindsight and clocks -----------------------------------------------------------------------------------

    def hindsight(self, node: ast.stmt, number: int) -> ast.stmt:
        if number not in self.result.hindsights:
            self.result.hindsights.append(number)
        probe = f"@flor:hindsight:{number}"
        return _at(
            ast.Try(
                body=[_act(probe, "enter", node), node],
                handlers=[],
                orelse=[],
                finalbody=[_act(probe, "leave", node)],
            ),
            node,
        )

    def expression(self, root: ast.expr, scope: _Scope) -> ast.expr:
        """Wrap the callees of clock calls. Without recursion, for a sum of a thousand terms is a thousand deep."""
        if not scope.clocks:
            return root
        stack: list[ast.AST] = [root]
        while stack:
            node = stack.pop()
            if self.no_function_probes and isinstance(node, ast.Lambda):
                continue
            stack.extend(ast.iter_child_nodes(node))
            if isinstance(node, ast.Call):
                name = last_name(node.func)
                if name in CLOCK_NAMES or name in self.aliases:
                    self.result.clocks.append((node.lineno, name))
                    callee = node.func
                    node.func = _at(
                        ast.Call(func=_callable("@flor:clock", callee), args=[callee], keywords=[]), callee
                    )
        return root


_UNWRAPPABLE = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Global,
    ast.Nonlocal,
)


def _wrappable(node: ast.stmt) -> bool:
    """Declarations have no effect worth guarding, and what the program's own modules do as they are imported may be recorded
    code's; a bare string might be a docstring and does nothing."""
    if isinstance(node, _UNWRAPPABLE) or getattr(node, "flor_own_import", False):
        return False
    return not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


# -- the emitted forms ------------------------------------------------------------------------------------------


def _for_form(node: ast.For, info: LoopInfo) -> ast.stmt:
    probe = f"@flor:loop:{info.index}"
    iterable = node.iter
    # where the interpreter places "object is not iterable": until 3.12 the whole statement, from 3.13 on the iterable
    place: ast.AST = iterable if sys.version_info >= (3, 13) else node
    fresh = _at(ast.Call(func=_callable("@flor:iter", iterable), args=[iterable], keywords=[]), place)
    entered = _at(
        ast.IfExp(test=_method(probe, "enter", iterable), body=fresh, orelse=_constant(None, iterable)), iterable
    )
    over = _at(ast.Call(func=_load(probe, "over", iterable), args=[entered], keywords=[]), iterable)
    node.iter = _at(ast.IfExp(test=_load(probe, "on", iterable), body=over, orelse=iterable), iterable)
    header = _header(node, iterable)
    if node.orelse:
        off = _at(ast.UnaryOp(op=ast.Not(), operand=_load(probe, "on", header)), header)
        test = _at(ast.BoolOp(op=ast.Or(), values=[off, _method(probe, "completed", header)]), header)
        node.orelse = [_at(ast.If(test=test, body=node.orelse, orelse=[]), header)]
    return _enclosed([node, _guarded(probe, "on", "exit", header)], _guarded(probe, "on", "leave", header), header)


def _while_form(node: ast.While, info: LoopInfo) -> ast.stmt:
    probe = f"@flor:loop:{info.index}"
    header = _header(node, node.test)

    def act(method: str) -> ast.stmt:
        return _act(probe, method, header) if info.pinned else _guarded(probe, "on", method, header)

    ticks: ast.expr = _method(probe, "ticks", header)
    if not info.pinned:
        empty = _at(ast.Tuple(elts=[], ctx=ast.Load()), header)
        forever = _at(ast.Call(func=_callable("@flor:repeat", header), args=[empty], keywords=[]), header)
        ticks = _at(ast.IfExp(test=_load(probe, "on", header), body=ticks, orelse=forever), header)
    check = ast.If(test=node.test, body=[_at(ast.Pass(), header)], orelse=[act("fell"), _at(ast.Break(), header)])
    loop = ast.For(
        target=_at(ast.Tuple(elts=[], ctx=ast.Store()), header),
        iter=ticks,
        body=[_at(check, header), *node.body],
        orelse=[],
        type_comment=None,
    )
    body: list[ast.stmt] = [_at(loop, node)]
    if node.orelse:
        body.append(_at(ast.If(test=_method(probe, "fallen", header), body=node.orelse, orelse=[]), header))
    return _enclosed([*body, act("exit")], act("leave"), header)


def _enclosed(body: list[ast.stmt], final: ast.stmt, header: ast.AST) -> ast.stmt:
    return _at(ast.Try(body=body, handlers=[], orelse=[], finalbody=[final]), header)


def _header(node: ast.For | ast.While, end: ast.expr) -> ast.AST:
    """The location of the loop's first line only: probes must not look as if they spanned the body."""
    return ast.Pass(
        lineno=node.lineno,
        col_offset=node.col_offset,
        end_lineno=end.end_lineno,
        end_col_offset=end.end_col_offset,
    )


def _guarded(probe: str, flag: str, method: str, like: ast.AST) -> ast.stmt:
    return _at(ast.If(test=_load(probe, flag, like), body=[_act(probe, method, like)], orelse=[]), like)


def _act(probe: str, method: str, like: ast.AST) -> ast.stmt:
    return _at(ast.Expr(value=_method(probe, method, like)), like)


def _method(probe: str, method: str, like: ast.AST) -> ast.expr:
    return _at(ast.Call(func=_load(probe, method, like), args=[], keywords=[]), like)


def _load(probe: str, attribute: str, like: ast.AST) -> ast.expr:
    return _at(ast.Attribute(value=_constant(probe, like), attr=attribute, ctx=ast.Load()), like)


def _callable(probe: str, like: ast.AST) -> ast.expr:
    """A placeholder to be called. Calling a bare constant makes the compiler warn that a str is not callable, so it
    is hidden in a conditional, of which the optimiser leaves nothing but the constant."""
    return _at(
        ast.IfExp(test=_constant(True, like), body=_constant(probe, like), orelse=_constant(probe, like)), like
    )


def _constant(value: str | bool | None, like: ast.AST) -> ast.expr:
    return _at(ast.Constant(value=value), like)


def _at(node: _N, like: ast.AST) -> _N:
    return ast.copy_location(node, like)
