"""What the rewriter must know about Python scopes: generators and compiled functions. Imports nothing of ours."""

from __future__ import annotations

import ast

_COMPILERS = frozenset(
    {"compile", "jit", "njit", "script", "numba", "cuda", "triton", "vectorize", "guvectorize", "overload"}
)
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def has_docstring(body: list[ast.stmt]) -> bool:
    """Whether a body begins with a docstring."""
    if not body or not isinstance(body[0], ast.Expr):
        return False
    value = body[0].value
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def is_generator(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the function's own level holds a `yield`, those of nested functions set apart."""
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if isinstance(node, _FUNCTION):
            stack.extend(node.decorator_list)
            stack.append(node.args)
        elif isinstance(node, ast.Lambda):
            stack.append(node.args)
        elif isinstance(node, ast.ClassDef):
            stack.extend([*node.decorator_list, *node.bases, *node.keywords])
        else:
            stack.extend(ast.iter_child_nodes(node))
    return False


def is_compiled_by_decorator(decorators: list[ast.expr]) -> bool:
    """Whether a decorator's words name a compiler, which would choke on probes or be slowed by them."""
    stack: list[ast.AST] = list(decorators)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Attribute):
            if _words(node.attr) & _COMPILERS and not _is_torch_cuda(node):
                return True
        elif isinstance(node, ast.Name) and _words(node.id) & _COMPILERS:
            return True
        stack.extend(ast.iter_child_nodes(node))
    return False


def _words(identifier: str) -> set[str]:
    return set(identifier.lower().split("_"))


def _is_torch_cuda(node: ast.Attribute) -> bool:
    """`@torch.cuda.amp.autocast()` compiles nothing."""
    return node.attr == "cuda" and isinstance(node.value, ast.Name) and node.value.id == "torch"
