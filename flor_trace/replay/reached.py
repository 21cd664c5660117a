"""In which iterations of a partitioned activation a hindsight statement can be reached, as far as the run's record tells (see `evidence`).

What is left out is sure to hold no such statement; an iteration that is executed may hold none all the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from flor_trace.replay.evidence import Traces, Witness
from flor_trace.replay.history import ActivationKey, History, RecordedActivation
from flor_trace.replay.stretches import Stretch, everything, joined


@dataclass(frozen=True)
class Statement:
    """A hindsight statement.

    Attributes:
        path: the file of its module, as the record calls it.
        loops: the loops around it in its function.
        within: all loops in which it may be executed.
        observed: whether its function returns before its caller goes on: neither a generator nor a coroutine.
        witnesses: what tells of the iterations in which it was reached.
    """

    path: str
    loops: tuple[str, ...]
    within: frozenset[str]
    observed: bool
    witnesses: tuple[Witness, ...]

    def telling(self, loop: str) -> list[Witness]:
        """What tells of iterations of a loop in which the statement may be executed."""
        if loop in self.loops:
            return [witness for witness in self.witnesses if loop in witness.loops]
        return [witness for witness in self.witnesses if witness.of_calls] if self.observed else []


class Reached:
    """Which iterations a replay of some hindsight statements needs.

    Args:
        statements: the hindsight statements.
        history: the run.
        traces: what is sure to be in its record.
    """

    def __init__(self, statements: Sequence[Statement], history: History, traces: Traces) -> None:
        self._statements = statements
        self._history = history
        self._traces = traces
        self._lines = {f"{s.path}:{w.line}" for s in statements for w in s.witnesses if w.line}

    def stretches(self, activation: RecordedActivation) -> list[Stretch]:
        """The parts of a partitioned activation in which one of the statements may be reached."""
        concerned = [statement for statement in self._statements if activation.loop in statement.within]
        # Iterations that were handed out many at once are not told apart.
        apart = len(activation.ticks) >= activation.iterations - 1
        if not apart or not all(statement.telling(activation.loop) for statement in concerned):
            return everything(activation)
        printed = self._printed(activation) if self._lines and self._traces.prints else {}
        wanted: set[int] = set()
        for statement in concerned:
            known = [self._told_by(witness, statement.path, activation, printed) for witness in statement.telling(activation.loop)]
            told = [each for each in known if each is not None]
            if not told:
                return everything(activation)
            wanted |= frozenset.intersection(*told)
        if activation.exit in ("left", "unfinished"):
            wanted.add(activation.iterations)  # before it came to the witness, perhaps
        return self._without_vain_gaps(activation, sorted(wanted))

    def _told_by(
        self, witness: Witness, path: str, activation: RecordedActivation, printed: dict[str, set[int]]
    ) -> frozenset[int] | None:
        """The iterations in which a witness was executed; None if that is not known."""
        if witness.loop:
            known = self._traces.loops and self._history.all_recorded(witness.loop)
            return self._entered(witness.loop, activation.key) if known else None
        # Never seen, it may have written elsewhere.
        return frozenset(printed[f"{path}:{witness.line}"]) if f"{path}:{witness.line}" in printed else None

    def _entered(self, loop: str, key: ActivationKey) -> frozenset[int] | None:
        """The iterations of an activation in which a loop was entered; None if it never was: then others may execute it unseen."""
        entered = [each for each in self._history.activations.values() if each.loop == loop]
        if not entered:
            return None
        found = set()
        for each in entered:
            parent = each.parent
            while parent is not None:
                if parent[:2] == key:
                    found.add(parent[2])
                    break
                above = self._history.activations.get(parent[:2])
                parent = above.parent if above else None
        return frozenset(found)

    def _printed(self, activation: RecordedActivation) -> dict[str, set[int]]:
        """In which iterations of an activation each of the wanted lines has printed."""
        found: dict[str, set[int]] = {}
        for record in self._history.outputs_within(activation.key):
            if record["line"] in self._lines and record["stream"] == "stdout":
                iterations = [place[2] for place in record["at"] if tuple(place[:2]) == activation.key]
                found.setdefault(record["line"], set()).update(iterations)
        return found

    def _without_vain_gaps(self, activation: RecordedActivation, wanted: list[int]) -> list[Stretch]:
        """The iterations as stretches; between two of them there are a head to jump from and one to jump to, or else they are one."""
        found: list[Stretch] = []
        heads = self._history.heads(activation.key)
        last = -1
        for iteration in wanted:
            between = bisect_right(heads, iteration) - bisect_right(heads, last)
            if found and between < 2:
                found[-1] = Stretch(found[-1].start, iteration + 1)
            else:
                found.append(Stretch(iteration, iteration + 1))
            last = iteration
        return joined(found, activation.begun)
