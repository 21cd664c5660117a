"""Walk two sources side by side and sort every statement: matched, hindsight, removed log, or a change."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass

from flor_trace.replay.align import Unit, Units, align, same_callee
from flor_trace.replay.carry import HARMLESS_DECORATORS, is_immutable
from flor_trace.replay.imports import sorted_imports
from flor_trace.replay.loopnames import SourceNames
from flor_trace.replay.names import bound_by
from flor_trace.replay.source import SourceText
from flor_trace.replay.statements import FunctionNode, Knowledge, blocks, first_line, last_name

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Change:
    """A difference that is more than an added or changed log statement."""

    recorded_lineno: int | None
    present_lineno: int | None
    recorded_text: str
    present_text: str
    why: str


@dataclass(frozen=True)
class RemovedLog:
    """A recorded log statement that is gone: replay only lacks its output."""

    recorded_lines: tuple[int, int]
    text: str


class Matcher:
    """Collects the result of matching one module.

    Args:
        known: what the recorded program defines itself.
        names: recorded names of loops and functions.
        recorded: the recorded text.
        present: today's text.
        own_modules: the names of the program's modules.
        annotations: whether anything in the program may read type annotations.
    """

    def __init__(
        self, known: Knowledge, names: SourceNames, recorded: SourceText, present: SourceText,
        own_modules: frozenset[str] = frozenset(), annotations: bool = True,
    ) -> None:  # fmt: skip
        self._known, self._names = known, names
        self._own_modules, self._annotations = own_modules, annotations
        self.recorded, self.present = recorded, present
        self._shared: dict[ast.AST, tuple[str, ...]] = {}
        self._docstrings_matter = recorded.mentions("__doc__") or present.mentions("__doc__")
        self.hindsight: dict[ast.AST, ast.stmt | None] = {}
        """Present statement → the recorded log statement that it is an edit of, or None."""
        self.loops: dict[ast.AST, str] = {}
        self.functions: dict[ast.AST, str] = {}
        self.lines: dict[int, int] = {}
        self.changes: list[Change] = []
        self.removed_logs: list[RemovedLog] = []

    def module(self, recorded: ast.Module, present: ast.Module) -> None:
        """Match two whole modules."""
        units = Units(self._annotations)
        self._docstrings(recorded, present, 1)
        self._block(*sorted_imports(units.of(recorded.body), units.of(present.body), self._own_modules))

    def shared_calls(self, node: ast.AST) -> tuple[str, ...]:
        """The calls that an edited log statement has in common with its recorded version."""
        return self._shared.get(node, ())

    # Blocks

    def _block(self, recorded: list[Unit], present: list[Unit]) -> None:
        recorded, present = self._movable_definitions(recorded, present)
        found = align(recorded, present, self._known)
        for old, new in found.pairs:
            self._pair(old, new)
        removed, inserted = found.removed, found.inserted
        if removed and inserted:
            self._moved_definitions(removed, inserted)
            self._moved(removed, inserted)
            self._wrapped(removed, inserted)
            self._unwrapped(removed, inserted)
        for unit in removed:
            self._gone(unit)
        for unit in inserted:
            self.hindsight[unit.node] = None

    def _movable_definitions(self, recorded: list[Unit], present: list[Unit]) -> tuple[list[Unit], list[Unit]]:
        """Pair functions by name wherever they stand in the block; returns what is left to align."""
        gone, come = Counter(u.key for u in recorded), Counter(u.key for u in present)
        partners = {u.key: u for u in present if isinstance(u.node, _FUNCTIONS) and come[u.key] == gone[u.key] == 1}
        if not partners:
            return recorded, present
        # Where the name is bound in another way too, the order decides which binding lasts.
        rivals = _bound_beside_functions(recorded) | _bound_beside_functions(present)
        paired = {
            u.key
            for u in recorded
            if u.key in partners and isinstance(u.node, _FUNCTIONS) and _may_move(u.node) and u.node.name not in rivals
        }
        for unit in recorded:
            if unit.key in paired:
                self._pair(unit, partners[unit.key])
        return [u for u in recorded if u.key not in paired], [u for u in present if u.key not in paired]

    def _moved_definitions(self, removed: list[Unit], inserted: list[Unit]) -> None:
        """Whatever else is defined once and stands elsewhere in the same block is the same, but was moved."""
        gone, come = Counter(u.key for u in removed), Counter(u.key for u in inserted)
        for old in [u for u in removed if isinstance(u.node, _DEFINITIONS) and gone[u.key] == 1]:
            new = next((u for u in inserted if u.key == old.key and come[u.key] == 1), None)
            if new is None:
                continue
            removed.remove(old)
            inserted.remove(new)
            self._change(old, new, "the definition was moved, and its place may matter")
            self._pair(old, new)

    def _moved(self, removed: list[Unit], inserted: list[Unit]) -> None:
        for old in [u for u in removed if not self._known.only_logs(u.node)]:
            new = next((u for u in inserted if u.full == old.full), None)
            if new is not None:
                removed.remove(old)
                inserted.remove(new)
                self._change(old, new, "the statement was moved")
                self._pair(old, new)

    def _wrapped(self, removed: list[Unit], inserted: list[Unit]) -> None:
        for new in [u for u in inserted if u.compound]:
            inside = [u for u in removed if not self._known.only_logs(u.node) and u.bag & new.bag]
            if inside:
                self._change(inside[0], new, f"existing statements were moved into a new `{_word(new)}`")
                inserted.remove(new)
                for unit in inside:
                    removed.remove(unit)
                self._best_block(inside, list(new.children.values()), into_present=True)

    def _unwrapped(self, removed: list[Unit], inserted: list[Unit]) -> None:
        for old in [u for u in removed if u.compound and not self._known.only_logs(u.node)]:
            freed = [u for u in inserted if not self._known.only_logs(u.node) and u.bag & old.bag]
            if freed:
                self._change(old, freed[0], f"existing statements were moved out of their `{_word(old)}`")
                removed.remove(old)
                for unit in freed:
                    inserted.remove(unit)
                self._best_block(freed, list(old.children.values()), into_present=False)

    def _best_block(self, units: list[Unit], candidates: list[list[Unit]], into_present: bool) -> None:
        """Match loose statements with the block of the other side that has most of them."""
        wanted = sum((u.bag for u in units), Counter[int]())
        held = [(wanted & sum((u.bag for u in block), Counter[int]())).total() for block in candidates]
        best = held.index(max(held))
        for number, block in enumerate(candidates):
            mine = units if number == best else []
            self._block(mine, block) if into_present else self._block(block, mine)

    def _gone(self, unit: Unit) -> None:
        node = unit.node
        if self._known.only_logs(node):
            lines = (first_line(node), node.end_lineno or node.lineno)
            self.removed_logs.append(RemovedLog(lines, self.recorded.of(node)))
            return
        why = "the statement was removed"
        if self._known.is_log(node):
            calls = ", ".join(f"`{call}`" for call in self._known.effects(node))
            why = f"the log statement was removed, and with it {calls}, which may do more than log"
        self._change(unit, None, why)

    # Pairs

    def _pair(self, old: Unit, new: Unit) -> None:
        self._record(old.node, new.node)
        if not old.compound:
            if old.full != new.full:
                self._edited(old, new)
            return
        if old.key != new.key:
            self._change(old, new, f"the head of a `{_word(old)}` was changed", heads=True)
        elif old.detail != new.detail:
            what = "decorators, parameters or defaults" if isinstance(old.node, _DEFINITIONS) else "clauses"
            self._change(old, new, f"the {what} of an existing `{_word(old)}` were changed", heads=True)
        for label in old.children.keys() & new.children.keys():
            if old.full != new.full:
                self._block(old.children[label], new.children[label])
            else:
                for one, other in zip(old.children[label], new.children[label], strict=True):
                    self._pair(one, other)

    def _edited(self, old: Unit, new: Unit) -> None:
        known = self._known
        if not (known.is_log(old.node) and known.is_log(new.node) and same_callee(old.node, new.node)):
            self._change(old, new, "the statement was changed")
            return
        before, after = known.effects(old.node), known.effects(new.node)
        missing = _not_in(before, after)
        if missing is not None:
            why = f"the log statement no longer has `{missing}` where it was, which may do more than log"
            self._change(old, new, why)
            return
        self.hindsight[new.node] = old.node
        self._shared[new.node] = tuple(before)

    def _record(self, old: ast.stmt, new: ast.stmt) -> None:
        """Note that two statements are the same one: its lines, its name if it is a loop or function."""
        start_old, start_new = first_line(old), first_line(new)
        last_old = _head_end(old)
        for line in range(start_new, _head_end(new) + 1):
            self.lines[line] = min(start_old + line - start_new, last_old)
        if isinstance(old, (ast.For, ast.While)) and old.lineno in self._names.loops:
            self.loops[new] = self._names.loops[old.lineno]
        elif isinstance(old, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.functions[new] = self._names.functions[old.lineno]
        if isinstance(old, _DEFINITIONS) and isinstance(new, _DEFINITIONS):
            self._docstrings(old, new, new.lineno)

    def _docstrings(
        self,
        old: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
        new: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
        line: int,
    ) -> None:
        if self._docstrings_matter:
            before, after = ast.get_docstring(old), ast.get_docstring(new)
            if before != after:
                why = "the docstring was changed, and the module reads `__doc__`"
                self.changes.append(Change(getattr(old, "lineno", 1), line, before or "", after or "", why))

    def _change(self, old: Unit | None, new: Unit | None, why: str, heads: bool = False) -> None:
        old_text = "" if old is None else self.recorded.of(old.node)
        new_text = "" if new is None else self.present.of(new.node)
        if heads and old is not None and new is not None:
            old_text, new_text = self.recorded.head(old.node), self.present.head(new.node)
        self.changes.append(
            Change(
                None if old is None else first_line(old.node),
                None if new is None else first_line(new.node),
                old_text,
                new_text,
                why,
            )
        )


def _head_end(node: ast.stmt) -> int:
    """The last line before a compound statement's first inner one; the last line of a simple statement."""
    inner = [first_line(block[0]) for _, block in blocks(node) if block]
    return max(node.lineno, min(inner) - 1) if inner else (node.end_lineno or node.lineno)


def _not_in(before: list[str], after: list[str]) -> str | None:
    """The first item of `before` that `after` lacks in that order, or None."""
    rest = iter(after)
    for item in before:
        if not any(item == other for other in rest):
            return item
    return None


def _bound_beside_functions(units: list[Unit]) -> set[str]:
    """The names that the other statements of a block bind."""
    found: set[str] = set()
    for unit in units:
        if isinstance(unit.node, ast.ClassDef):
            found.add(unit.node.name)
        elif not isinstance(unit.node, _FUNCTIONS):
            for node in ast.walk(unit.node):
                found.update(bound_by(node))
    return found


def _may_move(node: FunctionNode) -> bool:
    """Whether evaluating a definition elsewhere in its block makes no difference."""
    decorators = {last_name(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list}
    defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
    return decorators <= HARMLESS_DECORATORS and all(map(is_immutable, defaults))


def _word(unit: Unit) -> str:
    name = type(unit.node).__name__
    return {"FunctionDef": "def", "AsyncFunctionDef": "async def", "ClassDef": "class"}.get(name, name.lower())
