"""The process in which `doctor --run` records: the script's writes go to a scratch folder, as in replay."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flor_trace.config import RecordOptions
from flor_trace.errors import FlorTraceError
from flor_trace.record.command import record
from flor_trace.runtime import guard, landlock
from flor_trace.runtime.guarded_imports import guard_imports
from flor_trace.runtime.offline import redirect_native_temporaries
from flor_trace.runtime.overlay import Overlay


def main(spec_path: str) -> int:
    """Record as the JSON file `spec_path` says: `scratch`, `store`, `kind`, `target` and `args`; returns the exit status."""
    spec = json.loads(Path(spec_path).read_text())
    scratch = Path(spec["scratch"])
    overlay = Overlay(scratch, [Path(spec["store"])])
    guard.install(overlay)
    redirect_native_temporaries(scratch)
    landlock.restrict_writes([str(scratch), str(spec["store"])])
    options = RecordOptions({"store": spec["store"], "every": 1, "quiet": True})
    what = (spec["kind"], spec["target"], spec["args"])
    try:
        return record(*what, options, overlay.to_user, lambda importer: guard_imports(importer.on_import, scratch))
    except FlorTraceError as error:
        print(f"flor_trace: {error}", file=sys.stderr)
        return error.exit_status
