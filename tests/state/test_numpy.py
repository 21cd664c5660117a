"""Rules for arrays and NumPy's random numbers."""

from __future__ import annotations

import random

import numpy as np
from state.world import World


def test_arrays_are_written_in_place_and_views_stay_views() -> None:
    a = np.arange(12.0).reshape(3, 4)
    w = World(a=a, v=a[1:], f=np.asfortranarray(a), o=np.array([1, None, [2]], dtype=object))
    o, inner = w.v["o"], w.v["o"][2]
    entry = w.snap()
    a += 1
    w.v["n"] = a[:, ::-2]
    inner.append(3)
    o[0] = "x"
    target = w.snap()
    a -= 1
    del w.v["n"]
    inner.pop()
    o[0] = 1
    w.replay(entry, target)
    assert w.v["a"] is a and a[0, 0] == 1 and w.v["v"][0, 0] == 5 and w.v["o"] is o and o[2] is inner == [2, 3]
    a[0, 3] = 77
    assert w.v["n"][0, 0] == 77


def test_an_array_born_later_owns_its_memory() -> None:
    w = World()
    entry = w.snap()
    w.v["a"] = np.ones((2, 3), order="F")
    w.v["s"] = (np.float32(1.5), np.int64(3), np.dtype("f4"), np.array("x"), np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]))
    target = w.snap()
    old = w.v.pop("s")
    del w.v["a"]
    w.replay(entry, target)
    assert w.v["a"].flags.owndata and w.v["a"].flags.f_contiguous
    assert w.v["s"][:3] == old[:3] and type(w.v["s"][0]) is np.float32 and (w.v["s"][4] == old[4]).all()


def test_arrays_lie_within_a_line_of_the_cache_as_they_did() -> None:
    """Some matrix products add up in an order that depends on it."""
    w = World()
    entry = w.snap()
    w.v["arrays"] = [np.full(n, 1.5) for n in range(1, 60)]
    places = [a.ctypes.data % 64 for a in w.v["arrays"]]
    target = w.snap()
    old = w.v.pop("arrays")
    w.replay(entry, target)
    found = [a.ctypes.data % 64 for a in w.v["arrays"]]
    assert len(set(places)) > 1 and all(a.flags.owndata for a in w.v["arrays"]) and len(old) == 59
    assert sum(a == b for a, b in zip(places, found, strict=True)) > 50


def test_read_only_memory_is_not_written() -> None:
    raw = np.arange(4.0).tobytes()
    w = World(a=np.frombuffer(raw))
    entry = w.snap()
    w.v["a"] = np.frombuffer(np.ones(4).tobytes())
    target = w.snap()
    w.v["a"] = np.frombuffer(raw)
    w.replay(entry, target)
    assert w.v["a"].tolist() == [1, 1, 1, 1] and np.frombuffer(raw).tolist() == [0, 1, 2, 3]


def test_generators() -> None:
    w = World(g=np.random.default_rng(1), s=np.random.RandomState(2), r=random.Random(3), m=np.random.Generator(np.random.MT19937(4)))
    before = w.snap()
    kept = [w.v["g"], w.v["s"], w.v["r"], w.v["m"]]

    def draw() -> list[float]:
        return [w.v["g"].normal(), w.v["s"].normal(), w.v["r"].gauss(0, 1), w.v["m"].random(), np.random.normal(), random.random()]

    first = draw()
    after = w.snap()
    second = draw()
    w.replay(w.snap(), before)
    assert draw() == first
    assert w.compare(after).verdict == "exact"
    assert draw() == second and all(a is b for a, b in zip(kept, (w.v[name] for name in "gsrm"), strict=True))
