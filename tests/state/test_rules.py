"""One test per rule that a replay was silently wrong without."""

from __future__ import annotations

import collections
import copy
import enum
import functools
import itertools
import logging
import marshal
import math
import sys
import types
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from state.world import World

from flor_trace.errors import NotRestorable
from flor_trace.state import FrameRoot, Graph, Ignore, walk


class Node:
    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


class Slotted:
    __slots__ = ("a", "b")


class SlottedChild(Slotted):
    __slots__ = ("c",)
    count = 0


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class Pair(NamedTuple):
    left: Any
    right: Any


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Text(str):
    pass


def round_trip(world: World, change: Any) -> None:
    """Record before and after `change`, come back to before by replaying, then go forward again."""
    before = world.snap()
    change(world.v)
    after = world.snap()
    world.replay(after, before)
    world.replay(before, after)


def test_a_name_bound_to_a_copy_later_does_not_receive_the_copy_in_place() -> None:
    w = World(net=Node(w=[1, 2]))
    w.v["best"] = w.v["net"]
    entry = w.snap()
    w.v["best"] = copy.deepcopy(w.v["net"])
    w.v["net"].w[0] = 7
    target = w.snap()
    w.v["best"] = w.v["net"]
    w.v["net"].w[0] = 1
    # the live state is as at the entry, with the same objects
    w.replay(entry, target)
    assert w.v["net"].w == [7, 2]
    assert w.v["best"].w == [1, 2]
    assert w.v["best"] is not w.v["net"]


def test_containers_keep_identity_order_and_deletions() -> None:
    shared = [1]
    w = World(d={"a": shared, "b": 2, "c": 3}, l=[shared, shared], q=collections.deque([1, 2, 3], maxlen=3), x=1)
    d, q = w.v["d"], w.v["q"]

    def change(v: dict[str, Any]) -> None:
        del v["d"]["b"]
        v["d"]["a2"] = v["d"].pop("a")
        v["l"].pop()
        v["l"][0].append(5)
        v["q"].append(4)
        del v["x"]
        v["y"] = v["l"]

    round_trip(w, change)
    assert w.v["d"] is d and list(d) == ["c", "a2"] and w.v["q"] is q and list(q) == [2, 3, 4] and q.maxlen == 3
    assert w.v["l"] == [[1, 5]] and d["a2"] is w.v["l"][0] is shared and w.v["y"] is w.v["l"] and "x" not in w.v


def test_values_of_every_plain_kind() -> None:
    w = World(v=0)
    values: list[Any] = [
        None, True, 1, 1 << 80, -0.0, math.nan, 1e308, 1j, "s", "é" * 5000, b"x" * 5000, b"y", range(3), slice(1, 2),
        slice([], None), ..., NotImplemented, (1, (2, [3])), frozenset({1, "a"}), {1, 2}, bytearray(b"abc"), Text("t"),
        Pair([1], 2), Point(1, 2), Colour.BLUE, types.SimpleNamespace(a=1), collections.OrderedDict(b=1, a=2),
        collections.defaultdict(list, {1: [2]}), collections.Counter("aab"), ValueError("x"), math.sin, int, len, Node,
        [].append, "abc".upper, functools.partial(max, 3, default=4), list(range(5000)), {i: str(i) for i in range(2000)},
        [(i, float(i)) for i in range(2000)],
    ]  # fmt: skip
    entry = w.snap()
    for value in values:
        w.v["v"] = value
        target = w.snap()
        w.v["v"] = 0
        w.replay(entry, target)
        got = w.v["v"]
        assert type(got) is type(value)
        if isinstance(value, float) and math.isnan(value):
            assert math.isnan(got)
        elif isinstance(value, (ValueError, types.BuiltinMethodType, functools.partial)):
            assert repr(got)[:15] == repr(value)[:15]
        else:
            assert got == value
        w.v["v"] = 0


