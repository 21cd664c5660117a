"""The live state is put back in place: every object stays the object it was."""

from __future__ import annotations

import math
import mmap
import tempfile
from typing import Any

import numpy as np
import pytest
import torch
from state.world import USER, World

from flor_trace.errors import NotRestorable
from flor_trace.state import Ignore
from flor_trace.state.isolation import Isolation
from flor_trace.state.kinds.torch_isolation import graphs_retained


class Isolated:
    """`with Isolated(world) as done:` undoes what its body does to the world; `done.changed` tells whether it had to."""

    def __init__(self, world: World, *own: str) -> None:
        self.world = world
        self.ignore = Ignore({USER: set(own)})
        self.isolation = Isolation(world.scope)

    def __enter__(self) -> Isolated:
        self.kept = self.isolation.keep(self.world.roots(), self.ignore)
        return self

    def __exit__(self, *_: object) -> None:
        self.changed = self.isolation.put_back(self.kept, self.world.roots(), self.ignore) is not None


def test_nothing_is_done_where_nothing_has_changed() -> None:
    with Isolated(World(a=[1, math.nan], b=torch.ones(3), c={"x": (1, "y")})) as done:
        sum([1])
    assert not done.changed


def test_containers_and_aliases_stay_the_same_objects() -> None:
    inner = [1, 2]
    w = World(outer={"inner": inner}, inner=inner, number=3)
    with Isolated(w):
        inner.append(3)
        w.v["outer"]["more"] = inner
        w.v["inner"] = []
        w.v["number"] = 4
        w.v["late"] = 5
    assert w.v["outer"] == {"inner": [1, 2]}
    assert w.v["inner"] is inner is w.v["outer"]["inner"]
    assert w.v["number"] == 3
    assert "late" not in w.v


def test_names_of_the_statements_themselves_are_left_alone() -> None:
    own: list[int] = []
    w = World(mine=own, theirs=[0])
    with Isolated(w, "mine"):
        own.append(1)
        w.v["theirs"].append(1)
    assert own == [1]
    assert w.v["theirs"] == [0]


def test_tensors_keep_identity_versions_and_graphs() -> None:
    weight = torch.ones(3, requires_grad=True)
    hidden = weight * 2
    loss = (hidden * hidden).sum()
    w = World(weight=weight, hidden=hidden, loss=loss)
    with Isolated(w), graphs_retained():
        loss.backward()
        with torch.no_grad():
            weight.mul_(5)
            hidden.data.zero_()
            hidden.add_(1)
    assert w.v["loss"] is loss
    assert w.v["hidden"] is hidden
    assert weight.grad is None
    loss.backward()  # neither freed nor "modified by an inplace operation"
    assert weight.grad is not None
    assert weight.grad.tolist() == [8.0, 8.0, 8.0]


def test_memory_that_is_shared_or_mapped_is_written_back() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(64)
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 64), np.float64)
        shared = torch.zeros(4).share_memory_()
        w = World(mapped=mapped, shared=shared)
        with Isolated(w):
            mapped[:] = 7.0
            shared.fill_(7.0)
        assert mapped.tolist() == [0.0] * 8
        assert shared.tolist() == [0.0] * 4
        assert w.v["mapped"] is mapped
        assert w.v["shared"] is shared


def test_what_is_hidden_is_passed_and_named() -> None:
    import zlib

    compressor: Any = zlib.compressobj()
    w = World(compressor=compressor, numbers=[1])
    with Isolated(w) as done:
        w.v["numbers"].append(2)
    assert w.v["numbers"] == [1]
    assert w.v["compressor"] is compressor
    assert done.isolation.hidden == [f"{USER}.compressor"]


def test_what_shows_that_it_has_changed_and_cannot_be_put_back_is_refused() -> None:
    import hashlib

    w = World(digest=hashlib.sha256(), numbers=[1])
    isolated = Isolated(w)
    isolated.__enter__()
    w.v["digest"].update(b"x")
    with pytest.raises(NotRestorable, match="digest"):
        isolated.__exit__()
