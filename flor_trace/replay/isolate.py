"""`--isolate`: whatever a hindsight statement does to the state is undone behind it, so that it cannot matter.

The statement runs on the program's own state. Before it the state is walked and kept (`state.isolation`), and the replay's view
of files with it (`runtime.kept_files`); after it both are put back in place. Names that only hindsight statements bind stay as they
are, and what only they refer to with them: one statement may compute what another one prints.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from flor_trace.errors import NotRestorable
from flor_trace.record.roots import collect_roots
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.frames import LiveFrame, read_locals, surplus_locals, write_locals
from flor_trace.runtime.headroom import with_room
from flor_trace.runtime.kept_files import KeptFiles
from flor_trace.runtime.overlay import Overlay
from flor_trace.state import Ignore, Roots, Scope
from flor_trace.state.isolation import Isolation, Kept


@dataclass(frozen=True, slots=True)
class Before:
    """What is kept while one statement runs."""

    frame: FrameType
    state: Kept
    files: KeptFiles
    graphs: AbstractContextManager[None]


class Isolator:
    """Keeps the state before each hindsight statement, and puts it back behind it.

    Args:
        runtime: gives frames and modules.
        overlay: the replay's view of files.
        names: by module and by (module, qualified function): the names that only hindsight statements bind.
        recorded: the modules of the recorded run; those that hindsight statements import belong to them.
        refuse: ends the replay with a reason.
        note: tells the user something.
    """

    def __init__(
        self, runtime: Runtime, overlay: Overlay, names: Mapping[tuple[str, str], set[str]], recorded: Collection[str],
        refuse: Callable[[str], NoReturn], note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._overlay = overlay
        self._names = names
        self._recorded = recorded
        self._refuse = refuse
        self._note = note
        self._process = os.getpid()
        self._isolation = Isolation(Scope(lambda name: name in runtime.user_modules and name in recorded))
        self.keep = with_room(runtime, self._keep)
        self.put_back = with_room(runtime, self._put_back)

    def _keep(self, frame: FrameType) -> Before | None:
        """Before a statement; None where nothing is kept: within another one, and where the statement is not this program's main
        course (a forked child has a copy of the state anyhow)."""
        runtime = self._runtime
        if runtime.suspended or os.getpid() != self._process:
            return None
        if threading.get_ident() != runtime.main_thread:
            self._note(f"a hindsight statement at {_place(frame)} runs in a thread of the script's: it is not isolated")
            return None
        roots, frames = self._roots(frame)
        state = self._isolation.keep(roots, self._ignore(frames))
        graphs = _graphs_retained() if state.torch is not None else nullcontext()
        before = Before(frame, state, KeptFiles(self._overlay), graphs)
        graphs.__enter__()
        return before

    def _put_back(self, before: Before) -> None:
        """Behind the statement."""
        before.graphs.__exit__(None, None, None)
        try:
            before.files.put_back()
            self._put_state_back(before)
        except NotRestorable as reason:
            self._refuse(
                f"the hindsight statement at {_place(before.frame)} has changed the state, which cannot be put back "
                f"({reason}): take it out, or replay without --isolate"
            )

    def _put_state_back(self, before: Before) -> None:
        roots, frames = self._roots(before.frame)
        ignore = self._ignore(frames)
        for root, live in zip((r for r in before.state.live.graph.roots if r.section == "frame"), frames, strict=True):
            surplus = surplus_locals(live.frame, {*root.names, *ignore.frames[live.name]})
            if surplus:
                raise NotRestorable(f"{live.name} → {surplus[0]}", "this Python cannot unbind a local from outside")
        restored = self._isolation.put_back(before.state, roots, ignore)
        if restored is None:
            return
        for live, values in zip(frames, restored.frames, strict=True):
            own = {name: value for name, value in read_locals(live.frame).items() if name in ignore.frames[live.name]}
            write_locals(live.frame, {**own, **values})
        for number, activation in enumerate(self._runtime.stack):
            source = restored.extra.get(str(number))
            if source is not None and source is not activation.source:
                activation.replace_source(source)
        for path in self._isolation.hidden:
            self._note(f"the state of {path} is hidden: if a hindsight statement changes it, it stays changed even with --isolate")

    def _roots(self, frame: FrameType) -> tuple[Roots, list[LiveFrame]]:
        roots, frames = collect_roots(self._runtime, frame)
        for name in [name for name in roots.modules if name not in self._recorded]:
            del roots.modules[name]
        return roots, frames

    def _ignore(self, frames: list[LiveFrame]) -> Ignore:
        modules = {module: names for (module, function), names in self._names.items() if function == "<module>"}
        return Ignore(modules, {live.name: self._own_names(live) for live in frames})

    def _own_names(self, live: LiveFrame) -> set[str]:
        module = str(live.frame.f_globals.get("__name__", ""))
        return self._names.get((module, live.frame.f_code.co_qualname), set())


def _place(frame: FrameType) -> str:
    return f"{os.path.relpath(frame.f_code.co_filename)}:{frame.f_lineno}"


def _graphs_retained() -> AbstractContextManager[None]:
    from flor_trace.state.kinds.torch_isolation import graphs_retained

    return graphs_retained()
