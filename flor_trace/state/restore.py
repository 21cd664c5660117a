"""Restore a recorded graph in place: plan everything, then change things.

Objects that the comparison at the entry matched keep their identity; all else is built anew. Nothing of the live
state is touched before the whole plan stands, so NotRestorable leaves the program as it was.
"""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import CorruptRecord, FlorTraceError, HalfRestored, NotRestorable
from .cells import is_ref, same_atom
from .closures import Enclosing
from .compare import compare
from .fill import Filler, Restored
from .graph import FILE_BACKED, UNSET, Buffer, Cell, Graph, LiveGraph, Node
from .kinds import Kind, registry_for
from .layout import Layout, derives
from .mappings import shared_file
from .memory import Region
from .names import lookup
from .paths import paths_of
from .scope import Ignore, Roots, Scope
from .settled import IN_PLACE, Base, disturbed, settled
from .tokens import TokenTable
from .walk import walk


def restore(
    target: Graph,
    matching: dict[int, Any],
    roots: Roots,
    scope: Scope,
    read_blob: Callable[[str], Any],
    ignore: Ignore | None = None,
    live: LiveGraph | None = None,
    base: Base | None = None,
) -> Restored:
    """Bring the live state to what `target` describes; raises NotRestorable before anything has been changed.

    `live` spares a walk to a caller that has one of the present state. `base`: what that has just been found to be (see `settled`).
    """
    if live is None:
        live = walk(roots, scope, TokenTable())
    return Restorer(target, matching, roots, scope, read_blob, ignore or Ignore(), live, base=base).run()


