"""What recording wants of the import hook: probes for each user module, and the module's source in the store."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.probes import ProbeFactory

if TYPE_CHECKING:
    from flor_trace.instrument.infos import RewrittenInfo
    from flor_trace.store.writer import RunWriter


class RecordHooks:
    """See `instrument.hooks.Hooks`."""

    annotates = False

    def __init__(self, runtime: Runtime, probes: ProbeFactory, writer: RunWriter) -> None:
        self._runtime = runtime
        self._probes = probes
        self._writer = writer

    def annotate(self, tree: ast.Module, module: str, filename: str, source: bytes) -> bool:
        """Recording marks nothing."""
        return False

    def resolver(self, rewritten: RewrittenInfo, filename: str, source: bytes) -> Callable[[str], object]:
        """The live probes of a module that is about to be executed."""
        self._runtime.user_files.add(filename)
        self._runtime.user_modules.add(rewritten.module)
        self._writer.event(
            "module",
            name=rewritten.module,
            path=filename,
            source=self._writer.source(filename, source),
            loops=[
                {"index": x.index, "key": x.key, "lineno": x.lineno, "end_lineno": x.end_lineno, "is_while": x.is_while}
                for x in rewritten.loops
            ],
            functions=[
                {"key": x.key, "lineno": x.lineno, "end_lineno": x.end_lineno, "probed": x.probed}
                for x in rewritten.functions
            ],
        )
        return self._probes.resolver(
            {x.index: (x.key, x.pinned) for x in rewritten.loops}, {x.index: x.key for x in rewritten.functions}
        )
