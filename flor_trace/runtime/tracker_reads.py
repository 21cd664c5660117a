"""What a script reads back from an experiment tracker is an input of the run: recorded, and served again in replay.

Another process keeps it. That of a replay's worker has been told only what this worker has executed, so it would give other answers than
the recorded run got.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.sources import Sources

READS: dict[str, tuple[str, ...]] = {"wandb.sdk.wandb_run": ("Run._summary_get_current_summary_callback", "Run.step")}
"""By module the methods and properties that ask, as W&B 0.12 to 0.31 have them."""


def keep_reads(on_import: Callable[[str, Callable[[], None]], object], runtime: Runtime, sources: Sources) -> None:
    """Have what trackers answer recorded or served.

    Args:
        on_import: calls a function after the import of a module.
        runtime: tells whether a hindsight statement is being executed.
        sources: records or serves.
    """
    for library in READS:
        on_import(library, functools.partial(_wrap_reads, library, runtime, sources))


def _wrap_reads(library: str, runtime: Runtime, sources: Sources) -> None:
    """Wrap the calls of a tracker that has just been imported; those that this version lacks are passed over."""
    for path in READS[library]:
        class_name, name = path.split(".")
        owner = getattr(sys.modules[library], class_name, None)
        found = vars(owner).get(name) if isinstance(owner, type) else None
        if isinstance(found, property) and found.fget is not None:
            setattr(owner, name, property(_kept(path, found.fget, runtime, sources), found.fset, found.fdel, found.__doc__))
        elif callable(found):
            setattr(owner, name, _kept(path, found, runtime, sources))


def _kept(path: str, read: Callable[..., Any], runtime: Runtime, sources: Sources) -> Callable[..., Any]:
    kept = sources.kept(f"wandb.{path}", read)

    @functools.wraps(read)
    def call(*args: Any, **kwargs: Any) -> Any:
        if runtime.hindsight:
            raise RuntimeError(
                "flor_trace: a hindsight statement cannot read W&B's summary or step, which a replay has only in parts: "
                "print the values that were given to log() or to the summary"
            )
        return kept(*args, **kwargs)

    return call
