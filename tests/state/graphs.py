"""Random object graphs of all kinds that a snapshot knows, changes at random, and a description that owes nothing to the walk."""

from __future__ import annotations

import collections
import copy
import enum
import functools
import io
import itertools
import logging
import queue
import random
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from state.world import World


class Thing:
    pass


class Slots:
    __slots__ = ("left", "right")


class Keyed(dict):  # type: ignore[type-arg]
    pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Mode(enum.Flag):
    A = 1
    B = 2
    C = 4


class Pair(collections.namedtuple("Pair", "left right")):
    __slots__ = ()


class Shell(torch.Tensor):
    pass


def times(n: Any) -> Any:
    return [n, n]


def counting(items: list[Any]) -> Iterator[Any]:
    for i in range(30):
        for item in items:
            yield i, item
        yield i


def atom(r: random.Random) -> Any:
    return r.choice(
        [None, True, r.randrange(100), 1 << 70, r.random(), -0.0, float("nan"), "s" * r.randrange(4), "\ud800", b"b", 2j, range(3),
         Colour.RED, Mode.A | Mode.C, "long" * 1500, slice(1, 2), ...]
    )  # fmt: skip


def of(pool: list[Any], *kinds: type) -> list[Any]:
    return [item for item in pool if type(item) in kinds]


Maker = Callable[[random.Random, list[Any], list[Any]], Any]  # the random source, what the new object may refer to, the whole pool