def test_an_attribute_of_a_str_subclass_is_kept() -> None:
    w = World(v=None)
    entry = w.snap()
    w.v["v"] = Text("t")
    w.v["v"].note = [1]
    target = w.snap()
    w.v["v"] = None
    w.replay(entry, target)
    assert w.v["v"] == "t" and w.v["v"].note == [1]


def test_slots_and_unset_slots_in_a_class_tree() -> None:
    obj = SlottedChild()
    obj.a, obj.c = 1, [2]

    def change(v: dict[str, Any]) -> None:
        del v["o"].a
        v["o"].b = 5
        v["o"].c.append(3)

    w = World(o=obj)
    round_trip(w, change)
    assert w.v["o"] is obj and not hasattr(obj, "a") and obj.b == 5 and obj.c == [2, 3]


def test_a_dict_that_is_also_an_instance_dict() -> None:
    node = Node(lr=1)
    w = World(args=node, config=vars(node))

    def change(v: dict[str, Any]) -> None:
        v["config"]["lr"] = 2

    round_trip(w, change)
    assert w.v["args"].lr == 2 and w.v["config"] is vars(node)


def test_an_object_whose_dict_is_itself() -> None:
    class AttrDict(dict):  # type: ignore[type-arg]
        pass

    w = World(cfg=AttrDict(a=1))
    w.v["cfg"].__dict__ = w.v["cfg"]

    def change(v: dict[str, Any]) -> None:
        v["cfg"].b = 2

    round_trip(w, change)
    assert w.v["cfg"] == {"a": 1, "b": 2} and w.v["cfg"].b == 2


def test_functions_have_defaults_attributes_and_closures() -> None:
    def make() -> Any:
        count = 0
        seen: list[int] = []

        def step(x: int, acc: list[int] = [], *, k: Any = None) -> int:  # noqa: B006 - state in a default is the point
            nonlocal count
            count += x
            acc.append(x)
            seen.append(count)
            return count

        return step, seen

    w = World()
    w.v["step"], w.v["seen"] = make()

    def change(v: dict[str, Any]) -> None:
        v["step"](3)
        v["step"].calls = 1
        v["step"].__kwdefaults__["k"] = 9

    round_trip(w, change)
    step = w.v["step"]
    assert step(1) == 4 and w.v["seen"] == [3, 4] and step.__defaults__ == ([3, 1],)
    assert step.calls == 1 and step.__kwdefaults__ == {"k": 9}


def test_a_lambda_born_later_is_built_from_code_at_hand() -> None:
    def make(k: int) -> Any:
        return lambda x: x + k

    w = World(make=make, f=None)
    entry = w.snap()
    w.v["f"] = make(5)
    target = w.snap()
    w.v["f"] = None
    w.replay(entry, target)
    assert w.v["f"](1) == 6


def test_bound_methods_and_partials_lead_to_the_restored_objects() -> None:
    w = World(log=[])
    entry = w.snap()
    w.v["log"].append(1)
    w.v["node"] = Node(v=1)
    w.v["add"] = w.v["log"].append
    w.v["part"] = functools.partial(w.v["node"].__setattr__, "v")
    target = w.snap()
    for name in ("node", "add", "part"):
        del w.v[name]
    w.v["log"].clear()
    w.replay(entry, target)
    w.v["add"](2)
    w.v["part"](8)
    assert w.v["log"] == [1, 2] and w.v["node"].v == 8


def test_class_attributes() -> None:
    w = World(C=SlottedChild)

    def change(v: dict[str, Any]) -> None:
        SlottedChild.count += 1
        SlottedChild.extra = [1]  # type: ignore[attr-defined]

    before = w.snap()
    change(w.v)
    after = w.snap()
    w.replay(after, before)
    assert SlottedChild.count == 0 and not hasattr(SlottedChild, "extra")
    w.replay(before, after)
    assert SlottedChild.count == 1 and SlottedChild.extra == [1]  # type: ignore[attr-defined]
    w.replay(after, before)


