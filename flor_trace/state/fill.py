"""The second half of a restore: with all objects at hand, give each the recorded content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import CorruptRecord, HalfRestored
from . import library, loghandlers, torch_hooks
from .graph import UNSET, Node
from .scope import is_state

if TYPE_CHECKING:
    from .restore import Restorer


@dataclass(slots=True)
class Restored:
    """What a restore leaves to its caller: new locals of each frame, and what now stands for each token."""

    frames: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    matching: dict[int, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Filler:
    """Changes the live state as a restorer has planned it."""

    def __init__(self, r: Restorer) -> None:
        self.r = r
        self.filled: set[int] = set()

    def run(self) -> Restored:
        """Memory first, then all objects, then the roots; the states of random numbers come last."""
        for region, buffer in self.r.writes:
            self.r.write_region(region, buffer)
        nodes = self.r.target.nodes
        own = self._hindsight_attributes()
        later = []
        for token, node in nodes.items():
            if token in self.filled:
                continue
            kind = self.r.kind(node)
            if kind.late or (kind.hashes and _hashes_objects(node)):
                later.append(token)
            else:
                self.fill(token)
        for token in later:
            self.fill(token)
        result = Restored(matching=self.r.built, notes=self.r.notes)
        for root in self.r.target.roots:
            values = {name: self.r.resolve(cell) for name, cell in zip(root.names, root.cells, strict=True)}
            if root.section == "module":
                self._fill_module(root.name, values)
            elif root.section == "frame":
                result.frames.append(values)
            else:
                result.extra.update(values)
        for space, values in own:
            for name, value in values.items():
                dict.setdefault(space, name, value)
        loghandlers.apply(result.extra, self.r.scope.user_modules)
        torch_hooks.apply(result.extra)
        library.apply(self.r.target.library)
        return result

    def _hindsight_attributes(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """What hindsight statements gave to objects: it is theirs, and stays. With each the namespace that it is in."""
        found = []
        if self.r.ignore.attributes:
            for token, node in self.r.target.nodes.items():
                obj = self.r.built[token]
                space = None if node[4] is None or node[4][0] is None else self.r.layout(type(obj)).instance_dict(obj)
                if space and (values := {name: space[name] for name in self.r.ignore.attributes if name in space}):
                    found.append((space, values))
        return found

    def fill(self, token: int) -> None:
        """Give one object its content, once."""
        if token in self.filled:
            return
        self.filled.add(token)
        node = self.r.target.nodes[token]
        obj = self.r.built[token]
        try:
            self.r.kind(node).fill(self.r, obj, token, node)
            if node[0] != "class":
                self._fill_attrs(obj, node)
        except (CorruptRecord, HalfRestored):
            raise
        except Exception as error:
            if not self.r.applying:  # a constructor reads its arguments while the plan is made
                raise
            raise HalfRestored(self.r.path(token), error) from error

    def _fill_attrs(self, obj: Any, node: Node) -> None:
        attrs = node[4]
        cls = type(obj)
        if attrs is None and node[1] is None and node[0] not in ("function", "tensor", "composite"):
            return
        if node[0] in _NO_ATTRS:
            return
        layout = self.r.layout(cls)
        if layout.dict_descriptor is not None:
            present = layout.instance_dict(obj)
            if attrs is None or attrs[0] is None:
                if present:
                    dict.clear(present)
            else:
                wanted = self.r.resolve(attrs[0])
                if present is not wanted:
                    layout.dict_descriptor.__set__(obj, wanted)
        if attrs is None or not attrs[1]:
            return
        cells = dict(zip(attrs[1], attrs[2], strict=True))
        for name, descriptor in layout.slots:
            cell = cells.get(name, UNSET)
            try:
                old = descriptor.__get__(obj)
            except AttributeError:
                if cell != UNSET:
                    descriptor.__set__(obj, self.r.resolve(cell))
                continue
            if cell == UNSET:
                descriptor.__delete__(obj)
            elif old is not (value := self.r.resolve(cell)):
                descriptor.__set__(obj, value)

    def _fill_module(self, name: str, values: dict[str, Any]) -> None:
        space = self.r.roots.modules[name]
        kept = self.r.ignore.modules.get(name, set())
        for key in [key for key in space if key not in values and is_state(key) and key not in kept]:
            if not (key.startswith("__") and key.endswith("__")):
                del space[key]
        for key, value in values.items():
            if key not in space or space[key] is not value:
                space[key] = value


_NO_ATTRS = frozenset({"opaque", "memory", "cell", "method", "builtin", "iterator", "reduced", "slice",
                       "bits", "generator", "reader", "np.generator", "np.randomstate", "torch.generator"})  # fmt: skip


def _hashes_objects(node: Node) -> bool:
    return any(type(cell) is tuple for cell in (node[3] if "set" in node[0] else node[3][node[0] == "defaultdict" :: 2]))
