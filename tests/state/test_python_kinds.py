"""Kinds of Python and of its libraries: what a restore leaves to be seen is what there was, back and forth and born anew."""

from __future__ import annotations

import contextvars
import decimal
import enum
import functools
import io
import itertools
import logging
import queue
import re
import threading
import typing
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from state.world import World

from flor_trace.errors import NotRestorable
from flor_trace.state import library

VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


class Plain:
    pass


def handling() -> Iterator[int]:
    for i in range(5):
        try:
            raise ValueError(i)
        except ValueError as error:
            yield error.args[0]


def check(make: Callable[[], Any], change: Callable[[Any], object], see: Callable[[Any], Any], born: bool = True) -> None:
    """`see` may use its object up, so each state is seen once, in a world of its own."""

    def world() -> World:
        w = World(Plain=Plain, handling=handling, VARIABLE=VARIABLE)
        w.v["x"] = make()
        return w

    first = make()
    before_seen = see(first)
    second = make()
    change(second)
    after_seen = see(second)
    assert before_seen != after_seen
    w = world()
    before = w.snap()
    change(w.v["x"])
    after = w.snap()
    w.replay(after, before)
    assert see(w.v["x"]) == before_seen
    w = world()
    before = w.snap()
    change(w.v["x"])
    after = w.snap()
    w.replay(after, before)
    w.replay(before, after)
    assert see(w.v["x"]) == after_seen
    if born:
        w = World(Plain=Plain, handling=handling, VARIABLE=VARIABLE)
        before = w.snap()
        w.v["x"] = make()
        change(w.v["x"])
        after = w.snap()
        kept = w.v.pop("x")
        library.apply(before.library)
        w.replay(before, after)
        assert see(w.v["x"]) == after_seen
        del kept


