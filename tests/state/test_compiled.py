"""The compiled loop writes down what the functions in Python do, in the same order."""

from __future__ import annotations

import gc
import importlib
import marshal
import subprocess
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

for library in ("torch", "pandas", "scipy.sparse", "PIL.Image"):
    pytest.importorskip(library)
pytest.importorskip("flor_trace.state._walk", reason="no C compiler was at hand when this was installed")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from state import graphs  # noqa: E402
from state.world import World  # noqa: E402

from flor_trace.state import compiled, memory  # noqa: E402
from flor_trace.state.graph import Graph, LiveGraph  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@contextmanager
def pure_python() -> Iterator[None]:
    loop = compiled.LOOP
    compiled.LOOP = memory.LOOP = None
    try:
        yield
    finally:
        compiled.LOOP = memory.LOOP = loop


def written(live: LiveGraph) -> tuple[Any, ...]:
    """All that a graph says, with numbers for tokens: what an iterator is made of is made anew each time that it is asked."""
    graph = live.graph
    numbers = {token: number for number, token in enumerate(live.objects)}

    def numbered(cell: Any) -> Any:
        if type(cell) is not tuple:
            return cell
        if len(cell) == 1 and cell[0] in numbers:
            return ("node", numbers[cell[0]])
        return tuple([numbered(part) for part in cell])

    nodes = [(numbers[token], numbered(node)) for token, node in graph.nodes.items()]
    roots = [numbered(tuple(root)) for root in graph.roots]
    idrefs = {number: numbers[token] for number, token in graph.idrefs.items()}
    buffers = [(numbers[token], tuple(buffer)) for token, buffer in graph.buffers.items()]
    # version 2 of marshal knows no back references, which depend on what else holds an object; and it tells -0.0 from 0.0
    return marshal.dumps((nodes, roots, graph.library), 2), buffers, idrefs


def both(world: World) -> tuple[LiveGraph, LiveGraph]:
    world.walk()  # what a first look changes (dicts that come into being when they are read) is not what is compared
    by_loop = world.walk()
    with pure_python():
        return by_loop, world.walk()


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    world = graphs.build(seed)
    graphs.change(seed, world, seed % 7)
    by_loop, by_functions = both(world)
    assert written(by_loop) == written(by_functions)


class Plain:
    pass


class Slotted:
    __slots__ = ("__dict__", "empty", "full")


class Listed(list):  # type: ignore[type-arg]
    pass


class Meta(type):
    """Classes that must not be compared or hashed."""

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(cls) -> int:
        raise AssertionError("hashed")


class Shy(metaclass=Meta):
    pass


class ShyTensor(torch.Tensor, metaclass=type("M", (Meta, type(torch.Tensor)), {})):
    pass


def tensors() -> list[Any]:
    base = torch.arange(24.0).reshape(2, 3, 4)
    leaf = torch.nn.Parameter(torch.ones(3))
    (leaf * 2).sum().backward()
    hooked = torch.ones(2, requires_grad=True)
    hooked.register_hook(lambda grad: grad)
    late = torch.ones(2, requires_grad=True)
    late.register_post_accumulate_grad_hook(lambda tensor: None)
    marked = torch.zeros(2)
    marked.note = ["attribute"]  # type: ignore[attr-defined]
    shared = torch.zeros(4)
    shared.share_memory_()
    with torch.inference_mode():
        inference = torch.ones(3)
    return [
        base, base[0], base[1, 1:], base.permute(2, 0, 1), base.expand(2, 2, 3, 4), base[:0], base[0, 0, 0],
        torch.tensor(3), torch.empty(0), torch.empty(2, device="meta"), torch.ones(2, dtype=torch.complex64).conj(), leaf, leaf * 2, hooked,
        late, marked, shared, inference, torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), torch.eye(3).to_sparse(),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), torch.from_numpy(np.arange(6)), torch.ones(3).as_subclass(ShyTensor),
        torch.ones(3, dtype=torch.bfloat16), torch.zeros(1, 0, 3), base.untyped_storage(), torch.full((5,), 7).flip(0)[::2],
    ]  # fmt: skip


