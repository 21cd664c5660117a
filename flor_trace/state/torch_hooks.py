"""Hooks that torch calls for every module or optimizer: they hang on torch's own modules, to which no variable leads."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

_PREFIX = "torch hooks:"  # of the names under which they are roots
_WHERE = ("torch.nn.modules.module", "torch.optim.optimizer")
# Whether backward hooks are of the full kind; None before the first.
_KIND = "_global_is_full_backward_hook"


def capture() -> dict[str, Any]:
    """By name, the tables of hooks, empty ones too (handles refer to them), and of which kind the backward hooks are."""
    found: dict[str, Any] = {_PREFIX + name: table for name, table in _tables().items()}
    if found:
        found[_PREFIX + _KIND] = getattr(sys.modules.get(_WHERE[0]), _KIND, None)
    return found


def apply(extra: Mapping[str, Any]) -> None:
    """Set what `capture` returned, in place."""
    wanted = {name[len(_PREFIX) :]: value for name, value in extra.items() if name.startswith(_PREFIX)}
    if not wanted:
        return
    for module in {name.rpartition(".")[0] for name in wanted if name != _KIND}:
        importlib.import_module(module)
    setattr(sys.modules[_WHERE[0]], _KIND, wanted.pop(_KIND))
    for name, table in _tables().items():
        hooks = wanted.get(name, {})
        if hooks is not table:
            table.clear()
            table.update(hooks)


def _tables() -> dict[str, Any]:
    found = {}
    for module in _WHERE:
        for name, value in list(vars(sys.modules.get(module, object)).items()):
            if name.startswith("_global_") and name.endswith(("_hooks", "_hooks_always_called", "_hooks_with_kwargs")):
                found[f"{module}.{name}"] = value
    return found
