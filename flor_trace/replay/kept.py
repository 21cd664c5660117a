"""What a replay tells about itself in its journal: when, with which hindsight statements, over which part of the run."""

from __future__ import annotations

import ast
import hashlib
import json
import textwrap
import time
from collections import Counter
from typing import Any

from flor_trace.replay.diff import HindsightStatement, RunDiff, SourceDiff
from flor_trace.replay.plan import SEGMENT, Plan, Unit


def header(run_id: str, diff: RunDiff, where: str | None = None) -> dict[str, Any]:
    """The fields of a replay's first record; `where` is the condition under which lines were kept."""
    return {"run": run_id, "created": time.time(), "statements": describe_statements(diff), "where": where}


def describe_statements(diff: RunDiff) -> list[dict[str, Any]]:
    """The hindsight statements in the order of their numbers.

    `id` is the same in two replays where the statement and its place among the recorded ones are, whatever else was added
    and wherever its line has got to; `anchor` is the recorded line that it follows, or, `edited`, takes the place of.
    """
    described: list[dict[str, Any]] = []
    twins: Counter[str] = Counter()
    columns = {name: {index: column for (_, column), index in each.marks.items()} for name, each in diff.modules.items()}
    for module, statement in diff.hindsight:
        anchor = _anchor(diff.modules[module], statement)
        identity = [module, statement.function, statement.enclosing_loops, anchor, statement.kind, _normalised(statement.text)]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        twins[digest] += 1
        described.append(
            {
                "id": f"{digest}-{twins[digest]}",
                "module": module,
                "function": statement.function,
                "file": diff.paths[module],
                "line": statement.lineno,
                "anchor": anchor,
                "column": columns[module][statement.index],
                "edited": statement.kind == "edited",
                "text": statement.text,
            }
        )
    return described


def describe_unit(plan: Plan, unit: Unit) -> dict[str, Any]:
    """A unit's place in the run; `start` and `end` are the iterations of a segment, `end` None up to where the loop was left."""
    loop, entry = plan.partitions[unit.partition] if unit.partition >= 0 else (None, None)
    where = {"start": unit.start, "end": unit.end} if unit.kind == SEGMENT else {}
    return {"unit": unit.kind, "loop": loop, "entry": entry, **where}


def _anchor(difference: SourceDiff, statement: HindsightStatement) -> int:
    """The recorded line that a statement takes the place of, or follows (0: none)."""
    if statement.recorded_lines is not None:
        return statement.recorded_lines[0]
    line = statement.lineno - 1
    while line > 0 and line not in difference.lines:
        line -= 1
    return difference.lines.get(line, 0)


def _normalised(text: str) -> str:
    try:
        return ast.unparse(ast.parse(textwrap.dedent(text)))
    except SyntaxError:  # a fragment that stands in no block of its own
        return text.strip()
