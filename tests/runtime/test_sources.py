"""Values of clock and entropy functions: recorded, served again, and what happens when the script goes another way."""

from __future__ import annotations

import datetime
import functools
import inspect
import json
import os
import random
import secrets
import sys
import tempfile
import threading
import time
import timeit
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from flor_trace.runtime.initial import apply_initial_rng, capture_initial_rng
from flor_trace.runtime.sources import CLOCK_NAMES, Sources, paired

ZONE = datetime.timezone(datetime.timedelta(hours=5, minutes=30), "IST")


def replaying(recorded: Sources) -> Sources:
    """A replaying object with the stream of a recording one, through JSON as in the store."""
    start, values = recorded.drain()
    served = Sources("replay")
    served.load(paired(json.loads(json.dumps(values))), start)
    return served


VALUES: list[tuple[str, Callable[[Callable[[Any], Any]], Any]]] = [
    ("time", lambda C: C(time.time)()),
    ("time_ns", lambda C: C(time.time_ns)()),
    ("partial", lambda C: str(C(functools.partial(datetime.datetime.now, ZONE))())),
    ("perf_counter", lambda C: C(time.perf_counter)()),
    ("monotonic_ns", lambda C: C(time.monotonic_ns)()),
    ("process_time", lambda C: C(time.process_time)()),
    ("thread_time", lambda C: C(time.thread_time)()),
    ("clock_gettime", lambda C: C(time.clock_gettime)(time.CLOCK_MONOTONIC)),
    ("default_timer", lambda C: C(timeit.default_timer)()),
    ("localtime", lambda C: C(time.localtime)()),
    ("gmtime", lambda C: C(time.gmtime)(None)),
    ("ctime", lambda C: C(time.ctime)()),
    ("strftime", lambda C: C(time.strftime)("%H:%M:%S")),
    ("now", lambda C: C(datetime.datetime.now)()),
    ("now zone", lambda C: C(datetime.datetime.now)(tz=ZONE)),
    ("utcnow", lambda C: C(datetime.datetime.utcnow)()),
    ("today", lambda C: C(datetime.datetime.today)()),
    ("date", lambda C: C(datetime.date.today)()),
    ("urandom", lambda C: C(os.urandom)(7)),
    ("uuid1", lambda C: C(uuid.uuid1)()),
    ("uuid4", lambda C: C(uuid.uuid4)()),
    ("token_bytes", lambda C: C(secrets.token_bytes)(5)),
    ("token_hex", lambda C: C(secrets.token_hex)()),
    ("randbelow", lambda C: C(secrets.randbelow)(10**30)),
    ("default_rng", lambda C: C(np.random.default_rng)().random(4).tolist()),
    ("spawned", lambda C: [g.random() for g in C(np.random.default_rng)(None).spawn(2)]),
    ("PCG64", lambda C: np.random.Generator(C(np.random.PCG64)()).random(4).tolist()),
    ("MT19937", lambda C: np.random.Generator(C(np.random.MT19937)()).random(4).tolist()),
    ("SeedSequence", lambda C: C(np.random.SeedSequence)().generate_state(3).tolist()),
    ("RandomState", lambda C: C(np.random.RandomState)().rand(3).tolist()),
    ("RandomState.seed", lambda C: reseeded(C, np.random.RandomState(1)).rand(3).tolist()),
    ("np seed", lambda C: (C(np.random.seed)(), np.random.rand(3).tolist())),
    ("Random", lambda C: C(random.Random)().random()),
    ("random.seed", lambda C: (C(random.seed)(), random.random())),
    ("Random.seed", lambda C: reseeded(C, random.Random(3)).random()),
    ("torch.seed", lambda C: (C(torch.seed)(), torch.rand(3).tolist())),
    ("SystemRandom", lambda C: C(random.SystemRandom().uniform)(1, 2)),
    ("secrets.choice", lambda C: C(secrets.choice)("abcdefgh" * 9)),
    ("mkdtemp", lambda C: named(C(tempfile.mkdtemp)(prefix="run"))),
    ("NamedTemporaryFile", lambda C: named(C(tempfile.NamedTemporaryFile)(suffix=".x").name)),
    ("TemporaryDirectory", lambda C: named(C(tempfile.TemporaryDirectory)().name)),
    ("Generator.seed", lambda C: torch.rand(3, generator=reseeded(C, torch.Generator())).tolist()),
]


def named(path: str) -> str:
    """The path, and nothing there any more."""
    if os.path.isdir(path):
        os.rmdir(path)
    return path


def reseeded(clock: Callable[[Any], Any], generator: Any) -> Any:
    clock(generator.seed)()
    return generator


