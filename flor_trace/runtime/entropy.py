"""The functions whose results depend on the clock or on the system's entropy, and how their results are kept.

A *source* knows when a call of its function is such (``np.random.seed(3)`` is not), turns a result into JSON-able
builtins, and makes the same result, with the same effect, out of them. Libraries are looked at only once imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import BuiltinFunctionType, MethodType
from typing import Any

from flor_trace.runtime.tapes import system_entropy, temporary_names

Applies = Callable[[tuple[Any, ...], dict[str, Any]], bool]
Pack = Callable[[Any, Any], Any]
Serve = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
Tape = Callable[[list[Any] | None], AbstractContextManager[list[Any]]]


def _always(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return True


def _no_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return all(a is None for a in args) and all(v is None for v in kwargs.values())


def _format_only(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return len(args) == 1


def _same(value: Any, f: Any) -> Any:
    return value


def _given(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return payload


@dataclass(frozen=True, slots=True)
class Source:
    """How results of one function are recorded (`pack`) and made again (`serve`)."""

    name: str
    pack: Pack = _same
    serve: Serve = _given
    applies: Applies = _always
    plain: bool = False
    """Whether results are JSON-able as they are and every call counts."""
    later: bool = False
    """Whether every call counts, results never change and no library's draw is within the call: then `pack(result, None)` can wait
    until the values are handed over."""
    warns: str = ""
    """The DeprecationWarning that each call gives, to the caller."""
    tape: Tape | None = None
    """For a function whose result cannot be kept, such as a file of random name: keeps what it draws (given None), or lets
    it draw what is given."""


_PLAIN_TIME = (
    "time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time",
    "process_time_ns", "thread_time", "thread_time_ns", "clock_gettime", "clock_gettime_ns",
)  # fmt: skip
_STRUCT_TIME = ("localtime", "gmtime")
_SECRETS = ("token_hex", "token_urlsafe", "randbelow", "randbits")
_TEMPORARY = (
    "mkstemp", "mkdtemp", "mktemp", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile", "SpooledTemporaryFile",
)  # fmt: skip
_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")

KNOWN_NAMES = frozenset(
    (
        *_PLAIN_TIME, *_STRUCT_TIME, *_SECRETS, *_BIT_GENERATORS, *_TEMPORARY, "ctime", "strftime", "default_timer", "now", "utcnow",
        "today", "urandom", "getrandom", "uuid1", "uuid4", "token_bytes", "Random", "seed", "default_rng",
        "RandomState", "SeedSequence",
    )
)  # fmt: skip


def known_sources() -> Iterator[tuple[Callable[..., Any], Source]]:
    """Each known function of the modules imported by now, with its source."""
    yield from _time_sources()
    yield from _datetime_sources()
    yield from _system_sources()
    yield from _random_sources()
    yield from _numpy_sources()
    yield from _torch_sources()


def bound_source(f: Any) -> Source | None:
    """The source for a method of a generator object, which is a new callable at every access."""
    kind = type(f)
    if kind is MethodType:
        if type(f.__self__) is _attribute("random", "SystemRandom"):
            return Source("SystemRandom", tape=system_entropy)
    elif kind is not BuiltinFunctionType:
        return None
    if f.__name__ != "seed":
        return None
    owner = type(f.__self__)
    if owner is _attribute("random", "Random"):
        return Source("Random.seed", _pack_random_of_self, _serve_random_seed, _no_argument)
    if owner is _attribute("numpy.random", "RandomState"):
        return Source("RandomState.seed", _pack_state_of_self, _serve_state_to_self, _no_argument)
    if owner is _attribute("torch", "Generator"):
        return Source("Generator.seed", _same, _serve_generator_seed)
    return None


def _attribute(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


# -- time -------------------------------------------------------------------------------------------------------------


def _pack_struct_time(value: Any, f: Any) -> Any:
    return [list(value), value.tm_zone, value.tm_gmtoff]


def _serve_struct_time(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import time

    fields, zone, offset = payload
    return time.struct_time(tuple(fields), {"tm_zone": zone, "tm_gmtoff": offset})


def _time_sources() -> Iterator[tuple[Callable[..., Any], Source]]:
    import time

    for name in _PLAIN_TIME:
        if hasattr(time, name):
            yield getattr(time, name), Source(f"time.{name}", plain=True)
    for name in _STRUCT_TIME:
        yield getattr(time, name), Source(f"time.{name}", _pack_struct_time, _serve_struct_time, _no_argument)
    yield time.ctime, Source("time.ctime", applies=_no_argument)
    yield time.strftime, Source("time.strftime", applies=_format_only)


def _pack_datetime(value: Any, f: Any) -> Any:
    return [value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.fold]


def _serve_datetime(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # The zone is the caller's own object, so only the wall-clock fields are recorded.
    zone = args[0] if args else kwargs.get("tz")
    return f.__self__(*payload[:7], tzinfo=zone, fold=payload[7])


UTCNOW_WARNING = (
    "datetime.datetime.utcnow() is deprecated and scheduled for removal in a future version. Use timezone-aware objects to represent "
    "datetimes in UTC: datetime.datetime.now(datetime.UTC)."
)  # Modules/_datetimemodule.c


def _datetime_sources() -> Iterator[tuple[Callable[..., Any], Source]]:
    datetime = _attribute("datetime", "datetime")
    if datetime is None:
        return
    for name in ("now", "utcnow", "today"):
        warns = UTCNOW_WARNING if name == "utcnow" and sys.version_info >= (3, 12) else ""
        yield getattr(datetime, name), Source(f"datetime.{name}", _pack_datetime, _serve_datetime, later=True, warns=warns)
    yield _attribute("datetime", "date").today, Source(
        "date.today", lambda v, f: [v.year, v.month, v.day], lambda p, f, a, k: f.__self__(*p), later=True
    )


# -- the system's entropy ---------------------------------------------------------------------------------------------


def _pack_bytes(value: Any, f: Any) -> Any:
    return value.hex()


def _serve_bytes(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return bytes.fromhex(payload)


def _pack_uuid(value: Any, f: Any) -> Any:
    return [value.int, value.is_safe.value]


def _serve_uuid(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import uuid

    return uuid.UUID(int=payload[0], is_safe=uuid.SafeUUID(payload[1]))


def _system_sources() -> Iterator[tuple[Callable[..., Any], Source]]:
    import os

    yield os.urandom, Source("os.urandom", _pack_bytes, _serve_bytes, later=True)
    if hasattr(os, "getrandom"):
        yield os.getrandom, Source("os.getrandom", _pack_bytes, _serve_bytes, later=True)
    uuid = sys.modules.get("uuid")
    if uuid is not None and hasattr(uuid, "uuid4"):
        yield uuid.uuid1, Source("uuid.uuid1", _pack_uuid, _serve_uuid, later=True)
        yield uuid.uuid4, Source("uuid.uuid4", _pack_uuid, _serve_uuid, later=True)
    secrets = sys.modules.get("secrets")
    if secrets is not None and hasattr(secrets, "token_urlsafe"):
        yield secrets.token_bytes, Source("secrets.token_bytes", _pack_bytes, _serve_bytes)
        for name in _SECRETS:
            yield getattr(secrets, name), Source(f"secrets.{name}")
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None and hasattr(tempfile, "TemporaryDirectory"):
        for name in _TEMPORARY:
            yield getattr(tempfile, name), Source(f"tempfile.{name}", tape=temporary_names)


# -- generators of random numbers that seed themselves ----------------------------------------------------------------


def pack_random_state(state: Any) -> Any:
    """`random.getstate()` as lists."""
    version, internal, gauss = state
    return [version, list(internal), gauss]


def unpack_random_state(payload: Any) -> Any:
    """What `random.setstate` takes, from `pack_random_state`'s lists."""
    version, internal, gauss = payload
    return version, tuple(internal), gauss


