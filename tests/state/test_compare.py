"""Comparisons of sets whose elements hash by their addresses, and what they cost: nothing that grows with the square of the state."""

from __future__ import annotations

from collections.abc import Iterator

from state.world import World

from flor_trace.state import Ignore
from flor_trace.state.compare import _Comparer


class Value:
    """A node of a graph of operations, as small autograd engines make one for every number: it holds its operands in a set."""

    def __init__(self, *operands: Value, number: int = 0) -> None:
        self.operands = set(operands)
        self.number = number


class Counted(dict[int, int]):
    """A dict that counts how often all of it is read."""

    reads = 0

    def __iter__(self) -> Iterator[int]:
        self.reads += 1
        return super().__iter__()


def test_many_sets_of_objects_do_not_have_what_was_met_read_for_each() -> None:
    def reads(number: int) -> int:
        last = Value()
        for _ in range(number):
            last = Value(last)
        w = World(last=last, met=[Value() for _ in range(number)])
        comparer = _Comparer(w.snap(), w.walk(), Ignore(), w.blobs.__getitem__)
        comparer.there = there = Counted()
        assert comparer.run().verdict == "exact"
        assert len(there) > 2 * number, "the sets' elements were not met"
        return there.reads

    assert reads(50) == reads(5)


def test_elements_that_only_their_set_knows_are_told_apart_by_their_attributes() -> None:
    values = [Value(number=number) for number in range(50)]
    w = World(values=set(values))
    recorded = w.snap()
    assert w.compare(recorded).unordered == []
    for value in values:
        value.number = 49 - value.number
    found = w.compare(recorded)
    assert (found.verdict, found.unordered) == ("exact", ["user_script.values"])
    values[0].number = 7
    assert w.compare(recorded).verdict == "diverged"
