"""Human paths to objects in a graph, such as `model.layer4.0.bn1.running_mean`."""

from __future__ import annotations

from collections import deque
from typing import Any

from .graph import Cell, Graph, Node

# A link is (parent link, step); a root's parent is None. A step is (form, value).
Link = tuple[Any, tuple[str, Any]]
_MODULE_PARTS = frozenset({"_modules", "_parameters", "_buffers"})
_MAX_KEY = 40


def root_link(section: str, root: str, name: str) -> Link:
    """The link of one name of a root."""
    if section == "module":
        return (None, ("root", name if root == "__main__" else f"{root}.{name}"))
    if section == "frame":
        return (None, ("root", f"{root} → {name}"))
    return (None, ("root", name))


def children(node: Node) -> list[tuple[tuple[str, Any], Cell]]:
    """The steps and cells that lead out of a node."""
    kind, cls, _, cells, attrs = node
    found: list[tuple[tuple[str, Any], Cell]] = []
    if kind in ("dict", "defaultdict"):
        first = 1 if kind == "defaultdict" else 0
        if first:
            found.append((("attr", "default_factory"), cells[0]))
        for i in range(first, len(cells), 2):
            found.append((("key", cells[i]), cells[i]))
            found.append((("item", cells[i]), cells[i + 1]))
    elif kind in ("tensor", "composite", "wrapper", "jagged"):
        parts = node[2][1] if kind == "composite" else ("values", "offsets", "lengths") if kind == "jagged" else ()
        names = (*(("data",) if kind == "tensor" else parts), "grad", "_backward_hooks", "_post_accumulate_grad_hooks")
        found.extend((("attr", name), cell) for name, cell in zip(names, cells, strict=False))
    elif kind == "function":
        names = ("__defaults__", "__kwdefaults__", "__globals__")
        found.extend((("attr", name), cell) for name, cell in zip(names, cells, strict=False))
        freevars = node[2][3]
        found.extend((("closure", name), cell) for name, cell in zip(freevars, cells[3:], strict=False))
    elif kind == "generator":
        names = ("gi_code", *node[2][6])
        found = [(("attr", name), cell) for name, cell in zip(names, cells, strict=False)]
        found.extend((("index", i), cell) for i, cell in enumerate(cells[len(names) :]))
    elif kind == "method":
        found = [(("attr", "__func__"), cells[0]), (("attr", "__self__"), cells[1])]
    elif kind == "cell":
        found = [(("same", None), cells[0])]
    elif kind == "partial":
        found = [(("attr", name), cell) for name, cell in zip(("func", "args", "keywords"), cells, strict=True)]
    elif kind in ("ndarray",):
        found = [(("attr", "data"), cells[0])]
    elif kind == "class":
        found = [(("attr", "(methods and bases)"), cell) for cell in cells]
    else:
        found = [(("index", i), cell) for i, cell in enumerate(cells)]
    if cls is not None:
        found.append((("attr", "__class__"), cls))
    if attrs is not None:
        if attrs[0] is not None:
            found.append((("dict", None), attrs[0]))
        found.extend((("attr", name), cell) for name, cell in zip(attrs[1], attrs[2], strict=True))
    return found


def _key(value: Any) -> str:
    if type(value) is tuple:
        return "…"
    text = repr(value)
    return text if len(text) <= _MAX_KEY else text[: _MAX_KEY - 1] + "…"


def render(link: Link | None) -> str:
    """The link as text; a module's `_parameters` and the like are left out, as its user writes it."""
    steps: list[tuple[str, Any]] = []
    while link is not None:
        steps.append(link[1])
        link = link[0]
    steps.reverse()
    parts: list[str] = []
    in_dict = inner = False
    for form, value in steps:
        if form == "dict":
            in_dict = True
            continue
        if form == "item" and in_dict and type(value) is str:
            in_dict = False
            if value in _MODULE_PARTS:
                inner = True
                continue
            parts.append(f".{value}")
        elif form == "item" and inner and type(value) is str:
            parts.append(f".{value}")
        elif form in ("item", "key"):
            parts.append(f"[{_key(value)}]" if form == "item" else f" (key {_key(value)})")
        elif form == "index":
            parts.append(f"[{value}]")
        elif form == "closure":
            parts.append(f" (closure) → {value}")
        elif form == "attr":
            parts.append(f".{value}")
        elif form == "root":
            parts.append(value)
        in_dict = inner = False
    return "".join(parts)


def paths_of(graph: Graph, wanted: set[int]) -> list[tuple[int, str]]:
    """The shortest path of each wanted token, in the order met."""
    found: list[tuple[int, str]] = []
    seen: set[int] = set()
    queue: deque[tuple[int, Link]] = deque()

    def push(cell: Cell, link: Link) -> None:
        if type(cell) is tuple and len(cell) == 1 and cell[0] not in seen:
            seen.add(cell[0])
            queue.append((cell[0], link))

    for root in graph.roots:
        for name, cell in zip(root.names, root.cells, strict=True):
            push(cell, root_link(root.section, root.name, name))
    while queue and len(found) < len(wanted):
        token, link = queue.popleft()
        if token in wanted:
            found.append((token, render(link)))
        node = graph.nodes.get(token)
        if node is not None:
            for step, cell in children(node):
                push(cell, (link, step))
    return found
