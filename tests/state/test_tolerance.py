"""Tolerance is for floating-point numbers alone, and by their own precision: it never hides a wrong number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from state.world import World

CASES: list[tuple[Any, Any, str]] = [
    (1.0, 1.0 + 1e-11, "tolerance"),
    (1.0, 1.0 + 1e-7, "diverged"),
    (1, 2, "diverged"),
    (1, 1.0, "diverged"),
    (True, False, "diverged"),
    (True, 1, "diverged"),
    ("1.0", "1.00", "diverged"),
    (10**12, 10**12 + 1, "diverged"),
    ([1.0] * 2000, [1.0 + 1e-12] * 2000, "diverged"),
    (np.float32(1), np.float32(1) + np.float32(1.2e-7), "diverged"),
    (np.int64(5), np.int64(6), "diverged"),
    (np.ones(3), np.ones(3) + 1e-11, "tolerance"),
    (np.ones(3), np.ones(3) + 1e-6, "diverged"),
    (np.ones(3, np.float32), np.ones(3, np.float32) + np.float32(1e-5), "tolerance"),
    (np.ones(3, np.float32), np.ones(3, np.float32) + np.float32(1e-3), "diverged"),
    (np.full(3, 10**12), np.full(3, 10**12 + 1), "diverged"),
    (np.array([True, False]), np.array([True, True]), "diverged"),
    (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "diverged"),
    (np.array([1.0, np.inf]), np.array([1.0, -np.inf]), "diverged"),
    (np.array(["a"]), np.array(["b"]), "diverged"),
    (torch.ones(3), torch.ones(3) + 1e-5, "tolerance"),
    (torch.ones(3), torch.ones(3) + 1e-3, "diverged"),
    (torch.ones(3).double(), torch.ones(3).double() + 1e-6, "diverged"),
    (torch.ones(3).double(), torch.ones(3).double() + 1e-11, "tolerance"),
    (torch.ones(3, dtype=torch.cfloat), torch.ones(3, dtype=torch.cfloat) * (1 + 1e-5j), "tolerance"),
    (torch.arange(3) + 10**12, torch.arange(3) + 10**12 + 1, "diverged"),
    (torch.tensor([True]), torch.tensor([False]), "diverged"),
    (torch.ones(3).bfloat16(), torch.ones(3).bfloat16() * 1.01, "diverged"),
    (torch.ones(3), torch.ones(3).double(), "diverged"),
    (torch.ones(3), torch.ones(3, requires_grad=True), "diverged"),
]


@pytest.mark.parametrize(("before", "after", "verdict"), CASES)
def test_the_verdict(before: Any, after: Any, verdict: str) -> None:
    w = World(x=before)
    recorded = w.snap()
    w.v["x"] = after
    assert w.compare(recorded).verdict == verdict


def test_bits_that_are_an_integer_elsewhere_are_exact() -> None:
    numbers = torch.ones(4)
    w = World(a=numbers, b=numbers.view(torch.int32))
    recorded = w.snap()
    numbers += 1e-5
    assert w.compare(recorded).verdict == "diverged"
