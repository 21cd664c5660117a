"""Generators, and the iterators of data loaders that hold some: restored wherever they stand, without running them."""

from __future__ import annotations

import gc
import sys
import types
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..genframe import UNBOUND, GeneratorFrames, Suspended
from ..graph import UNSET, Cell, Node
from ..names import lookup
from . import Handler, Kind, Registry
from .objects import emit_object
from .opaque import emit_running

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..scope import Scope
    from ..walk import Walker

# a payload's parts
NAME, QUALNAME, CODE, STATE, PLACE, RETURNS, NAMES, MODULE, SHARED_NAMES, SIGNATURE, HANDLES = range(11)


def frames_of(scope: Scope) -> GeneratorFrames:
    """The access to generators' frames, calibrated on first use."""
    found: GeneratorFrames = scope.cached("generator frames", GeneratorFrames)
    return found


def _function_of(obj: Any) -> Any:
    """The function that a generator's frame holds; its locals come after it."""
    code = obj.gi_code
    for held in gc.get_referents(obj):
        if type(held) is types.FunctionType and held.__code__ is code:
            return held
    return None


def _module_of_file(w: Walker, filename: str) -> str | None:
    known: dict[str, str | None] = w.scope.cached("modules by file", dict)
    if filename not in known:
        known[filename] = None
        for name, module in list(sys.modules.items()):
            if type(module) is types.ModuleType and module.__dict__.get("__file__") == filename:
                known[filename] = name
                break
    return known[filename]


def _emit(w: Walker, obj: Any, token: int) -> Node:
    frames = frames_of(w.scope)
    if not frames.usable:
        return emit_running(w, obj, token)
    code = obj.gi_code
    arguments = code.co_argcount + code.co_kwonlyargcount
    signature = (code.co_argcount, code.co_kwonlyargcount, code.co_varnames[:arguments])
    module = _module_of_file(w, code.co_filename)
    shared = (*code.co_cellvars, *code.co_freevars)
    if obj.gi_frame is None:
        ended = (obj.__name__, obj.__qualname__, code.co_qualname, None, (0, 0), 0, (), module, shared, signature, 0)
        return ("generator", None, ended, (None,), None)
    frame, function = frames.read(obj), _function_of(obj)
    if frame is None or function is None:
        return emit_running(w, obj, token)
    names = frames.facts(code).names
    payload = (
        obj.__name__, obj.__qualname__, code.co_qualname, frame.state, frame.place, frame.returns, names, module,
        shared, signature, int(frame.handled is not UNBOUND),
    )  # fmt: skip
    cells = [UNSET if value is UNBOUND else w.cell(value) for value in (*frame.named, *frame.stack)]
    if frame.handled is not UNBOUND:
        cells.append(w.cell(frame.handled))
    return ("generator", None, payload, (w.cell(function), *cells), None)


class GeneratorKind(Kind):
    """A live generator is set in place, so that whoever holds it sees it there."""

    name = "generator"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][:1]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        if live.gi_code.co_qualname != node[2][CODE] or (live.__name__, live.__qualname__) != node[2][: QUALNAME + 1]:
            return False
        if live.gi_frame is None or node[2][STATE] is None:
            return node[2][STATE] is None
        return _function_of(live) is r.resolve(node[3][0])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        frames = frames_of(r.scope)
        if not frames.usable:
            raise NotRestorable(r.path(token), "this interpreter's generators cannot be set")
        function = self._ended_function(r, token, node) if node[2][STATE] is None else r.resolve(node[3][0])
        return frames.shell(function, node[2][NAME], node[2][QUALNAME])

    def _ended_function(self, r: Restorer, token: int, node: Node) -> types.FunctionType:
        """Any function of the same code: a generator that has ended holds none."""
        payload = node[2]
        found = lookup(payload[MODULE] or "", payload[CODE])
        if type(found) is types.FunctionType:
            return found
        code = r.code_like(token, payload[CODE], payload[SIGNATURE])
        return types.FunctionType(code, {}, None, None, tuple(types.CellType() for _ in code.co_freevars))

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        payload, code = node[2], obj.gi_code
        if payload[STATE] is None:
            return
        facts = frames_of(r.scope).facts(code)
        if (*code.co_cellvars, *code.co_freevars) != payload[SHARED_NAMES]:
            raise NotRestorable(r.path(token), "a new statement in this generator shares its variables otherwise")
        depth = len(node[3]) - 1 - len(payload[NAMES]) - payload[HANDLES]
        if payload[PLACE][0] > len(facts.yields) or depth > code.co_stacksize:
            raise NotRestorable(r.path(token), "this generator's code is another one than when it was recorded")
        if not set(payload[NAMES]) <= set(facts.names):
            raise NotRestorable(r.path(token), "this generator has lost a variable since it was recorded")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        payload, frames = node[2], frames_of(r.scope)
        if payload[STATE] is None:
            if obj.gi_frame is not None:
                frames.end(obj, _function_of(obj))
            return
        values = [UNBOUND if cell == UNSET else r.resolve(cell) for cell in node[3][1:]]
        handled = values.pop() if payload[HANDLES] else UNBOUND
        count = len(payload[NAMES])
        bound = dict(zip(payload[NAMES], values[:count], strict=True))
        named = tuple([bound.get(name, UNBOUND) for name in frames.facts(obj.gi_code).names])
        place = Suspended(payload[STATE], payload[PLACE], payload[RETURNS], named, tuple(values[count:]), handled)
        frames.write(obj, r.resolve(node[3][0]), place)


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(types.GeneratorType, Handler(_emit, serial=True))
    # Without workers a loader's iterator is an object like others: its place is that of its sampler's generator.
    reg.named["torch.utils.data.dataloader._SingleProcessDataLoaderIter"] = Handler(emit_object)
    reg.kind(GeneratorKind())
