"""Iterators that cross boundaries come back wherever they stood."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from state.world import World
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from flor_trace.errors import NotRestorable


def counting(items: Any, *, step: int = 1) -> Iterator[Any]:
    total = 0

    def add() -> None:
        nonlocal total
        total += step

    while True:
        for item in items:
            add()
            yield item, total, random.random()
        yield from shorter(total % 3)
        try:
            yield "try"
        finally:
            total += 10


def shorter(n: int) -> Iterator[int]:
    yield from range(n)


def take(iterator: Any, n: int) -> list[Any]:
    return [x.tolist() if isinstance(x, torch.Tensor) else x for x in itertools.islice(iterator, n)]


@pytest.mark.parametrize("before", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("after", [0, 2, 3, 5, 9])
def test_a_generator_is_set_forwards_and_backwards(before: int, after: int) -> None:
    w = World(g=counting([1, 2, 3]), log=[])
    g = w.v["g"]
    w.v["log"].extend(take(g, before))
    entry = w.snap()
    w.v["log"].extend(take(g, after))
    target = w.snap()
    truth = take(g, 12)
    # from further on, back to both
    w.replay(w.snap(), entry)
    assert w.v["g"] is g
    w.replay(entry, target)
    assert take(g, 12) == truth


def test_a_generator_that_did_not_exist_is_built_and_one_that_has_ended_ends_again() -> None:
    w = World(g=None, make=counting, short=shorter, done=shorter(2))
    entry = w.snap()
    w.v["g"] = counting((5, 6))
    take(w.v["g"], 3)
    take(w.v["done"], 3)
    target = w.snap()
    truth = take(w.v["g"], 9)
    w.v["g"], w.v["done"] = None, shorter(2)
    now = w.snap()
    w.replay(now, entry, verify=False)
    w.v["done"] = shorter(2)
    w.replay(w.snap(), target)
    assert take(w.v["g"], 9) == truth and list(w.v["done"]) == []


def test_generator_expressions_and_chains_of_iterators() -> None:
    w = World(g=None)
    w.v["g"] = zip(enumerate(x * x for x in itertools.count()), itertools.cycle("abc"), strict=False)
    entry = w.snap()
    take(w.v["g"], 5)
    target = w.snap()
    truth = take(w.v["g"], 5)
    w.replay(w.snap(), entry)
    assert take(w.v["g"], 2)[0] == ((0, 0), "a")
    w.replay(w.snap(), target)
    assert take(w.v["g"], 5) == truth


def test_a_cycle_that_was_rebuilt_looks_like_one_that_was_not() -> None:
    w = World(g=itertools.cycle(iter("abc")))
    entry = w.snap()
    take(w.v["g"], 4)
    middle = w.snap()
    take(w.v["g"], 2)
    wrapped = w.snap()
    w.replay(w.snap(), entry)
    w.replay(entry, middle)
    assert take(w.v["g"], 2) == ["b", "c"] and w.compare(wrapped).verdict == "exact"
    assert take(w.v["g"], 4) == ["a", "b", "c", "a"]


class Noisy(torch.utils.data.Dataset[Any]):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def __len__(self) -> int:
        return 11

    def __getitem__(self, i: int) -> Any:
        self.seen.append(i)
        return torch.rand(1) + i


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        for i in range(9):
            yield i + random.random()


def loaders() -> dict[str, Any]:
    plain = TensorDataset(torch.arange(11.0))
    generator = torch.Generator().manual_seed(5)
    return {
        "shuffled": DataLoader(plain, batch_size=3, shuffle=True),
        "in order": DataLoader(plain, batch_size=3),
        "drop last": DataLoader(plain, batch_size=3, shuffle=True, drop_last=True),
        "own generator": DataLoader(plain, batch_size=2, shuffle=True, generator=generator),
        "subset": DataLoader(plain, batch_size=2, sampler=SubsetRandomSampler(range(2, 9))),
        "weighted": DataLoader(plain, batch_size=2, sampler=WeightedRandomSampler([1.0] * 11, 11)),
        "replacement": DataLoader(plain, batch_size=None, sampler=RandomSampler(plain, True, 7)),
        "batch sampler": DataLoader(plain, batch_sampler=BatchSampler(RandomSampler(plain), 4, False)),
        "noisy": DataLoader(Noisy(), batch_size=2, shuffle=True),
        "stream": DataLoader(Stream(), batch_size=2),
    }


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def again(loader: Any) -> Iterator[Any]:
    while True:
        for batch in loader:  # noqa: UP028 - suspended otherwise than a delegation
            yield batch


class Order:
    """A batch sampler whose iterators are all alike."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[0, 1], [2, 3]])

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize("options", [{"batch_size": 2, "shuffle": True}, {"batch_sampler": Order()}])
def test_nothing_jumps_over_a_pass_of_persistent_workers(options: dict[str, Any]) -> None:
    """Each stands at the same place at the end of every pass, but its workers keep random numbers of their own."""
    loader = DataLoader(TensorDataset(torch.zeros(4)), num_workers=1, persistent_workers=True, **options)
    list(loader)
    w = World(loader=loader, steps=0)
    entry = w.snap()
    w.v["steps"] += 1
    same_pass = w.snap()
    w.v["steps"] = 0
    if "batch_size" in options:  # its sampler's iterators are generators, so that passes are told apart
        w.replay(entry, same_pass)
        assert w.v["steps"] == 1
    else:
        with pytest.raises(NotRestorable, match="keeps its state"):
            w.replay(entry, same_pass)
    list(loader)
    with pytest.raises(NotRestorable, match="_MultiProcessingDataLoaderIter"):
        w.replay(w.snap(), same_pass)


def plain(batch: Any) -> Any:
    return [part.tolist() for part in batch] if isinstance(batch, (list, tuple)) else batch.tolist()


@pytest.mark.parametrize("make", [endless, again, itertools.cycle, iter])
@pytest.mark.parametrize("name", list(loaders()))
def test_iterators_over_loaders(name: str, make: Any) -> None:
    w = World(loader=loaders()[name], it=None, last=None)
    v = w.v
    v["it"] = make(v["loader"])
    entry = w.snap()
    fresh = World(**v)
    for _ in range(2):
        v["last"] = next(v["it"])
    middle = w.snap()
    wanted = 9 if make is not iter else 1
    for _ in range(wanted - 1):
        v["last"] = next(v["it"])
    if make is iter:
        v["it"] = iter(v["loader"])  # as scripts do at the end of an epoch
        v["last"] = next(v["it"])
    target = w.snap()
    truth = [plain(next(v["it"])) for _ in range(2)]
    for first, then in ((entry, target), (entry, middle), (middle, target)):
        w.replay(w.snap(), first)
        w.replay(first, then)
    assert [plain(next(v["it"])) for _ in range(2)] == truth
    assert fresh.v["loader"] is v["loader"]