@pytest.mark.parametrize("maxsize", [None, 2])
def test_a_cache_of_results_with_its_order_and_counters(maxsize: int | None) -> None:
    @functools.lru_cache(maxsize=maxsize)
    def square(x: Any, *, power: int = 2) -> list[Any]:
        return [x, power]

    w = World(square=square)
    before = w.snap()
    for x in (3, (4, "k"), 5, 3):
        square(x).append("seen")
    square(5, power=3)
    after, info = w.snap(), square.cache_info()
    w.replay(after, before)
    assert square.cache_info() == (0, 0, maxsize, 0) and square(5) == [5, 2]
    square.cache_clear()
    w.replay(before, after)
    assert square.cache_info() == info and square(5, power=3) == [5, 3]
    assert square(3) == [3, 2, *["seen"] * (2 if maxsize is None else 1)] and square.cache_info().misses == info.misses


def test_sets_iterate_in_the_recorded_order() -> None:
    w = World(s={f"k{i}" for i in range(40)}, n=set(range(1000)))
    w.v["n"].difference_update(range(5, 1000))
    entry = w.snap()
    w.v["s"].add("late")
    w.v["n"].update([64, 128, 5000])
    order, n_order = list(w.v["s"]), list(w.v["n"])
    target = w.snap()
    w.v["s"] = {f"k{i}" for i in range(40)}
    w.v["n"] = set(range(1000))
    w.v["n"].difference_update(range(5, 1000))
    w.replay(entry, target)
    assert list(w.v["s"]) == order and list(w.v["n"]) == n_order


def test_sets_in_equal_order_with_other_slots_are_told_apart() -> None:
    w = World(n={0, 1, 2})
    plain = w.snap()
    w.v["n"].add(5)
    w.v["n"].discard(5)
    found = w.compare(plain)
    assert [difference.what for difference in found.differences] == ["order to come"]


def test_a_set_whose_order_cannot_be_had_is_refused() -> None:
    w = World(s=set(range(0, 160, 8)))
    entry = w.snap()
    odd = set(range(0, 160, 8)) - {0}
    odd.add(64)
    w.v["s"] = odd
    target = w.snap()
    forged = next(node for node in target.nodes.values() if node[0] == "set")
    token = next(token for token, node in target.nodes.items() if node is forged)
    target.nodes[token] = (*forged[:3], tuple(reversed(forged[3])), forged[4])
    w.v["s"] = set(range(0, 160, 8))
    with pytest.raises(NotRestorable, match="order of iteration"):
        w.replay(entry, target)


def test_an_int_that_is_an_id_is_a_reference() -> None:
    w = World(opt=None, states={})
    entry = w.snap()
    w.v["opt"] = Node(v=1)
    w.v["states"][id(w.v["opt"])] = "ready"
    target = w.snap()
    w.v["opt"], old = None, w.v["opt"]
    w.v["states"].clear()
    w.replay(entry, target)
    assert w.v["opt"] is not old and w.v["states"] == {id(w.v["opt"]): "ready"}


def test_iterators_keep_their_position() -> None:
    data = [1, 2, 3, 4]
    w = World(data=data, it=iter(data), c=itertools.count(5), e=enumerate(data), z=zip(data, range(4), strict=False))

    def change(v: dict[str, Any]) -> None:
        for name in ("it", "c", "e", "z"):
            next(v[name])

    round_trip(w, change)
    assert (next(w.v["it"]), next(w.v["c"]), next(w.v["e"]), next(w.v["z"])) == (2, 6, (1, 2), (2, 1))


def test_a_generator_that_moved_is_set_and_one_that_did_not_is_kept() -> None:
    def numbers() -> Any:
        yield from range(10)

    w = World(gen=numbers(), x=0)
    entry = w.snap()
    w.v["x"] = 1
    target = w.snap()
    w.v["x"] = 0
    w.replay(entry, target)
    assert w.v["x"] == 1
    entry = w.snap()
    next(w.v["gen"])
    w.v["x"] = 2
    moved = w.snap()
    w.v["gen"] = numbers()
    w.v["x"] = 1
    w.snap()
    w.replay(w.snap(), moved)
    assert w.v["x"] == 2 and next(w.v["gen"]) == 1


