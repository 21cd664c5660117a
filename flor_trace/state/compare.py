"""Compare a recorded graph with a live one: an isomorphism from the same roots, and what breaks it."""

from __future__ import annotations

import marshal
import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from .cells import extent, is_fast, is_ref, key_of, number_of, same_atom, short
from .graph import UNSET, Cell, Graph, LiveGraph, Node
from .paths import Link, children, render, root_link
from .scope import Ignore

RTOL = 1e-4
ATOL = 1e-6
# Python's floats are double: sums of other order differ far less than single precision's.
FLOAT_RTOL = 1e-9
FLOAT_ATOL = 1e-12
# A progress bar that is iterated over counts when it redraws itself, which depends on the clock: restored, not compared.
REDRAWN = "n"
CLOCK_LOCALS = frozenset({"last_print_t", "last_print_n", "min_start_t", "cur_t", "dt"})
# Set by a restore, not compared: torch.compile draws on them too, and what is compiled already differs between processes.
COUNTED = frozenset({"torch.hook_ids", "torch.ragged_ids"})
MAX_DIFFERENCES = 50
# Identity of these carries no meaning: equal constants may be one object in one process and two in another.
VALUE_KINDS = frozenset(
    {"tuple", "frozenset", "bytes", "str", "number", "method", "builtin", "slice", "proxy", "enum", "dict view", "made from", "match",
     "union", "pandas placement"}
)  # fmt: skip


@dataclass(slots=True)
class Difference:
    """One difference; `magnitude` is that of a numeric one, relative to the tolerance's bound where not infinite."""

    path: str
    what: str
    recorded: str
    live: str
    magnitude: float

    def __str__(self) -> str:
        apart = f" ({self.magnitude:.3g} apart)" if math.isfinite(self.magnitude) else ""
        return f"{self.path} ({self.what}): {self.recorded} when recorded, {self.live} now{apart}"


@dataclass(slots=True)
class Comparison:
    """What a comparison found; `unordered` are the paths of sets whose elements hash by address and come in another order."""

    verdict: str = "exact"
    differences: list[Difference] = field(default_factory=list)
    count: int = 0
    largest: float = 0.0
    matching: dict[int, Any] = field(default_factory=dict)
    unordered: list[str] = field(default_factory=list)
    several: frozenset[int] = frozenset()  # recorded tokens that stand for several live objects each, or share one


def compare(
    recorded: Graph, live: LiveGraph, ignore: Ignore | None = None, read_blob: Callable[[str], Any] | None = None
) -> Comparison:
    """Compare, going on after a difference so that the matching is as complete as it can be."""
    return _Comparer(recorded, live, ignore or Ignore(), read_blob).run()


