"""What a plan has allowed does not fail; what fails all the same is told from a restore that has changed nothing."""

from __future__ import annotations

import random
import types
from typing import Any

import pytest
from state.world import World

from flor_trace.errors import HalfRestored, NotRestorable
from flor_trace.state import restore
from flor_trace.state.kinds.containers import DictKind


def of(graph: Any, name: str) -> int:
    """The token of what a name was bound to."""
    root = graph.roots[0]
    token: int = root.cells[root.names.index(name)][0]
    return token


def test_an_address_used_again_for_a_dict_that_cannot_be_exchanged() -> None:
    world = World(other={"x": 1})
    entry = world.snap()
    world.v["space"] = types.SimpleNamespace(a=1)
    world.v["alias"] = vars(world.v["space"])
    target = world.snap()
    namespace = id(vars(world.v["space"]))
    del world.v["space"], world.v["alias"]
    matching = world.compare(entry).matching
    matching[namespace] = world.v["other"]  # as if the namespace had come to lie where this had been
    restore(target, matching, world.roots(), world.scope, world.blobs.__getitem__)
    assert vars(world.v["space"]) == {"a": 1} and world.v["alias"] is vars(world.v["space"])
    assert world.v["other"] == {"x": 1} and world.compare(target).verdict == "exact"


def test_a_dict_that_is_two_objects_own_is_refused_beforehand() -> None:
    world = World(one=types.SimpleNamespace(a=1), two=types.SimpleNamespace(b=2))
    entry = world.snap()
    target = world.snap()
    one, two = of(target, "one"), of(target, "two")
    kind, cls, payload, cells, _ = target.nodes[one]
    target.nodes[one] = (kind, cls, payload, cells, target.nodes[two][4])
    before = [dict(vars(world.v[name])) for name in ("one", "two")]
    with pytest.raises(NotRestorable, match="the __dict__ of a SimpleNamespace cannot be exchanged"):
        restore(target, world.compare(entry).matching, world.roots(), world.scope, world.blobs.__getitem__)
    assert before == [vars(world.v[name]) for name in ("one", "two")]


@pytest.mark.parametrize("error", [ValueError("no"), NotRestorable("x", "no")])
def test_a_failure_after_the_plan_is_no_refusal(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    world = World(first=1, table={"a": 1})
    entry = world.snap()
    world.v["table"]["a"] = 2
    target = world.snap()
    world.v["table"]["a"] = 1
    matching = world.compare(entry).matching

    def fill(*args: Any) -> None:
        raise error

    monkeypatch.setattr(DictKind, "fill", fill)
    with pytest.raises(HalfRestored, match=r"table could not be given its recorded content .*no"):
        restore(target, matching, world.roots(), world.scope, world.blobs.__getitem__)


def test_a_small_frozenset_of_any_order_is_built_anew() -> None:
    world = World()
    entry = world.snap()
    r = random.Random(0)
    made = [frozenset(r.sample(range(0, 400, 8), r.randrange(8))) for _ in range(200)]
    orders = [list(item) for item in made]
    world.v["made"] = made
    target = world.snap()
    del world.v["made"], made
    world.replay(entry, target)
    assert [list(item) for item in world.v["made"]] == orders
