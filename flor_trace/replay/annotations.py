"""Type annotations: whether a program's own meaning depends on them, and statements without those that do not matter."""

from __future__ import annotations

import ast
import copy

from flor_trace.replay.carry import HARMLESS_DECORATORS
from flor_trace.replay.source import SourceText
from flor_trace.replay.statements import last_name

# Where one of these words occurs, something may read annotations.
_READERS = (
    "__annotations__", "get_type_hints", "get_annotations", "inspect", "signature", "jit", "typer", "tyro", "pydantic", "beartype",
    "typeguard", "jaxtyping", "attrs", "cattrs", "msgspec", "simple_parsing", "jsonargparse", "LightningCLI", "fastapi", "injector",
    "hydra", "draccus", "singledispatch", "plum",
)  # fmt: skip
_HARMLESS = (
    ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List, ast.BinOp, ast.BitOr, ast.expr_context,
)  # fmt: skip


def may_be_read(*sources: SourceText) -> bool:
    """Whether anything in these sources may read annotations."""
    return any(source.mentions(word) for source in sources for word in _READERS)


def without_annotations(node: ast.stmt) -> ast.stmt:
    """The statement without the annotations that only readers of annotations could tell; itself where there are none.

    Functions whose decorators may read them keep theirs. Not for statements of a class's body: there they are fields.
    """
    if isinstance(node, ast.AnnAssign):
        if node.value is None or not _is_harmless(node.annotation):
            return node
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))]
    present = [note for note in (node.returns, *(each.annotation for each in named)) if note is not None]
    decorators = {last_name(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list}
    if not present or not all(map(_is_harmless, present)) or not decorators <= HARMLESS_DECORATORS:
        return node
    bare = copy.copy(node)
    bare.returns = None
    bare.args = copy.deepcopy(arguments)
    for each in ast.walk(bare.args):
        if isinstance(each, ast.arg):
            each.annotation = None
    return bare


def _is_harmless(annotation: ast.expr) -> bool:
    """Whether evaluating an annotation only looks names up."""
    return all(isinstance(part, _HARMLESS) for part in ast.walk(annotation))
