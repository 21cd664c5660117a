"""Build a set that iterates in a given order.

A set iterates by the slots of its table. Which slot an element takes follows from its hash, the size of the table
and what stood in its way when it was inserted (Objects/setobject.c: ten linear probes, then a perturbed jump; slots
of discarded elements are not free). So: choose a size, choose for each element a slot on its probe path so that
the slots rise, put fillers (ints, whose hash is their value) where something must have stood in the way, insert, and
discard the fillers. The result is verified by iterating, so a change in CPython makes this fail, not lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from operator import is_
from typing import Any

from .setlayout import Layout, search_from
from .settable import fill, filler, in_dependency, probes

_DEPTH = 24  # probes considered per element
_FEW = 7
_NUMBERS = frozenset(map(id, (int, float, bool, complex)))  # by id: a class may define how it hashes


def recipe(items: list[Any]) -> tuple[list[Any], list[Any]] | None:
    """What to insert into an empty set, and what then to discard; None if no way is found."""
    for plan in _plans(items):
        if plan is not None:
            made: set[Any] = set()
            follow(made, plan)
            found = list(made)
            if len(found) == len(items) and all(a is b or a == b for a, b in zip(found, items, strict=True)):
                return plan
    return None


def rebuild(target: set[Any], items: list[Any], layout: Layout) -> bool:
    """Fill a set so that every element is in its slot; False, and some order or other, where no way to that is found."""
    finger, pattern = layout
    if not fill(target, items, pattern):
        return False
    search_from(target, finger)
    return True


def arrange(items: list[Any]) -> list[Any] | None:
    """The order in which a frozenset has to be given its elements to iterate in the order of `items`; None if it is not found.

    Nothing can be discarded from a frozenset, so no fillers help; the few elements of a small one are tried in all orders.
    """
    for order in permutations(items) if len(items) <= _FEW else [items]:
        if all(map(is_, frozenset(order), items)):
            return list(order)
    return None


def follow(target: set[Any], plan: tuple[list[Any], list[Any]]) -> None:
    """Empty the set and carry a recipe out on it."""
    set.clear(target)
    for item in plan[0]:
        set.add(target, item)
    for item in plan[1]:
        set.discard(target, item)


def _plans(items: list[Any]) -> Iterator[tuple[list[Any], list[Any]] | None]:
    yield items, []
    hashes = [hash(item) for item in items]
    size = 8
    while (len(items) + 1) * 5 > size * 5:
        size *= 2
    for _ in range(7):
        yield _plan(items, hashes, size)
        size *= 2


def _path(value: int, mask: int) -> list[int]:
    """The first slots at which an element of that hash is tried."""
    found: list[int] = []
    for row in probes(value, mask):
        found.extend(row)
        if len(found) >= _DEPTH:
            break
    return found


def _choose(paths: list[list[int]]) -> list[int] | None:
    """A probe index per element so that slots rise strictly and as few elements as possible are displaced."""
    costs: list[list[tuple[float, int]]] = []
    for k, path in enumerate(paths):
        row: list[tuple[float, int]] = []
        if k:
            before = sorted((slot, costs[k - 1][j][0], j) for j, slot in enumerate(paths[k - 1]))
        for j, slot in enumerate(path):
            best, came = (0.0, -1) if k == 0 else (float("inf"), -1)
            if k:
                for other, cost, index in before:
                    if other >= slot:
                        break
                    if cost < best:
                        best, came = cost, index
            row.append((best + j, came))
        costs.append(row)
    if not costs or min(costs[-1])[0] == float("inf"):
        return None
    j = min(range(len(costs[-1])), key=lambda index: costs[-1][index][0])
    chosen = []
    for k in range(len(paths) - 1, -1, -1):
        chosen.append(j)
        j = costs[k][j][1]
    return chosen[::-1]


def _plan(items: list[Any], hashes: list[int], size: int) -> tuple[list[Any], list[Any]] | None:
    mask = size - 1
    paths = [_path(value, mask) for value in hashes]
    chosen = _choose(paths)
    if chosen is None:
        return None
    slots = [path[j] for path, j in zip(paths, chosen, strict=True)]
    owner = {slot: k for k, slot in enumerate(slots)}
    late = [k for k, j in enumerate(chosen) if j]
    blocked = {slot for k in late for slot in paths[k][: chosen[k]]} - set(owner)
    taken = {item for item in items if id(type(item)) in _NUMBERS}

    fillers = [filler(slot, size, taken) for slot in sorted(blocked)]
    first = [items[k] for k, j in enumerate(chosen) if not j] + fillers
    free = (slot for slot in range(size) if slot not in owner and slot not in blocked)
    while _size_after(len(first)) < size:
        slot = next(free, None)
        if slot is None:
            return None
        first.append(filler(slot, size, taken))
        fillers.append(first[-1])
    if _size_after(len(first)) != size or (len(first) + len(late)) * 5 >= mask * 3:
        return None
    ordered = in_dependency({k: {owner[s] for s in paths[k][: chosen[k]] if s in owner} for k in late})
    return None if ordered is None else (first + [items[k] for k in ordered], fillers)


def _size_after(count: int) -> int:
    """The size of the table after so many insertions into an empty set."""
    size = used = 0
    size = 8
    while used < count:
        used = max(used + 1, -(-(size - 1) * 3 // 5))
        if used > count:
            break
        if used * 5 >= (size - 1) * 3:
            wanted = used * 2 if used > 50_000 else used * 4
            while size <= wanted:
                size *= 2
    return size
