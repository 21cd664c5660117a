"""Random object graphs, mutated at random: what is restored equals what was recorded, aliasing included.

`scripts/fuzz` runs thousands of these.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

for library in ("torch", "pandas", "scipy.sparse", "PIL.Image"):
    pytest.importorskip(library)

from state import graphs  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
rounds = settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def same_random_state() -> Iterator[None]:
    kept = random.getstate()
    yield
    random.setstate(kept)


@rounds
@given(st.integers(0, 10**9), st.integers(1, 12))
def test_restoring_into_the_state_before(seed: int, changes: int) -> None:
    graphs.into_the_state_before(seed, changes)


@rounds
@given(st.integers(0, 10**9), st.integers(1, 12))
def test_restoring_into_a_freshly_built_twin(seed: int, changes: int) -> None:
    graphs.into_a_twin(seed, changes)
