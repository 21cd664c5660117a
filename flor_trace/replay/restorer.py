"""Compare the live program with a recorded snapshot, and make it the recorded one."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from flor_trace.errors import NotRestorable
from flor_trace.record.roots import collect_roots
from flor_trace.replay.history import SnapshotRef
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.files import FileState
from flor_trace.runtime.frames import LiveFrame, read_locals, surplus_locals, write_locals
from flor_trace.runtime.loops import Activation
from flor_trace.runtime.offline import TRACKER_VARIABLES
from flor_trace.runtime.position import Boundary
from flor_trace.state import Buffer, Graph, Ignore, LiveGraph, Roots, Scope, TokenTable, compare, walk
from flor_trace.state import Restorer as StateRestorer
from flor_trace.state.settled import Base

if TYPE_CHECKING:
    from flor_trace.runtime.sources import Sources

EXACT = "exact"
TOLERANCE = "tolerance"
DIVERGED = "diverged"


@dataclass(frozen=True)
class Present:
    """The live state as a comparison has just walked it; worth something only as long as nothing has run since. `base`: the recorded
    state, if it was found to be exactly that."""

    roots: Roots
    frames: list[LiveFrame]
    live: LiveGraph
    base: Base | None = None


@dataclass(frozen=True)
class Check:
    """The outcome of one comparison with a snapshot; `differences` holds the first ones, by path. `only_memory`: there are none but
    in the content of memory."""

    at: str
    verdict: str
    largest: float = 0.0
    differences: list[str] = field(default_factory=list)
    only_memory: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain fields."""
        return asdict(self)


