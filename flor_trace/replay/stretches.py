"""Which parts of the partitioned activations a replay is asked for: `--iterations`, and what `--where` can be true in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flor_trace.errors import UsageError
from flor_trace.replay.history import ActivationKey, History, RecordedActivation
from flor_trace.replay.loopvars import LoopVariable, Values
from flor_trace.replay.units import Cut, Inner
from flor_trace.replay.where import ANY, Condition


@dataclass(frozen=True)
class Stretch:
    """A part of an activation: from where iteration `start` begins, or from a place within it, to the same of `end` (None: to where
    the activation was left)."""

    start: int
    end: int | None
    start_inner: Inner | None = None
    end_inner: Inner | None = None


Asked = Callable[[RecordedActivation], list[Stretch]]


def everything(activation: RecordedActivation) -> list[Stretch]:
    """The whole activation."""
    return [Stretch(0, None)]


def iterations(first: int, last: int | None) -> Asked:
    """The iterations from `first` up to `last`."""

    def asked(activation: RecordedActivation) -> list[Stretch]:
        total = activation.iterations if activation.exit == "unfinished" else activation.begun
        if first >= total:
            return []
        return [Stretch(first, None if last is None or last >= total else last)]

    return asked


def cuts_within(every: list[Cut], stretch: Stretch, history: History, total: float) -> tuple[list[Cut], Cut | None]:
    """The places in a stretch where segments may begin, the stretch's own beginning first, and its end (None: the activation's).

    Args:
        every: the places in the whole activation (see `units.cuts`).
        stretch: the part.
        history: the run.
        total: seconds of the whole activation.
    """
    begin = _place(every, stretch.start, stretch.start_inner, history, total)
    end = None if stretch.end is None else _place(every, stretch.end, stretch.end_inner, history, total)
    first, last = _order(begin, history), _order(end, history) if end is not None else None
    between = [cut for cut in every if _order(cut, history) > first and (last is None or _order(cut, history) < last)]
    return [begin, *between], end


def _place(every: list[Cut], iteration: int, inner: Inner | None, history: History, total: float) -> Cut:
    """The cut at a place; one whose output is not known, where there is no snapshot."""
    wanted = Cut(iteration, inner, 0.0, -1)
    number = bisect_left(every, _order(wanted, history), key=lambda cut: _order(cut, history))
    if number < len(every) and (every[number].iteration, every[number].inner) == (iteration, inner):
        return every[number]
    before = every[number - 1]
    after = every[number].at if number < len(every) else total
    return replace(wanted, at=(before.at + after) / 2)


def _order(cut: Cut, history: History) -> tuple[int, float, int]:
    if cut.inner is None:
        return (cut.iteration, -1.0, 0)
    return (cut.iteration, history.activations[cut.inner.key].started, cut.inner.iteration)


class Where:
    """What a condition on loop variables needs.

    What is left out is sure to show nothing; what is executed may still hold lines for which the condition is not true, and
    those the workers leave out (`where.Filter`).

    Args:
        condition: the condition.
        variables: of all recorded loops of the run.
        values: which values they took.
        history: the run.

    Raises:
        UsageError: a name is no loop's variable, or something else binds it as well.
    """

    def __init__(self, condition: Condition, variables: Sequence[LoopVariable], values: Values, history: History) -> None:
        self.condition = condition
        self._values = values
        self._history = history
        self._binders = [v for v in variables if v.name in condition.names]
        _check_names(condition, variables)

    @property
    def places(self) -> list[list[object]]:
        """Where the condition's names are bound, for the workers."""
        return [variable.place() for variable in self._binders]

    def stretches(self, activation: RecordedActivation) -> list[Stretch]:
        """The parts of a partitioned activation that may show something."""
        around = self._around(activation)
        found: list[Stretch] = []
        for iteration in range(activation.begun):
            values = self._in_iteration(activation, iteration, around)
            if True in self.condition.possible(values):
                found.append(self._narrowed(activation, iteration, values))
        return joined(found, activation.begun)

    def outside(self, partitions: Sequence[RecordedActivation], probed: set[str]) -> bool:
        """Whether something may be shown before, between or behind the partitioned activations."""
        if not partitions:
            return True
        divided = {a.loop for a in partitions}
        return any(v.loop in probed and not self._only_inside(v, divided, partitions) for v in self._binders)

    def _only_inside(self, variable: LoopVariable, divided: set[str], partitions: Sequence[RecordedActivation]) -> bool:
        """Whether a loop was executed nowhere but in the partitioned activations, or is one of them, or one around them."""
        keys = {a.key for a in partitions}
        own = [a for a in self._history.activations.values() if a.loop == variable.loop]
        inside = (a.key in keys for a in own) if variable.loop in divided else (self._is_within(a, keys) for a in own)
        return self._history.all_recorded(variable.loop) and all(inside)

    def _is_within(self, activation: RecordedActivation, keys: set[ActivationKey]) -> bool:
        parent = activation.parent
        while parent is not None:
            if parent[:2] in keys:
                return True
            above = self._history.activations.get(parent[:2])
            parent = above.parent if above else None
        return False

    def _around(self, activation: RecordedActivation) -> dict[str, object]:
        """What the loops around an activation have bound."""
        values: dict[str, object] = {}
        parent = activation.parent
        while parent is not None:
            outer = self._history.activations.get(parent[:2])
            for variable in self._binders:
                if variable.loop == parent[0] and variable.name not in values:
                    values[variable.name] = self._values.of(variable, outer, parent[2]) if outer else ANY
            parent = outer.parent if outer else None
        return values

    def _in_iteration(self, activation: RecordedActivation, iteration: int, around: dict[str, object]) -> dict[str, object]:
        values = dict(around)
        known = activation.counted or iteration < activation.iterations
        for variable in self._binders:
            if variable.loop == activation.loop:
                values[variable.name] = self._values.of(variable, activation, iteration) if known else ANY
        for variable in self._binders:
            if self._may_be_inside(variable, activation.loop):
                values[variable.name] = ANY
        return values

    def _may_be_inside(self, variable: LoopVariable, loop: str) -> bool:
        """Whether a loop may have been executed within an iteration of another (or of itself, through a recursion)."""
        if loop in variable.around:
            return True
        if variable.loop == loop and variable.function.endswith(":<module>"):
            return False
        if variable.function.endswith(":<module>"):
            return variable.module != "__main__"
        return variable.function not in self._history.observed or variable.function in self._history.ran.get(loop, ())

    def _narrowed(self, activation: RecordedActivation, iteration: int, values: dict[str, object]) -> Stretch:
        """The part of an iteration that may show something: of one loop directly inside, if nothing else can."""
        whole = Stretch(iteration, iteration + 1)
        inside = [v for v in self._binders if self._may_be_inside(v, activation.loop)]
        loops = {v.loop for v in inside}
        child = self._only_child(activation, iteration, loops.pop()) if len(loops) == 1 else None
        if child is None or not child.counted or any(self._may_be_inside(v, child.loop) for v in inside):
            return whole
        beside = {name: value for name, value in values.items() if name not in {v.name for v in inside}}
        if True in self.condition.possible(beside):
            return whole
        shown = [
            step for step in range(child.begun)
            if True in self.condition.possible({**beside, **{v.name: self._values.of(v, child, step) for v in inside}})
        ]  # fmt: skip
        if not shown:
            return Stretch(iteration, iteration)
        first, last = shown[0], shown[-1] + 1
        start = Inner(*child.key, first) if first else None
        if last < child.begun:
            return Stretch(iteration, iteration, start, Inner(*child.key, last))
        return Stretch(iteration, iteration + 1, start)

    def _only_child(self, activation: RecordedActivation, iteration: int, loop: str) -> RecordedActivation | None:
        """The only execution of a loop in an iteration; None if it is not known to be the only one."""
        if len(self._history.heads(activation.key)) == 0 or not self._history.all_recorded(loop):
            return None
        own = [a for a in self._history.children(activation.key) if a.loop == loop and a.parent is not None and a.parent[2] == iteration]
        return own[0] if len(own) == 1 else None


