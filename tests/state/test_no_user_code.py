"""No special method of the script's runs because its objects and classes are walked, compared, or restored."""

from __future__ import annotations

import enum
import functools
import gc
import itertools
import sys
import weakref
from collections import OrderedDict, defaultdict, deque
from typing import Any

import pytest
from state.world import USER, World

NAMES = (
    "repr", "str", "bytes", "format", "lt", "le", "eq", "ne", "gt", "ge", "hash", "bool", "getattr", "setattr", "delattr", "dir", "get",
    "set", "delete", "set_name", "len", "length_hint", "getitem", "setitem", "delitem", "missing", "iter", "next", "reversed", "contains",
    "call", "enter", "exit", "int", "float", "complex", "index", "round", "copy", "deepcopy", "reduce", "reduce_ex", "getstate", "setstate",
    "getnewargs", "getnewargs_ex", "sizeof", "instancecheck", "subclasscheck", "subclasshook", "fspath", "array", "await", "aiter",
    "init_subclass", "class_getitem", "buffer", "new", "init", "class",
)  # fmt: skip
ran: list[str] = []


def note(name: str) -> None:
    caller = sys._getframe(2)
    ran.append(f"{name} in {caller.f_code.co_filename}:{caller.f_lineno}")


def loud(name: str) -> Any:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        note(name)
        raise TypeError

    return property(method) if name == "class" else method


def told(self: Any, name: str) -> Any:
    note(f"getattribute {name}")
    plain: Any = type if type.__subclasscheck__(type, type(self)) else object
    return plain.__getattribute__(self, name)


LOUD: dict[str, Any] = {f"__{name}__": loud(name) for name in NAMES} | {"__getattribute__": told, "__module__": USER}
Meta: Any = type("Meta", (type,), LOUD)
PLAIN: tuple[type, ...] = (
    object, dict, list, tuple, set, frozenset, deque, OrderedDict, defaultdict, int, str, float, bytes, bytearray, complex, Exception,
    functools.partial, weakref.ref,
)  # fmt: skip


def classes() -> list[Any]:
    made = [type.__new__(Meta, f"Loud{base.__name__}", (base,), dict(LOUD)) for base in PLAIN]
    made.append(type.__new__(Meta, "LoudSlots", (), {**LOUD, "__slots__": ("first", "second", "__weakref__")}))
    for cls in made:
        type.__setattr__(cls, "shared", [1])
    return made


def instance(cls: Any) -> Any:
    base = type.__dict__["__mro__"].__get__(cls)[1]
    if base is functools.partial:
        return base.__new__(cls, len, [1])
    if base is weakref.ref:
        return base.__new__(cls, Colour)
    return base.__new__(cls)


class Colour(enum.Enum):
    RED = 1


def loud_world() -> World:
    made = classes()
    world = World(**{type.__dict__["__name__"].__get__(cls): cls for cls in made})
    objects = [instance(cls) for cls in made]
    first = objects[0]
    object.__getattribute__(first, "__dict__")["kept"] = [1]
    world.v.update(
        objects=objects, classes=list(made), keyed={"a": first, 1: made[0]},
        tuples=tuple(objects), many=[first] * 1500, mixed=[*range(1500), first],
        part=functools.partial(len, first), refs=[weakref.ref(first), weakref.ref(made[0])], cycle=itertools.cycle([first]),
        iterators=[iter(objects), iter({1: first}), enumerate(objects), zip(objects, made, strict=True), map(len, objects)],
        closure=lambda: first, cut=slice(first, made[0]), waiting=deque([first, made[0]]), column={2: [first]},
    )  # fmt: skip
    return world


def test_a_walk_runs_none() -> None:
    world = loud_world()
    ran.clear()
    graph = world.snap()
    assert ran == []
    assert len(graph.nodes) > 100


def test_comparing_and_restoring_run_none() -> None:
    world = loud_world()
    before = world.snap()
    count = len(world.v["objects"])
    first = world.v["objects"][0]
    object.__getattribute__(first, "__dict__")["fresh"] = [first]
    type.__setattr__(world.v["Loudobject"], "shared", [2])
    world.v["objects"].append(object.__new__(world.v["Loudobject"]))
    world.v["keyed"]["b"] = world.v["objects"][-1]
    world.v["iterators"].pop()
    after = world.snap()
    ran.clear()
    world.replay(after, before)
    assert "fresh" not in object.__getattribute__(first, "__dict__")
    world.replay(before, after)
    assert ran == []
    assert object.__getattribute__(first, "__dict__")["fresh"][0] is first
    assert type.__getattribute__(world.v["Loudobject"], "shared") == [2]
    assert len(world.v["objects"]) == count + 1


@pytest.mark.parametrize("wanted", [["a"], []])
def test_classes_made_anew_at_each_turn_are_not_kept_alive(wanted: list[str]) -> None:
    world = World(keep=wanted)
    alive = []
    for _ in range(3):
        made = type("Made", (), {"__module__": USER, "__slots__": ("x",)})
        world.v["keep"] = [made()]
        alive.append(weakref.ref(made))
        world.snap()
    del made
    world.v["keep"] = None
    world.snap()
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3
