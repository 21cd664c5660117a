"""What replay wants of the import hook: today's source, with hindsight statements and recorded loops marked."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flor_trace.replay.diff import RunDiff, annotate
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.probes import ProbeFactory

if TYPE_CHECKING:
    from flor_trace.instrument.infos import RewrittenInfo


class ReplayHooks:
    """See `instrument.hooks.Hooks`.

    Args:
        runtime: learns which files and modules are the user's.
        probes: makes the live probes.
        diff: recorded against present source, by module.
        hindsight: makes the probe of a hindsight statement from its module and index there.
        sources: the recorded sources, by module, to be run in the place of today's.
    """

    def __init__(
        self,
        runtime: Runtime,
        probes: ProbeFactory,
        diff: RunDiff,
        hindsight: Callable[[str, int], object],
        sources: Mapping[str, bytes] | None = None,
    ) -> None:
        self._runtime = runtime
        self._probes = probes
        self._diff = diff
        self._hindsight = hindsight
        self._recorded = sources or {}

    def annotate(self, tree: ast.Module, module: str, filename: str, source: bytes) -> bool:
        """Mark hindsight statements and name the loops as they were recorded."""
        difference = self._diff.modules.get(module)
        if difference is None:
            return False
        if module in self._recorded:
            tree.body[:] = ast.parse(self._recorded[module]).body
        annotate(tree, difference, {name.partition(".")[0] for name in self._diff.modules})
        return True

    def resolver(self, rewritten: RewrittenInfo, filename: str, source: bytes) -> Callable[[str], object]:
        """The live probes of a module that is about to be executed."""
        self._runtime.user_files.add(filename)
        module = rewritten.module
        # A module that only hindsight statements import holds nothing that was recorded.
        if module in self._diff.modules:
            self._runtime.user_modules.add(module)
        return self._probes.resolver(
            {x.index: (x.key, x.pinned) for x in rewritten.loops},
            {x.index: x.key for x in rewritten.functions},
            lambda index: self._hindsight(module, index),
        )
