"""What a snapshot is: walk the live state into a graph, compare graphs, restore one in place."""

from .compare import Comparison, Difference, compare
from .fill import Restored
from .graph import Buffer, Graph, LiveGraph
from .restore import Restorer, restore
from .scope import FrameRoot, Ignore, Roots, Scope
from .tokens import TokenTable
from .walk import walk

__all__ = [
    "Buffer",
    "Comparison",
    "Difference",
    "FrameRoot",
    "Graph",
    "Ignore",
    "LiveGraph",
    "Restored",
    "Restorer",
    "Roots",
    "Scope",
    "TokenTable",
    "compare",
    "restore",
    "walk",
]