def _thing(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    made = Thing()
    made.__dict__.update({f"n{i}": value for i, value in enumerate(some)})
    return made


def _slots(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    made = Slots()
    for name, value in zip(("left", "right"), some, strict=False):
        setattr(made, name, value)
    return made


def _keyed(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    made = Keyed(enumerate(some))
    made.note = some
    return made


def _view(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    tensors = [t for t in of(pool, torch.Tensor, torch.nn.Parameter) if t.layout is torch.strided and t.dim() and t.numel() > 2]
    return r.choice(tensors).flatten()[1:].detach() if tensors else torch.zeros(())


def _shared(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    tensors = [t for t in of(pool, torch.Tensor) if t.layout is torch.strided and not t.requires_grad and t.dtype is torch.float32]
    return r.choice(tensors).numpy() if tensors else np.arange(r.randrange(1, 5))


def _array_view(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    arrays = [a for a in of(pool, np.ndarray) if a.ndim == 1 and a.size > 1]
    return r.choice(arrays)[:: r.choice([1, 2, -1])] if arrays else np.arange(6.0).reshape(2, 3).T


def _tensor(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    dtype = r.choice([torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.int8, torch.bool])
    base = torch.full((2, 3), r.randrange(5)).to(dtype)
    forms = [
        lambda: base.t(), lambda: base[:, :0], lambda: base[:1].expand(4, 3), lambda: base[0, 0], lambda: base.float().to_sparse(),
        lambda: base.float().to_sparse_csr(), lambda: base.float().as_subclass(Shell),
        lambda: torch.rand(2, 3, 2, 2).to(memory_format=torch.channels_last),
        lambda: torch.quantize_per_tensor(base.float(), 0.5, 1, torch.qint8), lambda: (torch.rand(2).requires_grad_() * 2),
    ]  # fmt: skip
    return r.choice(forms)()


def _logger(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    made = logging.Logger(f"of {r.randrange(9)}", r.choice([10, 20]))
    made.addHandler(logging.StreamHandler(io.StringIO()))
    return made


def _filled(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    made = r.choice([queue.Queue, queue.LifoQueue])()
    for value in some:
        made.put(value)
    return made


def _iterator(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    forms = [
        lambda: iter(some), lambda: itertools.cycle([1, *some]), lambda: itertools.count(3, 2), lambda: enumerate(some),
        lambda: zip(some, range(9), strict=False), lambda: itertools.chain(some, range(4)), lambda: itertools.islice(range(20), 2, 15, 3),
        lambda: map(times, some), lambda: reversed(some), lambda: itertools.repeat(1, 4), lambda: counting(some),
    ]  # fmt: skip
    return r.choice(forms)()


def _frame(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    pd = __import__("pandas")
    return pd.DataFrame({"a": [r.randrange(9), 2], "b": ["u", None]}) if r.random() < 0.5 else pd.Series([r.random(), 1.0], name="s")


def _sparse(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    return getattr(__import__("scipy.sparse").sparse, r.choice(["csr_matrix", "coo_matrix"]))(np.eye(3) * r.randrange(5))


def _image(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    return __import__("PIL.Image").Image.new(r.choice(["RGB", "L", "1", "F"]), (3, 2), r.randrange(2))


def _cache(r: random.Random, some: list[Any], pool: list[Any]) -> Any:
    made = functools.lru_cache(r.choice([None, 2, 5]))(times)
    for n in range(r.randrange(4)):
        made(n)
    return made


MAKERS: dict[str, Maker] = {
    "list": lambda r, some, pool: some,
    "tuple": lambda r, some, pool: tuple(some),
    "named tuple": lambda r, some, pool: Pair(*([*some, 1, 2][:2])),
    "dict": lambda r, some, pool: {r.choice(["a", "b", 1, 2.5, (1, "k")]): value for value in some},
    "bulk": lambda r, some, pool: r.choice([list, lambda n: dict.fromkeys(n, 1.5), tuple])(range(1001 + r.randrange(5))),
    "set": lambda r, some, pool: {r.randrange(50) for _ in range(r.randrange(8))},
    "frozenset": lambda r, some, pool: frozenset(r.sample("abcdefgh", r.randrange(6))),
    "thing": _thing,
    "slots": _slots,
    "keyed": _keyed,
    "namespace": lambda r, some, pool: types.SimpleNamespace(all=some),
    "deque": lambda r, some, pool: collections.deque(some, maxlen=r.choice([None, 5])),
    "counter": lambda r, some, pool: collections.Counter("abca"),
    "default": lambda r, some, pool: collections.defaultdict(r.choice([list, None]), enumerate(some)),
    "ordered": lambda r, some, pool: collections.OrderedDict((f"k{i}", value) for i, value in enumerate(some)),
    "by object": lambda r, some, pool: {thing: i for i, thing in enumerate(of(pool, Thing))},
    "bytearray": lambda r, some, pool: bytearray(b"xyz"),
    "plain tensor": lambda r, some, pool: torch.full((r.randrange(1, 4), 2), r.random()),
    "view": _view,
    "parameter": lambda r, some, pool: torch.nn.Parameter(torch.rand(2)),
    "tensor": _tensor,
    "module": lambda r, some, pool: torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)),
    "shared array": _shared,
    "array view": _array_view,
    "array of objects": lambda r, some, pool: np.array([*some, None], dtype=object) if all(map(_scalar, some)) else np.float32(r.random()),
    "random": lambda r, some, pool: random.Random(r.randrange(9)),
    "numpy generator": lambda r, some, pool: np.random.default_rng(r.randrange(9)),
    "numpy random state": lambda r, some, pool: np.random.RandomState(r.randrange(9)),
    "torch generator": lambda r, some, pool: torch.Generator().manual_seed(r.randrange(9)),
    "partial": lambda r, some, pool: functools.partial(times, *some[:1]),
    "method": lambda r, some, pool: of(pool, list)[0].append if of(pool, list) else len,
    "lock": lambda r, some, pool: r.choice([threading.Lock, threading.RLock, threading.Event])(),
    "queue": _filled,
    "logger": _logger,
    "stream": lambda r, some, pool: r.choice([io.StringIO("text"), io.BytesIO(b"bytes")]),
    "iterator": _iterator,
    "cache": _cache,
    "pandas": _frame,
    "scipy": _sparse,
    "pixels": _image,
}  # fmt: skip


def _scalar(value: Any) -> bool:
    return not isinstance(value, (torch.Tensor, np.ndarray, list, tuple))


def make(r: random.Random, pool: list[Any]) -> Any:
    """One new object that refers to some of the pool."""
    some = [r.choice(pool) if pool and r.random() < 0.7 else atom(r) for _ in range(r.randrange(4))]
    return MAKERS[r.choice(list(MAKERS))](r, some, pool)


def _change_tensor(r: random.Random, x: Any, value: Any) -> None:
    with torch.no_grad():
        if x.layout is torch.strided and not x.is_quantized and x.dtype != torch.bool and 0 not in x.stride():
            x.add_(1) if r.random() < 0.5 else x.data.mul_(2)
    if isinstance(x, torch.nn.Parameter) and r.random() < 0.5:
        x.grad = None if x.grad is not None else torch.rand(2)


def _change_array(r: random.Random, x: Any, value: Any) -> None:
    if x.flags.writeable:
        x[...] = r.randrange(9)


def _change_list(r: random.Random, x: Any, value: Any) -> None:
    x.append(value)
    if r.random() < 0.5:
        x.popleft() if isinstance(x, collections.deque) else x.pop(0)


def _change_dict(r: random.Random, x: Any, value: Any) -> None:
    if x and r.random() < 0.5:
        del x[next(iter(x))]
    x[r.randrange(5)] = value


def _change_slots(r: random.Random, x: Any, value: Any) -> None:
    if hasattr(x, "left"):
        del x.left
    x.right = value


def _change_set(r: random.Random, x: Any, value: Any) -> None:
    x.add(r.randrange(500))
    x.discard(r.randrange(50))


def _change_stream(r: random.Random, x: Any, value: Any) -> None:
    x.seek(r.randrange(3))
    x.write("new" if isinstance(x, io.StringIO) else b"new")


def _change_module(r: random.Random, x: Any, value: Any) -> None:
    x(torch.ones(3, 2)).sum().backward()
    if r.random() < 0.3:
        x.append(torch.nn.Linear(1, 1))
    x.train(r.random() < 0.5)


def _change_pixels(r: random.Random, x: Any, value: Any) -> None:
    x.putpixel((1, 1), tuple([r.randrange(9)] * 3) if x.mode == "RGB" else r.randrange(2))


def _change_pandas(r: random.Random, x: Any, value: Any) -> None:
    if type(x).__name__ == "DataFrame":
        x.loc[r.randrange(3), "a"] = r.randrange(9)
    else:
        x.loc[r.randrange(3)] = r.random()


# By the names of classes in the order of resolution, the first found counts.
CHANGES: dict[str, Callable[[random.Random, Any, Any], Any]] = {
    "Sequential": _change_module, "Tensor": _change_tensor, "ndarray": _change_array, "list": _change_list, "deque": _change_list,
    "Counter": lambda r, x, value: x.update("bd"), "dict": _change_dict, "set": _change_set, "Slots": _change_slots,
    "Thing": lambda r, x, value: setattr(x, r.choice(["n0", "n1", "fresh"]), value),
    "SimpleNamespace": lambda r, x, value: setattr(x, "more", value),
    "bytearray": lambda r, x, value: x.extend(b"q"),
    "Random": lambda r, x, value: x.gauss(0, 1), "RandomState": lambda r, x, value: x.randn(),
    "Generator": lambda r, x, value: x.standard_normal() if isinstance(x, np.random.Generator) else torch.rand(2, generator=x),
    "lock": lambda r, x, value: x.release() if x.locked() else x.acquire(), "RLock": lambda r, x, value: x.acquire(),
    "Event": lambda r, x, value: x.clear() if x.is_set() else x.set(),
    "Queue": lambda r, x, value: x.put(value),
    "Logger": lambda r, x, value: x.setLevel(r.choice([10, 40])) or x.error("said"),
    "StringIO": _change_stream, "BytesIO": _change_stream, "_lru_cache_wrapper": lambda r, x, value: x(r.randrange(6)),
    "DataFrame": _change_pandas, "Series": _change_pandas, "Image": _change_pixels,
    "csr_matrix": lambda r, x, value: x.data.__imul__(3), "coo_matrix": lambda r, x, value: x.data.__imul__(3),
}  # fmt: skip


def mutate(r: random.Random, v: dict[str, Any], pool: list[Any]) -> None:
    """One change somewhere in the graph."""
    target = r.choice(pool)
    value = r.choice(pool) if r.random() < 0.6 else atom(r)
    found = [CHANGES[cls.__name__] for cls in type(target).__mro__ if cls.__name__ in CHANGES]
    if found:
        found[0](r, target, value)
    elif hasattr(type(target), "__next__"):
        next(target, None)
    name = r.choice(list(v))
    if name.startswith("v") and r.random() < 0.3:
        v[name] = value


def build(seed: int) -> World:
    """The world of a seed: equal ones for equal seeds."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    pool: list[Any] = []
    for _ in range(r.randrange(3, 25)):
        pool.append(make(r, pool))
    for item in pool:  # cycles
        if type(item) is list and len(item) < 1000 and r.random() < 0.3:
            item.append(r.choice(pool))
    names = {"Thing": Thing, "Slots": Slots, "Keyed": Keyed, "counting": counting, "times": times}
    world = World(**names, **{f"v{i}": item for i, item in enumerate(pool) if i % 2})
    world.v["keep"] = [item for item in pool if not isinstance(item, tuple)]
    return world


def change(seed: int, world: World, changes: int) -> None:
    """Change a world at random, and let new objects be born."""
    r = random.Random(seed + 1)
    for _ in range(changes):
        mutate(r, world.v, list(world.v["keep"]) or [world.v])
        if r.random() < 0.4:
            world.v["keep"].append(make(r, list(world.v["keep"])))


def described(world: World) -> list[Any]:
    """Every object once, in the order of its first being met, with its type, its content, and where it refers to others."""
    numbers: dict[int, int] = {}
    met: list[Any] = []

    def number(x: Any) -> Any:
        if x is None or type(x) in (bool, int, float, complex, str, bytes, range, slice) or isinstance(x, np.generic):
            return repr(x)
        if type(x) in (tuple, frozenset):
            return type(x).__name__, [number(item) for item in x]  # values: their identity carries no meaning
        if id(x) not in numbers:
            numbers[id(x)] = len(met)
            met.append(x)
        return numbers[id(x)]

    out = [(name, number(value)) for name, value in world.v.items() if not name.startswith("__")]
    at = 0
    while at < len(met):
        x = met[at]
        out.append((at, type(x).__qualname__, _content(x, number)))
        at += 1
    return out


def _content(x: Any, number: Callable[[Any], Any]) -> Any:
    if isinstance(x, torch.nn.Module):
        return [(name, number(value)) for name, value in x.state_dict(keep_vars=True).items()], x.training
    if isinstance(x, torch.Tensor):
        return _tensor_content(x, number)
    if isinstance(x, np.ndarray) and x.dtype != object:
        return x.dtype.str, x.shape, x.strides, x.tobytes(), x.flags.writeable
    if isinstance(x, dict):
        return [(number(key), number(value)) for key, value in x.items()], number(getattr(x, "note", None))
    if isinstance(x, (list, set, collections.deque)):
        return [number(item) for item in x], getattr(x, "maxlen", None)
    if type(x) in (Thing, types.SimpleNamespace):
        return [(name, number(value)) for name, value in vars(x).items()]
    if type(x) is Slots:
        return [number(getattr(x, name)) for name in ("left", "right") if hasattr(x, name)]
    return _other(x, number)


def _tensor_content(x: Any, number: Callable[[Any], Any]) -> Any:
    form = str(x.layout), str(x.dtype), tuple(x.shape), x.requires_grad, x.is_leaf
    grad = number(x.grad) if x.is_leaf else None
    if x.layout is not torch.strided:
        return form, repr(x.detach().to_dense().tolist()), grad
    values = (x.detach().dequantize() if x.is_quantized else x.detach()).as_subclass(torch.Tensor)
    return form, x.stride(), x.storage_offset(), repr(values.tolist()), grad


def _other(x: Any, number: Callable[[Any], Any]) -> Any:
    if isinstance(x, (io.StringIO, io.BytesIO)):
        return x.getvalue(), x.tell()
    if isinstance(x, random.Random):
        return x.getstate()
    if isinstance(x, np.random.RandomState):
        return repr(x.get_state())
    if isinstance(x, np.random.Generator):
        return x.bit_generator.state
    if isinstance(x, torch.Generator):
        return x.get_state().tolist()
    if isinstance(x, queue.Queue):
        return [number(item) for item in x.queue], x.maxsize
    if isinstance(x, logging.Logger):
        return x.level, [(type(h).__name__, h.stream.getvalue()) for h in x.handlers]  # type: ignore[attr-defined]
    if type(x) is threading.Event:
        return x.is_set()
    if type(x).__name__ in ("DataFrame", "Series"):
        return x.to_string(), str(x.dtypes)
    if type(x).__name__ == "Image":
        return x.mode, x.size, x.tobytes()
    if hasattr(x, "cache_info"):
        return x.cache_info()
    if type(x).__module__.startswith("scipy"):
        return x.toarray().tobytes()
    if isinstance(x, (itertools.count, itertools.repeat)):
        return repr(copy.copy(x))
    return None


def into_the_state_before(seed: int, changes: int) -> None:
    """Restore a changed world into its own state before, and forward again."""
    world = build(seed)
    was, before = described(world), world.snap()  # in this order: to describe a frame of pandas fills its caches
    change(seed, world, changes)
    became, after = described(world), world.snap()
    world.replay(after, before)
    assert described(world) == was
    world.replay(before, after)
    assert described(world) == became


def into_a_twin(seed: int, changes: int) -> None:
    """Restore a changed world into another that was built alike."""
    from flor_trace.state import library

    world, twin = build(seed), build(seed)
    before = world.snap()
    change(seed, world, changes)
    became, after = described(world), world.snap()
    twin.blobs = world.blobs
    library.apply(before.library)
    twin.replay(before, after)
    assert described(twin) == became