def state() -> dict[str, Any]:
    slotted = Slotted()
    slotted.full = [1]
    itself: list[Any] = [1.5, -0.0, float("nan"), 1 << 80, -(1 << 80), "x" * 5000, b"y" * 5000]
    itself.append(itself)
    plain = Plain()
    plain.__dict__["key" * 30] = plain
    listed = Listed([1, 2])
    listed.more = itself  # type: ignore[attr-defined]
    noted: Any = OrderedDict()
    noted.note = itself
    optimizer = torch.optim.AdamW(torch.nn.Linear(3, 2).parameters())
    return {
        "tensors": tensors(), "slotted": slotted, "itself": itself, "plain": plain, "listed": listed, "shy": Shy(),
        "odd keys": {("a", 1): 2, None: 3, 4.5: (), frozenset([1]): {}, 1 << 70: set()},
        "ordered": [OrderedDict(a=1), OrderedDict(), noted], "pairs": [(i, [i]) for i in range(1500)],
        "late": [(i, i if i < 1400 else ()) for i in range(1500)], "long": list(range(3000)), "mixed": [[i] for i in range(1500)],
        "many": {str(i): i for i in range(2000)},
        "ids": {id(optimizer): 1, id(itself): 2, 123456789012345678901234567890: 3}, "optimizer": optimizer, "array": np.eye(3)[1:],
    }  # fmt: skip


def test_every_case() -> None:
    by_loop, by_functions = both(World(**state()))
    assert written(by_loop) == written(by_functions)
    assert len(by_loop.graph.idrefs) == 2
    decoded = Graph.decode(by_loop.graph.encode()[0])
    assert decoded.buffers == by_loop.graph.buffers and decoded.nodes.keys() == by_loop.graph.nodes.keys()


def test_overlapping_memory_is_joined() -> None:
    whole = np.arange(100, dtype=np.uint8)
    world = World(a=torch.from_numpy(whole), b=torch.from_numpy(whole[50:]), c=torch.zeros(3))
    by_loop, by_functions = both(world)
    assert written(by_loop) == written(by_functions)
    assert sorted(buffer.nbytes for buffer in by_loop.graph.buffers.values()) == [12, 100]


def test_the_walk_keeps_nothing_alive() -> None:
    world = World(thing=Plain())
    gone = weakref.ref(world.v["thing"])
    gc.disable()
    try:
        world.walk()
        del world.v["thing"]
        assert gone() is None
    finally:
        gc.enable()


def test_a_failure_in_a_function_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a=[{1, 2}])
    world.walk()
    handlers = world.scope.cached("registry", dict).exact

    def fail(walker: Any, obj: Any, token: int) -> Any:
        raise ValueError("no way")

    handler = handlers[id(set)]
    monkeypatch.setitem(handlers, id(set), type(handler)(fail, handler.atom, handler.serial))
    with pytest.raises(ValueError, match="no way"):
        world.walk()


def test_it_can_be_turned_off() -> None:
    code = "from flor_trace.state import compiled; print(compiled.LOOP is None)"
    for value, expected in (("1", "True"), ("0", "False")):
        environment = {"FLOR_TRACE_PURE_PYTHON": value, "PYTHONPATH": str(Path(compiled.__file__).parents[2])}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.stdout.strip() == expected, done.stderr


def test_wrong_arguments_are_refused() -> None:
    loop = importlib.import_module("flor_trace.state._walk")
    with pytest.raises(TypeError):
        loop.Cells(1, 2)
    with pytest.raises(TypeError):
        loop.small_digests([], 1, hash)
    with pytest.raises(KeyError):
        loop.lie_apart({}, [1])
    with pytest.raises(KeyError):
        loop.buffers({1: memory.Region(1, 1, None)}, {}, tuple)