@pytest.mark.parametrize("draw", [v[1] for v in VALUES], ids=[v[0] for v in VALUES])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_value_is_served_as_recorded(draw: Callable[[Callable[[Any], Any]], Any]) -> None:
    record = Sources("record")
    first, second = draw(record.clock), draw(record.clock)
    assert record.offset == 2
    serve = replaying(record)
    assert (draw(serve.clock), draw(serve.clock)) == (first, second)
    assert serve.mismatch is None and serve.offset == 2


def test_types_and_zone_are_those_of_the_original() -> None:
    record = Sources("record")
    now, stamp = record.clock(datetime.datetime.now)(ZONE), record.clock(time.localtime)()
    serve = replaying(record)
    again, stamped = serve.clock(datetime.datetime.now)(ZONE), serve.clock(time.localtime)()
    assert again == now and again.tzinfo is ZONE and type(again) is datetime.datetime
    assert type(stamped) is time.struct_time and stamped.tm_zone == stamp.tm_zone and stamped.tm_gmtoff == stamp.tm_gmtoff


def test_calls_that_do_not_depend_on_the_moment_are_left_alone() -> None:
    record = Sources("record")
    assert record.clock(time.localtime)(0).tm_year == time.localtime(0).tm_year
    assert record.clock(time.strftime)("%Y", time.gmtime(0)) == "1970"
    record.clock(np.random.seed)(3)
    assert np.random.rand() == np.random.RandomState(3).rand()
    assert record.clock(random.Random)(5).random() == random.Random(5).random()
    assert record.clock(np.random.default_rng)(5).random() == np.random.default_rng(5).random()
    assert record.offset == 0


