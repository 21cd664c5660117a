"""Align two lists of statements: which is which, which is new, which is gone.

Statements are compared by identifiers of their normalised syntax tree, without positions, comments, docstrings
and `pass`. Equal statements outweigh everything else; edited ones are paired by likeness, so that a change is
reported as one and the loops inside keep their names.
"""

from __future__ import annotations

import ast
import bisect
import difflib
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from flor_trace.replay.annotations import without_annotations
from flor_trace.replay.statements import Knowledge, blocks, is_compound, is_void

_EQUAL = 1000.0
_MAX_TABLE = 40_000  # cells of one alignment table; beyond, difflib finds the equal ones first


@dataclass(eq=False)
class Unit:
    """One statement with what it is compared by."""

    node: ast.stmt
    key: int
    """Identifies the statement, or the head of a compound one (for functions and classes: the name)."""
    detail: int
    """The rest of the head: signature, decorators, bases, except clauses, patterns."""
    full: int
    """Identifies the whole statement with everything in it."""
    children: dict[str, list[Unit]] = field(default_factory=dict)
    _bag: Counter[int] | None = None
    _words: frozenset[str] | None = None

    @property
    def compound(self) -> bool:
        """Whether the statement contains statements."""
        return is_compound(self.node)

    @property
    def bag(self) -> Counter[int]:
        """The simple statements inside, with their numbers."""
        if self._bag is None:
            self._bag = Counter() if self.compound else Counter([self.full])
            for block in self.children.values():
                for child in block:
                    self._bag.update(child.bag)
        return self._bag

    @property
    def words(self) -> frozenset[str]:
        """The words of the statement's source, a cheap measure of likeness."""
        if self._words is None:
            self._words = frozenset(re.findall(r"\w+", ast.unparse(self.node)))
        return self._words


class Units:
    """Makes units; shared by both sources, so that equal code gets equal identifiers.

    Args:
        annotations: whether type annotations are part of the meaning.
    """

    def __init__(self, annotations: bool = True) -> None:
        self._annotations = annotations
        self._numbers: dict[Hashable, int] = {}

    def of(self, statements: Sequence[ast.stmt], in_class: bool = False) -> list[Unit]:
        """The units of a block, without those that do nothing; `in_class`: of a class's body."""
        return [self._unit(node, in_class) for node in statements if not is_void(node)]

    def _number(self, thing: Hashable) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def _unit(self, node: ast.stmt, in_class: bool) -> Unit:
        is_field = in_class and isinstance(node, ast.AnnAssign)
        bare = node if self._annotations or is_field else without_annotations(node)
        if not is_compound(node):
            number = self._number(ast.dump(bare))
            return Unit(node, number, 0, number)
        head, rest = _head(bare)
        key, detail = self._number(head), self._number(rest)
        inner = isinstance(node, ast.ClassDef) or (in_class and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
        children = {label: self.of(block, inner) for label, block in blocks(node)}
        full = self._number((key, detail, tuple((label, tuple(child.full for child in block)) for label, block in children.items())))
        return Unit(node, key, detail, full, children)


def _head(node: ast.stmt) -> tuple[Hashable, Hashable]:
    kind = type(node).__name__
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            rest = [f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if name not in ("name", "body", "type_comment")]
            return (kind, node.name), tuple(rest)
        case ast.If() | ast.While():
            return (kind, ast.dump(node.test)), ""
        case ast.For() | ast.AsyncFor():
            return (kind, ast.dump(node.target), ast.dump(node.iter)), ""
        case ast.With() | ast.AsyncWith():
            return (kind, _dump(node.items)), ""
        case ast.Match():
            return (kind, ast.dump(node.subject)), tuple((_dump(c.pattern), _dump(c.guard)) for c in node.cases)
    # `try` and `try … except*` have no head; their clauses are the detail.
    handlers = getattr(node, "handlers", [])
    return (kind,), tuple((_dump(handler.type), handler.name) for handler in handlers)


def _dump(value: object) -> str:
    if isinstance(value, ast.AST):
        return ast.dump(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_dump, value)) + "]"
    return repr(value)