def test_nothing_is_changed_when_a_restore_is_refused() -> None:
    w = World(log=[1], gen=None)
    entry = w.snap()
    w.v["log"].append(2)
    w.v["gen"] = zlib.compressobj()
    target = w.snap()
    w.v["log"].pop()
    w.v["gen"] = None
    with pytest.raises(NotRestorable, match="Compress"):
        w.replay(entry, target)
    assert w.v["log"] == [1] and w.v["gen"] is None


class Hostile:
    """Every method that a walk might call by accident fails."""

    def __init__(self) -> None:
        object.__setattr__(self, "items", [1])

    def _fail(self, *args: Any) -> Any:
        raise AssertionError("user code was run")

    __getattr__ = __getattribute__ = __setattr__ = __delattr__ = __eq__ = __hash__ = __bool__ = __len__ = _fail
    __repr__ = __iter__ = __getitem__ = __reduce__ = __reduce_ex__ = __getstate__ = __deepcopy__ = _fail
    tick = property(_fail)


def test_no_user_method_is_called() -> None:
    w = World(h=Hostile(), many=[Hostile()])

    def change(v: dict[str, Any]) -> None:
        object.__getattribute__(v["h"], "__dict__")["items"].append(2)
        v["many"].append(Hostile())

    round_trip(w, change)
    assert object.__getattribute__(w.v["h"], "__dict__") == {"items": [1, 2]} and len(w.v["many"]) == 2


