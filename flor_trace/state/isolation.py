"""Put the live state back to what it was a moment ago, in the same process: around statements that must not matter.

The same walk and the same restore as between processes serve here, with what only one process can have: the objects themselves are
kept, so that each stays the object it was; a tensor on an autograd graph keeps its graph; and memory that others share is written too,
since it is their view of the very change that is taken back.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from .fill import Restored
from .graph import READ_ONLY, LiveGraph
from .memory import Region
from .restore import Restorer
from .scope import Ignore, Roots, Scope
from .tokens import TokenTable
from .walk import walk


@dataclass(slots=True)
class Kept:
    """The state at one moment: its graph with the live objects, and what of torch no graph describes.

    `torch`: autograd graphs and version counters (see `kinds.torch_isolation`), None where torch has not been imported.
    """

    live: LiveGraph
    torch: Any


class Isolation:
    """Keeps a state and puts it back.

    Args:
        scope: tells user code from library code.
        ignore: names that belong to the statements themselves: what they are bound to is neither kept nor put back.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._tokens = TokenTable()
        self._contents: dict[str, bytes] = {}
        self.hidden: list[str] = []

    def keep(self, roots: Roots, ignore: Ignore) -> Kept:
        """Walk the state and copy the content of its memory; what the last call copied already is not copied again."""
        with _no_collection():
            live = walk(roots, self._scope, self._tokens, ignore=ignore)
            known, self._contents = self._contents, {}
            for token, buffer in live.graph.buffers.items():
                digest = buffer.digest
                if digest not in self._contents:
                    self._contents[digest] = known[digest] if digest in known else bytes(live.buffer(token))
            adapter = _torch()
            return Kept(live, None if adapter is None else adapter.keep(live.objects.values()))

    def put_back(self, kept: Kept, roots: Roots, ignore: Ignore) -> Restored | None:
        """Undo what has changed since `keep`; None if nothing has.

        Returns:
            The new locals of each frame and the iterators of the loops around, which are the caller's to set.

        Raises:
            NotRestorable: before anything has been changed.
        """
        with _no_collection():
            live = walk(roots, self._scope, self._tokens, ignore=ignore)
            restored = None
            if not _same(kept.live, live):
                restorer = _PutBack(kept, roots, self._scope, self._contents, ignore, live)
                restored = restorer.run()
                self.hidden = restorer.hidden
            if kept.torch is not None:
                kept.torch.put_back()
        return restored


class _PutBack(Restorer):
    """A restore in the process in which the state was kept."""

    def __init__(
        self, kept: Kept, roots: Roots, scope: Scope, contents: dict[str, bytes], ignore: Ignore, live: LiveGraph
    ) -> None:
        super().__init__(kept.live.graph, kept.live.objects, roots, scope, contents.__getitem__, ignore, live)
        self._kept = kept
        self.hidden: list[str] = []

    def may_write(self, region: Region) -> bool:
        """See `Restorer`: shared memory and mapped files too, for what is written is what they held a moment ago."""
        return not region.flags & READ_ONLY

    def may_pass(self, token: int) -> bool:
        """See `Restorer`: nothing is jumped over, so an object whose state is hidden is most likely as it was; it is noted."""
        self.hidden.append(self.path(token))
        return True

    def runs_on(self, obj: Any) -> bool:
        """See `Restorer`: the statement stands in it, or in what it calls; its variables are those of a frame."""
        return isinstance(obj, GeneratorType) and obj.gi_running

    def on_kept_graph(self, tensor: Any) -> bool:
        """See `Restorer`: the autograd graph is there as long as the tensor is on the same one."""
        return self._kept.torch is not None and bool(self._kept.torch.on_same_graph(tensor))


def _same(before: LiveGraph, after: LiveGraph) -> bool:
    """Whether two walks in one process have found the very same; where it is not sure (a NaN made by a property), False."""
    a, b = before.graph, after.graph
    return a.roots == b.roots and a.buffers == b.buffers and a.nodes == b.nodes and a.library == b.library


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection would run finalizers of the script's in the middle."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _torch() -> Any:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "default_generator"):
        return None
    from .kinds import torch_isolation

    return torch_isolation
