"""A small world for state tests: one user module, snapshots with their blobs, and restores into the live module."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from flor_trace.state import (
    Comparison,
    FrameRoot,
    Graph,
    Ignore,
    LiveGraph,
    Restored,
    Roots,
    Scope,
    TokenTable,
    compare,
    library,
    restore,
    walk,
)
from flor_trace.state.settled import Base

USER = "user_script"


class World:
    """The live state is the namespace `self.v`; `snap` records it, `back` restores it."""

    def __init__(self, **names: Any) -> None:
        self.module = ModuleType(USER)
        self.v = self.module.__dict__
        self.v.update(names)
        self.scope = Scope(lambda name: name in (USER, "__main__") or name.startswith(("tests.", "test_")))
        self.tokens = TokenTable()
        self.blobs: dict[str, bytes] = {}
        self.frames: list[FrameRoot] = []

    def roots(self) -> Roots:
        return Roots(modules={USER: self.v}, frames=self.frames, library=library.capture())

    def walk(self) -> LiveGraph:
        return walk(self.roots(), self.scope, self.tokens)

    def snap(self) -> Graph:
        """Record: what is kept is the decoded encoding and the bytes of each buffer."""
        live = self.walk()
        for token, buffer in live.graph.buffers.items():
            self.blobs[buffer.digest] = bytes(live.buffer(token))
        return Graph.decode(live.graph.encode()[0])

    def compare(self, graph: Graph, ignore: Ignore | None = None) -> Comparison:
        return compare(graph, self.walk(), ignore or Ignore(), self.blobs.__getitem__)

    def replay(
        self, entry: Graph, target: Graph, ignore: Ignore | None = None, verify: bool = True, from_base: bool = True
    ) -> Restored:
        """Match `entry` with the live state, restore `target`, and verify by a new walk.

        `from_base`: leave alone what has not changed since `entry`, as a worker does when nothing has run since it was matched.
        """
        live = self.walk()
        matched = compare(entry, live, ignore or Ignore(), self.blobs.__getitem__)
        assert matched.verdict == "exact", matched.differences
        base = Base(entry, matched.several) if from_base and not (ignore and ignore.attributes) else None
        done = restore(target, matched.matching, self.roots(), self.scope, self.blobs.__getitem__, ignore, live, base)
        for frame, values in zip(self.frames, done.frames, strict=True):
            frame.locals.clear()
            frame.locals.update(values)
        if verify:
            after = self.compare(target, ignore)
            assert after.verdict == "exact", after.differences
        return done
