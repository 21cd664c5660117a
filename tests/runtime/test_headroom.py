"""Room on the stack while we work, and none that the script could see."""

from __future__ import annotations

import sys

import pytest

from flor_trace.record.roots import collect_roots
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.headroom import ROOM, with_room


def deep(n: int) -> int:
    return n and 1 + deep(n - 1)


def test_there_is_room_and_the_limit_is_back_afterwards() -> None:
    runtime = Runtime()
    limit = sys.getrecursionlimit()
    seen: list[int] = []
    with_room(runtime, lambda: seen.append(sys.getrecursionlimit()))()
    assert seen == [limit + ROOM]
    assert sys.getrecursionlimit() == limit


def test_calls_within_get_no_more_room() -> None:
    runtime = Runtime()
    limit = sys.getrecursionlimit()
    assert with_room(runtime, with_room(runtime, sys.getrecursionlimit))() == limit + ROOM
    assert sys.getrecursionlimit() == limit


def test_a_snapshot_holds_the_limit_of_the_script() -> None:
    runtime = Runtime()
    limit = sys.getrecursionlimit()
    roots, _ = with_room(runtime, collect_roots)(runtime, None)
    assert roots.library["recursionlimit"] == limit


def test_a_limit_set_meanwhile_stays() -> None:
    runtime = Runtime()
    limit = sys.getrecursionlimit()
    try:
        with_room(runtime, sys.setrecursionlimit)(limit + 7)
        assert sys.getrecursionlimit() == limit + 7
    finally:
        sys.setrecursionlimit(limit)


def test_close_to_the_limit_either_all_is_done_or_nothing() -> None:
    runtime = Runtime()
    limit = sys.getrecursionlimit()
    done: list[int] = []

    def work(n: int) -> None:
        deep(100)
        done.append(n)

    roomy = with_room(runtime, work)
    outcomes: list[bool] = []

    def descend(n: int) -> None:
        try:
            roomy(n)
            outcomes.append(True)
        except RecursionError:
            outcomes.append(False)
        assert sys.getrecursionlimit() == limit
        descend(n + 1)

    with pytest.raises(RecursionError):
        descend(0)
    assert len(done) == sum(outcomes)
    assert True in outcomes
