"""Walk everything reachable from the roots into a graph. No user code runs: types are read through their slots."""

from __future__ import annotations

import enum
import gc
import types
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

from .bulk import BULK, reader_of
from .compiled import cells_for
from .graph import UNSET, Buffer, Cell, Graph, LiveGraph, Node, RootEntry
from .kinds import Atom, Emit, Handler, Registry, registry_for
from .layout import Layout, derives, module_of, mro, qualname_of, type_name
from .memory import Memory, Stager, bytes_digest
from .names import lookup, singletons
from .scope import Ignore, Roots, Scope, is_state
from .tokens import TokenTable

LARGE = 4096  # bytes and strings longer than this are buffers
ASK_EVERY = 20_000  # objects: some twenty milliseconds
_BIG_INT = 1 << 20  # no object lives below this address
_ON_CPU: Node = ("memory", None, "cpu", (), None)


def walk(
    roots: Roots, scope: Scope, tokens: TokenTable, known: Mapping[int, Buffer] | None = None, stager: Stager | None = None,
    wanted: Callable[[str], bool] | None = None, ignore: Ignore | None = None, go_on: Callable[[int], None] | None = None,
) -> LiveGraph:  # fmt: skip
    """The graph of everything reachable from `roots`, with the hashes of all its buffers.

    `known`: by address, memory whose content its caller vouches for; where its extent is still the same it is not hashed.
    `stager`: takes the buffers' content as it is met; their hashes may then be staged ones (see `Buffer`).
    `wanted`: by its hash, whether the caller will ask for a buffer. Bytes that had to be made for hashing (a large list's) are then
    kept for it, and not made again; others are let go at once.
    `ignore`: names that no root has.
    `go_on`: told now and then how many objects have been met; it raises to give the walk up.
    """
    return Walker(scope, tokens, roots, known or {}, stager, wanted, ignore, go_on).run()


