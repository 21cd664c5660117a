"""What encloses every hindsight statement: quick, and complete to the second of a pair of normal numbers."""

from __future__ import annotations

import random
import sys
import timeit
from typing import Any

import numpy as np
import numpy.random
import pytest
import torch
from state.world import World

from flor_trace.state import rng
from flor_trace.state.rngmemory import NumpyState, PythonState


def draw() -> list[Any]:
    return [random.random(), random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.rand(1).item()]


@pytest.fixture(params=["memory", "calls"])
def keeper(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "calls":
        monkeypatch.setattr(PythonState, "of", lambda generator: None)
    return rng.Keeper()


def test_all_generators_come_back(keeper: Any) -> None:
    for _ in range(5):
        state = keeper.capture()
        truth = draw()
        keeper.apply(state)
        assert draw() == truth


def test_the_second_of_a_pair_of_normals_is_state(keeper: Any) -> None:
    np.random.seed(1)
    random.seed(1)
    np.random.randn(), random.gauss(0, 1)
    state = keeper.capture()
    truth = [np.random.randn(), random.gauss(0, 1), np.random.rand(), random.random()]
    keeper.apply(state)
    assert [np.random.randn(), random.gauss(0, 1), np.random.rand(), random.random()] == truth


def test_seeding_anew_and_another_bit_generator_are_undone() -> None:
    keeper = rng.Keeper()
    before = np.random.get_bit_generator()
    state = keeper.capture()
    truth = draw()
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    np.random.set_bit_generator(np.random.PCG64(8))
    keeper.apply(state)
    assert np.random.get_bit_generator() is before and draw() == truth


def test_another_bit_generator_is_kept_by_calls() -> None:
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(8))
    try:
        keeper = rng.Keeper()
        state = keeper.capture()
        truth = draw()
        keeper.apply(state)
        assert draw() == truth
    finally:
        np.random.set_bit_generator(before)


def test_memory_is_where_it_is_thought_to_be_and_quick() -> None:
    assert PythonState.of(random._inst) is not None
    assert NumpyState.of(sys.modules["numpy.random.mtrand"]._rand) is not None
    assert PythonState.of(random.SystemRandom()) is None
    keeper = rng.Keeper()
    seconds = min(timeit.repeat(lambda: keeper.apply(keeper.capture()), number=200, repeat=20)) / 200
    assert seconds < 60e-6  # 10 µs on an idle machine


def test_random_numbers_of_a_library_that_only_a_hindsight_statement_imported() -> None:
    world = World(x=1)
    recorded = world.snap()
    assert "numpy" in recorded.library["rng"]
    del recorded.library["rng"]["numpy"]
    assert world.compare(recorded).verdict == "exact"
    state = numpy.random.get_state()
    full = world.snap()
    numpy.random.rand()
    assert world.compare(full).verdict == "diverged"
    numpy.random.set_state(state)