class Restorer:
    """Verifies and restores at boundaries.

    Args:
        runtime: gives frames, modules and entry counts.
        read_blob: content by digest; raises `CorruptRecord`.
        read_into: the same, to where it is wanted.
        sources: the recorded clock and entropy values.
        install_files: makes the replay's view of files that of a snapshot.
        hindsight_names: by (module, qualified function or class): the names that only hindsight statements bind.
        edited: the modules whose log statements differ from the recorded.
        attributes: what only hindsight statements give to objects (see `state.scope.Ignore`).
    """

    def __init__(
        self,
        runtime: Runtime,
        read_blob: Callable[[str], bytes],
        read_into: Callable[[str, memoryview], None],
        sources: Sources,
        install_files: Callable[[Mapping[str, Any]], None],
        hindsight_names: Mapping[tuple[str, str], set[str]],
        edited: set[str],
        attributes: frozenset[str] = frozenset(),
    ) -> None:
        self.runtime = runtime
        self.sources = sources
        self.restored: Boundary | None = None
        self._read_blob = read_blob
        self._read_into = read_into
        self._install_files = install_files
        self._names = hindsight_names
        self._edited = edited
        self._attributes = attributes
        self._in_classes = Ignore(classes=hindsight_names)
        self.passed_over: frozenset[str] = frozenset()
        self.imported: set[str] = set()
        self.unordered: dict[str, None] = {}  # paths of sets that iterate by addresses, in another order than recorded
        self._scope = Scope(runtime.user_modules.__contains__)
        self._tokens = TokenTable()
        self._matching: dict[Any, object] | None = None
        self._present: Present | None = None
        self._decoded: tuple[str, Graph] | None = None
        self._written: dict[int, Buffer] = {}
        self._hashed_after_restore = False

    def release(self, keep_matching: bool = False) -> None:
        """The script is about to go on: what was walked is stale from now on, and must not be kept alive by us.

        `keep_matching`: nothing but an iterable is evaluated before the next restore.
        """
        self._forget_present()
        self._decoded = None
        if not keep_matching:
            self._matching = None

    def _forget_present(self) -> None:
        self._present = None
        self._written = {}

    def verify(self, ref: SnapshotRef, frame: FrameType | None, restored: bool = False) -> Check:
        """Compare; afterwards the live objects are known by their recorded tokens.

        Args:
            ref: the snapshot.
            frame: the frame of its loop.
            restored: right after `restore`: memory is taken to hold what has been read and hashed on its way there (the
                first time it is hashed once more).
        """
        known = self._written if restored and self._hashed_after_restore else {}
        self._hashed_after_restore |= restored
        self._forget_present()
        self._matching = None
        collecting = gc.isenabled()
        gc.disable()
        self.sources.suspend()
        try:
            roots, frames = collect_roots(self.runtime, frame)
            live = walk(roots, self._scope, self._tokens, known, ignore=self._in_classes)
            recorded = self._graph(ref)
            comparison = compare(recorded, live, self._ignore(frames), self._read_blob)
        finally:
            self.sources.resume()
            if collecting:
                gc.enable()
        self._matching = comparison.matching
        self.unordered.update(dict.fromkeys(comparison.unordered[:1]))
        exact = comparison.verdict == EXACT and not self._attributes
        self._present = Present(roots, frames, live, Base(recorded, comparison.several) if exact else None)
        differences = [str(d) for d in comparison.differences[:5]]
        verdict = comparison.verdict
        only_memory = verdict == DIVERGED and all(d.what == "content" for d in comparison.differences)
        only_memory = only_memory and comparison.count == len(comparison.differences)
        if not self.sources.has_come_to(ref.sources) or self.sources.mismatch:
            what = self.sources.mismatch or (
                f"{self.sources.offset} clock and entropy values had been read, {ref.sources} when recorded"
            )
            differences.insert(0, what)
            verdict, only_memory = DIVERGED, False
            self.sources.mismatches.clear()
        return Check(str(ref.at), verdict, comparison.largest, differences, only_memory)

    def restore(
        self,
        ref: SnapshotRef,
        frame: FrameType,
        jumping: Activation | None = None,
        graph_needed: Callable[[str], None] | None = None,
    ) -> None:
        """Make the live state that of the snapshot; `verify` must have been called in this activation before. If nothing has run
        since (see `release`), the state is not walked again.

        Args:
            ref: the snapshot, of the same activation.
            frame: the frame of its loop.
            jumping: the activation, if its iterator is to be set to the snapshot's iteration.
            graph_needed: called if the script later asks for the autograd graph of a restored tensor, with the name of its node.

        Raises:
            NotRestorable: before anything has been changed.
            CorruptRecord, HalfRestored: when part of the state may have been changed.
        """
        present = self._present or self._look(frame)
        roots, frames, live_state = present.roots, present.frames, present.live
        target = self._graph(ref)
        ignore = self._ignore(frames)
        kept = {name: os.environ[name] for name in TRACKER_VARIABLES | self.runtime.own_variables if name in os.environ}
        target = target.with_library({"environ": {**target.library["environ"], **kept}})
        matching = self._matching
        if matching is None:
            raise NotRestorable(str(ref.at), "the state before it could not be compared")
        if jumping is not None and jumping.source is not None:
            matching = {**_matched_behind(target, str(len(self.runtime.stack) - 1), live_state, ignore), **matching}
        planned = StateRestorer(
            target, matching, roots, self._scope, self._read_blob, ignore, live_state, graph_needed, self._read_into, present.base
        ).plan()
        self._check_frames(frames, planned.frame_names())
        _check_mapped(planned.mapped.values(), ref)
        if jumping is not None and jumping.source is None and not jumping.advance_to(int(ref.at.iteration)):
            raise NotRestorable(ref.at.loop, "its iterator has too few items")
        self._forget_present()
        self.sources.suspend()  # a generator that is built anew draws a seed first
        try:
            restored = planned.apply()
        finally:
            self.sources.resume()
        for live, values in zip(frames, restored.frames, strict=True):
            # read only now: variables of enclosing functions, which have been written before their inner ones
            bound = read_locals(live.frame)
            held = {n: v for n, v in bound.items() if n in ignore.frames.get(live.name, set())}
            write_locals(live.frame, {**held, **values})
        self._set_iterators(restored.extra, ref, jumping)
        self._matching = restored.matching
        self.runtime.entries.clear()
        self.runtime.entries.update(ref.entries)
        for activation in self.runtime.stack:
            # An enclosing activation has been entered before the snapshot in any case.
            assert self.runtime.entries.get(activation.probe.key, 0) > activation.entry
        self.sources.offset = ref.sources
        self.restored = ref.at
        self._install_files(ref.files)
        self._written = planned.content_of_regions()

    def _look(self, frame: FrameType) -> Present:
        roots, frames = collect_roots(self.runtime, frame)
        return Present(roots, frames, walk(roots, self._scope, self._tokens, ignore=self._in_classes))

    def _graph(self, ref: SnapshotRef) -> Graph:
        """The recorded graph, read once for a restore and the comparison behind it."""
        if self._decoded is None or self._decoded[0] != ref.graph:
            self._decoded = (ref.graph, Graph.decode(self._read_blob(ref.graph)))
        return self._decoded[1]

    def _set_iterators(self, sources: Mapping[str, Any], ref: SnapshotRef, jumping: Activation | None) -> None:
        for number, activation in enumerate(self.runtime.stack):
            source = sources.get(str(number))
            if source is None:
                continue
            if activation is jumping:
                activation.stand_at(int(ref.at.iteration), source)
            elif source is not activation.source:
                activation.replace_source(source)

    def _check_frames(self, frames: list[LiveFrame], names: list[set[str]]) -> None:
        for live, bound in zip(frames, names, strict=True):
            surplus = surplus_locals(live.frame, bound | self._frame_names(live))
            if surplus:
                raise NotRestorable(f"{live.name} → {surplus[0]}", "this Python cannot unbind a local from outside")

    def _ignore(self, frames: list[LiveFrame]) -> Ignore:
        modules = {module: names for (module, function), names in self._names.items() if function == "<module>"}
        own = {live.name: self._frame_names(live) for live in frames}
        return Ignore(modules, own, self._edited, self._attributes, self.passed_over, self._names, self.imported)

    def _frame_names(self, live: LiveFrame) -> set[str]:
        module = live.frame.f_globals.get("__name__", "")
        code = live.frame.f_code
        # a hindsight statement may read variables of enclosing functions that its function had no need of before
        shared = set(code.co_freevars) if str(module) in self._edited else set()
        return self._names.get((str(module), code.co_qualname), set()) | shared


