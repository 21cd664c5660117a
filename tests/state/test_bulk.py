"""Large containers of atoms: which are written as one, and that equal content gives equal bytes."""

from __future__ import annotations

import itertools
import marshal
import random
from typing import Any

import pytest
from state.world import World

from flor_trace.state import bulk

N = 1200


class Whole(int):
    pass


WHOLE: dict[str, Any] = {
    "small ints": list(range(N)),
    "large ints": [i << 60 for i in range(N)],
    "one large int": [*range(N), 1 << 40],
    "floats": [i / 7 for i in range(N)] + [float("nan"), -0.0, float("inf")],
    "floats after an int": [1, *map(float, range(N))],
    "an int after floats": [*map(float, range(N)), 1],
    "bools among ints": [*range(N), True],
    "strings": [str(i) for i in range(N)],
    "strings and ints": [*map(str, range(N)), *range(5)],
    "nothing": [None] * N,
    "complex": [complex(i, 1) for i in range(N)],
    "pairs": [(i, i + 0.5) for i in range(N)],
    "a tuple of ints": tuple(range(N)),
    "a dict": {i: float(i) for i in range(N)},
    "a dict of pairs": {i: (i, None) for i in range(N)},
}
APART: dict[str, Any] = {
    "lists": [[i] for i in range(N)],
    "pairs of pairs": [((1, 2), 3)] * N,
    "a list among ints": [*range(N), [1]],
    "a number that is more": [*range(N), Whole(3)],
    "bytes that may change": [*range(N), bytearray(b"x")],
    "numbers with strings": [1.0] * N + ["a"],
}


@pytest.mark.parametrize("name", WHOLE)
def test_atoms_are_one_run_of_bytes(name: str) -> None:
    value = WHOLE[name]
    reader = bulk.reader_of(value)
    assert reader is not None
    data = reader()
    assert reader() == data
    assert marshal.dumps(marshal.loads(data), 2) == marshal.dumps(value, 2)


@pytest.mark.parametrize("name", APART)
def test_anything_else_is_walked(name: str) -> None:
    assert bulk.reader_of(APART[name]) is None


def test_bytes_that_look_like_ints_are_told_from_them() -> None:
    # as long as so many ints, but what stands where their marks should be is another's
    mixed: list[Any] = [*range(N), "abcdefgh", True, None]
    reader = bulk.reader_of(mixed)
    assert reader is not None
    assert len(marshal.dumps(mixed, 2)) == 5 + 5 * len(mixed)
    assert marshal.loads(reader()) == mixed


def test_content_alone_decides() -> None:
    r = random.Random(0)
    made = [[r.random() for _ in range(N)], ["".join(r.choices("ab", k=5)) for _ in range(N)], [r.randrange(1 << 40) for _ in range(N)]]
    for value in made:
        again = marshal.loads(marshal.dumps(value))
        first, second = bulk.reader_of(value), bulk.reader_of(again)
        assert first is not None and second is not None and first() == second()


@pytest.mark.parametrize(("name", "other"), list(itertools.permutations(["small ints", "floats", "strings", "pairs", "lists"], 2)))
def test_one_turns_into_another_and_back(name: str, other: str) -> None:
    world = World(value=list({**WHOLE, **APART}[name]))
    value = world.v["value"]
    before = world.snap()
    value[:] = {**WHOLE, **APART}[other]
    after = world.snap()
    world.replay(after, before)
    assert repr(value) == repr({**WHOLE, **APART}[name])
    world.replay(before, after)
    assert repr(value) == repr({**WHOLE, **APART}[other]) and world.v["value"] is value