class _Comparer:
    def __init__(self, recorded: Graph, live: LiveGraph, ignore: Ignore, read_blob: Any) -> None:
        self.recorded = recorded
        self.live = live
        self.ignore = ignore
        self.read_blob = read_blob
        self.result = Comparison()
        self.there: dict[int, int] = {}
        self.back: dict[int, int] = {}
        self.todo: list[tuple[Cell, Cell, Link]] = []
        self.deferred: list[tuple[list[Cell], list[Cell], Link]] = []
        self.again: set[tuple[int, int]] = set()

    def run(self) -> Comparison:
        self._roots()
        while self.todo or self.deferred:
            while self.todo:
                self._pair(*self.todo.pop())
            if self.deferred:
                self._unordered(*self.deferred.pop())
        self._library()
        objects = self.live.objects
        self.result.several = frozenset(a for a, _ in self.again) | {self.back[b] for _, b in self.again if b in self.back}
        self.result.matching = {a: objects[b] for a, b in self.there.items() if b in objects}
        return self.result

    def _roots(self) -> None:
        mine = {(root.section, root.name): root for root in self.recorded.roots if root.section != "frame"}
        others = {(root.section, root.name): root for root in self.live.graph.roots if root.section != "frame"}
        pairs = [(mine[key], others[key]) for key in mine if key in others]
        for key in mine.keys() - others.keys():
            self._differ((None, ("root", key[1])), "missing", "a module", "none")
        for key in others.keys() - mine.keys():
            if not self.ignore.names(*key):
                self._differ((None, ("root", key[1])), "unexpected", "none", "a module")
        frames = [root for root in self.recorded.roots if root.section == "frame"]
        live_frames = [root for root in self.live.graph.roots if root.section == "frame"]
        if [root.name for root in frames] != [root.name for root in live_frames]:
            names = (", ".join(root.name for root in frames), ", ".join(root.name for root in live_frames))
            self._differ((None, ("root", "frames")), "other frames", *names)
        pairs.extend(zip(frames, live_frames, strict=False))
        for root, other in pairs:
            theirs = dict(zip(other.names, other.cells, strict=True))
            skip = self.ignore.names(root.section, root.name)
            for name, cell in zip(root.names, root.cells, strict=True):
                link = root_link(root.section, root.name, name)
                if name in theirs:
                    self.todo.append((cell, theirs.pop(name), link))
                else:
                    self._differ(link, "missing", self._show(self.recorded, cell), "unbound")
            for name, cell in theirs.items():
                if name not in skip:
                    link = root_link(root.section, root.name, name)
                    self._differ(link, "unexpected", "unbound", self._show(self.live.graph, cell))
        self.todo.reverse()

    def _library(self) -> None:
        mine, other = self.recorded.library, self.live.graph.library
        for key in sorted(mine.keys() | other.keys()):
            a, b = mine.get(key), other.get(key)
            # a hindsight statement may import a library that was not there
            if a == b or key not in mine or key in COUNTED or key in self.ignore.library:
                continue
            if isinstance(a, dict) and isinstance(b, dict):
                # nor are its random numbers and loggers missed: a library that a witness or a statement has imported
                for inner in sorted(a.keys() if key in ("rng", "logging") else a.keys() | b.keys()):
                    if a.get(inner) != b.get(inner):
                        self._differ((None, ("root", f"{key}[{inner}]")), "library state",
                                     short(a.get(inner)), short(b.get(inner)))  # fmt: skip
            else:
                self._differ((None, ("root", key)), "library state", short(a), short(b))

    def _differ(self, link: Link, what: str, recorded: str, live: str, magnitude: float = math.inf,
                numeric: bool = False) -> None:  # fmt: skip
        result = self.result
        result.count += 1
        if numeric:
            result.largest = max(result.largest, magnitude)
            if result.verdict == "exact":
                result.verdict = "tolerance"
        else:
            result.verdict = "diverged"
        if len(result.differences) < MAX_DIFFERENCES:
            result.differences.append(Difference(render(link), what, recorded, live, magnitude))

    def _show(self, graph: Graph, cell: Cell) -> str:
        if type(cell) is tuple:
            if len(cell) == 1:
                node = graph.nodes.get(cell[0])
                return "?" if node is None else self._describe(graph, node)
            return short(cell[1:])
        return short(cell)

    def _describe(self, graph: Graph, node: Node) -> str:
        kind, cls, payload, _, _ = node
        if kind == "opaque":
            return str(payload[0])
        if kind in ("function", "class"):
            return f"{kind} {payload[0]}.{payload[1]}"
        if cls is None:
            return kind
        if len(cls) == 1:
            inner = graph.nodes.get(cls[0])
            return f"{inner[2][0]}.{inner[2][1]}" if inner is not None else kind
        return f"{cls[1]}.{cls[2]}"

    def _pair(self, a: Cell, b: Cell, link: Link) -> None:
        if type(a) is tuple and type(b) is tuple and len(a) == 1 and len(b) == 1:
            self._refs(a[0], b[0], link)
        elif not same_atom(a, b):
            self._atoms(a, b, link)

    def _atoms(self, a: Cell, b: Cell, link: Link) -> None:
        if type(a) is int and type(b) is int and a in self.recorded.idrefs and b in self.live.graph.idrefs:
            self._refs(self.recorded.idrefs[a], self.live.graph.idrefs[b], link)
            return
        shown = (self._show(self.recorded, a), self._show(self.live.graph, b))
        x, y = number_of(a), number_of(b)
        if x is not None and y is not None and type(a) is type(b) and type(a) is not int:
            self._numbers(x, y, link, shown)
            return
        self._differ(link, "value" if type(a) is type(b) else "type", *shown)

    def _numbers(self, x: complex, y: complex, link: Link, shown: tuple[str, str]) -> None:
        gap = abs(x - y)
        within = gap <= FLOAT_ATOL + FLOAT_RTOL * abs(x)
        self._differ(link, "value", *shown, magnitude=gap if gap == gap else math.inf, numeric=within)

    def _refs(self, a: int, b: int, link: Link) -> None:
        if self.there.get(a) == b:
            return
        x, y = self.recorded.nodes[a], self.live.graph.nodes[b]
        if a in self.there or b in self.back:
            if x[0] == y[0] and x[0] in VALUE_KINDS:
                if (a, b) in self.again:
                    return
                self.again.add((a, b))
            else:
                what = "is another object than the recorded" if a in self.there else "stands for two recorded objects"
                self._differ(link, "aliasing", self._describe(self.recorded, x), what)
                return
        else:
            self.there[a] = b
            self.back[b] = a
        self._nodes(a, b, x, y, link)

    def _nodes(self, a: int, b: int, x: Node, y: Node, link: Link) -> None:
        if x[0] != y[0]:
            self._unmatch(a, b)
            self._differ(link, "type", self._describe(self.recorded, x), self._describe(self.live.graph, y))
            return
        if x[1] != y[1] or x[1] is not None:
            self._pair(x[1], y[1], (link, ("attr", "__class__")))
        kind = x[0]
        if kind in ("tensor", "ndarray"):
            self._views(x, y, link)
            return
        if kind == "function" and x[2][3] != y[2][3] and x[2][0] in self.ignore.edited:
            x, y = _same_closure(x, y)
        if kind == "generator":
            self._generators(x, y, link)
            return
        # How far a file has been written may depend on the clock, for a log of seconds grows by their digits.
        # Nor is who holds a lock: a thread may have it for a moment. Nor is how far a bar of rich has been drawn.
        written = kind in ("open file", "lock", "task of rich") and x[2][0] == y[2][0]
        if not written and kind != "set" and x[2] != y[2] and marshal.dumps(x[2], 2) != marshal.dumps(y[2], 2):
            self._payloads(x, y, link)
        if a in self.recorded.buffers:
            self._bytes(a, b, link)
        if kind in ("dict", "defaultdict"):
            self._dicts(x, y, link)
        elif kind == "set" or kind == "frozenset":
            self._sets(x, y, link)
        elif kind == "class":
            self._ordered(x, y, link, "methods or bases")
        else:
            self._ordered(x, y, link, "length")
        self._attrs(x, y, link)

    def _generators(self, x: Node, y: Node, link: Link) -> None:
        """Variables by name: a new statement in the generator may bind some of its own."""
        a, b = x[2], y[2]
        if a[:3] != b[:3]:
            self._differ(link, "generator", a[2], b[2])
            return
        if a[3:6] != b[3:6]:
            self._differ(link, "progress", str(a[3:5]), str(b[3:5]))
        self.todo.append((x[3][0], y[3][0], (link, ("attr", "gi_code"))))
        mine, theirs = x[3][1 : 1 + len(a[6])], dict(zip(b[6], y[3][1:], strict=False))
        clock = CLOCK_LOCALS if str(a[7]).startswith("tqdm.") else frozenset()
        for name, cell in zip(a[6], mine, strict=True):
            if name in clock:
                continue
            self.todo.append((cell, theirs.get(name, UNSET), (link, ("attr", name))))
        stack, other = x[3][1 + len(a[6]) :], y[3][1 + len(b[6]) :]
        if len(stack) != len(other):
            self._differ(link, "progress", f"{len(stack)} values on its stack", f"{len(other)} values on its stack")
        for i, (p, q) in enumerate(zip(stack, other, strict=False)):
            self.todo.append((p, q, (link, ("index", i))))

    def _unmatch(self, a: int, b: int) -> None:
        if self.there.get(a) == b:
            del self.there[a], self.back[b]

    def _payloads(self, x: Node, y: Node, link: Link) -> None:
        a, b = x[2], y[2]
        if x[0] == "opaque":
            if a[0] != b[0]:
                self._differ(link, "opaque object", str(a[0]), str(b[0]))
            else:
                self._differ(link, "progress", short(a[1]), short(b[1]))
        elif x[0] == "number" and a[0] == b[0] != "int":
            self._numbers(a[1], b[1], link, (short(a[1]), short(b[1])))
        else:
            self._differ(link, "value", short(a), short(b))

    def _views(self, x: Node, y: Node, link: Link) -> None:
        a, b = x[2], y[2]
        if a != b:
            for name, i in _VIEW_PARTS[x[0]]:
                if a[i] != b[i]:
                    self._differ(link, name, short(a[i]), short(b[i]))
        home, other = x[3][0], y[3][0]
        if home is not None and other is not None:
            self._regions(home[0], other[0], link, a[1] if a[1] == b[1] else None)
        elif home is not other:
            self._differ(link, "memory", "none" if home is None else "some", "none" if other is None else "some")
        if any(cell is not None for cell in (*x[3][1:], *y[3][1:])):
            names = children(x)
            for i in range(1, len(x[3])):
                self.todo.append((x[3][i], y[3][i], (link, names[i][0])))
        self._attrs(x, y, link)

    def _regions(self, a: int, b: int, link: Link, dtype: Any) -> None:
        if self.there.get(a) == b:
            return
        if a in self.there or b in self.back:
            self._differ(link, "aliasing", "memory shared otherwise", "memory shared otherwise")
            return
        self.there[a], self.back[b] = b, a
        self._bytes(a, b, link, dtype)

    def _bytes(self, a: int, b: int, link: Link, dtype: Any = None) -> None:
        mine, other = self.recorded.buffers[a], self.live.graph.buffers.get(b)
        if other is None or (mine.nbytes, mine.start, mine.whole) != (other.nbytes, other.start, other.whole):
            self._differ(link, "size", extent(mine), extent(other) if other else "none")
        elif mine.digest != other.digest:
            from .numeric import Gap, difference, is_double

            gap = Gap(math.inf, False)
            shown = (mine.digest[:12], other.digest[:12])
            if self.read_blob is not None and dtype is not None:
                bounds = (FLOAT_RTOL, FLOAT_ATOL) if is_double(dtype) else (RTOL, ATOL)
                gap = difference(self.read_blob(mine.digest), self.live.buffer(b), dtype, *bounds)
                shown = gap.shown() if gap.total else shown
            within = gap.within and self._only_seen_as(a, dtype)
            self._differ(link, "content", *shown, magnitude=gap.largest, numeric=within)

    def _only_seen_as(self, region: int, dtype: Any) -> bool:
        """Whether all that look at a region take it for the same numbers: bits that are an integer elsewhere are exact."""
        kinds = {node[2][1] for node in self.recorded.nodes.values() if node[0] in _VIEW_PARTS and node[3][0] == (region,)}
        return kinds == {dtype}

    def _ordered(self, x: Node, y: Node, link: Link, what: str) -> None:
        a, b = x[3], y[3]
        if len(a) != len(b):
            self._differ(link, what, str(len(a)), str(len(b)))
        if a == b and all(map(is_fast, a)):
            return
        if x[0] in ("list", "tuple", "deque", "object"):
            for i, (p, q) in enumerate(zip(a, b, strict=False)):
                self.todo.append((p, q, (link, ("index", i))))
            return
        steps = [step for step, _ in children(x)]
        for i, (p, q) in enumerate(zip(a, b, strict=False)):
            self.todo.append((p, q, (link, steps[i] if i < len(steps) else ("index", i))))

    def _attrs(self, x: Node, y: Node, link: Link) -> None:
        a, b = x[4], y[4]
        if a is None and b is None:
            return
        a = a or (None, (), ())
        b = b or (None, (), ())
        if (a[0] is None) != (b[0] is None):
            self._differ(link, "attributes", "none" if a[0] is None else "some", "none" if b[0] is None else "some")
        elif a[0] is not None:
            self.todo.append((a[0], b[0], (link, ("dict", None))))
        theirs = dict(zip(b[1], b[2], strict=True))
        for name, cell in zip(a[1], a[2], strict=True):
            if name in theirs:
                self.todo.append((cell, theirs.pop(name), (link, ("attr", name))))
            else:
                self._differ((link, ("attr", name)), "missing", self._show(self.recorded, cell), "unset")
        for name, cell in theirs.items():
            self._differ((link, ("attr", name)), "unexpected", "unset", self._show(self.live.graph, cell))

    def _dicts(self, x: Node, y: Node, link: Link) -> None:
        first = 0
        if x[0] == "defaultdict":
            self.todo.append((x[3][0], y[3][0], (link, ("attr", "default_factory"))))
            first = 1
        a, b = x[3][first:], y[3][first:]
        if self.ignore.attributes and link[1] == _INSTANCE:
            b = _without(b, self.ignore.attributes.difference(cell for cell in a[::2] if type(cell) is str))
        clock = bool(x[2]) and x[2][0] == "volatile"
        if len(a) == len(b) and all(map(self._same_key, a[::2], b[::2])):
            for i in range(0, len(a), 2):
                if type(a[i]) is tuple or type(a[i]) is int:
                    self.todo.append((a[i], b[i], (link, ("key", a[i]))))
                if clock and a[i] == REDRAWN:
                    continue
                self.todo.append((a[i + 1], b[i + 1], (link, ("item", a[i]))))
            return
        theirs = {key_of(b[i]): b[i + 1] for i in range(0, len(b), 2) if not is_ref(b[i])}
        shared: list[Any] = []
        for i in range(0, len(a), 2):
            if is_ref(a[i]):
                continue
            key = key_of(a[i])
            if key in theirs:
                shared.append(key)
                self.todo.append((a[i + 1], theirs[key], (link, ("item", a[i]))))
            else:
                self._differ((link, ("item", a[i])), "missing", self._show(self.recorded, a[i + 1]), "no such key")
        known = set(shared)
        for i in range(0, len(b), 2):
            if not is_ref(b[i]) and key_of(b[i]) not in known:
                self._differ((link, ("item", b[i])), "unexpected", "no such key", self._show(self.live.graph, b[i + 1]))
        if [key for key in theirs if key in known] != shared:
            self._differ(link, "order", "the recorded order of keys", "another order of keys")
        mine_refs = [(a[i], a[i + 1]) for i in range(0, len(a), 2) if is_ref(a[i])]
        their_refs = [(b[i], b[i + 1]) for i in range(0, len(b), 2) if is_ref(b[i])]
        if len(mine_refs) != len(their_refs):
            self._differ(link, "length", f"{len(mine_refs)} object keys", f"{len(their_refs)} object keys")
        for (p, v), (q, u) in zip(mine_refs, their_refs, strict=False):
            self.todo.append((p, q, (link, ("key", p))))
            self.todo.append((v, u, (link, ("item", p))))

    def _same_key(self, a: Cell, b: Cell) -> bool:
        if is_ref(a):
            return is_ref(b)
        if same_atom(a, b):
            return True
        return type(a) is int and type(b) is int and a in self.recorded.idrefs and b in self.live.graph.idrefs

    def _sets(self, x: Node, y: Node, link: Link) -> None:
        a, b = x[3], y[3]
        if len(a) != len(b):
            self._differ(link, "length", str(len(a)), str(len(b)))
        if x[2] is not None and y[2] is not None and len(a) == len(b):
            self._steady_sets(x, y, link)
            return
        atoms, others = [c for c in a if not is_ref(c)], [c for c in b if not is_ref(c)]
        mine, theirs = {key_of(c) for c in atoms}, {key_of(c) for c in others}
        if mine != theirs:
            gone = [c for c in atoms if key_of(c) not in theirs]
            new = [c for c in others if key_of(c) not in mine]
            self._differ(link, "elements", short(gone), short(new))
        elif len(atoms) == len(a) and not all(map(same_atom, a, b)):
            self._differ(link, "order", "the recorded order of iteration", "another order of iteration")
        refs, other_refs = [c for c in a if is_ref(c)], [c for c in b if is_ref(c)]
        if refs or other_refs:
            self.deferred.append((refs, other_refs, link))

    def _steady_sets(self, x: Node, y: Node, link: Link) -> None:
        """Sets whose order of iteration is the same in every process: elements in order, and the slots that they are in."""
        a, b = x[3], y[3]
        mine, theirs = {key_of(c) for c in a if not is_ref(c)}, {key_of(c) for c in b if not is_ref(c)}
        if mine != theirs:
            gone = [c for c in a if not is_ref(c) and key_of(c) not in theirs]
            new = [c for c in b if not is_ref(c) and key_of(c) not in mine]
            self._differ(link, "elements", short(gone), short(new))
        elif not all((is_ref(p) and is_ref(q)) or same_atom(p, q) for p, q in zip(a, b, strict=True)):
            self._differ(link, "order", "the recorded order of iteration", "another order of iteration")
        else:
            # An empty set's table tells of what was in it before; where that hashes by address (the set by which a dataclass's `repr`
            # recognises recursion), it is another one each time. What is added later shows its own order.
            if x[2] != y[2] and a:
                what = "slots of the set's table, which order what is added later"
                self._differ(link, "order to come", f"the recorded {what}", "others")
            for i, (p, q) in enumerate(zip(a, b, strict=True)):
                if is_ref(p):
                    self.todo.append((p, q, (link, ("index", i))))

    def _unordered(self, refs: list[Cell], others: list[Cell], link: Link) -> None:
        """Elements that hash by address: those met elsewhere are known, the rest are paired in order."""
        order = [self.there.get(c[0]) for c in refs]
        if all(token is not None for token in order) and order != [c[0] for c in others]:
            self.result.unordered.append(render(link))
        left = {c[0] for c in others}
        rest = []
        for cell in refs:
            known = self.there.get(cell[0])
            if known is None:
                rest.append(cell)
            elif known in left:
                left.discard(known)
            else:
                self._differ(link, "elements", self._show(self.recorded, cell), "not in the set")
        if not rest:
            return
        free = [c for c in others if c[0] in left]
        alike = self._alike(rest, free)
        if len(rest) == len(refs) == len(free) and alike != free:
            self.result.unordered.append(render(link))
        for i, (p, q) in enumerate(zip(rest, alike, strict=False)):
            self.todo.append((p, q, (link, ("index", i))))

    def _alike(self, refs: list[Cell], others: list[Cell]) -> list[Cell]:
        """The others in such an order that as many as can be told by what they hold (weak references, tuples, attributes) stand in the
        same places as the recorded ones that hold the same."""
        by_profile: dict[Any, list[Cell]] = {}
        for cell in reversed(others):
            by_profile.setdefault(_profile(self.live.graph, cell, self.back), []).append(cell)
        # Not a copy of what has been met: with many such sets that would cost the square of their number.
        met = _Themselves(self.there)
        found: list[Cell | None] = []
        for cell in refs:
            same = by_profile.get(_profile(self.recorded, cell, met))
            found.append(same.pop() if same else None)
        taken = {cell[0] for cell in found if cell is not None}
        left = iter([cell for cell in others if cell[0] not in taken])
        return [cell for cell in (next(left, None) if cell is None else cell for cell in found) if cell is not None]


