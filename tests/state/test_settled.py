"""What a restore leaves as it is, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest
from state.world import World

from flor_trace.state import Graph, Restorer
from flor_trace.state.settled import Base, disturbed, settled


class Holder:
    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


def entry_and_live(w: World) -> tuple[Base, dict[int, Any]]:
    entry = w.snap()
    compared = w.compare(entry)
    assert compared.verdict == "exact"
    return Base(entry, compared.several), compared.matching


def token_of(graph: Graph, name: str) -> int:
    (root,) = [root for root in graph.roots if root.section == "module"]
    (token,) = root.cells[root.names.index(name)]
    assert type(token) is int
    return token


def test_what_stays_the_same_is_settled_and_what_changes_is_not() -> None:
    w = World(kept=[1, "a", (2, [3])], changed=[1], holder=Holder(x=[4]))
    base, matching = entry_and_live(w)
    w.v["changed"].append(2)
    target = w.snap()
    found = settled(base, target, matching)
    assert {token_of(target, "kept"), token_of(target, "holder")} <= found
    assert token_of(target, "changed") not in found


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (0.0, -0.0), (False, 0)])
def test_equal_values_that_are_not_the_same_are_restored(before: object, after: object) -> None:
    w = World(x=[before], y={"k": before}, z=[9])
    entry = w.snap()
    w.v["x"][0] = w.v["y"]["k"] = after
    target = w.snap()
    w.v["x"][0] = w.v["y"]["k"] = before
    w.replay(entry, target)
    assert repr((w.v["x"], w.v["y"])) == repr(([after], {"k": after}))


def test_what_refers_to_an_object_built_anew_gets_the_new_one() -> None:
    w = World(pair=(1, 2), box=[(3, 4)], names={})
    w.v["names"]["pair"] = w.v["pair"]
    base, matching = entry_and_live(w)
    target = w.snap()
    token = token_of(target, "pair")
    kind, cls, payload, _, attrs = target.nodes[token]
    target.nodes[token] = (kind, cls, payload, (5, 6), attrs)  # an address that another tuple has got
    names, box = w.v["names"], w.v["box"]
    w.replay(base.graph, target)
    assert w.v["pair"] == (5, 6)
    assert w.v["names"] is names
    assert names["pair"] is w.v["pair"]
    assert w.v["box"] is box
    kept = settled(base, target, matching)
    built = {**dict(matching), token: (5, 6)}
    assert disturbed(base, target, kept, built, matching) == {token_of(target, "names")}


def test_an_immutable_holder_of_what_is_built_anew_is_built_anew_too() -> None:
    inner = (1, 2)
    w = World(inner=inner, outer=(inner, 7), other=[inner])
    base, _ = entry_and_live(w)
    target = w.snap()
    token = token_of(target, "inner")
    kind, cls, payload, _, attrs = target.nodes[token]
    target.nodes[token] = (kind, cls, payload, (5, 6), attrs)
    w.replay(base.graph, target)
    assert w.v["outer"] == ((5, 6), 7)
    assert w.v["outer"][0] is w.v["inner"] is w.v["other"][0]


def test_a_key_that_is_the_address_of_an_object_goes_with_it() -> None:
    held = Holder(n=1)
    w = World(held=held, by_address={id(held): "it"}, other=[0])
    entry = w.snap()
    w.v["other"].append(1)
    target = w.snap()
    w.v["other"].pop()
    w.v["held"] = twin = Holder(n=1)
    w.v["by_address"].clear()
    w.v["by_address"][id(twin)] = "it"
    w.replay(entry, target)
    assert w.v["by_address"] == {id(w.v["held"]): "it"}


def test_a_tensor_over_changed_memory_is_not_settled_and_one_over_unchanged_memory_is() -> None:
    torch = pytest.importorskip("torch")
    w = World(a=torch.zeros(3), b=torch.zeros(3), c=torch.ones(2, requires_grad=True) * 2)
    base, matching = entry_and_live(w)
    w.v["a"].add_(1)
    target = w.snap()
    w.v["a"].sub_(1)
    found = settled(base, target, matching)
    assert token_of(target, "b") in found
    assert token_of(target, "a") not in found
    assert token_of(target, "c") not in found  # it has an autograd graph
    w.replay(base.graph, target)
    assert w.v["a"].tolist() == [1, 1, 1]


def test_no_content_is_written_to_what_has_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    w = World(data=[[n] for n in range(50)], step=[0])
    entry = w.snap()
    w.v["step"][0] = 1
    target = w.snap()
    w.v["step"][0] = 0
    asked: list[int] = []
    resolve = Restorer.resolve
    monkeypatch.setattr(Restorer, "resolve", lambda self, cell: asked.append(1) or resolve(self, cell))
    w.replay(entry, target)
    few = len(asked)
    w.v["step"][0] = 0
    w.replay(entry, target, from_base=False)
    assert w.v["step"] == [1]
    assert len(asked) - few > few + 50
