"""What a snapshot takes of memory beyond the copies of storages, for a model of 50,000 objects."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

torch = pytest.importorskip("torch")

from state.world import World  # noqa: E402

OBJECTS = 50_000
LIMIT = 64_000_000


class Sample:
    def __init__(self, number: int) -> None:
        self.number = number
        self.tags = [number, str(number)]
        self.more = {"number": number}


def trained() -> World:
    layers = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(800)])
    optimizer = torch.optim.AdamW(layers.parameters(), foreach=False)
    sum(layer(torch.ones(1, 4)).sum() for layer in layers).backward()
    optimizer.step()
    return World(layers=layers, optimizer=optimizer, samples=[Sample(i) for i in range(5000)])


def test_it_stays_under_64_megabytes_and_is_given_back() -> None:
    world = trained()
    assert len(world.walk().objects) >= OBJECTS  # the first walk also learns about types
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        live = world.walk()
        encoded, _ = live.graph.encode()
        _, peak = tracemalloc.get_traced_memory()
        assert len(encoded) > 1_000_000
        del live, encoded
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < LIMIT
    assert after - before < 1_000_000