class _Themselves:
    """The keys of a mapping, each standing for itself."""

    def __init__(self, keys: Mapping[int, int]) -> None:
        self._keys = keys

    def get(self, key: int) -> int | None:
        """The key, if it is one of them."""
        return key if key in self._keys else None


def _profile(graph: Graph, cell: Cell, names: Mapping[int, int] | _Themselves, depth: int = 3) -> Any:
    """What can be said of a reference without asking further: the recorded token of what has been met, kind and parts of the rest."""
    if not is_ref(cell):
        return key_of(cell)
    known = names.get(cell[0])
    if known is not None:
        return known
    node = graph.nodes[cell[0]]
    attributes = () if node[4] is None else (node[4][0], *node[4][2])
    parts = tuple(_profile(graph, part, names, depth - 1) for part in (*node[3][:8], *attributes[:8])) if depth else ()
    return (node[0], marshal.dumps(node[2], 2), len(node[3]), parts)


_VIEW_PARTS = {
    "tensor": (("dtype", 1), ("shape", 2), ("strides", 3), ("offset", 0), ("requires_grad", 4), ("device", 5),
               ("grad_fn", 6), ("conjugate and negative bits", 7), ("inference mode", 8), ("quantizer", 9),
               ("retained gradient", 10), ("names of dimensions", 11)),
    "ndarray": (("dtype", 1), ("shape", 2), ("strides", 3), ("offset", 0), ("writeable", 4)),
}  # fmt: skip


def _same_closure(x: Node, y: Node) -> tuple[Node, Node]:
    """Two function nodes, closing over no more than what both close over."""
    common = set(x[2][3]) & set(y[2][3])

    def restricted(node: Node) -> Node:
        kept = [(name, cell) for name, cell in zip(node[2][3], node[3][3:], strict=True) if name in common]
        payload = (*node[2][:3], tuple(name for name, _ in kept), *node[2][4:])
        return (node[0], node[1], payload, (*node[3][:3], *(cell for _, cell in kept)), node[4])

    return restricted(x), restricted(y)


_INSTANCE = ("dict", None)  # the step from an object to its `__dict__`


def _without(cells: tuple[Cell, ...], names: Set[str]) -> tuple[Cell, ...]:
    """The keys and values of a dict, in turns, without some keys."""
    pairs = zip(cells[::2], cells[1::2], strict=True)
    return tuple(cell for key, value in pairs if not (type(key) is str and key in names) for cell in (key, value))