def _proxied() -> list[Any]:
    target = Plain()
    target.n = 1  # type: ignore[attr-defined]
    return [target, weakref.proxy(target)]


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], object], Callable[[Any], Any], bool]] = {
    "iterator over a dict": (lambda: iter({1: 2, 3: 4, 5: 6}), next, list, True),
    "iterator over items": (lambda: iter({1: 2, 3: 4, 5: 6}.items()), next, list, True),
    "iterator over a set": (lambda: iter({1, 2, 3}), next, list, True),
    "reversed dict": (lambda: reversed({1: 2, 3: 4}), next, list, True),
    "ended iterator over a list": (lambda: iter([1, 2]), list, list, True),
    "ended reversed list": (lambda: reversed([1, 2]), list, list, True),
    "tee": (lambda: itertools.tee(iter([1, 2, 3]))[0], next, list, True),
    "zip_longest": (lambda: itertools.zip_longest([1, 2, 3], [1]), lambda x: (next(x), next(x)), list, True),
    "generator inside except": (handling, lambda x: (next(x), next(x)), list, True),
    "views of a dict": (lambda: (lambda d: [d, d.keys(), d.items()])({1: 2}), lambda x: x[0].update(a=1),
                        lambda x: list(map(list, x)), True),
    "match": (list, lambda x: x.append(re.match("a(.)", "ab")), lambda x: [m.groups() for m in x], True),
    "proxy": (_proxied, lambda x: setattr(x[0], "n", 2), lambda x: x[1].n, True),
    "view of memory": (lambda: (lambda b: [b, memoryview(b)[1:]])(bytearray(b"abc")), lambda x: x[1].__setitem__(0, 90),
                       lambda x: bytes(x[1]), True),
    "lock": (threading.Lock, lambda x: x.acquire(), lambda x: x.locked(), True),
    "reentrant lock": (threading.RLock, lambda x: x.acquire(), lambda x: "count=1" in repr(x), True),
    "semaphore": (lambda: threading.Semaphore(3), lambda x: x.acquire(), lambda x: x._value, True),
    "queue": (lambda: queue.Queue(3), lambda x: x.put(5), lambda x: list(x.queue), True),
    "thread-local": (threading.local, lambda x: setattr(x, "a", 5), lambda x: getattr(x, "a", None), True),
    "union": (lambda: [int | str], lambda x: x.append(int | None), repr, True),
    "generic alias": (lambda: [list[int]], lambda x: x.append(dict[str, int]), repr, True),
    "property": (lambda: [1], lambda x: x.append(property(len)), lambda x: [getattr(p, "fget", p) for p in x], True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_kind(name: str) -> None:
    check(*CASES[name])


def test_context_variable() -> None:
    def run() -> None:
        VARIABLE.set(0)
        check(lambda: VARIABLE.set(0) and None, lambda x: VARIABLE.set(5), lambda x: VARIABLE.get(), born=False)

    contextvars.copy_context().run(run)


def test_signals_of_decimal() -> None:
    with decimal.localcontext() as context:
        check(lambda: context.clear_flags(), lambda x: decimal.Decimal(1) / 3, lambda x: context.flags[decimal.Inexact], born=False)


def test_what_was_disabled_in_logging() -> None:
    check(lambda: logging.disable(0), lambda x: logging.disable(30), lambda x: logging.root.manager.disable, born=False)
    logging.disable(0)


def test_a_loggers_handlers() -> None:
    def make() -> list[Any]:
        logger = logging.getLogger("flor_trace.tests.handlers")
        logger.handlers.clear()
        return [logger, io.StringIO()]

    def change(x: list[Any]) -> None:
        x[0].addHandler(logging.StreamHandler(x[1]))
        x[0].warning("one")

    def see(x: list[Any]) -> Any:
        if x[0].handlers:
            x[0].warning("two")
        return len(x[0].handlers), x[1].getvalue()

    check(make, change, see)


def test_frames_of_pandas() -> None:
    pd = pytest.importorskip("pandas")

    def make() -> Any:
        return pd.DataFrame({"a": [1, 2], "b": [1.0, None], "c": pd.Categorical(["u", "v"]), "d": pd.date_range("2020", periods=2)})

    def grow(x: Any) -> None:
        x.loc[0, "b"] = 5.0
        x["e"] = "text"

    check(make, grow, lambda x: (x.to_string(), x["a"].sum()))
    check(make, lambda x: x.loc.__setitem__("new", [9, 1.0, "u", pd.NaT]), lambda x: x.to_string())
    check(lambda: [pd.NaT], lambda x: x.append(pd.Timestamp("2020")), lambda x: (repr(x), x[0] is pd.NaT))


def test_pixels() -> None:
    image = pytest.importorskip("PIL.Image")
    for mode in ("RGB", "P", "1", "F"):
        check(lambda: image.new(mode, (4, 3)), lambda x: x.paste(1, (1, 1, 2, 2)), lambda x: (x.tobytes(), x.mode, x.size))  # noqa: B023


def test_nothing_jumps_over_what_cannot_be_seen() -> None:
    w = World(packer=zlib.compressobj(), n=1)
    before = w.snap()
    w.v["n"] = 2
    after = w.snap()
    w.v["n"] = 1
    with pytest.raises(NotRestorable, match=r"zlib\.Compress keeps its state where it cannot be seen"):
        w.replay(before, after)
    assert w.v["n"] == 1


def test_members_of_enums_keep_identity_and_attributes() -> None:
    assert functools.reduce(lambda a, b: a | b, [re.I, re.M]) is re.I | re.M
    w = World(x=re.I)
    before = w.snap()
    w.v["x"] = re.I | re.M
    after = w.snap()
    w.v["x"] = re.I
    w.replay(before, after)
    assert w.v["x"] is re.I | re.M


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        """Of the wrapper."""
        return function(*args)

    return wrapper


def test_a_wrapper_keeps_what_it_says_of_itself() -> None:
    def first(x: int) -> int:
        """One more."""
        return x + 1

    world = World(f=None)
    entry = world.snap()
    world.v["f"] = made = decorated(first)
    made.note = "mine"
    target = world.snap()
    world.v["f"] = None
    world.replay(entry, target)
    again = world.v["f"]
    assert again is not made and again(1) == 2 and again.note == "mine" and again.__wrapped__(2) == 3
    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        assert getattr(again, name) == getattr(made, name)
        assert getattr(again.__wrapped__, name) == getattr(first, name)


def test_a_function_renamed_in_place_gets_its_names_back() -> None:
    world = World(f=lambda x: x)
    function = world.v["f"]
    entry = world.snap()
    function.__name__, function.__qualname__, function.__doc__ = "square", "maths.square", "It is not."
    target = world.snap()
    assert world.compare(entry).verdict == "diverged"
    world.replay(target, entry)
    assert world.v["f"] is function
    assert function.__name__ == "<lambda>" and function.__doc__ is None and function.__qualname__.endswith("<lambda>")
    world.replay(entry, target)
    assert (function.__name__, function.__qualname__, function.__doc__) == ("square", "maths.square", "It is not.")


class Suit(enum.Enum):
    HEARTS = 1
    SPADES = 2

    def __init__(self, number: int) -> None:
        self.seen: list[int] = []

    def note(self, x: int) -> None:
        self.seen.append(x)


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


def test_members_of_an_enumeration_keep_attributes_though_only_the_class_is_held() -> None:
    world = World(Suit=Suit, Rights=Rights)
    entry = world.snap()
    Suit.HEARTS.note(3)
    Rights.READ.by = "me"  # type: ignore[attr-defined]
    combined = Rights.READ | Rights.WRITE
    target = world.snap()
    assert world.compare(entry).verdict == "diverged"
    world.replay(target, entry)
    assert (Suit.HEARTS.seen, hasattr(Rights.READ, "by")) == ([], False)
    world.replay(entry, target)
    assert (Suit.HEARTS.seen, Rights.READ.by) == ([3], "me")  # type: ignore[attr-defined]
    assert Suit(1) is Suit.HEARTS and Rights(3) is combined


def test_an_attribute_of_an_enumeration_comes_back() -> None:
    world = World(Suit=Suit)
    entry = world.snap()
    Suit.trumps = [Suit.SPADES]  # type: ignore[attr-defined]
    target = world.snap()
    world.replay(target, entry)
    assert not hasattr(Suit, "trumps")
    world.replay(entry, target)
    assert Suit.trumps == [Suit.SPADES]  # type: ignore[attr-defined]
    del Suit.trumps  # type: ignore[attr-defined]


class Key:
    pass


def test_sets_of_what_refers_to_objects_match_whatever_their_order() -> None:
    world = World(keys=[Key() for _ in range(40)])
    world.v.update(pairs={(key, 1) for key in world.v["keys"]}, alive=weakref.WeakSet(world.v["keys"]))
    entry = world.snap()
    world.v["keys"].append(Key())
    world.v["alive"].add(world.v["keys"][-1])
    world.v["pairs"].add((world.v["keys"][-1], 2))
    target = world.snap()
    made = world.v["keys"]
    world.v.clear()
    birth = world.snap()
    world.replay(birth, target)
    assert len(world.v["alive"]) == 41 and all(key in world.v["alive"] for key in world.v["keys"])
    assert {(key, 1) for key in world.v["keys"][:40]} < world.v["pairs"] and world.v["keys"][0] is not made[0]
    del made
    world.replay(target, entry)
    assert len(world.v["alive"]) == len(world.v["pairs"]) == 40


def test_looking_at_a_weak_container_is_no_change() -> None:
    world = World(key=Key())
    world.v.update(by_key=weakref.WeakKeyDictionary({world.v["key"]: 1}), by_name=weakref.WeakValueDictionary(a=world.v["key"]))
    before = world.snap()
    assert len(list(world.v["by_key"].items())) == len(list(world.v["by_name"].values())) == 1
    assert world.compare(before).verdict == "exact"


def test_what_a_sparse_matrix_has_worked_out_is_no_state() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    np = pytest.importorskip("numpy")
    made = sparse.csr_matrix((np.ones(3), np.array([0, 2, 1]), np.array([0, 1, 3])), shape=(2, 3))
    world = World(m=made)
    before = world.snap()
    assert not made.has_sorted_indices
    assert world.compare(before).verdict == "exact"
    made.sort_indices()
    after = world.snap()
    world.replay(after, before)
    assert world.v["m"] is made and made.indices.tolist() == [0, 2, 1]
    assert not made.has_sorted_indices and made.tocsc().sorted_indices().indices.tolist() == [0, 1, 1]
    world.replay(before, after)
    assert made.indices.tolist() == [0, 1, 2] and made.has_sorted_indices


def test_type_hints_are_values_and_who_holds_them_is_no_matter() -> None:
    import torch

    optional: Any = typing.Optional
    union: Any = typing.Union  # as libraries that are older than `|` write it
    hints = [
        optional[int], union[torch.Tensor, float, None], typing.Callable[[int], str], typing.Literal["a", 2], dict[str, list[int]],
        int | None, typing.Any | None, union[typing.AnyStr, bytes],
    ]  # fmt: skip
    w = World(x=[])
    before = w.snap()
    w.v["x"].extend(hints)
    after = w.snap()
    assert not any(node[0] in ("object", "opaque") and "alias" in str(node).lower() for node in after.nodes.values())
    w.v["x"].clear()
    w.replay(before, after)
    assert w.v["x"] == hints
    # built by the restore, then asked of typing again: no difference, whoever else holds the first
    w.v["x"][0], w.v["x"][4] = optional[int], dict[str, list[int]]
    assert w.compare(after).verdict == "exact"


def test_type_hint_of_a_class_of_the_users_follows_the_class() -> None:
    w = World(Plain=Plain, x=[])
    before = w.snap()
    union: Any = typing.Union
    w.v["x"].append(union[Plain, None])
    after = w.snap()
    w.v["x"].clear()
    w.replay(before, after)
    assert w.v["x"][0].__args__[0] is w.v["Plain"]
