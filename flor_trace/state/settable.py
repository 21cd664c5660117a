"""Fill a set's table slot by slot, as a layout has it.

Objects/setobject.c, 3.11 to 3.13: an element is tried at ten slots in a row from where its hash points, then at ten others after
a jump, and takes the first that is free (or, in 3.11, the last on its way that a discarded element has left).
A table of which three fifths are not free is made anew for four times (twice, beyond 50,000) the elements in use, which then
are inserted again in the order of their slots. So: grow the table with elements that stand where their hashes point, insert the
others each after those that stood in its way, with fillers (ints, whose hash is their value) for the discarded ones, and
discard the fillers. The result is looked at, so a change in CPython makes this fail, not lie.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, islice
from operator import is_
from typing import Any

from .setlayout import DUMMY, FREE, USED, layout_of

_LINEAR = 9
_PERTURB = 5
_WORD = (1 << 64) - 1
_MANY = 50_000
_TRIES = 20


def fill(target: set[Any], items: list[Any], pattern: bytes) -> bool:
    """Fill a set with `items`, which iterate in that order, so that its slots are as in `pattern`.

    Returns:
        False, with some content or other in the set, where no way to that is found.
    """
    slots = [slot for slot, use in enumerate(pattern) if use == USED]
    if len(slots) != len(items):
        return False
    placed = _placed(items, slots, pattern)
    if placed is None:
        return False
    home, late = placed
    taken = {item for item in items if type(item) in (int, float, bool, complex)}
    gone = [filler(slot, len(pattern), taken) for slot, use in enumerate(pattern) if use == DUMMY]
    taken.update(gone)
    for elements in _orders(gone + home, late, pattern):
        set.clear(target)
        rest = _grow(target, len(pattern), elements, taken)
        if rest is not None:
            for item in rest:
                set.add(target, item)
            for item in gone:
                set.discard(target, item)
            if _pattern(target) == pattern and all(map(is_, items, set.__iter__(target))):
                return True
    return False


def _orders(home: list[Any], late: list[Any], pattern: bytes) -> Iterator[list[Any]]:
    """Orders of insertion to try. When the table grows, elements are inserted again in the order of the smaller table, which
    may put displaced ones elsewhere, or just where they belong."""
    shuffler = random.Random(0)
    elements = home + late
    yield elements
    count = _stages(len(pattern))[-1][1] if len(pattern) > 8 else 0
    for number in range(_TRIES if count else 0):
        chosen = shuffler.sample(home if number % 2 and len(home) >= count else elements, min(count, len(elements)))
        marks = set(map(id, chosen))
        yield chosen + [item for item in elements if id(item) not in marks]


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
        for tried in islice(chain.from_iterable(probes(value, mask)), 4 * len(pattern)):
            if tried == slot:
                break
            if pattern[tried] == FREE:
                return None
            if tried in owner:
                before.add(owner[tried])
        else:
            return None
        needs[k] = before
    order = in_dependency(needs)
    return None if order is None else (home, [items[k] for k in order])


def probes(value: int, mask: int) -> Iterator[range]:
    """The slots at which an element of that hash is tried, in rows."""
    perturb = value & _WORD
    slot = perturb & mask
    while True:
        yield range(slot, slot + (_LINEAR if slot + _LINEAR <= mask else 0) + 1)
        perturb >>= _PERTURB
        slot = (slot * 5 + 1 + perturb) & mask


def in_dependency(needs: dict[int, set[int]]) -> list[int] | None:
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


def filler(slot: int, size: int, taken: set[Any]) -> int:
    """An int that nobody else is, which goes into that slot of a table of that size."""
    value = slot
    while value in taken:
        value += size
    return value


def _grow(target: set[Any], size: int, elements: list[Any], taken: set[Any]) -> list[Any] | None:
    """Make the table of an empty set so large, with some of the elements inserted; the other elements, None if it failed."""
    done = 0
    for present, wanted in _stages(size):
        if len(elements) < wanted or len(_pattern(target)) != present:
            return None
        *chunk, last = elements[done:wanted]
        for item in chunk:
            set.add(target, item)
        # Slots are used up until the next insertion is one too many; the one that it takes stays free.
        before = _pattern(target)
        landing = next(slot for slot in chain.from_iterable(probes(hash(last), present - 1)) if before[slot] == FREE)
        free = [slot for slot, use in enumerate(before) if use == FREE and slot != landing]
        for slot in free[: -(-(present - 1) * 3 // 5) - 1 - (present - before.count(FREE))]:
            value = filler(slot, present, taken)
            set.add(target, value)
            set.discard(target, value)
        set.add(target, last)
        done = wanted
    return elements[done:] if len(_pattern(target)) == size else None


def _pattern(target: set[Any]) -> bytes:
    found = layout_of(target)
    return b"" if found is None else found[1]


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