class Restorer:
    """The state of one restore; kinds call `resolve` for every reference."""

    def __init__(
        self, target: Graph, matching: dict[int, Any], roots: Roots, scope: Scope, read_blob: Callable[[str], Any],
        ignore: Ignore, live: LiveGraph, graph_needed: Callable[[str], None] | None = None,
        read_into: Callable[[str, memoryview], None] | None = None, base: Base | None = None,
    ) -> None:  # fmt: skip
        self.target = target
        self.base = base
        self._all_matched = matching
        self.roots = roots
        self.scope = scope
        self.read_blob = read_blob
        self.read_into = read_into  # reads a blob to where it is wanted, which spares a copy and the page faults of it
        self.ignore = ignore
        self.live = live
        self.graph_needed = graph_needed  # called later, if the autograd graph of a tensor built here is asked for
        self.registry = registry_for(scope)
        self.applying = False
        self._live_tokens = {id(obj): token for token, obj in live.objects.items()}
        self._codes: list[types.CodeType] | None = None
        self._enclosing: Enclosing | None = None
        self._layouts: dict[int, Layout] = dict(scope.cached("layouts", dict))
        self._begin()

    def _begin(self) -> None:
        """Nothing is planned yet."""
        self.matching = dict(self._all_matched)
        self.settled: set[int] = set()  # tokens of what is left as it is
        self.built: dict[int, Any] = {}
        self.claimed: set[int] = set()
        self._found: set[int] = set()  # tokens for which an object was found outside the live graph
        self.fresh: set[int] = set()
        self._filler = Filler(self)
        self.notes: list[str] = []
        self._matched_by_position = False
        self._matched = {id(obj) for obj in self.matching.values()}
        self.writes: list[tuple[Region, Buffer]] = []
        self.mapped: dict[int, str] = {}  # memory that gets its content when these files get theirs
        self._views: dict[int, Node] = {}
        self._torch_regions: set[int] = set()

    def run(self) -> Restored:
        """Plan, then apply."""
        return self.plan().apply()

    def plan(self) -> Restorer:
        """Find out, without changing anything, whether the target can be restored; NotRestorable if not."""
        try:
            with self.registry.undisturbed():
                if self.base is None or not self._plan_from(self.base):
                    self._plan()
        except BaseException as error:
            del self._filler  # see `apply`
            if isinstance(error, FlorTraceError) or not isinstance(error, Exception):
                raise
            raise NotRestorable("its state", f"{type(error).__name__}: {error}") from error
        return self

    def apply(self) -> Restored:
        """Change the live state, after `plan`.

        Raises:
            CorruptRecord, HalfRestored: when part of it may have been changed.
        """
        self.applying = True
        try:
            with self.registry.undisturbed():
                return self._filler.run()
        except (CorruptRecord, HalfRestored):
            raise
        except Exception as error:
            raise HalfRestored("the state", error) from error
        finally:
            del self._filler  # a cycle, which would keep all replaced objects alive until the next garbage collection

    def frame_names(self) -> list[set[str]]:
        """The names that will be bound in each frame."""
        return [set(root.names) for root in self.target.roots if root.section == "frame"]

    # ---- what another kind of restore does otherwise (see `isolation`)

    def may_write(self, region: Region) -> bool:
        """Whether live memory may be given its recorded content in place."""
        return region.writable

    def may_pass(self, token: int) -> bool:
        """Whether an object whose state is hidden may be left as it is."""
        return False

    def runs_on(self, obj: Any) -> bool:
        """Whether an object is a generator that is being executed, so that where it stands is no state but the program's course."""
        return False

    def on_kept_graph(self, tensor: Any) -> bool:
        """Whether a live tensor is on the very autograd graph that the target describes, whatever its memory holds now."""
        return False

    # ---- what kinds ask for

    def resolve(self, cell: Cell) -> Any:
        """The object or atom that a recorded cell stands for."""
        if type(cell) is tuple:
            if len(cell) == 1:
                return self.built[cell[0]]
            return self._value(cell)
        if type(cell) is int and cell in self.target.idrefs:
            return id(self.built[self.target.idrefs[cell]])
        return cell

    def resolve_live(self, cell: Cell) -> Any:
        """The live object or atom that a live cell stands for."""
        if type(cell) is tuple:
            return self.live.objects[cell[0]] if len(cell) == 1 else self._value(cell)
        return cell

    def _value(self, cell: tuple[Any, ...]) -> Any:
        if cell == UNSET:
            return None
        return self.registry.decoders[cell[0]](cell)

    def path(self, token: int) -> str:
        """The recorded object's path, for messages."""
        found = paths_of(self.target, {token})
        return found[0][1] if found else f"object {token}"

    def live_token(self, obj: Any) -> int:
        """The token of an object in the live graph; 0, which is no token, for one that is not in it."""
        return self._live_tokens.get(id(obj), 0)

    def type_of(self, node: Node, plain: type) -> Any:
        """The class of a node, `plain` if it is not a subclass."""
        return plain if node[1] is None else self.resolve(node[1])

    def layout(self, cls: type) -> Layout:
        """The layout of a class."""
        found = self._layouts.get(id(cls))
        if found is None:
            found = self._layouts[id(cls)] = Layout(cls)
        return found

    def blob(self, token: int) -> bytes:
        """The recorded content of a buffer."""
        data: bytes = self.read_blob(self.target.buffers[token].digest)
        return data

    def unchanged(self, token: int) -> bool:
        """Whether the live object matched with a token has the recorded content."""
        obj = self.built.get(token, self.matching.get(token))
        here = self.live.graph.buffers.get(self._live_tokens.get(id(obj), 0))
        there = self.target.buffers[token]
        return here is not None and here.digest == there.digest and here.nbytes == there.nbytes

    def same_cells(self, known: Node | None, node: Node) -> bool:
        """Whether a live node's references are what the recorded node's become."""
        from .kinds.containers import all_identical

        if known is None or known[0] != node[0] or known[2] != node[2] or len(known[3]) != len(node[3]):
            return False
        return all_identical([self.resolve(c) for c in node[3]], [self.resolve_live(c) for c in known[3]])

    def same_value(self, cell: Cell, live: Cell) -> bool:
        """Whether a recorded and a live reference lead to the same object, or to plain containers of such (which were made
        for the walk alone: the arguments of a constructor)."""
        todo, seen = [(cell, live)], 0
        while todo:
            a, b = todo.pop()
            if not (is_ref(a) and is_ref(b)):
                if is_ref(a) or is_ref(b) or not same_atom(a, b):
                    return False
                continue
            if self.resolve(a) is self.live.objects[b[0]]:
                continue
            x, y = self.target.nodes[a[0]], self.live.graph.nodes[b[0]]
            if x[0] != y[0] or x[0] not in _PLAIN or x[1] is not None or y[1] is not None or len(x[3]) != len(y[3]):
                return False
            if x[2] != y[2] or (a[0] in self.target.buffers and not self._same_buffer(a[0], b[0])):
                return False
            seen += 1
            if seen > 1000:
                return False
            todo.extend(zip(x[3], y[3], strict=True))
        return True

    def _same_buffer(self, recorded: int, live: int) -> bool:
        there, here = self.target.buffers[recorded], self.live.graph.buffers.get(live)
        return here is not None and (here.digest, here.nbytes) == (there.digest, there.nbytes)

    def fill_early(self, cell: Cell) -> None:
        """Give a new object its content at once, for a constructor that reads it."""
        todo = [cell]
        while todo:
            item = todo.pop()
            if type(item) is not tuple or len(item) != 1 or item[0] in self._filler.filled or item[0] not in self.built:
                continue
            token = item[0]
            if id(self.built[token]) not in self.fresh and not self.applying:
                continue
            node = self.target.nodes[token]
            if node[0] == "memory" or self.kind(node).late:
                continue
            if all(c[0] in self.built for c in node[3] if type(c) is tuple and len(c) == 1):
                self._filler.fill(token)
                todo.extend(node[3])

    def by_name(self, module: str | None, qualname: str, kind: type) -> Any:
        """The function or class that a loaded module holds under the name, unless it stands for another one."""
        found = lookup(module or "", qualname)
        if not derives(type(found), kind) or id(found) in self.claimed or id(found) in self._matched:
            return None
        self.claimed.add(id(found))
        return found

    def stand_in(self, cell: Cell, value: Any) -> None:
        """Let a live function stand for a recorded one of the same code that nothing else stands for."""
        if type(value) is not types.FunctionType or type(cell) is not tuple or len(cell) != 1:
            return
        token, node = cell[0], self.target.nodes.get(cell[0])
        if token in self.built or token in self.matching or id(value) in self.claimed or id(value) in self._matched:
            return
        if node is not None and node[0] == "function" and node[2][1] == value.__code__.co_qualname:
            self.matching[token] = value
            self._found.add(token)
            theirs = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
            for name, inner in zip(node[2][3], node[3][3:], strict=True):
                cell_object = theirs.get(name)
                if cell_object is not None and inner[0] not in self.built and inner[0] not in self.matching:
                    self.matching[inner[0]] = cell_object
                    self._found.add(inner[0])
                    held = self.target.nodes[inner[0]][3][0]
                    if held != UNSET and type(held) is tuple:
                        self.stand_in(held, cell_object.cell_contents)

    def namespace(self, token: int, module: str | None) -> dict[str, Any]:
        """A module's live namespace, for a function that is built anew."""
        space = self.roots.modules.get(module or "")
        if space is None and module in sys.modules:
            space = sys.modules[module].__dict__
        if space is None:
            raise NotRestorable(self.path(token), f"its module {module} is not loaded")
        return space

    def code(
        self, token: int, qualname: str, freevars: tuple[str, ...], signature: Any, edited: bool = False,
        module: str | None = None,
    ) -> types.CodeType:
        """The code of a function that must be built anew, looked up in all code that is at hand; `edited`: its log
        statements may have changed which variables it shares."""
        if self._codes is None:
            self._codes = list(self._all_codes())
        named = [code for code in self._codes if code.co_qualname == qualname]
        if not named:
            named = [code for code in _codes_within(module, qualname) if code.co_qualname == qualname]
        found = [code for code in named if code.co_freevars == freevars] or (named if edited else [])
        found = [c for c in found if c.co_argcount == signature[0] and c.co_kwonlyargcount == signature[1]]
        found = [c for c in found if c.co_varnames[: signature[0] + signature[1]] == signature[2]]
        if len(found) != 1:
            reason = "its code is not found" if not found else "several functions go by its name"
            raise NotRestorable(self.path(token), reason)
        return found[0]

    def new_free_variable(
        self, token: int, code: types.CodeType, name: str, known: dict[str, Any]
    ) -> types.CellType:
        """The cell of a variable that a function did not share when it was recorded."""
        live = self.matching.get(token)
        if type(live) is types.FunctionType and live.__code__ is code and live.__closure__ is not None:
            return live.__closure__[code.co_freevars.index(name)]
        if self._enclosing is None:
            functions = [obj for obj in self.live.objects.values() if type(obj) is types.FunctionType]
            self._enclosing = Enclosing(self._codes or list(self._all_codes()), self.roots.stack, functions)
        found = self._enclosing.cell(code, name, known)
        if found is None:
            raise NotRestorable(self.path(token), f"a new statement in it reads {name}, which cannot be found")
        return found

    def code_like(self, token: int, qualname: str, signature: Any) -> types.CodeType:
        """`code`, whatever its free variables."""
        known = {code.co_freevars for code in self._all_codes() if code.co_qualname == qualname}
        if len(known) != 1:
            raise NotRestorable(self.path(token), "its code is not found")
        return self.code(token, qualname, known.pop(), signature)

    def _all_codes(self) -> Iterator[types.CodeType]:
        functions = (obj for obj in self.live.objects.values() if type(obj) is types.FunctionType)
        return _nested([*self.roots.codes, *(function.__code__ for function in functions)])

    # ---- plan

    def _plan_from(self, base: Base) -> bool:
        """Plan, leaving alone what has not changed since `base`; False, and nothing is planned, where that cannot be done."""
        self.settled = settled(base, self.target, self.matching)
        objects = {token: self.matching[token] for token in self.settled}
        self.built.update(objects)
        self.claimed.update(map(id, objects.values()))
        self._filler.filled.update(self.settled)
        try:
            self._plan()
        except NotRestorable:
            self._begin()
            return False
        return True

    def _unsettle(self, base: Base) -> None:
        """What refers to objects that others will stand for has to be given those."""
        again = disturbed(base, self.target, self.settled, self.built, self._all_matched)
        for token in again:
            node = self.target.nodes[token]
            if node[0] not in IN_PLACE or not self.kind(node).fits(self, self.built[token], token, node):
                raise NotRestorable(self.path(token), "what it refers to is built anew")
        self.settled -= again
        self._filler.filled -= again

    def _plan(self) -> None:
        target = self.target
        frames = [root for root in target.roots if root.section == "frame"]
        if [root.name for root in frames] != [frame.name for frame in self.roots.frames]:
            raise NotRestorable("frames", "other functions are active than when it was recorded")
        for root in target.roots:
            if root.section == "module" and root.name not in self.roots.modules:
                raise NotRestorable(root.name, "this module is not imported yet")
        for token, node in target.nodes.items():
            if node[0] in ("tensor", "ndarray", "storage") and node[3][0] is not None:
                home = node[3][0][0]
                if node[0] != "ndarray":
                    self._torch_regions.add(home)
                self._views.setdefault(home, node)
            elif node[0] == "opaque" and token not in self.matching:
                self._match_by_position()
        for token, node in target.nodes.items():
            if node[0] == "object" and token not in self.built:
                self._build(token)  # first, since the dicts of some are their own for good
        for token in target.nodes:
            if token not in self.built:
                self._build(token)
        if self.base is not None and self.settled:
            self._unsettle(self.base)
        for token, node in target.nodes.items():
            if token not in self.settled:
                self._check_dict(self.built[token], token, node)
                self.kind(node).check(self, self.built[token], token, node)

    def _check_dict(self, obj: Any, token: int, node: Node) -> None:
        """Whether the object can be given the recorded `__dict__`."""
        if node[4] is None or node[4][0] is None or node[0] == "class":
            return
        layout = self.layout(type(obj))
        if layout.keeps_dict and layout.instance_dict(obj) is not self.resolve(node[4][0]):
            raise NotRestorable(self.path(token), f"the __dict__ of a {type(obj).__name__} cannot be exchanged")

    def kind(self, node: Node) -> Kind:
        """How nodes like this one are restored."""
        return _MEMORY if node[0] == "memory" else self.registry.kinds[node[0]]

    def _match_by_position(self) -> None:
        """Opaque objects that allow no weak reference have no lasting token: they are matched by their place."""
        if self._matched_by_position:
            return
        self._matched_by_position = True
        here = compare(self.target, self.live, self.ignore).matching
        for token, obj in here.items():
            if token in self.matching or self.target.nodes[token][0] != "opaque":
                continue
            try:
                weakref.ref(obj)
            except TypeError:
                self.matching[token] = obj

    def _build(self, first: int) -> None:
        """Allocate a node's object, and before it those that it needs; a work list, for structures run deep."""
        nodes, built = self.target.nodes, self.built
        stack = [first]
        opened: set[int] = set()
        while stack:
            token = stack[-1]
            if token in built:
                stack.pop()
                continue
            node = nodes[token]
            needs = []
            for cell in (node[1], *self.kind(node).deps(node)):
                if type(cell) is tuple and len(cell) == 1:
                    if cell[0] not in built:
                        needs.append(cell[0])
                elif type(cell) is int and cell in self.target.idrefs and self.target.idrefs[cell] not in built:
                    needs.append(self.target.idrefs[cell])
            if needs:
                if token in opened:
                    raise NotRestorable(self.path(token), "immutable objects refer to each other in a circle")
                opened.add(token)
                stack.extend(needs)
                continue
            built[token] = self._place(token, node)
            stack.pop()

    def _place(self, token: int, node: Node) -> Any:
        if node[0] == "memory":
            return self._region(token, node)
        kind = self.kind(node)
        live = self.matching.get(token)
        if live is not None and id(live) not in self.claimed:
            before = self.live.graph.nodes.get(self._live_tokens.get(id(live), 0))
            same = before is not None and before[0] == node[0] and self._same_type(before, node)
            if token in self._found or (same and kind.fits(self, live, token, node)):
                self.claimed.add(id(live))
                self._adopt_dict(live, node)
                return live
        made = kind.allocate(self, token, node)
        self.fresh.add(id(made))
        self._adopt_dict(made, node)
        return made

    def _same_type(self, before: Node, node: Node) -> bool:
        if before[1] is None or node[1] is None:
            return before[1] is node[1]
        return self.resolve_live(before[1]) is self.resolve(node[1])

    def _adopt_dict(self, obj: Any, node: Node) -> None:
        """Let the object's own dict stand for the recorded one, unless another live dict already must."""
        if node[4] is None or node[4][0] is None or node[0] == "class":
            return
        token = node[4][0][0]
        inner = self.target.nodes[token]
        if token in self.built or inner[0] != "dict" or inner[1] is not None:
            return
        layout = self.layout(type(obj))
        if token in self.matching and not layout.keeps_dict:
            return
        namespace = layout.instance_dict(obj)
        if namespace is not None and id(namespace) not in self.claimed:
            self.claimed.add(id(namespace))
            self.built[token] = namespace

    def _region(self, token: int, node: Node) -> Region:
        """Memory for one recorded region: the matched one where it may be written, or else a new one."""
        buffer = self.target.buffers[token]
        live = self.matching.get(token)
        if isinstance(live, Region) and id(live) not in self.claimed:
            here = self.live.objects.get(live.address)
            if isinstance(here, Region) and here.nbytes == buffer.whole and here.device == node[2]:
                present = self.live.graph.buffers[live.address]
                same = present[:2] == buffer[:2] and present.start == buffer.start
                if same or self.may_write(here):
                    self.claimed.add(id(live))
                    if not same:
                        self.writes.append((here, buffer))
                    self._live_tokens.setdefault(id(live), live.address)
                    return here
                path = shared_file(here.address) if here.flags & FILE_BACKED else None
                if path is not None:
                    # its content comes with the file's; other memory would no longer be the file
                    self.claimed.add(id(live))
                    self.mapped[token] = path
                    self._live_tokens.setdefault(id(live), live.address)
                    return here
        return self._new_region(token, node, buffer)

    def _new_region(self, token: int, node: Node, buffer: Buffer) -> Region:
        """New memory; its token is the address that it had when recorded."""
        nbytes = buffer.whole
        if token in self._torch_regions:
            from .kinds import torch_views as adapter

            owner = adapter.new_memory(nbytes, node[2], token)
            region = Region(owner.data_ptr(), nbytes, owner, 0, node[2])
        else:
            from .kinds import numpy as adapter_np

            array = adapter_np.new_memory(nbytes, self._views.get(token), token)
            region = Region(adapter_np.address_of(array), nbytes, array)
        self.write_region(region, buffer)
        return region

    def write_region(self, region: Region, buffer: Buffer) -> None:
        """Give memory its recorded content."""
        if not buffer.nbytes:
            return
        if region.device == "cpu" and self.read_into is not None:
            self.read_into(buffer.digest, region.view(buffer.start, buffer.nbytes))
        else:
            region.write(self.read_blob(buffer.digest), buffer.start)

    def content_of_regions(self) -> dict[int, Buffer]:
        """After `apply`: by address, what all memory that the target describes holds now."""
        return {
            region.address: buffer
            for token, buffer in self.target.buffers.items()
            if isinstance(region := self.built.get(token), Region)
        }


def _nested(todo: list[types.CodeType]) -> Iterator[types.CodeType]:
    """Code objects and all that is defined within them."""
    seen: set[int] = set()
    while todo:
        code = todo.pop()
        if id(code) in seen:
            continue
        seen.add(id(code))
        yield code
        todo.extend(const for const in code.co_consts if type(const) is types.CodeType)


def _codes_within(module: str | None, qualname: str) -> Iterator[types.CodeType]:
    """The code of what a library's function defines (a wrapper made by a decorator, say)."""
    outer = lookup(module or "", qualname.partition(".<locals>")[0])
    while isinstance(outer, (staticmethod, classmethod)):
        outer = outer.__func__
    code = getattr(outer, "__code__", None)
    return _nested([code] if isinstance(code, types.CodeType) else [])


_PLAIN = frozenset({"tuple", "list", "dict", "bytes", "str"})


class _MemoryKind(Kind):
    name = "memory"


_MEMORY = _MemoryKind()
