"""Imports that may change places: sorting them, as tools do, changes nothing that a run computes."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Sequence

from flor_trace.replay.align import Unit

# What these do when they are imported concerns no other module. Others may patch what was imported before them.
_INDEPENDENT = frozenset(
    {"numpy", "scipy", "pandas", "sklearn", "torch", "torchvision", "torchaudio", "matplotlib", "PIL", "tqdm", "rich", "yaml",
     "omegaconf", "einops", "tokenizers", "regex", "requests", "psutil", "h5py", "safetensors", "networkx", "sympy"}
)  # fmt: skip


def sorted_imports(recorded: Sequence[Unit], present: Sequence[Unit], own_modules: frozenset[str]) -> tuple[list[Unit], list[Unit]]:
    """Both blocks with the imports of each uninterrupted row in one order, wherever that order makes no difference.

    Args:
        recorded: the recorded block.
        present: today's; statements that are in it only do not interrupt a row, for they are not the recorded program's.
        own_modules: names of the program's own modules, which may hide the standard library's.
    """
    old = {unit.full for unit in recorded}
    return _sorted(recorded, own_modules, old), _sorted(present, own_modules, old)


def _sorted(units: Sequence[Unit], own_modules: frozenset[str], old: set[int]) -> list[Unit]:
    """Only units in `old` change places, and only with each other."""
    result = list(units)
    row: list[int] = []
    for at, unit in enumerate(units):
        if _is_independent(unit.node, own_modules):
            if unit.full in old:
                row.append(at)
        elif unit.full in old:
            _sort_row(result, row)
            row = []
    _sort_row(result, row)
    return result


def _sort_row(units: list[Unit], row: list[int]) -> None:
    binders = Counter(name for at in row for name in _bound(units[at].node))
    free = [at for at in row if all(binders[name] == 1 for name in _bound(units[at].node))]
    for at, unit in zip(free, sorted((units[at] for at in free), key=lambda unit: unit.full), strict=True):
        units[at] = unit


def _is_independent(node: ast.stmt, own_modules: frozenset[str]) -> bool:
    if isinstance(node, ast.Import):
        roots = {alias.name.partition(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module and node.names[0].name != "*":
        roots = {node.module.partition(".")[0]}
    else:
        return False
    known = _INDEPENDENT | sys.stdlib_module_names - {"__future__", "antigravity", "this"}
    return roots <= known - own_modules


def _bound(node: ast.stmt) -> set[str]:
    assert isinstance(node, (ast.Import, ast.ImportFrom))
    return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
