"""Memory that a program has allocated and not yet written, seen at a snapshot: it holds what lay there before, never the same twice.

`ids = torch.empty(n)`, filled in a loop, is such memory at the loop's entry. The bytes cannot tell, so the source is asked where the
variable that differs comes from.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

_TYPED = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
ALLOCATORS = frozenset(
    {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "ndarray", "Tensor"}
    | {f"{name}Tensor" for name in _TYPED}
)
"""Last names of the callees that give, or may give, memory as it is."""

_CONTENT = re.compile(r"([A-Za-z_][\w.]*)[^\s;]* \(content\)")


def unwritten_memory(difference: str, modules: Iterable[tuple[str, bytes]]) -> str | None:
    """The sentence about a variable in a reported difference that was allocated without being written, or None.

    Args:
        difference: as in a report, such as "at …: 0:corpus → ids (content): 3 at element 0 …".
        modules: path and source of each recorded module.
    """
    names = {name for path in _CONTENT.findall(difference) for name in path.split(".")}
    if not names:
        return None
    for path, source in modules:
        for name, call, line in _allocations(source):
            if name in names:
                return (
                    f"`{name}` comes from `{call}` at {path}:{line}, which gives memory as it is; if it is filled before it is used, "
                    "this difference does no harm, and zeros instead make the replay exact"
                )
    return None


def _allocations(source: bytes) -> Iterator[tuple[str, str, int]]:
    """Name, callee and line of each assignment of such memory."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        call = next((c for c in ast.walk(node.value) if isinstance(c, ast.Call) and _last_name(c.func) in ALLOCATORS), None)
        if call is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if name := _last_name(target):
                yield name, ast.unparse(call.func), node.lineno


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
