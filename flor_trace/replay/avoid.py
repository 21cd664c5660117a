"""The boundaries that a replay must not restore, because the script goes on with what no snapshot holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flor_trace.runtime.position import EXIT, Boundary

# A loop in which this many heads had to be avoided is one that carries its autograd graph through every iteration.
HEADS_TO_GIVE_UP_AFTER = 3


class Avoided:
    """Grows while a replay runs: a live autograd graph crosses a boundary far more often than it is used behind it, which
    only shows when it is used. (After a training loop `loss` still has its graph, and nobody asks for it; a REINFORCE
    agent collects its log-probabilities in the loop over an episode, and all of their graphs are used afterwards.)

    Exits are avoided for all executions of a loop at once, heads one by one, until it looks hopeless. What is damaged on disk
    is avoided alone.
    """

    def __init__(self, boundaries: Iterable[Sequence[object]] = ()) -> None:
        self._exits: set[str] = set()
        self._heads: dict[str, set[Boundary]] = {}
        self._alone: set[Boundary] = set()
        self._listed: list[list[object]] = []
        self.update(boundaries)

    def update(self, boundaries: Iterable[Sequence[object]]) -> None:
        """Add what `as_json` of another one has listed."""
        for *fields, alone in boundaries:
            self.add(Boundary(*fields), bool(alone))  # type: ignore[arg-type]

    def add(self, boundary: Boundary, alone: bool = False) -> bool:
        """Avoid a boundary from now on (`alone`: and none like it); False if it was avoided already."""
        if not self.allows(boundary):
            return False
        if alone:
            self._alone.add(boundary)
        elif boundary.iteration == EXIT:
            self._exits.add(boundary.loop)
        else:
            self._heads.setdefault(boundary.loop, set()).add(boundary)
        self._listed.append([*boundary, alone])
        return True

    def allows(self, boundary: Boundary) -> bool:
        """Whether a boundary may be restored."""
        if boundary in self._alone:
            return False
        if boundary.iteration == EXIT:
            return boundary.loop not in self._exits
        heads = self._heads.get(boundary.loop, ())
        return boundary not in heads and len(heads) < HEADS_TO_GIVE_UP_AFTER

    def as_json(self) -> list[list[object]]:
        """Plain lists, for a worker."""
        return self._listed
