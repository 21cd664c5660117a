"""Call the script from the bottom of the stack, as the interpreter itself does.

With our frames beneath it, `warnings.warn(..., stacklevel=2)` in a script would blame this package, and
`traceback.print_stack()`, `logging` with `stack_info` and `inspect.stack()` would show it. So for as long as the script runs, the
frame that called it is cut off from its callers and marked as one that stack walkers pass over. Both fields are private
to CPython; their places are checked against what is known before anything is written, and left alone if in doubt.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable
    from types import CodeType, FrameType

# Source: Include/internal/pycore_frame.h (struct _frame, _PyInterpreterFrame) and Include/cpython/code.h of 3.11 to 3.13.
_INTERPRETER_FRAME = 24
_PREVIOUS = {(3, 11): 48, (3, 12): 8, (3, 13): 8}
_FIRST_TRACEABLE_FROM_END = 16
_NEVER_TRACEABLE = 1 << 30


def call_at_bottom(function: Callable[..., object], *args: object) -> None:
    """Call a function that finds no frame below its own."""
    previous, first_traceable = _links(sys._getframe())
    callers, shown = previous.value, first_traceable.value
    try:
        previous.value = None
        first_traceable.value = _NEVER_TRACEABLE
        function(*args)
    finally:
        # Plain assignments: a call could be interrupted by Ctrl-C before the callers are back, and we could not return.
        previous.value = callers
        first_traceable.value = shown


def _links(frame: FrameType) -> tuple[ctypes.c_void_p, ctypes.c_int]:
    """The two fields of a frame and its code as variables; mere dummies where the layout is not the known one."""
    import ctypes

    offset = _PREVIOUS.get(sys.version_info[:2])
    caller = frame.f_back
    if sys.implementation.name != "cpython" or offset is None or caller is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return ctypes.c_void_p(), ctypes.c_int()
    place = type(frame.f_code).__basicsize__ - _FIRST_TRACEABLE_FROM_END
    inner = ctypes.c_void_p.from_address(id(frame) + _INTERPRETER_FRAME).value
    outer = ctypes.c_void_p.from_address(id(caller) + _INTERPRETER_FRAME).value
    if not inner or not outer:
        return ctypes.c_void_p(), ctypes.c_int()
    previous = ctypes.c_void_p.from_address(inner + offset)
    # a function with a free variable has one instruction before the first that is traced, others have none
    known = [ctypes.c_int.from_address(id(code) + place).value for code in (_free_variable_code(), frame.f_code)]
    if previous.value != outer or known != [1, 0]:
        return ctypes.c_void_p(), ctypes.c_int()
    return previous, ctypes.c_int.from_address(id(frame.f_code) + place)


def _free_variable_code() -> CodeType:
    free = 0
    return (lambda: free).__code__