@dataclass(frozen=True)
class Alignment:
    """Pairs in the order of the present list, and what has no partner."""

    pairs: list[tuple[Unit, Unit]]
    removed: list[Unit]
    inserted: list[Unit]


def align(recorded: list[Unit], present: list[Unit], known: Knowledge) -> Alignment:
    """Match two blocks. Where a statement and a log statement have changed places it is the log statement that was moved."""
    found = _alignment(recorded, present, _align(recorded, present, known))
    if not _has_moved(found, known):
        return found
    pairs = _firm_first(recorded, present, known)
    firm = _alignment(recorded, present, pairs)
    return found if _has_moved(firm, known) else firm


def _has_moved(found: Alignment, known: Knowledge) -> bool:
    """Whether something that does more than log is gone in one place and new in another."""
    come = {unit.full for unit in found.inserted}
    return any(unit.full in come and not known.only_logs(unit.node) for unit in found.removed)


def _firm_first(recorded: list[Unit], present: list[Unit], known: Knowledge) -> list[tuple[int, int]]:
    """Match what does more than log, and then the log statements between."""
    firm_r = [i for i, unit in enumerate(recorded) if not known.only_logs(unit.node)]
    firm_p = [j for j, unit in enumerate(present) if not known.only_logs(unit.node)]
    firm = _align([recorded[i] for i in firm_r], [present[j] for j in firm_p], known)
    pairs = [(firm_r[i], firm_p[j]) for i, j in sorted(firm)]
    known_r, known_p = set(firm_r), set(firm_p)
    i = j = 0
    between: list[tuple[int, int]] = []
    for stop_r, stop_p in [*pairs, (len(recorded), len(present))]:
        logs_r = [n for n in range(i, stop_r) if n not in known_r]
        logs_p = [n for n in range(j, stop_p) if n not in known_p]
        found = _align([recorded[n] for n in logs_r], [present[n] for n in logs_p], known)
        between += [(logs_r[a], logs_p[b]) for a, b in found]
        i, j = stop_r + 1, stop_p + 1
    return pairs + between


def _alignment(recorded: list[Unit], present: list[Unit], unsorted: list[tuple[int, int]]) -> Alignment:
    pairs = sorted(unsorted, key=lambda pair: pair[1])
    old, new = {i for i, _ in pairs}, {j for _, j in pairs}
    return Alignment(
        [(recorded[i], present[j]) for i, j in pairs],
        [unit for i, unit in enumerate(recorded) if i not in old],
        [unit for j, unit in enumerate(present) if j not in new],
    )


def _align(recorded: list[Unit], present: list[Unit], known: Knowledge) -> list[tuple[int, int]]:
    start, stop_r, stop_p = 0, len(recorded), len(present)
    while start < min(stop_r, stop_p) and recorded[start].full == present[start].full:
        start += 1
    while min(stop_r, stop_p) > start and recorded[stop_r - 1].full == present[stop_p - 1].full:
        stop_r, stop_p = stop_r - 1, stop_p - 1
    pairs = [(i, i) for i in range(start)]
    pairs += [(stop_r + i, stop_p + i) for i in range(len(recorded) - stop_r)]
    anchors = _anchors(recorded[start:stop_r], present[start:stop_p])
    i, j = start, start
    for anchor_r, anchor_p in [*((a + start, b + start) for a, b in anchors), (stop_r, stop_p)]:
        pairs += [(i + a, j + b) for a, b in _gap(recorded[i:anchor_r], present[j:anchor_p], known)]
        if anchor_r < stop_r:
            pairs.append((anchor_r, anchor_p))
        i, j = anchor_r + 1, anchor_p + 1
    return pairs


