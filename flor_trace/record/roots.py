"""Where a walk begins: the locals of user frames, the globals of user modules, and the state of libraries."""

from __future__ import annotations

import sys
from types import FrameType

from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.frames import LiveFrame, read_locals, user_frames
from flor_trace.runtime.offline import TRACKER_VARIABLES
from flor_trace.state import FrameRoot, Roots, library


def collect_roots(runtime: Runtime, frame: FrameType | None) -> tuple[Roots, list[LiveFrame]]:
    """The roots at a boundary in `frame` (None: at the end of the run), and the frames whose locals they hold."""
    frames = user_frames(frame, runtime.user_files)
    modules = {
        name: module.__dict__
        for name in sorted(runtime.user_modules)
        if (module := sys.modules.get(name)) is not None
    }
    values = library.capture()
    values["environ"] = {k: v for k, v in values["environ"].items() if k not in TRACKER_VARIABLES}
    roots = Roots(
        modules=modules,
        frames=[FrameRoot(live.name, read_locals(live.frame)) for live in frames],
        library=values,
        extra={},
        codes=[live.frame.f_code for live in frames],
    )
    return roots, frames
