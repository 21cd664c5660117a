"""Random object graphs, mutated at random: what is restored equals what was recorded, aliasing included."""

from __future__ import annotations

import collections
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from state.world import World

torch = pytest.importorskip("torch")


class Thing:
    pass


class Slots:
    __slots__ = ("left", "right")


class Keyed(dict):  # type: ignore[type-arg]
    pass


def atom(r: random.Random) -> Any:
    return r.choice([None, True, r.randrange(100), r.random(), -0.0, float("nan"), "s" * r.randrange(4), b"b", 2j, range(3)])


def make(r: random.Random, pool: list[Any]) -> Any:
    """One new object that refers to some of the pool."""
    some = [r.choice(pool) if pool and r.random() < 0.7 else atom(r) for _ in range(r.randrange(4))]
    kind = r.randrange(14)
    if kind == 0:
        return some
    if kind == 1:
        return tuple(some)
    if kind == 2:
        return {r.choice(["a", "b", 1, 2.5, (1, "k")]): value for value in some}
    if kind == 3:
        return {r.randrange(50) for _ in range(r.randrange(8))}
    if kind == 4:
        made = Thing()
        made.__dict__.update({f"n{i}": value for i, value in enumerate(some)})
        return made
    if kind == 5:
        slots = Slots()
        for name, value in zip(("left", "right"), some, strict=False):
            setattr(slots, name, value)
        return slots
    if kind == 6:
        return collections.deque(some, maxlen=r.choice([None, 5]))
    if kind == 7:
        return torch.full((r.randrange(1, 4), 2), r.random())
    if kind == 8:
        tensors = [item for item in pool if isinstance(item, torch.Tensor) and item.numel() > 2]
        return r.choice(tensors).view(-1)[1:] if tensors else torch.zeros(())
    if kind == 9:
        tensors = [item for item in pool if isinstance(item, torch.Tensor) and not item.requires_grad]
        return r.choice(tensors).numpy() if tensors else np.arange(r.randrange(1, 5))
    if kind == 10:
        return collections.OrderedDict((f"k{i}", value) for i, value in enumerate(some))
    if kind == 11:
        keyed = Keyed((i, value) for i, value in enumerate(some))
        keyed.note = some
        return keyed
    if kind == 12:
        return torch.nn.Parameter(torch.rand(2))
    things = [item for item in pool if type(item) is Thing]
    return {thing: i for i, thing in enumerate(things)} if things else bytearray(b"xyz")


def mutate(r: random.Random, v: dict[str, Any], pool: list[Any]) -> None:
    """One change somewhere in the graph."""
    target = r.choice(pool)
    value = r.choice(pool) if r.random() < 0.6 else atom(r)
    if isinstance(target, torch.Tensor):
        with torch.no_grad():
            target.add_(1) if r.random() < 0.5 else target.data.mul_(2)
        if isinstance(target, torch.nn.Parameter) and r.random() < 0.5:
            target.grad = None if target.grad is not None else torch.rand(2)
    elif isinstance(target, np.ndarray):
        target[...] = r.randrange(9)
    elif isinstance(target, (list, collections.deque)):
        target.append(value)
        if r.random() < 0.5:
            target.popleft() if isinstance(target, collections.deque) else target.pop(0)
    elif isinstance(target, dict):
        if target and r.random() < 0.5:
            del target[next(iter(target))]
        target[r.randrange(5)] = value
    elif isinstance(target, set):
        target.add(r.randrange(500))
        target.discard(r.randrange(50))
    elif isinstance(target, Thing):
        setattr(target, r.choice(["n0", "n1", "fresh"]), value)
    elif isinstance(target, Slots):
        if hasattr(target, "left"):
            del target.left
        target.right = value
    elif isinstance(target, bytearray):
        target.extend(b"q")
    name = r.choice(list(v))
    if name.startswith("v") and r.random() < 0.3:
        v[name] = value


def build(seed: int) -> World:
    r = random.Random(seed)
    torch.manual_seed(seed)
    pool: list[Any] = []
    for _ in range(r.randrange(3, 25)):
        pool.append(make(r, pool))
    for item in pool:  # cycles
        if type(item) is list and r.random() < 0.3:
            item.append(r.choice(pool))
    world = World(Thing=Thing, Slots=Slots, Keyed=Keyed, **{f"v{i}": item for i, item in enumerate(pool) if i % 2})
    world.v["keep"] = [item for item in pool if not isinstance(item, tuple)]
    return world


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9), st.integers(1, 12))
def test_restoring_into_the_state_before(seed: int, changes: int) -> None:
    random_state = random.getstate()
    w = build(seed)
    before = w.snap()
    r = random.Random(seed + 1)
    for _ in range(changes):
        mutate(r, w.v, list(w.v["keep"]) or [w.v])
        if r.random() < 0.4:
            w.v["keep"].append(make(r, list(w.v["keep"])))
    after = w.snap()
    w.replay(after, before)
    w.replay(before, after)
    random.setstate(random_state)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9), st.integers(1, 12))
def test_restoring_into_a_freshly_built_twin(seed: int, changes: int) -> None:
    w, twin = build(seed), build(seed)
    before = w.snap()
    r = random.Random(seed + 1)
    for _ in range(changes):
        mutate(r, w.v, list(w.v["keep"]) or [w.v])
        if r.random() < 0.4:
            w.v["keep"].append(make(r, list(w.v["keep"])))
    after = w.snap()
    twin.blobs = w.blobs
    from flor_trace.state import library

    library.apply(before.library)
    twin.replay(before, after)
