"""The graph of a snapshot: plain data that describes every object reachable from the roots.

A *cell* is how one reference is written down: an atom stands for itself (None, bool, int, float, complex, str,
short bytes), a 1-tuple `(token,)` refers to a node, and a longer tuple `(tag, …)` is a value of some other kind.
A *node* is `(kind, type cell, payload, cells, attrs)`, where attrs is None or `(dict cell, slot names, slot cells)`.
Only marshallable builtins occur, so that encoding is one C call. The buffers' digests lie behind it, sixteen bytes each in
the order of the buffers: those of staged buffers are computed in the background, and filled in there.
"""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

from ..errors import CorruptRecord

Cell = Any
Node = tuple[str, Cell, Any, tuple[Cell, ...], "tuple[Cell, tuple[str, ...], tuple[Cell, ...]] | None"]
UNSET = ("unset", 0)

# flags of a buffer
FILE_BACKED = 1
SHARED = 2
READ_ONLY = 4

_FORMAT = 3
_DIGEST_SIZE = 16
_NUMBERS = 5  # of each buffer: token, size, flags, start and whole size
# What stands in a buffer's digest while its content is staged and not yet hashed, followed by its number.
STAGED = "staged:"


class Buffer(NamedTuple):
    """Bytes that a node refers to by their hash instead of holding them.

    While a snapshot is on its way to the store, `digest` may be `STAGED` and a number instead.
    """

    nbytes: int
    digest: str
    flags: int
    # Memory of which only a part can be seen through any tensor or array: where that part begins, and the whole size.
    # The rest may be uninitialised (a mean's result lives in a storage of the size of its input).
    start: int = 0
    whole: int = 0


class RootEntry(NamedTuple):
    """One root: its section ("module", "frame", "extra"), its name, and its names with their cells."""

    section: str
    name: str
    names: tuple[str, ...]
    cells: tuple[Cell, ...]


class Graph:
    """One snapshot's state as pure data."""

    __slots__ = ("buffers", "idrefs", "library", "nodes", "roots")

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.roots: list[RootEntry] = []
        self.buffers: dict[int, Buffer] = {}
        # ints that equal the id of a walked object (a GradScaler keys its state by id(optimizer)) -> its token
        self.idrefs: dict[int, int] = {}
        self.library: dict[str, Any] = {}

    def encode(self) -> tuple[bytes, list[tuple[int, int]]]:
        """This graph as bytes, and where a digest is missing in them: offsets with the numbers of the staged buffers whose
        sixteen bytes belong there. Corruption is the store's to detect."""
        buffers = self.buffers
        extents = array("q", chain.from_iterable([(at, n, flags, start, size) for at, (n, _, flags, start, size) in buffers.items()]))
        roots = [tuple(root) for root in self.roots]
        body = marshal.dumps((_FORMAT, self.nodes, roots, extents.tobytes(), self.idrefs, self.library), 4)
        told = [buffer[1] for buffer in buffers.values()]
        holes = [(len(body) + _DIGEST_SIZE * i, int(d[len(STAGED) :])) for i, d in enumerate(told) if d.startswith(STAGED)]
        for offset, _ in holes:
            told[(offset - len(body)) // _DIGEST_SIZE] = "00" * _DIGEST_SIZE
        digests = bytes.fromhex("".join(told))
        return body + digests, holes

    @classmethod
    def decode(cls, data: bytes) -> Graph:
        """The graph that `encode` wrote, its digests complete."""
        try:
            version, nodes, roots, extents, idrefs, library = marshal.loads(data)  # what lies behind is passed over
        except (EOFError, ValueError, TypeError) as error:
            raise CorruptRecord(f"a snapshot's graph cannot be decoded: {error}") from error
        if version != _FORMAT:
            raise CorruptRecord(f"a snapshot's graph has the unknown format {version!r}")
        graph = cls()
        graph.nodes = nodes
        graph.roots = [RootEntry(*root) for root in roots]
        numbers = array("q", extents)
        digests = data[len(data) - _DIGEST_SIZE * (len(numbers) // _NUMBERS) :].hex()
        for i in range(len(numbers) // _NUMBERS):
            token, nbytes, flags, start, whole = numbers[_NUMBERS * i : _NUMBERS * (i + 1)]
            graph.buffers[token] = Buffer(nbytes, digests[2 * _DIGEST_SIZE * i : 2 * _DIGEST_SIZE * (i + 1)], flags, start, whole)
        graph.idrefs = idrefs
        graph.library = library
        return graph

    def with_library(self, changes: dict[str, Any]) -> Graph:
        """The same graph but for some of the library state."""
        other = Graph()
        other.nodes, other.roots, other.buffers, other.idrefs = self.nodes, self.roots, self.buffers, self.idrefs
        other.library = {**self.library, **changes}
        return other

    @property
    def opaque(self) -> list[tuple[str, str]]:
        """Path and description of every opaque object that is reachable."""
        from .paths import paths_of

        wanted = {token for token, node in self.nodes.items() if node[0] == "opaque"}
        return [(path, self.nodes[token][2][0]) for token, path in paths_of(self, wanted)]


class LiveGraph:
    """A graph together with the live objects that it was made from.

    `readers`: what gives the content of buffers that are not memory, whose region does.
    """

    __slots__ = ("_readers", "graph", "objects")

    def __init__(self, graph: Graph, objects: dict[int, Any], readers: dict[int, Callable[[], Any]]) -> None:
        self.graph = graph
        self.objects = objects
        self._readers = readers

    def buffer(self, token: int) -> memoryview:
        """The content of a buffer, without a copy where that can be had."""
        reader = self._readers.get(token)
        return memoryview(self.objects[token].read() if reader is None else reader()).cast("B")
