"""Fill a set's table slot by slot, as a layout has it.

Objects/setobject.c, 3.11 to 3.13: an element is tried at ten slots in a row from where its hash points, then at ten others after
a jump, and takes the first that is free; slots of discarded elements are not free. A table of which three fifths are not free
is made anew for four times (twice, beyond 50,000) the elements in use, which then are inserted again in the order of
their slots. So: grow the table with elements that stand where their hashes point, insert the others each after those that
stood in its way, with fillers (ints, whose hash is their value) for the discarded ones, and discard the fillers. The caller looks
at the result, so a change in CPython makes this fail, not lie.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from .setlayout import DUMMY, FREE, USED

Step = tuple[bool, Any]  # whether to add, and what

_LINEAR = 9
_PERTURB = 5
_WORD = (1 << 64) - 1
_MANY = 50_000
_TRIES = 20


def ways_to_fill(items: list[Any], pattern: bytes) -> Iterator[list[Step]]:
    """Steps that fill an empty set of the smallest size with `items`, which iterate in that order, so that its slots are as in
    `pattern`; several ways, of which the first that succeeds is to be used. None where it cannot be done."""
    slots = [slot for slot, use in enumerate(pattern) if use == USED]
    if len(slots) != len(items):
        return
    placed = _placed(items, slots, pattern)
    if placed is None:
        return
    home, late = placed
    taken = {item for item in items if type(item) in (int, float, bool, complex)}
    gone = [_filler(slot, len(pattern), taken) for slot, use in enumerate(pattern) if use == DUMMY]
    passing = _passing(len(pattern), taken, set(gone))
    shuffler = random.Random(0)
    first, later = gone + home, late
    for _ in range(_TRIES):
        growing, core = _grown(len(pattern), first + later, passing)
        yield growing + [(True, item) for item in core] + [(False, item) for item in gone]
        if len(pattern) == 8 or not late:
            return
        # Displaced elements among those that are inserted again when the table grows: their order then may be another one.
        shuffler.shuffle(first)


def _placed(items: list[Any], slots: list[int], pattern: bytes) -> tuple[list[Any], list[Any]] | None:
    """The elements where their hashes point, and the displaced ones, each after those that stood in its way."""
    mask = len(pattern) - 1
    owner = dict(zip(slots, range(len(items)), strict=True))
    home, needs = [], {}
    for k, (item, slot) in enumerate(zip(items, slots, strict=True)):
        value = hash(item)
        if value & mask == slot:
            home.append(item)
            continue
        before = set()
        for tried in islice(_path(value, mask), 4 * len(pattern)):
            if tried == slot:
                break
            if pattern[tried] == FREE:
                return None
            if tried in owner:
                before.add(owner[tried])
        else:
            return None
        needs[k] = before
    order = _in_dependency(needs)
    return None if order is None else (home, [items[k] for k in order])


def _path(value: int, mask: int) -> Iterator[int]:
    """The slots at which an element of that hash is tried."""
    perturb = value & _WORD
    slot = perturb & mask
    while True:
        yield from range(slot, slot + (_LINEAR if slot + _LINEAR <= mask else 0) + 1)
        perturb >>= _PERTURB
        slot = (slot * 5 + 1 + perturb) & mask


def _in_dependency(needs: dict[int, set[int]]) -> list[int] | None:
    """The keys, each after those of its needs that are keys; None if they go round in a circle."""
    open_needs = {k: {other for other in before if other in needs} for k, before in needs.items()}
    waiting: dict[int, list[int]] = {}
    for k, before in open_needs.items():
        for other in before:
            waiting.setdefault(other, []).append(k)
    order = [k for k, before in open_needs.items() if not before]
    for k in order:
        for other in waiting.get(k, ()):
            open_needs[other].discard(k)
            if not open_needs[other]:
                order.append(other)
    return order if len(order) == len(needs) else None


def _filler(slot: int, size: int, taken: set[Any]) -> int:
    value = slot
    while value in taken:
        value += size
    return value


def _passing(size: int, taken: set[Any], gone: set[Any]) -> Iterator[int]:
    """Ints that are nobody else's, for slots that are to be used up before the table grows."""
    value = 4 * size
    while True:
        value += 1
        if value not in taken and value not in gone:
            yield value


def _grown(size: int, elements: list[Any], passing: Iterator[int]) -> tuple[list[Step], list[Any]]:
    """Steps that make the table so large, with some of the elements inserted, and the other elements."""
    steps: list[Step] = []
    done = 0
    for present, wanted in _stages(size):
        used = min(wanted, len(elements))
        threshold = -(-(present - 1) * 3 // 5)
        for value in islice(passing, threshold - used):
            steps += [(True, value), (False, value)]
        steps += [(True, item) for item in elements[done:used]]
        done = used
    return steps, elements[done:]


def _stages(size: int) -> list[tuple[int, int]]:
    """Sizes through which the table grows, each with the number of elements in use at which it is made anew as the next."""
    stages: list[tuple[int, int]] = []
    while size > 8:
        few = size // 8
        if few > _MANY:
            stages.append((size // 2, size // 4))
            size //= 2
        else:
            before = size // 4 if size > 16 else 8
            stages.append((before, few))
            size = before
    return stages[::-1]