@pytest.mark.parametrize("links", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_deep_structures_do_not_recurse(links: int) -> None:
    head: Any = None
    for i in range(links):
        head = [i, head]
    w = World(head=head)
    entry = w.snap()
    w.v["head"][0] = -1
    target = w.snap()
    w.v["head"][0] = links - 1
    w.replay(entry, target)
    assert w.v["head"][0] == -1
    while head is not None:  # the interpreter's own deallocation is not what is tested
        head[:], head = [], head[1]
    w.v.clear()


def test_a_deep_list_is_built_anew() -> None:
    w = World(head=None)
    entry = w.snap()
    for i in range(20_000):
        w.v["head"] = (i, w.v["head"])
    target = w.snap()
    w.v["head"] = None
    w.replay(entry, target)
    assert w.v["head"][0] == 19_999


def chain(link: Callable[[int, Any], Any], links: int, end: Any = None) -> Any:
    for i in range(links):
        end = link(i, end)
    return end


def unlink(head: Any, following: Callable[[Any], Any]) -> None:
    """Take a chain apart from its head: the interpreter's own deallocation is not what is tested."""
    while head is not None:
        head = following(head)


@pytest.mark.parametrize("links", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("link, following", [
    pytest.param(lambda i, rest: Node(n=i, rest=rest), lambda x: x.__dict__.pop("rest"), id="objects"),
    pytest.param(lambda i, rest: {"n": i, "rest": rest}, lambda x: x.pop("rest"), id="dicts"),
])  # fmt: skip
def test_long_chains_do_not_recurse(link: Callable[[int, Any], Any], following: Callable[[Any], Any], links: int) -> None:
    def of(x: Any) -> dict[str, Any]:
        return x if type(x) is dict else vars(x)

    head = chain(link, links)
    w = World(head=head, Node=Node)
    entry = w.snap()
    middle = head
    for _ in range(links // 2):
        middle = of(middle)["rest"]
    of(middle)["n"] = -1
    cut, of(middle)["rest"] = of(middle)["rest"], None
    changed = w.snap()
    w.replay(changed, entry)  # the second half of the chain is built anew, the first is kept
    assert w.v["head"] is head and of(middle)["n"] == links - 1 - links // 2
    born = of(middle)["rest"]
    assert type(born) is type(cut) and born is not cut and of(born)["n"] == of(cut)["n"]
    last = born
    while of(last)["rest"] is not None:
        last = of(last)["rest"]
    assert of(last)["n"] == 0
    w.v.clear()
    unlink(cut, following)
    unlink(head, following)


def test_a_large_container_is_marshalled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def dumps(value: Any, version: int) -> bytes:
        calls.append(len(value))
        return marshal.dumps(value, version)

    w = World(numbers=list(range(5000)), words={i: str(i) for i in range(3000)})
    monkeypatch.setattr(sys.modules["flor_trace.state.bulk"], "marshal", types.SimpleNamespace(dumps=dumps))
    for wanted in (True, False):
        live = walk(w.roots(), w.scope, w.tokens, wanted=lambda digest: wanted)  # noqa: B023
        assert sorted(calls) == [3000, 5000]
        read = sorted(len(marshal.loads(live.buffer(token))) for token in live.graph.buffers)
        assert read == [3000, 5000] and len(calls) == (2 if wanted else 4)
        calls.clear()


def test_frames_get_new_locals_and_ignore_hindsight_names() -> None:
    w = World(total=1)
    w.frames = [FrameRoot("main()", {"x": 1, "acc": []})]
    acc = w.frames[0].locals["acc"]
    entry = w.snap()
    w.frames[0].locals.update(x=2, y=[3])
    acc.append(1)
    target = w.snap()
    acc.clear()
    w.frames[0].locals.clear()
    w.frames[0].locals.update(x=1, acc=acc, probe=5)
    w.v["seen"] = 1
    ignore = Ignore({"user_script": {"seen"}}, {"main()": {"probe"}})
    done = w.replay(entry, target, ignore)
    assert done.frames[0] == {"x": 2, "acc": [1], "y": [3]} and done.frames[0]["acc"] is acc
    assert w.v["seen"] == 1
    assert w.compare(target, Ignore()).verdict == "diverged"


def test_differences_are_named_by_path() -> None:
    w = World(model=Node(layers=[Node(weight=1.0, name="a")]))
    entry = w.snap()
    w.v["model"].layers[0].weight = 1.0 + 1e-11
    near = w.compare(entry)
    assert near.verdict == "tolerance" and near.differences[0].path == "user_script.model.layers[0].weight"
    assert near.largest == pytest.approx(1e-11, rel=1e-3)
    w.v["model"].layers[0].name = "b"
    far = w.compare(entry)
    assert far.verdict == "diverged" and {d.path for d in far.differences} == {
        "user_script.model.layers[0].weight", "user_script.model.layers[0].name",
    }  # fmt: skip


def test_aliasing_that_differs_is_a_difference() -> None:
    w = World(a=[1])
    w.v["b"] = w.v["a"]
    entry = w.snap()
    w.v["b"] = [1]
    found = w.compare(entry)
    assert found.verdict == "diverged" and found.differences[0].what == "aliasing"


def test_opaque_objects_are_listed_with_their_paths() -> None:
    w = World(state=Node(packer=zlib.compressobj()))
    graph = w.snap()
    assert graph.opaque == [("user_script.state.packer", "zlib.Compress")]
    assert Graph.decode(graph.encode()[0]).opaque == graph.opaque


def test_attributes_of_hindsight_statements_are_passed_over_and_stay() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.total = 1

    w = World(trainer=Trainer())
    entry = w.snap()
    w.v["trainer"].total = 2
    target = w.snap()
    w.v["trainer"].total, w.v["trainer"].norms = 1, [5]
    assert w.compare(entry).verdict == "diverged"
    ignore = Ignore(attributes=frozenset(["norms", "total"]))
    w.replay(entry, target, ignore)
    assert vars(w.v["trainer"]) == {"total": 2, "norms": [5]}
    w.v["trainer"].total = 3
    assert "trainer.total" in w.compare(target, ignore).differences[0].path


def test_loggers_of_a_library_imported_since_are_passed_over_and_changed_levels_are_not() -> None:
    known = logging.getLogger("flor_trace_test.known")
    known.setLevel(30)
    w = World(x=1)
    entry = w.snap()
    logging.getLogger("flor_trace_test.since").setLevel(10)
    assert w.compare(entry).verdict == "exact"
    known.setLevel(20)
    assert "logging[flor_trace_test.known]" in w.compare(entry).differences[0].path
