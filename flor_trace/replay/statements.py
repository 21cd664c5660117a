"""What single statements are: empty, logging, free of side effects, confined to themselves.

Everything here looks at one statement at a time and judges it by its syntax alone; the rules are
conservative, for a statement wrongly taken for logging would let a change of meaning pass as hindsight.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
LoopNode = ast.For | ast.AsyncFor | ast.While


def words(text: str) -> frozenset[str]:
    """A set of names, written as one text."""
    return frozenset(text.split())


LOG_FUNCTIONS = frozenset({"print", "pprint", "pp", "display"})
LOG_METHODS = words("""
    debug info warning warn error critical exception fatal log print pprint pp display
    set_description set_description_str set_postfix set_postfix_str
    add_scalar add_scalars add_histogram add_image add_images add_figure add_text add_video add_audio
    add_pr_curve add_embedding log_metric log_metrics log_dict log_scalar log_param log_params log_image
    """)
_LOG_WRITERS = frozenset({"sys.stdout", "sys.stderr", "stdout", "stderr", "tqdm", "tqdm.tqdm"})

_PURE_FUNCTIONS = words(
    "int float str bool len repr round abs format isinstance issubclass type hasattr id ord chr hex bin "
    "getattr getLogger get_logger range callable hash divmod pow complex"
)
# Free of effects unless an argument is an iterator, which they would use up.
_CONSUMING_FUNCTIONS = words("sum min max sorted list tuple set dict any all join frozenset zip enumerate")
_PURE_METHODS = words("""
    item numel size dim mean sum std var norm abs max min argmax argmin tolist cpu detach numpy float int
    double long half bool clone format strip lstrip rstrip upper lower title ljust rjust center zfill replace split
    rsplit keys values items get_last_lr total_seconds strftime isoformat sqrt exp log log10 log2 round pow clamp
    softmax sigmoid all any eq ne lt gt le ge getLogger get_logger memory_allocated max_memory_allocated
    memory_reserved parameters named_parameters buffers named_buffers state_dict isnan isfinite isinf median
    quantile percentile trace t transpose reshape view flatten squeeze unsqueeze nonzero count_nonzero prod
    index_select topk basename dirname splitext degrees ceil floor startswith endswith count index
    """)
_ITERATOR_MAKERS = words("iter map filter zip enumerate reversed open reader cycle count chain islice repeat starmap tee")
_LEAVES_PROCESS = frozenset({"exit", "quit", "sys.exit", "os._exit", "os.abort", "os.kill"})


def is_void(node: ast.stmt) -> bool:
    """Whether the statement does nothing: `pass`, a docstring or another bare constant."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def blocks(node: ast.stmt) -> list[tuple[str, list[ast.stmt]]]:
    """The statement lists directly inside a compound statement, each with a label; empty for a simple one."""
    found: list[tuple[str, list[ast.stmt]]] = []
    body = getattr(node, "body", None)
    if isinstance(body, list):
        found.append(("body", body))
    for number, handler in enumerate(getattr(node, "handlers", ())):
        found.append((f"handler {number}", handler.body))
    for number, case in enumerate(getattr(node, "cases", ())):
        found.append((f"case {number}", case.body))
    for label in ("orelse", "finalbody"):
        inner = getattr(node, label, None)
        if isinstance(inner, list):
            found.append((label, inner))
    return found


def is_compound(node: ast.stmt) -> bool:
    """Whether the statement contains statements."""
    return isinstance(getattr(node, "body", None), list) or isinstance(node, ast.Match)


def descendants(node: ast.stmt) -> Iterator[ast.stmt]:
    """The statement itself and every statement inside it, in source order."""
    yield node
    for _, block in blocks(node):
        for inner in block:
            yield from descendants(inner)


def first_line(node: ast.stmt) -> int:
    """The line on which the statement starts, decorators included."""
    decorators = getattr(node, "decorator_list", None)
    return min([node.lineno, *(each.lineno for each in decorators)]) if decorators else node.lineno