def _check_names(condition: Condition, variables: Sequence[LoopVariable]) -> None:
    by_name: dict[str, list[LoopVariable]] = {}
    for variable in variables:
        by_name.setdefault(variable.name, []).append(variable)
    for name in sorted(condition.names):
        if name not in by_name:
            known = ", ".join(sorted(by_name)) or "there is none"
            raise UsageError(
                f"--where {condition.text!r} cannot be decided: no recorded `for` loop binds `{name}` (loop variables: {known})"
            )
        for variable in by_name[name]:
            if variable.rebound:
                raise UsageError(
                    f"--where {condition.text!r} cannot be decided: `{name}` is bound by more than its loop, in line "
                    f"{variable.rebound} of {variable.module}; use --iterations A:B"
                )


def joined(found: list[Stretch], total: int) -> list[Stretch]:
    """Stretches that meet become one."""
    joined: list[Stretch] = []
    for stretch in found:
        if stretch.start == stretch.end and stretch.end_inner is None:
            continue  # nothing of that iteration
        if joined and (joined[-1].end, joined[-1].end_inner) == (stretch.start, stretch.start_inner):
            joined[-1] = replace(joined[-1], end=stretch.end, end_inner=stretch.end_inner)
        else:
            joined.append(stretch)
    return [replace(s, end=None) if s.end is not None and s.end >= total and s.end_inner is None else s for s in joined]