def _anchors(recorded: list[Unit], present: list[Unit]) -> list[tuple[int, int]]:
    """The longest increasing run of statements that occur once on each side."""
    count_r, count_p = Counter(u.key for u in recorded), Counter(u.key for u in present)
    where = {unit.key: j for j, unit in enumerate(present) if count_p[unit.key] == 1}
    candidates = [(i, where[u.key]) for i, u in enumerate(recorded) if count_r[u.key] == 1 and u.key in where]
    tails: list[int] = []
    tail_index: list[int] = []
    previous: dict[int, int] = {}
    for n, (_, j) in enumerate(candidates):
        at = bisect.bisect_left(tails, j)
        tails[at : at + 1] = [j]
        tail_index[at : at + 1] = [n]
        if at:
            previous[n] = tail_index[at - 1]
    chain: list[tuple[int, int]] = []
    n = tail_index[-1] if tail_index else -1
    while n >= 0:
        chain.append(candidates[n])
        n = previous.get(n, -1)
    return chain[::-1]


def _gap(recorded: list[Unit], present: list[Unit], known: Knowledge) -> list[tuple[int, int]]:
    if not recorded or not present:
        return []
    greedy = _subsequence(recorded, present)
    if greedy is not None:
        return greedy
    if len(recorded) * len(present) <= _MAX_TABLE:
        return _table(recorded, present, known)
    matcher = difflib.SequenceMatcher(None, [u.full for u in recorded], [u.full for u in present], autojunk=False)
    pairs: list[tuple[int, int]] = []
    i = j = 0
    for block in matcher.get_matching_blocks():
        if (block.a - i) * (block.b - j) <= _MAX_TABLE:
            pairs += [(i + a, j + b) for a, b in _table(recorded[i : block.a], present[j : block.b], known)]
        pairs += [(block.a + n, block.b + n) for n in range(block.size)]
        i, j = block.a + block.size, block.b + block.size
    return pairs


def _subsequence(recorded: list[Unit], present: list[Unit]) -> list[tuple[int, int]] | None:
    """The earliest places of all recorded statements, if nothing but insertions happened."""
    pairs: list[tuple[int, int]] = []
    j = 0
    for i, unit in enumerate(recorded):
        while j < len(present) and present[j].full != unit.full:
            j += 1
        if j == len(present):
            return None
        pairs.append((i, j))
        j += 1
    return pairs


def _table(recorded: list[Unit], present: list[Unit], known: Knowledge) -> list[tuple[int, int]]:
    rows, columns = len(recorded), len(present)
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    score = [[likeness(r, p, known) for p in present] for r in recorded]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            skip = max(best[i + 1][j], best[i][j + 1])
            best[i][j] = max(skip, best[i + 1][j + 1] + score[i][j]) if score[i][j] > 0 else skip
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < rows and j < columns:
        if score[i][j] > 0 and best[i][j] == best[i + 1][j + 1] + score[i][j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            i += 1
    return pairs


def likeness(recorded: Unit, present: Unit, known: Knowledge) -> float:
    """How much two statements look like versions of one; 0 if they do not."""
    old, new = recorded.node, present.node
    if recorded.full == present.full:
        return _EQUAL * max(1, recorded.bag.total())
    if type(old) is not type(new):
        return 0.0
    if recorded.compound:
        common = (recorded.bag & present.bag).total()
        if recorded.key == present.key:
            return 50.0 + _EQUAL * common + (100.0 if isinstance(old, (ast.For, ast.While)) else 0.0)
        smaller = min(recorded.bag.total(), present.bag.total())
        return 20.0 + _EQUAL * common if smaller and 2 * common >= smaller else 0.0
    shared = len(recorded.words & present.words) / max(1, len(recorded.words | present.words))
    if known.is_log(old) or known.is_log(new):
        return 300.0 + 100.0 * shared if same_callee(old, new) else 0.0
    if isinstance(old, ast.Assign) and isinstance(new, ast.Assign) and _dump(old.targets) == _dump(new.targets):
        return 100.0 + 50.0 * shared
    return 50.0 * (shared + 1.0) if shared > 0.4 or same_callee(old, new) else 0.0


def same_callee(old: ast.stmt, new: ast.stmt) -> bool:
    """Whether both are calls of the same expression."""
    return (
        isinstance(old, ast.Expr)
        and isinstance(new, ast.Expr)
        and isinstance(old.value, ast.Call)
        and isinstance(new.value, ast.Call)
        and ast.dump(old.value.func) == ast.dump(new.value.func)
    )