def _check_mapped(paths: Iterable[str], ref: SnapshotRef) -> None:
    """Files that memory is shared with must be among those that are shown as they were."""
    kept = [path for path, state in ref.files.items() if FileState.from_json(state).chunks]
    for path in paths:
        if not any(path.endswith(name) for name in kept):
            raise NotRestorable(path, "memory is mapped to this file, whose content at this point was not kept")


def _matched_behind(target: Graph, root: str, live: LiveGraph, ignore: Ignore) -> dict[Any, object]:
    """What stands in a loop's iterator and behind it, matched by its place: it was born when the iterable was evaluated,
    after the entry's snapshot, so that it has no token yet, and by then nothing else can have come into that place."""
    cells = [
        cell for entry in target.roots if entry.section == "extra"
        for name, cell in zip(entry.names, entry.cells, strict=True) if name == root
    ]  # fmt: skip
    found = compare(target, live, ignore).matching
    behind: dict[Any, object] = {}
    while cells:
        cell = cells.pop()
        if type(cell) is not tuple or len(cell) != 1 or cell[0] in behind or cell[0] not in found:
            continue
        behind[cell[0]] = found[cell[0]]
        node = target.nodes[cell[0]]
        cells.extend(node[3])
        if node[4] is not None:
            cells.extend([node[4][0], *node[4][2]])
    return behind
