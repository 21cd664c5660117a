"""Sets come back with the slots of their tables: not only in the order of today, but in that of all that follows."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flor_trace.state.setlayout import DUMMY, FREE, USED, layout_of
from flor_trace.state.setorder import rebuild

numbers = st.one_of(st.integers(-3, 40), st.integers(0, 8).map(lambda n: n * 32), st.integers(0, 1 << 40))
elements = st.one_of(numbers, st.text(max_size=3), st.tuples(numbers, st.text(max_size=1)), st.floats(allow_nan=False))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), elements), st.tuples(st.just("discard"), elements), st.tuples(st.just("pop"), st.none()),
        st.tuples(st.just("first"), st.none()), st.tuples(st.just("update"), st.lists(elements, max_size=12)),
        st.tuples(st.just("keep"), st.lists(elements, max_size=12)), st.tuples(st.just("clear"), st.none()),
    ),
    max_size=60,
)  # fmt: skip


def take(items: set[Any], step: tuple[str, Any]) -> Any:
    what, value = step
    if what == "pop" or what == "first":
        if not items:
            return None
        if what == "pop":
            return items.pop()
        value = next(iter(items))
        items.discard(value)
        return value
    if what == "keep":
        items &= set(value) | set(list(items)[::2])
    elif what == "clear":
        if value is None and len(items) > 3:
            items.clear()
    elif what == "update":
        items |= set(value)
    else:
        getattr(items, what)(value)
    return None


@settings(max_examples=150, deadline=None)
@given(steps, steps, st.sets(elements))
def test_a_rebuilt_set_goes_on_like_the_first(before: list[Any], after: list[Any], other: set[Any]) -> None:
    first: set[Any] = set()
    for step in before:
        take(first, step)
    layout = layout_of(first)
    assert layout is not None
    items = list(first)
    assume(rebuild(other, items, layout))  # see below
    assert layout_of(other) == layout
    for step in after:
        assert repr(take(first, step)) == repr(take(other, step))
        assert list(map(repr, first)) == list(map(repr, other))
        assert layout_of(first) == layout_of(other)


def test_few_sets_cannot_be_rebuilt() -> None:
    # Two elements may be in each other's way: each came when the other's slot was still that of a third one.
    rng, refused = random.Random(3), 0
    for _ in range(400):
        items: set[Any] = set()
        for _ in range(rng.randrange(60)):
            value = rng.choice([rng.randrange(40), rng.randrange(8) * 32, str(rng.randrange(9)), rng.randrange(1 << 40)])
            take(items, (rng.choice(["add", "add", "add", "discard", "first", "pop"]), value))
        layout = layout_of(items)
        assert layout is not None
        refused += not rebuild(set(), list(items), layout)
    assert refused <= 8


def test_what_the_slots_hold() -> None:
    items = {8, 17, 2, 3}
    assert items.pop() == 8
    items.discard(2)
    assert layout_of(items) == (1, bytes([DUMMY, USED, DUMMY, USED, FREE, FREE, FREE, FREE]))
    assert layout_of(set()) == (0, bytes(8))


@pytest.mark.parametrize("size", [30, 1000, 70_000])
def test_large_sets(size: int) -> None:
    rng = random.Random(size)
    first: set[Any] = {(rng.randrange(10 * size), "x" * (i % 3)) for i in range(size)}
    for _ in range(size // 3):
        first.discard(next(iter(first)))
        first.add((rng.randrange(10 * size), ""))
    layout = layout_of(first)
    other: set[Any] = set()
    assert layout is not None
    assert rebuild(other, list(first), layout)
    for _ in range(200):
        assert first.pop() == other.pop()
        new = (rng.randrange(10 * size), "y")
        first.add(new)
        other.add(new)
    assert list(first) == list(other)


def test_a_layout_that_cannot_be_is_refused() -> None:
    assert not rebuild(set(), [1, 2], (0, bytes([USED] + 7 * [FREE])))  # one slot for two elements
    assert not rebuild(set(), [5], (0, bytes([USED] + 7 * [FREE])))  # nothing stood in the way of 5
    assert not rebuild(set(), [], (0, bytes(1024)))  # no set of this size without ever an element


def test_the_layout_is_known_here() -> None:
    assert sys.implementation.name != "cpython" or layout_of({1}) is not None