def pack_legacy_state(state: Any) -> Any:
    """`RandomState.get_state()` as lists."""
    name, keys, position, has_gauss, gauss = state
    return [str(name), [int(k) for k in keys], int(position), int(has_gauss), float(gauss)]


def unpack_legacy_state(payload: Any) -> Any:
    """What `RandomState.set_state` takes, from `pack_legacy_state`'s lists."""
    import numpy

    name, keys, position, has_gauss, gauss = payload
    return name, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, gauss


def _pack_random_of_self(value: Any, f: Any) -> Any:
    return pack_random_state(f.__self__.getstate())


def _serve_random_seed(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    f.__self__.setstate(unpack_random_state(payload))


def _serve_random_object(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = f(0)
    made.setstate(unpack_random_state(payload))
    return made


def _random_sources() -> Iterator[tuple[Callable[..., Any], Source]]:
    random = sys.modules.get("random")
    if random is None or not hasattr(random, "seed"):
        return
    yield random.seed, Source("random.seed", _pack_random_of_self, _serve_random_seed, _no_argument)
    yield random.Random, Source(
        "random.Random", lambda v, f: pack_random_state(v.getstate()), _serve_random_object, _no_argument
    )


def _pack_state_of_self(value: Any, f: Any) -> Any:
    return pack_legacy_state(f.__self__.get_state())


def _serve_state_to_self(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    f.__self__.set_state(unpack_legacy_state(payload))


def _serve_random_state(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = f(0)
    made.set_state(unpack_legacy_state(payload))
    return made


def _entropy_of(value: Any, f: Any) -> Any:
    owner = getattr(value, "bit_generator", value)
    sequence = getattr(owner, "seed_seq", None) or getattr(owner, "_seed_seq", owner)
    return sequence.entropy


def _serve_entropy(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return f(payload)


def _numpy_sources() -> Iterator[tuple[Callable[..., Any], Source]]:
    nprandom = sys.modules.get("numpy.random")
    if nprandom is None or not hasattr(nprandom, "default_rng"):
        return
    yield nprandom.seed, Source(
        "numpy.random.seed",
        lambda v, f: pack_legacy_state(nprandom.get_state()),
        lambda p, f, a, k: nprandom.set_state(unpack_legacy_state(p)),
        _no_argument,
    )
    yield nprandom.RandomState, Source(
        "numpy.random.RandomState", lambda v, f: pack_legacy_state(v.get_state()), _serve_random_state, _no_argument
    )
    for name in ("default_rng", "SeedSequence", *_BIT_GENERATORS):
        yield getattr(nprandom, name), Source(f"numpy.random.{name}", _entropy_of, _serve_entropy, _no_argument)


def _serve_torch_seed(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    sys.modules["torch"].manual_seed(payload)
    return payload


def _serve_generator_seed(payload: Any, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    f.__self__.manual_seed(payload)
    return payload


def _torch_sources() -> Iterator[tuple[Callable[..., Any], Source]]:
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "seed"):
        yield torch.seed, Source("torch.seed", _same, _serve_torch_seed)