class Odd:
    """Hashing or comparing this would run the user's code."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError("user code ran")

    def time(self) -> str:
        return "mine"

    def __call__(self) -> str:
        return "called"


@pytest.mark.parametrize("mode", ["off", "record", "replay"])
def test_other_callables_of_these_names_are_returned_untouched(mode: Any) -> None:
    sources = Sources(mode)
    odd = Odd()
    assert sources.clock(odd) is odd
    assert sources.clock(odd.time)() == "mine"
    assert sources.clock(Odd) is Odd
    assert sources.clock(len) is len
    assert sources.offset == 0 and sources.mismatch is None


def test_nothing_is_recorded_or_served_inside_a_hindsight_statement() -> None:
    record = Sources("record")
    record.clock(time.time)()
    record.suspend()
    record.suspend()
    assert record.clock(time.time) is time.time
    record.resume()
    assert record.clock(time.time) is time.time
    record.resume()
    last = record.clock(time.time)()
    serve = replaying(record)
    serve.offset = 1
    serve.suspend()
    assert abs(serve.clock(time.time)() - time.time()) < 5 and serve.offset == 1
    serve.resume()
    assert serve.clock(time.time)() == last


def test_another_function_at_an_offset_is_a_named_mismatch_and_stops_serving() -> None:
    record = Sources("record")
    record.clock(time.time)()
    record.clock(time.perf_counter)()
    serve = replaying(record)
    before = time.perf_counter()
    assert serve.clock(time.perf_counter)() >= before
    assert serve.mismatch == "time.perf_counter() was called where time.time() was recorded (offset 0)"
    assert serve.clock(time.time)() > 0
    assert len(serve.mismatches) == 1
    serve.offset = 1
    assert serve.clock(time.perf_counter)() < before


def test_running_past_the_end_is_a_named_mismatch() -> None:
    serve = Sources("replay")
    serve.load([("time.time", 1.5)], start=10)
    assert serve.offset == 10 and serve.clock(time.time)() == 1.5
    assert serve.clock(time.time)() > 1e9
    assert serve.mismatch == "time.time() was called past the end of the recorded values (offset 11)"


def test_drain_hands_over_each_value_once() -> None:
    record = Sources("record")
    record.clock(time.time)()
    start, values = record.drain()
    record.clock(time.time)()
    record.clock(time.time_ns)()
    again, more = record.drain()
    assert (start, len(values), again, more[::2]) == (0, 2, 1, ["time.time", "time.time_ns"])
    assert record.drain() == (3, []) and record.offset == 3
    with pytest.raises(ValueError):
        record.offset = 0


def test_other_threads_and_forked_children_call_through() -> None:
    serve = Sources("replay")
    serve.load([("time.time", 1.5)])
    seen: list[float] = []
    thread = threading.Thread(target=lambda: seen.append(serve.clock(time.time)()))
    thread.start()
    thread.join()
    assert seen[0] > 1e9
    child = os.fork()
    if child == 0:
        os._exit(0 if serve.clock(time.time) is time.time else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert serve.clock(time.time)() == 1.5


def test_modules_imported_later_are_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = sys.modules.pop("secrets")
    record = Sources("record")
    monkeypatch.setitem(sys.modules, "secrets", kept)
    sys.modules["@one more"] = kept
    try:
        record.clock(secrets.token_hex)(2)
    finally:
        del sys.modules["@one more"]
    assert record.offset == 1


def test_runs_of_earlier_versions_hold_their_values_in_pairs() -> None:
    pairs = [("time.time", 1.5), ("uuid.uuid4", [3, 4])]
    assert paired(pairs) == paired(["time.time", 1.5, "uuid.uuid4", [3, 4]]) == pairs
    assert paired([]) == []


def test_exceptions_are_those_of_the_function_and_leave_no_value() -> None:
    record = Sources("record")
    with pytest.raises(TypeError, match=r"time\.time\(\) takes no arguments|takes no arguments"):
        record.clock(time.time)(1)
    assert record.offset == 0


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sources], Sources]:
    real = random._urandom  # type: ignore[attr-defined]

    def watch(sources: Sources) -> Sources:
        monkeypatch.setattr(random, "_urandom", real)
        sources.watch_libraries()
        return sources

    return watch


def inside_libraries() -> list[Any]:
    return [np.random.default_rng().random(), secrets.token_hex(4), random.SystemRandom().random(), np.random.RandomState().rand()]


def test_scripts_that_list_functions_see_none_of_ours(watched: Callable[[Sources], Sources]) -> None:
    members = [name for name, member in sorted(vars(random).items()) if inspect.isfunction(member) or inspect.isclass(member)]
    watched(Sources("record"))
    assert [name for name, member in sorted(vars(random).items()) if inspect.isfunction(member) or inspect.isclass(member)] == members
    assert inspect.isbuiltin(random._urandom) and len(random._urandom(5)) == 5  # type: ignore[attr-defined]


def test_what_libraries_draw_is_served(watched: Callable[[Sources], Sources]) -> None:
    record = watched(Sources("record"))
    first = inside_libraries()
    known = record.clock(secrets.token_hex)(8), record.clock(random.SystemRandom().random)(), record.clock(np.random.default_rng)().random()
    assert record.offset == 7  # what a known source draws within itself is not counted by itself
    replay = watched(replaying(record))
    assert inside_libraries() == first
    assert known == (
        replay.clock(secrets.token_hex)(8), replay.clock(random.SystemRandom().random)(), replay.clock(np.random.default_rng)().random(),
    )  # fmt: skip
    assert replay.offset == 7 and replay.mismatch is None
    assert inside_libraries() != first  # past the end: anew, and no mismatch
    assert replay.mismatch is None


def test_libraries_may_draw_less_or_more_than_recorded(watched: Callable[[Sources], Sources]) -> None:
    record = watched(Sources("record"))
    np.random.PCG64(), np.random.PCG64()
    day = record.clock(datetime.date.today)()
    third = secrets.token_hex(5)
    replay = watched(replaying(record))
    np.random.PCG64()
    assert replay.clock(datetime.date.today)() == day
    np.random.PCG64()
    assert replay.offset == 3
    assert secrets.token_hex(5) == third
    replay.offset = 0
    assert replay.has_come_to(2) and replay.offset == 2
    assert not replay.has_come_to(4)  # the day lies in between
    assert replay.offset == 2 and replay.mismatch is None
    assert replay.has_come_to(1) and replay.offset == 2  # drawn earlier than when recorded
    replay.offset = 3
    assert not replay.has_come_to(2) and not replay.has_come_to(9)


def test_libraries_in_hindsight_statements_and_threads_draw_for_themselves(watched: Callable[[Sources], Sources]) -> None:
    record = watched(Sources("record"))
    record.suspend()
    secrets.token_hex(4)
    record.resume()
    thread = threading.Thread(target=inside_libraries)
    thread.start()
    thread.join()
    assert record.offset == 0


def test_all_names_that_are_recognised_are_exported() -> None:
    assert {"time", "perf_counter", "now", "urandom", "uuid4", "default_rng", "RandomState", "seed"} <= CLOCK_NAMES


@pytest.mark.parametrize(
    ("library", "draw"),
    [
        ("random", lambda: [random.random(), random.gauss(0, 1)]),
        ("numpy.random", lambda: [np.random.rand(), np.random.randn()]),
        ("torch", lambda: [torch.rand(2).tolist(), torch.randn(3).tolist(), torch.initial_seed()]),
    ],
)
def test_initial_state_makes_an_unseeded_draw_the_same(library: str, draw: Callable[[], list[Any]]) -> None:
    draw()
    state = json.loads(json.dumps(capture_initial_rng(library)))
    first = draw()
    torch.manual_seed(99)
    apply_initial_rng(library, state)
    assert draw() == first
