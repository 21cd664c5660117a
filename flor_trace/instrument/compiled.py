"""Let `torch.compile` see rewritten functions as plain ones.

Its tracer takes nothing but literals for constants of code, and fails on a probe. Here each probe becomes a constant whose flags say
that it is switched off, so what is traced is the plain path: as many graphs and breaks as without us.
"""

from __future__ import annotations

import sys
from itertools import repeat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .importer import Importer

TRACER = "torch._dynamo.symbolic_convert"


class SwitchedOff:
    """What the tracer finds where a probe is."""

    on = False
    cold = False


def spare_compiled(importer: Importer) -> None:
    """Have the tracer seen to as soon as the script imports it."""
    importer.on_import(TRACER, _see_to_tracer)


def _see_to_tracer() -> None:
    tracer: Any = sys.modules[TRACER].InstructionTranslatorBase
    plain_load_const = getattr(tracer, "_load_const", None)
    if plain_load_const is None:
        return  # a tracer of another make: it refuses functions with probes in its own words
    from torch._dynamo.utils import common_constant_types
    from torch._dynamo.variables.builder import SourcelessBuilder
    from torch._dynamo.variables.constant import ConstantVariable
    from torch._dynamo.variables.iter import ItertoolsVariable

    common_constant_types.add(SwitchedOff)
    off = SwitchedOff()
    as_it_is = _unchanged()

    def load_const(self: Any, instruction: Any) -> Any:
        value = instruction.argval
        if value is iter:
            return SourcelessBuilder.create(self, value)
        if value is repeat:
            return ItertoolsVariable(value)
        if type(value).__module__ != "builtins" and hasattr(value, "on" if hasattr(value, "over") else "cold"):
            return ConstantVariable.create(off)
        if callable(value):  # the clock's; no constant of the script's own code can be called
            return SourcelessBuilder.create(self, as_it_is)
        return plain_load_const(self, instruction)

    tracer._load_const = load_const
    skip_our_frames()


def _unchanged() -> Any:
    """What the tracer finds where a clock is: it gives the callee back, and is traced through like the script's own code, so that
    the trace breaks where the clock is read, as it would plainly."""
    namespace: dict[str, Any] = {}
    exec(compile("def unchanged(callee):\n    return callee\n", "unchanged.py", "exec"), namespace)
    return namespace["unchanged"]


def skip_our_frames() -> None:
    """What of ours runs while compiled code does (an audit hook, say) is no code of the script's to be compiled."""
    from torch._dynamo import trace_rules

    trace_rules.add(__name__.partition(".")[0])
