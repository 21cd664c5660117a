"""Hooks for all modules and optimizers, which hang on torch's own modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from state.world import World
from torch.nn.modules import module as modules

from flor_trace.state import Roots, torch_hooks


class HookWorld(World):
    def roots(self) -> Roots:
        roots = super().roots()
        roots.extra = torch_hooks.capture()
        return roots


@pytest.fixture
def world() -> Iterator[HookWorld]:
    """Leaves no hook behind."""
    kept = {name: dict(table) for name, table in torch_hooks._tables().items()}
    kind = modules._global_is_full_backward_hook
    yield HookWorld(seen=[], handle=None, net=torch.nn.Linear(2, 2))
    for name, table in torch_hooks._tables().items():
        table.clear()
        table.update(kept[name])
    modules._global_is_full_backward_hook = kind


def test_hooks_for_all_modules_come_and_go(world: HookWorld) -> None:
    seen, net = world.v["seen"], world.v["net"]

    def note(module: Any, inputs: Any, output: Any) -> None:
        seen.append("called")

    without = world.snap()
    world.v["handle"] = modules.register_module_forward_hook(note)
    with_hook = world.snap()
    assert world.compare(without).verdict == "diverged"
    world.replay(with_hook, without)
    net(torch.ones(1, 2))
    assert world.v["seen"] == [] and world.v["handle"] is None
    world.replay(without, with_hook)
    net(torch.ones(1, 2))
    assert world.v["seen"] == ["called"]
    world.v["seen"].clear()
    world.v["handle"].remove()  # it refers to torch's own table
    net(torch.ones(1, 2))
    assert world.v["seen"] == []


def test_the_kind_of_backward_hooks_is_kept(world: HookWorld) -> None:
    without = world.snap()
    modules.register_module_full_backward_hook(print)
    with_hook = world.snap()
    world.replay(with_hook, without)
    assert modules._global_is_full_backward_hook is None
    world.replay(without, with_hook)
    assert modules._global_is_full_backward_hook is True
