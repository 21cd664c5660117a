"""What a run's snapshots refer to without holding it, by path: read from the stored graphs, and only when somebody asks."""

from __future__ import annotations

from typing import Any

from flor_trace.errors import CorruptRecord
from flor_trace.state.graph import Graph
from flor_trace.store.reader import Run


def opaque_objects(run: Run, snapshots: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Path and kind of the opaque objects in the last snapshot of each loop; a graph that is damaged adds nothing but to
    `run.damage`."""
    last = {record["at"][0]: record["graph"] for record in snapshots if "graph" in record}
    found: dict[tuple[str, str], None] = {}
    for digest in dict.fromkeys(last.values()):
        try:
            graph = Graph.decode(run.blob(digest))
        except CorruptRecord:
            continue
        found.update(dict.fromkeys(graph.opaque))
    return list(found)
