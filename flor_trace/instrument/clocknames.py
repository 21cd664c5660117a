"""The names under which a module may call a clock or an entropy source. Imports nothing of ours.

Over-inclusion is harmless: the probe looks at the callee itself, and gives back whatever is no source. So names are followed
by what they are called, not by scope: `self.clock = time.time` makes every call of something named `clock` be looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_TIME = "time time_ns perf_counter perf_counter_ns monotonic monotonic_ns process_time process_time_ns thread_time thread_time_ns"
_CLOCK = "clock_gettime clock_gettime_ns"
_DATE = "now utcnow today default_timer localtime gmtime ctime strftime"
_ENTROPY = "urandom getrandom uuid1 uuid4 token_hex token_bytes token_urlsafe getrandbits randbelow randbits"
_GENERATORS = "Random seed default_rng RandomState SeedSequence PCG64 PCG64DXSM MT19937 Philox SFC64"
_TEMPORARY = "mkstemp mkdtemp mktemp NamedTemporaryFile TemporaryDirectory TemporaryFile SpooledTemporaryFile"
CLOCK_NAMES = frozenset(f"{_TIME} {_CLOCK} {_DATE} {_ENTROPY} {_GENERATORS} {_TEMPORARY}".split())
"""Last names of callees that may read a clock or an entropy source."""

_DRAWS = "random randrange randint choice choices shuffle sample uniform triangular randbytes gauss normalvariate"
_VARIATES = "lognormvariate expovariate vonmisesvariate gammavariate betavariate paretovariate weibullvariate binomialvariate"
_SYSTEM_RANDOM = frozenset(f"{_DRAWS} {_VARIATES}".split())
"""Too common to be looked at everywhere: only in modules that mention `SystemRandom` or `secrets`."""

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def last_name(callee: ast.expr) -> str:
    """The name, or the attribute's name, by which something is called; "" for any other expression."""
    if isinstance(callee, ast.Attribute):
        return callee.attr
    return callee.id if isinstance(callee, ast.Name) else ""


def clock_aliases(tree: ast.Module) -> frozenset[str]:
    """Further last names that may stand for a source in this module: by import, assignment, default, or as an argument.

    Hindsight statements are passed over: the names must be those of the recorded run.
    """
    nodes = list(_nodes(tree))
    known: set[str] = set()
    if any(_mentions_system_random(node) for node in nodes):
        known |= _SYSTEM_RANDOM
    parameters = _parameters(nodes)
    bindings = {(target, source) for node in nodes for target, source in _bindings(node, parameters)}
    reached = CLOCK_NAMES | known
    while True:
        new = {target for target, source in bindings if source in reached and target not in reached}
        if not new:
            return frozenset(reached - CLOCK_NAMES)
        reached |= new


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if getattr(node, "flor_hindsight", None) is None:
            yield node
            stack.extend(ast.iter_child_nodes(node))


def _mentions_system_random(node: ast.AST) -> bool:
    if isinstance(node, ast.alias):
        return node.name in ("SystemRandom", "secrets")
    if isinstance(node, ast.ImportFrom):
        return node.module == "secrets"
    return isinstance(node, ast.expr) and last_name(node) == "SystemRandom"


def _parameters(nodes: list[ast.AST]) -> dict[str, list[list[str]]]:
    """The positional parameters of the module's functions, by the names they are called by; a class stands for its
    `__init__`. Methods are called without their first one."""
    found: dict[str, list[list[str]]] = {}
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
            found.setdefault(node.name, []).extend((names, names[1:]))
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    found.setdefault(node.name, []).append([arg.arg for arg in item.args.args[1:]])
    return found


def _bindings(node: ast.AST, parameters: dict[str, list[list[str]]]) -> Iterator[tuple[str, str]]:
    """Pairs (name bound, name of what it is bound to)."""
    if isinstance(node, ast.ImportFrom):
        yield from ((item.asname, item.name) for item in node.names if item.asname)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _assigned(target, node.value)
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        yield from _assigned(node.target, node.value)
    elif isinstance(node, _FUNCTION):
        positional = [*node.args.posonlyargs, *node.args.args]
        defaults = node.args.defaults
        for arg, value in zip(positional[len(positional) - len(defaults) :], defaults, strict=True):
            yield from ((arg.arg, source) for source in _sources(value))
        for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            if default is not None:
                yield from ((arg.arg, source) for source in _sources(default))
    elif isinstance(node, (ast.For, ast.comprehension)):
        if isinstance(node.iter, (ast.Tuple, ast.List, ast.Set)):
            for item in node.iter.elts:
                yield from _assigned(node.target, item)
    elif isinstance(node, ast.Call):
        yield from ((kw.arg, source) for kw in node.keywords if kw.arg for source in _sources(kw.value))
        for names in parameters.get(last_name(node.func), ()):
            for name, value in zip(names, node.args, strict=False):
                yield from ((name, source) for source in _sources(value))


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List)):
        for one, other in zip(target.elts, value.elts, strict=False):
            yield from _assigned(one, other)
    elif name := last_name(target):
        yield from ((name, source) for source in _sources(value))


def _sources(value: ast.expr) -> Iterator[str]:
    """The names that a value may come from as it is: `a.b`, `x if c else y`, `x or y`, `partial(a.b, …)`."""
    if isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from _sources(part)
    elif isinstance(value, ast.IfExp):
        yield from _sources(value.body)
        yield from _sources(value.orelse)
    elif isinstance(value, ast.Call) and last_name(value.func) == "partial":
        for part in value.args[:1]:
            yield from _sources(part)
    elif name := last_name(value):
        yield name
