"""Where a walk begins: the locals of user frames, the iterators of the loops that they are in, the globals of user modules,
and the state of libraries."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.frames import LiveFrame, read_locals, user_frames
from flor_trace.runtime.headroom import script_limit
from flor_trace.runtime.offline import TRACKER_VARIABLES
from flor_trace.state import FrameRoot, Roots, library, loghandlers, torch_hooks


def collect_roots(runtime: Runtime, frame: FrameType | None) -> tuple[Roots, list[LiveFrame]]:
    """The roots at a boundary in `frame` (None: at the end of the run), and the frames whose locals they hold."""
    frames = user_frames(frame, runtime.user_files)
    modules = {
        name: module.__dict__
        for name in sorted(runtime.user_modules)
        if (module := sys.modules.get(name)) is not None
    }
    values = library.capture()
    values["recursionlimit"] = script_limit(runtime)
    values["environ"] = {k: v for k, v in values["environ"].items() if k not in TRACKER_VARIABLES and k not in runtime.own_variables}
    roots = Roots(
        modules=modules,
        frames=[FrameRoot(live.name, read_locals(live.frame)) for live in frames],
        library=values,
        extra={
            **{str(n): a.source for n, a in enumerate(runtime.stack) if a.source is not None},
            **loghandlers.capture(runtime.user_modules.__contains__),
            **torch_hooks.capture(),
        },
        codes=_active_codes(frame, runtime.user_files),
        stack=[live.frame for live in frames],
    )
    return roots, frames


def _active_codes(frame: FrameType | None, user_files: set[str]) -> list[CodeType]:
    """The code of all user frames: also that of a module in whose loop a function is defined."""
    found: list[CodeType] = []
    while frame is not None:
        if frame.f_code.co_filename in user_files:
            found.append(frame.f_code)
        frame = frame.f_back
    return found