class Walker:
    """The state of one walk; kinds call `cell` for every reference that they find."""

    unset = UNSET

    def __init__(
        self, scope: Scope, tokens: TokenTable, roots: Roots, known: Mapping[int, Buffer], stager: Stager | None = None,
        wanted: Callable[[str], bool] | None = None, ignore: Ignore | None = None, go_on: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self.scope = scope
        self.known = known
        self.stager = stager
        self.wanted = wanted
        self.ignore = ignore
        self.go_on = go_on
        self.tokens = tokens
        self.roots = roots
        self.registry: Registry = registry_for(scope)
        self.handlers: dict[int, Handler] = {**self.registry.exact, **self.registry.resolved}
        self.graph = Graph()
        self.nodes = self.graph.nodes
        self.objects: dict[int, Any] = {}
        self.memo: dict[int, Cell] = {}
        self.todo: list[tuple[int, Any, Any]] = []
        self.memory = Memory()
        self.views: list[int] = []  # tokens of tensors and arrays, whose region is known only at the end
        self.readers: dict[int, Callable[[], Any]] = {}
        self.volatile: dict[int, frozenset[str]] = {}
        self.big_ints: set[int] = set()
        self.singletons = singletons()
        self.root_dicts = {id(namespace) for namespace in roots.modules.values()}
        self._layouts: dict[int, Layout] = dict(scope.cached("layouts", dict))
        self._type_cells: dict[int, Cell] = {}
        self.cell: Callable[[Any], Cell] = self._cell
        self._emit_some: Callable[[int], bool] = self._emit_queued
        self._token_at: Callable[[int], int | None] = self._token_met_at

    def run(self) -> LiveGraph:
        """Walk all roots."""
        collecting = gc.isenabled()
        gc.disable()  # a collection in the middle would run finalizers, which are user code
        try:
            with self.registry.undisturbed():
                self._use_compiled()
                self._walk_roots()
                self._finish()
        finally:
            # These refer to the walker: what it has met would be kept until the next collection.
            del self.cell, self._emit_some, self._token_at
            if collecting:
                gc.enable()
        return LiveGraph(self.graph, self.objects, self.readers)

    def _walk_roots(self) -> None:
        roots = self.roots
        for name, namespace in roots.modules.items():
            self._root("module", name, namespace)
        for frame in roots.frames:
            self._root("frame", frame.name, frame.locals)
        self._root("extra", "", roots.extra)
        self.graph.library = roots.library
        while self._emit_some(ASK_EVERY):
            if self.go_on is not None:
                self.go_on(len(self.nodes))

    def _use_compiled(self) -> None:
        """Let the compiled loop meet and emit what it can."""
        cells = cells_for(self, large=LARGE, bulk=BULK, big=_BIG_INT)
        if cells is not None:
            self.cell, self._emit_some, self._token_at = cells.cell, cells.emit_all, cells.token_at

    def _emit_queued(self, most: int) -> bool:
        """Emit up to so many queued nodes; whether there are more."""
        todo, nodes = self.todo, self.nodes
        for _ in repeat(None, most):
            if not todo:
                return False
            token, obj, emit = todo.pop()
            nodes[token] = emit(self, obj, token)
        return bool(todo)

    def _token_met_at(self, address: int) -> int | None:
        """The token of the node that lives at an address."""
        found = self.memo.get(address)
        return None if found is None else found[0]

    def _root(self, section: str, name: str, namespace: dict[str, Any]) -> None:
        items = [(key, value) for key, value in list(namespace.items()) if type(key) is not str or is_state(key)]
        if self.ignore is not None and (passed := self.ignore.names(section, name)):
            items = [(key, value) for key, value in items if key not in passed]
        self.graph.roots.append(
            RootEntry(
                section, name, tuple(key for key, _ in items), tuple([self.cell(value) for _, value in items])
            )
        )

    def _cell(self, obj: Any) -> Cell:
        """How a reference to `obj` is written; `obj` is queued if it is a node met for the first time."""
        cls = type(obj)
        if cls is int:
            if obj > _BIG_INT:
                self.big_ints.add(obj)
            return obj
        if cls is float or cls is bool or obj is None or cls is complex:
            return obj
        if (cls is str or cls is bytes) and len(obj) <= LARGE:
            return obj
        found = self.memo.get(id(obj))
        if found is not None:
            return found
        handler = self.handlers.get(id(cls))
        if handler is None:
            handler = self._resolve(cls)
        if handler.atom is not None:
            found = handler.atom(self, obj)
            if found is not None:
                return found
        found = self.singletons.get(id(obj))
        if found is not None:
            return found
        token = self.tokens.serial(obj) if handler.serial else id(obj)
        found = self.memo[id(obj)] = (token,)
        self.objects[token] = obj
        self.todo.append((token, obj, handler.emit))
        return found

    def layout(self, cls: type) -> Layout:
        """The layout of a type, kept between walks."""
        found = self._layouts.get(id(cls))
        if found is None:
            found = self._layouts[id(cls)] = Layout(cls)
            if _lasts(cls):
                self.scope.cached("layouts", dict)[id(cls)] = found
        return found

    def resolved(self, cls: type) -> tuple[Emit | None, Atom | None, bool]:
        """How instances of a type are handled."""
        handler = self.handlers.get(id(cls))
        if handler is None:
            handler = self._resolve(cls)
        return handler.emit, handler.atom, handler.serial

    def serial(self, obj: Any) -> int:
        """The token of an object that is only referred to."""
        return self.tokens.serial(obj)

    def place_of_attributes(self, cls: type) -> tuple[Any, tuple[tuple[str, Any], ...], tuple[str, ...]]:
        """Where a type's instances keep their dict, and their slots with these slots' names."""
        layout = self.layout(cls)
        return layout.dict_descriptor, layout.slots, tuple([name for name, _ in layout.slots])

    def type_cell(self, cls: type) -> Cell:
        """The cell of a type."""
        found = self._type_cells.get(id(cls))
        if found is None:
            found = self._type_cells[id(cls)] = self.cell(cls)
        return found

    def attrs(self, obj: Any, cls: type, keep_empty: bool = False) -> Any:
        """The instance's dict and slots, or None if it has neither."""
        layout = self.layout(cls)
        namespace = layout.instance_dict(obj)
        slots = layout.slots
        dict_cell = self.cell(namespace) if namespace or (keep_empty and namespace is not None) else None
        if not slots:
            return None if dict_cell is None else (dict_cell, (), ())
        cells = []
        for _, descriptor in slots:
            try:
                value = descriptor.__get__(obj)
            except AttributeError:
                cells.append(UNSET)
            else:
                cells.append(self.cell(value))
        return (dict_cell, tuple([name for name, _ in slots]), tuple(cells))

    def is_user(self, module: Any) -> bool:
        """Whether a module of that name is the user's."""
        return type(module) is str and self.scope.user_modules(module)

    def by_name(self, obj: Any, module: Any, qualname: Any) -> Cell | None:
        """A reference by name, if that name leads to this very object."""
        if type(module) is str and type(qualname) is str and lookup(module, qualname) is obj:
            return ("global", module, qualname)
        return None

    def bulk(self, obj: Any, token: int) -> bool:
        """Write a large plain container of atoms as one buffer; False where it holds anything else."""
        reader = reader_of(obj)
        if reader is not None:
            self.data_buffer(token, reader)
        return reader is not None

    def data_buffer(self, token: int, reader: Callable[[], Any]) -> None:
        """Note a buffer whose content `reader` gives."""
        data = reader()
        digest = bytes_digest(data) if self.stager is None else self.stager.data(data)
        self.graph.buffers[token] = Buffer(memoryview(data).nbytes, digest, 0)
        if type(data) is bytes and self.wanted is not None and self.wanted(digest):
            self.readers[token] = lambda: data
        else:
            self.readers[token] = reader

    def _finish(self) -> None:
        moved = self.memory.joined()
        if moved:
            for token in self.views:
                kind, cls, payload, cells, attrs = self.nodes[token]
                region = cells[0][0] if cells[0] is not None else None
                if region in moved:
                    home = moved[region]
                    payload = (region - home + payload[0], *payload[1:])
                    self.nodes[token] = (kind, cls, payload, ((home,), *cells[1:]), attrs)
        regions = self.memory.regions
        self.nodes.update(dict.fromkeys(regions, _ON_CPU))
        for address in self.memory.elsewhere:
            self.nodes[address] = ("memory", None, regions[address].device, (), None)
        self.objects.update(regions)
        self.graph.buffers.update(self.memory.buffers(self.known, self.stager))
        for number in self.big_ints:
            found = self._token_at(number)
            if found is not None:
                self.graph.idrefs[number] = found

    def _resolve(self, cls: type) -> Handler:
        """The handler of a type met for the first time."""
        reg = self.registry
        handler = reg.bases[id(enum.Enum)] if derives(cls, enum.Enum) else None  # before the int or str that a member also is
        for base in mro(cls)[:-1] if handler is None else ():
            handler = reg.named.get(type_name(base)) or reg.bases.get(id(base))
            if handler is not None:
                break
        if handler is None:
            if derives(cls, type):
                handler = reg.bases[id(type)]
            elif module_of(cls) in ("typing", "types") and cls is not types.SimpleNamespace:
                handler = reg.named["?"]
            else:
                handler = reg.bases[id(object)] if self.layout(cls).plain else reg.named["C"]
        self.handlers[id(cls)] = handler
        if _lasts(cls):
            reg.resolve(cls, handler)
        return handler


def _lasts(cls: type) -> bool:
    """Whether a class is its module's, and so may be remembered: one made again and again must not be kept alive."""
    return lookup(module_of(cls), qualname_of(cls)) is cls
