"""Handlers that a script hangs on loggers which none of its variables lead to."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

from state.world import USER, World

from flor_trace.state import Roots, loghandlers


class LogWorld(World):
    def roots(self) -> Roots:
        roots = super().roots()
        roots.extra = loghandlers.capture(lambda name: name == USER)
        return roots


@contextlib.contextmanager
def bare() -> Iterator[None]:
    """A root logger without the handlers of the test runner, and none left behind."""
    root, kept, disabled = logging.root, logging.root.handlers[:], logging.root.manager.disable
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = kept
        logging.disable(disabled)
        logging.getLogger("apart").handlers.clear()
        logging.getLogger("apart").filters.clear()


@bare()
def test_handlers_come_and_go() -> None:
    world = LogWorld(text=io.StringIO())
    root, apart = logging.root, logging.getLogger("apart")
    first, second = logging.StreamHandler(world.v["text"]), logging.StreamHandler(world.v["text"])
    root.addHandler(first)
    entry = world.snap()
    root.removeHandler(first)
    apart.addHandler(second)
    apart.addFilter(logging.Filter("apart"))
    second.setFormatter(logging.Formatter("apart: %(message)s"))
    logging.disable(logging.DEBUG)
    target = world.snap()
    assert world.compare(entry).verdict == "diverged"
    world.replay(target, entry)
    assert [handler.stream for handler in root.handlers] == [world.v["text"]]  # type: ignore[attr-defined]
    assert apart.handlers == [] and apart.filters == [] and root.manager.disable == 0
    world.replay(entry, target)
    assert root.handlers == [] and root.manager.disable == logging.DEBUG
    assert [part.name for part in apart.filters] == ["apart"]  # type: ignore[union-attr]
    apart.warning("seen")
    assert world.v["text"].getvalue() == "apart: seen\n"


@bare()
def test_a_library_s_own_loggers_are_left_alone() -> None:
    handler = logging.StreamHandler()
    logger = logging.getLogger("unittest.of_ours")
    logger.addHandler(handler)
    world = LogWorld()
    graph = world.snap()
    assert not any("unittest" in name for root in graph.roots for name in root.names)
    world.replay(graph, graph)
    assert logger.handlers == [handler]
    logger.removeHandler(handler)


@bare()
def test_roots_without_handlers_change_none() -> None:
    handler = logging.StreamHandler()
    logging.root.addHandler(handler)
    world = World(a=1)
    graph = world.snap()
    world.v["a"] = 2
    world.replay(world.snap(), graph)
    assert logging.root.handlers == [handler]
