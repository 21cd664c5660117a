"""Put live probes where compiled code holds placeholder constants."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from types import CodeType

PREFIX = "@flor:"
_OWN: dict[str, object] = {"@flor:iter": iter, "@flor:repeat": repeat}


def bind(code: CodeType, resolve: Callable[[str], object]) -> CodeType:
    """`code`, and the code inside it, with every placeholder constant replaced by what `resolve` gives for it."""
    constants: list[object] = []
    changed = False
    for constant in code.co_consts:
        live = constant
        if type(constant) is str:
            if constant.startswith(PREFIX):
                live = _OWN[constant] if constant in _OWN else resolve(constant)
        elif isinstance(constant, CodeType):
            live = bind(constant, resolve)
        changed = changed or live is not constant
        constants.append(live)
    return code.replace(co_consts=tuple(constants)) if changed else code