def last_name(callee: ast.expr) -> str:
    """The last name of a called expression: `c` for `a.b.c(…)`, empty if it has none."""
    if isinstance(callee, ast.Name):
        return callee.id
    return callee.attr if isinstance(callee, ast.Attribute) else ""


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` for a chain of attributes that starts at a name, else None."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return None if base is None else f"{base}.{node.attr}"
    return None


@dataclass(frozen=True)
class Knowledge:
    """What the recorded program defines itself, so that its `log` or `mean` is not taken for a library's."""

    own_functions: frozenset[str] = frozenset()
    iterators: frozenset[str] = field(default=frozenset())

    def is_log(self, node: ast.stmt) -> bool:
        """Whether the statement is a call that only logs (its arguments are judged by `effects`)."""
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            return False
        callee = node.value.func
        name = last_name(callee)
        if name in self.own_functions:
            return False
        if isinstance(callee, ast.Name):
            return name in LOG_FUNCTIONS
        if not isinstance(callee, ast.Attribute) or self.effects(callee.value):
            return False
        return name in LOG_METHODS or (name == "write" and dotted(callee.value) in _LOG_WRITERS)

    def only_logs(self, node: ast.stmt) -> bool:
        """Whether running the statement or not makes no difference but to the log."""
        if is_void(node):
            return True
        if isinstance(node, ast.If):
            return not self.effects(node.test) and all(map(self.only_logs, [*node.body, *node.orelse]))
        return self.is_log(node) and not self.effects(node)

    def effects(self, node: ast.AST, conditional: bool = False) -> list[str]:
        """Everything in an expression or simple statement that may do more than compute, in source order.

        Each is given as text that is equal for equal code; one that only runs under a condition says so.
        A log statement's own call is not counted.
        """
        found: list[str] = []
        if isinstance(node, ast.Expr) and self.is_log(node):
            call = node.value
            for child in ast.iter_child_nodes(call):
                if child is not call.func:  # type: ignore[attr-defined]
                    found += self.effects(child, conditional)
            return found
        if isinstance(node, ast.IfExp):
            found += self.effects(node.test, conditional)
            return found + self.effects(node.body, True) + self.effects(node.orelse, True)
        if isinstance(node, ast.BoolOp):
            found += self.effects(node.values[0], conditional)
            for value in node.values[1:]:
                found += self.effects(value, True)
            return found
        if isinstance(node, ast.Lambda):
            return self.effects(node.args, conditional)
        inside = conditional or isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp))
        for child in ast.iter_child_nodes(node):
            found += self.effects(child, inside)
        if isinstance(node, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)) or (
            isinstance(node, ast.Call) and not self._is_pure(node)
        ):
            found.append(("if … " if conditional else "") + ast.unparse(node))
        return found

    def _is_pure(self, call: ast.Call) -> bool:
        name = last_name(call.func)
        if not name or name in self.own_functions:
            return False
        if isinstance(call.func, ast.Name) and name in _PURE_FUNCTIONS:
            return True
        if name in _CONSUMING_FUNCTIONS and not any(map(self._is_iterator, [*call.args])):
            return True
        if name == "get":  # a dictionary's; a queue's takes no key and removes what it returns
            return bool(call.args)
        return isinstance(call.func, ast.Attribute) and name in _PURE_METHODS

    def _is_iterator(self, argument: ast.expr) -> bool:
        if isinstance(argument, ast.Starred):
            return self._is_iterator(argument.value)
        if isinstance(argument, (ast.Name, ast.Attribute)):
            return (dotted(argument) or "?") in self.iterators
        if isinstance(argument, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)):
            return any(self._is_iterator(part.iter) for part in argument.generators)
        if isinstance(argument, ast.Call):
            return last_name(argument.func) == "iter" or any(map(self._is_iterator, argument.args))
        return False


def knowledge(tree: ast.Module, own_functions: frozenset[str] = frozenset()) -> Knowledge:
    """Collect what `tree` defines: its function names, and the names that it binds to iterators."""
    functions = set(own_functions)
    generators: set[str] = set()
    iterators: set[str] = set()
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions.add(node.name)
            if is_generator(node):
                generators.add(node.name)
    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
            value = node.value
            if isinstance(value, ast.GeneratorExp) or (
                isinstance(value, ast.Call) and last_name(value.func) in _ITERATOR_MAKERS | generators
            ):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                iterators.update(filter(None, map(dotted, targets)))
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            iterators.update(filter(None, [dotted(node.optional_vars)]))
    return Knowledge(frozenset(functions), frozenset(iterators))


def is_generator(function: FunctionNode) -> bool:
    """Whether the function's own body contains a `yield`."""
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own_nodes(function))


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Every node inside, without those of nested functions, lambdas and classes."""
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            pending.extend(ast.iter_child_nodes(node))


def escape(node: ast.stmt) -> str | None:
    """Why a new statement would change the control flow of what is around it, or None if it would not."""
    return _escape(node, in_loop=False)


def _escape(node: ast.AST, in_loop: bool) -> str | None:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
        return None
    if isinstance(node, (ast.Break, ast.Continue)) and not in_loop:
        return f"a new `{type(node).__name__.lower()}` changes an existing loop"
    if isinstance(node, (ast.Return, ast.Raise)):
        return f"a new `{type(node).__name__.lower()}` leaves existing code"
    if isinstance(node, (ast.Yield, ast.YieldFrom)):
        return "a new `yield` makes an existing function a generator or adds an item"
    if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
        return "a new `await` lets other tasks run"
    if isinstance(node, ast.comprehension) and node.is_async:
        return "a new `await` lets other tasks run"
    if isinstance(node, ast.Call) and dotted(node.func) in _LEAVES_PROCESS:
        return f"a new call of `{dotted(node.func)}` ends the script"
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return "a new `from __future__` import changes the meaning of the module"
    if isinstance(node, (ast.For, ast.While)):
        # A `break` in the loop's `else` belongs to the loop around it.
        for child in ast.iter_child_nodes(node):
            reason = _escape(child, in_loop or child not in node.orelse)
            if reason:
                return reason
        return None
    for child in ast.iter_child_nodes(node):
        reason = _escape(child, in_loop)
        if reason:
            return reason
    return None
